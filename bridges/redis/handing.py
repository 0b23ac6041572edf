"""How a consumer hands out messages over one session, in rounds.

A round tells Redis what has ended, takes what waits in the streams that are due, and then waits for new messages in all
streams that have room for some. A stream is due when it is added, when it has got room again or a message, when
something went back to it, and once a second: what others gave back or left behind tells nobody.
"""

from __future__ import annotations

import logging
import math
import re
import select
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from redis.exceptions import ResponseError

from bridges.base import Envelope
from bridges.consuming import Delivery
from bridges.errors import BridgeUnavailable
from bridges.redis.entries import envelope_of
from bridges.redis.feeds import Feed, Feeds
from bridges.redis.session import AT_ONCE, Session
from bridges.redis.wake import Wake

LOG = logging.getLogger(__name__)

#: Seconds between two looks at all streams.
LOOK_EVERY = 1.0

#: Seconds from the beginning of one wait to that of the next: for each stream, as Redis needs about a microsecond for
#: each, and at most. So it spends no more than a few hundredths of its time on that, and messages come together.
PACE, SLOWEST = 20e-6, 0.05

#: Seconds for which streams that are due go first, so that they can be waited for as well.
DUE_FIRST = 0.02

#: Seconds after which streams are waited for again when one of them could not be.
AFTER_REFUSAL = 0.1

#: Share of the lease after which what is held is renewed.
RENEWED_AFTER = 1 / 3

#: How many times, once a second, what an earlier session held is given back: Redis may do late what that one asked for.
GIVEN_BACK = 5

#: What Redis says when a stream or its group is not there, or goes away while it is waited for.
_GONE = re.compile("NOGROUP|UNBLOCKED|WRONGTYPE|no longer exists")


@dataclass(slots=True)
class Former:
    """An earlier session of the same consumer: its name, the streams that it read, and how many more looks they get."""

    name: str
    keys: frozenset[str]
    looks: int = GIVEN_BACK


