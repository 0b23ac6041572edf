"""What a consumer says to Redis: a connection that waits for new messages, and one for everything else."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from redis.exceptions import ResponseError

from bridges.errors import BridgeUnavailable
from bridges.redis.consuming_scripts import GIVE_SOME_BACK, RENEW, TAKE, TIDY
from bridges.redis.fetching import FETCH_BYTES, REMOVED_AT_ONCE
from bridges.redis.link import Command, Link, packed
from bridges.redis.scripts import BACK, GIVE_BACK, GROUP, Script

#: Streams that one script looks at: about a millisecond, for which everybody else waits.
AT_ONCE = 200

#: Seconds between two tries to end a wait: Redis may not have begun it when it is told to end it.
UNBLOCK_EVERY = 0.02


@dataclass(frozen=True, slots=True)
class Taken:
    """What a look at streams has brought. ``done``: how many were looked at; ``missing``: the numbers of those that are
    not there; ``entries``: number of the stream, id, how often it was delivered before, and fields."""

    done: int
    missing: Sequence[int]
    entries: Sequence[tuple[int, bytes, int, Sequence[bytes]]]


#: Connections of a session.
LINKS = 2


class Session:
    """Two links, and a consumer of Redis's groups with a ``name``. For one thread.

    ``open_link`` opens a link, and gets a deadline (monotonic seconds); ``lease``: seconds after which others may take
    what the consumer holds; ``timeout``: seconds for one call. All methods raise FAILURES and BridgeError.
    """

    def __init__(self, open_link: Callable[[float], Link], name: str, lease: float, timeout: float):
        self._name = name
        self._lease = int(lease * 1000)
        self._late = 0.0
        self._clock = 0.0
        self._commands = open_link(time.monotonic() + timeout)
        try:
            self._reader = open_link(time.monotonic() + timeout)
        except BaseException:
            self._commands.close()
            raise
        self._reader_id = 0
        #: Seconds for one call.
        self.timeout = timeout
        #: Is the reader waiting for messages?
        self.reads = False

    def close(self) -> None:
        """Close both links; what is held stays so."""
        self._reader.close()
        self._commands.close()

    # -- everything else ----------------------------------------------------------------------------------------

    def take(self, rooms: Mapping[str, int]) -> Taken:
        """Take what waits in streams, up to so many messages of each; at most AT_ONCE streams."""
        asked = time.monotonic()
        now, done, missing, entries = self._run(
            TAKE, list(rooms), GROUP, self._name, self._lease, FETCH_BYTES, REMOVED_AT_ONCE, *rooms.values()
        )
        # Redis's clock is at most this far ahead: no message is handed out late, one may end a moment early.
        self._clock = (now + 1) / 1000 - asked
        return Taken(done, [number - 1 for number in missing], [(row[0] - 1, *row[1:]) for row in entries])

    def has_expired(self, entry: bytes, ttl: int | None) -> bool:
        """Is a message past its ``ttl`` (ms), by Redis's clock as of the last take?"""
        return ttl is not None and (int(entry.partition(b"-")[0]) + ttl) / 1000 <= time.monotonic() + self._clock

    def settle(self, settled: Mapping[str, Sequence[bytes]]) -> None:
        """Remove entries, by stream."""
        # In this order: what is acknowledged and not removed would stay in the stream for good.
        commands: list[Command] = []
        for key, entries in settled.items():
            commands += ("XDEL", key, *entries), ("XACK", key, GROUP, *entries)
        if not commands:
            return
        self._commands.until = time.monotonic() + self.timeout
        for reply in self._commands.call(*commands):
            if isinstance(reply, ResponseError) and not str(reply).startswith("WRONGTYPE"):
                raise reply

    def give_some_back(self, returned: Mapping[str, Sequence[bytes]]) -> None:
        """Give entries back, by stream."""
        for key, entries in returned.items():
            self._run(GIVE_SOME_BACK, [key], GROUP, self._name, BACK, *entries)

    def give_back(self, keys: Iterable[str], name: str | None = None) -> None:
        """Give back all that this consumer, or an earlier one of another ``name``, holds of streams."""
        for some in _parts(keys):
            self._run(GIVE_BACK, some, GROUP, name or self._name, BACK)

    def renew(self, keys: Iterable[str]) -> None:
        """Hold what is held of streams for another lease."""
        for some in _parts(keys):
            self._run(RENEW, some, GROUP, self._name)

    def tidy(self, keys: Iterable[str]) -> None:
        """Forget consumers that have died and hold nothing."""
        for some in _parts(keys):
            self._run(TIDY, some, GROUP, self._lease)

    def _run(self, script: Script, keys: Sequence[str], *arguments: bytes | str | int) -> Any:
        self._commands.until = time.monotonic() + self.timeout
        return self._commands.run_on(script, keys, *arguments)

    # -- waiting for new messages -------------------------------------------------------------------------------

    def read(self, keys: Sequence[bytes], seconds: float) -> None:
        """Begin to wait for a new message of any of the streams: one of each at most."""
        self._reader.until = time.monotonic() + self.timeout
        if not self._reader_id:
            self._reader_id = self._reader.ask("CLIENT", "ID")
        block = max(1, int(seconds * 1000))
        self._reader.send(packed([(
            "XREADGROUP", "GROUP", GROUP, self._name, "COUNT", 1, "BLOCK", block, "STREAMS", *keys,
            *[b">"] * len(keys),
        )]))
        self._late = time.monotonic() + seconds + self.timeout
        self.reads = True

    def fileno(self) -> int:
        """Becomes readable when the wait is over."""
        return self._reader.fileno()

    def is_late(self) -> bool:
        """Should the wait have ended long ago?"""
        return self.reads and time.monotonic() > self._late

    def arrived(self) -> Any:
        """What the wait has brought: pairs of a stream and its entries, None, or a ResponseError."""
        self._reader.until = time.monotonic() + self.timeout
        self.reads = False
        return self._reader.receive()

    def end_read(self) -> Any:
        """End the wait now; as arrived."""
        poll = select.poll()
        poll.register(self._reader.fileno(), select.POLLIN)
        deadline = time.monotonic() + self.timeout
        while not poll.poll(0):
            self._commands.until = deadline
            self._commands.ask("CLIENT", "UNBLOCK", self._reader_id)
            if poll.poll(int(UNBLOCK_EVERY * 1000)):
                break
            if time.monotonic() > deadline:
                raise BridgeUnavailable("Redis did not end a wait for messages in time")
        return self.arrived()


def _parts(keys: Iterable[str]) -> Iterator[list[str]]:
    """As many as a script gets, until all have had their turn."""
    rest = iter(keys)
    while part := list(islice(rest, AT_ONCE)):
        yield part
