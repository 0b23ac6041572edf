"""What a queue's document says of its way to another pool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any
from uuid import uuid4

import orjson

from storage.base import SideStore

#: Phases of a move; see gateway.core.migration.
WAITING, LANDED, DRAINING, SWITCHING, SETTLING = "waiting", "landed", "draining", "switching", "settling"


#: Names of queues read at once.
PAGE = 500


@dataclass(frozen=True, slots=True)
class Move:
    """A move as it is recorded. Times are in milliseconds since the epoch, on the clock of the service's side-store.

    ``stamp`` is another one in each record. ``switch``: when posts, or in phase ``landed`` landings, go to the new
    place. ``settling_since``: when the old broker was last seen with a message, to a second. ``is_left``: a post to the
    old broker that is confirmed late is sent again from now on. ``moved`` counts messages.
    """

    id: str
    source: str
    target: str
    phase: str
    started: int
    switch: int = 0
    settling_since: int = 0
    is_left: bool = False
    moved: int = 0
    error: str = ""
    stamp: str = ""

    @classmethod
    def begin(cls, source: str, target: str, now: int) -> Move:
        """A new move."""
        return cls(uuid4().hex, source, target, WAITING, now, stamp=uuid4().hex)

    @classmethod
    def read(cls, recorded: bytes) -> Move:
        """A move from its record."""
        return cls(**orjson.loads(recorded))

    def record(self) -> bytes:
        """The move as it is recorded."""
        return orjson.dumps(asdict(self))

    def changed(self, **changes: Any) -> Move:
        """The move with some changes, as a new record."""
        return replace(self, stamp=uuid4().hex, **changes)


def moves(store: SideStore) -> Iterator[tuple[str, Move]]:
    """All queues that move, as ``<project>/<queue>``, with their moves."""
    after = ""
    while page := store.catalogue.list_moving(after, PAGE):
        for q in page:
            found = store.catalogue.get_queue(q)
            if found is not None and found.move is not None:
                yield q, Move.read(found.move)
        after = page[-1]