class Handing:
    """Rounds over a ``session`` that has just begun. ``lease``: seconds; ``former``: earlier sessions, which are taken
    out of the list when nothing of them can be left. All methods raise FAILURES and BridgeError.
    """

    def __init__(
        self, session: Session, feeds: Feeds, arrived: Callable[[Delivery], None], wake: Wake, lease: float,
        former: list[Former],
    ):
        self._session = session
        self._feeds = feeds
        self._arrived = arrived
        self._wake = wake
        self._former = former
        self._renew_every = lease * RENEWED_AFTER
        self._renew_at = time.monotonic() + self._renew_every
        self._look_at = 0.0
        self._tidied: set[str] = set()
        #: What is waited for, by key; when a wait may begin again; until when what is due goes first; and is there more
        #: to wait for by now?
        self._reading: Mapping[bytes, Feed] = {}
        self._read_at = 0.0
        self._due_first_until = 0.0
        self._more_to_read = False

    def round(self) -> None:
        """One round, of about a second at most."""
        self._tell()
        now = time.monotonic()
        if now >= self._renew_at:
            self._renew_at = now + self._renew_every
            self._session.renew(self._feeds.holding())
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY
            self._give_back_former()
            self._feeds.all_due()
        self._take()
        self._read()
        self._wait()

    def end(self) -> None:
        """Tell what has ended, and give everything back."""
        if self._session.reads:
            self._session.end_read()
        self._tell()
        self._session.give_back(self._feeds.keys())

    def _tell(self) -> None:
        if (ends := self._feeds.ends()) is None:
            return
        self._session.settle(ends.settled)
        self._session.give_some_back(ends.returned)
        if ends.left:
            self._end_read_of(ends.left)
            self._session.give_back(ends.left)
        self._feeds.told(ends)

    def _give_back_former(self) -> None:
        for former in self._former:
            self._session.give_back(former.keys, former.name)
            former.looks -= 1
        self._former[:] = [former for former in self._former if former.looks > 0]

    # -- what waits ---------------------------------------------------------------------------------------------

    def _take(self) -> None:
        if self._session.reads and self._feeds.is_due(self._reading.values()):
            self._end_read()  # as it might take what there is no room for then
        rooms = self._feeds.take_due(but=self._reading.values())
        new = [feed.key for feed in rooms if feed.key not in self._tidied]
        self._session.tidy(new)
        self._tidied.update(new)
        rest = list(rooms)
        while rest:
            some = rest[:AT_ONCE]
            del rest[:self._take_some(some, rooms)]

    def _take_some(self, feeds: Sequence[Feed], rooms: Mapping[Feed, int]) -> int:
        """Take what waits in streams; how many of them have been looked at."""
        taken = self._session.take({feed.key: rooms[feed] for feed in feeds})
        for number, entry, deliveries, fields in taken.entries:
            self._hand_out(feeds[number], entry, envelope_of(fields, deliveries))
        got = Counter(row[0] for row in taken.entries)
        for number, feed in enumerate(islice(feeds, taken.done)):
            feed.missing = number in taken.missing
            if got[number] >= rooms[feed]:
                self._feeds.due([feed])  # there may be more of it
            elif not feed.missing:
                self._more_to_read = True
        # One that is not done with had more than fits into the memory at once: it goes on with the room that is left.
        self._feeds.due(feeds[taken.done:taken.done + 1])
        return min(taken.done + 1, len(feeds))

    def _hand_out(self, feed: Feed, entry: bytes, envelope: Envelope) -> None:
        tag = self._feeds.hold(feed, entry)
        if tag is None:  # it goes back with all that was held
            return
        try:
            self._arrived(Delivery(feed.queue, envelope, tag))
        except Exception:  # the next message must come all the same
            LOG.exception("a message of queue %s was handed out and not taken", feed.queue)

    # -- what comes ---------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Wait for new messages, of further streams too, but not sooner than Redis can bear it."""
        now = time.monotonic()
        if now < self._read_at or self._session.reads and not self._more_to_read:
            return
        if self._session.reads:
            self._end_read()
        if time.monotonic() < self._due_first_until and self._feeds.is_due():
            return
        self._reading = self._feeds.waiting()
        self._more_to_read = False
        if self._reading:
            self._session.read(list(self._reading), self._look_at - now)
            self._read_at = now + min(PACE * len(self._reading), SLOWEST)

    def _end_read_of(self, keys: Iterable[str]) -> None:
        if self._session.reads and any(key.encode() in self._reading for key in keys):
            self._end_read()

    def _end_read(self) -> None:
        self._came(self._session.end_read())

    def _came(self, reply: Any) -> None:
        """Hand out what has come while streams were waited for."""
        reading, self._reading = self._reading, {}
        self._more_to_read = True
        self._due_first_until = time.monotonic() + DUE_FIRST
        if isinstance(reply, ResponseError):
            if not _GONE.search(str(reply)):
                raise reply
            self._feeds.due(reading.values())
            self._read_at = time.monotonic() + AFTER_REFUSAL
            return
        for key, entries in reply or ():
            feed = reading[key]
            for entry, fields in entries:
                envelope = envelope_of(fields, 0)
                if self._session.has_expired(entry, envelope.ttl):
                    self._session.settle({feed.key: [entry]})
                else:
                    self._hand_out(feed, entry, envelope)
            self._feeds.due([feed])

    def _wait(self) -> None:
        """Until there is something to do: something has come, ended, or is due by the clock."""
        until = min(self._look_at, self._renew_at)
        if self._more_to_read:
            until = min(until, self._read_at)
        poll = select.poll()
        poll.register(self._wake.fileno(), select.POLLIN)
        if self._session.reads:
            poll.register(self._session.fileno(), select.POLLIN)
        left = 0.0 if self._feeds.is_due() else max(0.0, until - time.monotonic())
        ready = poll.poll(math.ceil(left * 1000))
        self._wake.clear()
        if any(number != self._wake.fileno() for number, _ in ready):
            self._came(self._session.arrived())
        elif self._session.is_late():
            raise BridgeUnavailable("Redis did not end a wait for messages in time")
