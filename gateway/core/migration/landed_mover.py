"""Takes what has landed from one side-store to another, in turns with those who use it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from uuid import uuid4

from gateway.core.errors import Busy
from gateway.core.migration.turns import LOST_AFTER
from storage.landed import LEASE_RETRY, SEEN_FOR, LandedStore

#: Messages that move in one turn, and tombstones.
AT_ONCE = 400
TOMBSTONES = 1000

#: Seconds on top of SEEN_FOR after which no claimer lands in a closed queue.
MARGIN = 0.1


def last_position(landed: LandedStore, key: str) -> int:
    """The last landing position in use under a key. Raises Busy, and QueueGone."""
    owner, deadline = uuid4().hex, time.monotonic() + landed.timeout
    while True:
        last = landed.acquire_lease(key, owner, landed.timeout)
        if last is not None:
            landed.release_lease(key, owner, last)
            return last
        if time.monotonic() > deadline:
            raise Busy("messages of this queue are being landed for others")
        time.sleep(LEASE_RETRY)


class LandedMover:
    """Moves messages from ``old`` to ``new``, with their ids, positions, claims and times.

    ``hold`` raises an error if somebody else may be doing this. ``alone``: a turn of the mover's own at what is under a
    key. Everything can be begun again at any time.
    """

    def __init__(
        self, old: LandedStore, new: LandedStore, hold: Callable[[], None],
        alone: Callable[[str], AbstractContextManager[None]],
    ):
        self._old = old
        self._new = new
        self._hold = hold
        self._alone = alone

    def close(self, keys: Sequence[str]) -> None:
        """Let nothing land under keys of the old side-store any more, nor in the new one what is not to land."""
        for key in keys:
            with self._alone(key):
                self._hold()
                self._old.close_queue(key)
                after = ""
                while page := self._old.list_tombstones(key, after, TOMBSTONES):
                    if landed := self._new.tombstone(key, dict(page)):
                        self._new.delete_unclaimed(key, list(landed))
                    after = page[-1][0]
        time.sleep(SEEN_FOR + MARGIN)  # there may have been claimers that were late

    def move(self, key: str) -> Iterator[int]:
        """Move what is under a key that has been closed; the number of messages of each step."""
        while True:
            self._hold()
            with self._alone(key):
                begun = time.monotonic()
                messages = self._old.export(key, 0, AT_ONCE)
                if not messages:
                    break
                self._new.land(key, messages)
                if time.monotonic() - begun > LOST_AFTER / 2:
                    # This process was stopped: others have had their turn, and may have deleted some of them.
                    self._new.remove(key, messages)
                    continue
                if changed := self._old.remove(key, messages):
                    # Somebody who was stopped for longer than his turn has changed them since they were read.
                    self._new.remove(key, [message for message in messages if message.id in changed])
            yield len(messages)
