"""Lists of queues: pages and counts, by name alone wherever the names suffice."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.core.errors import Busy
from gateway.core.gate import Gate
from gateway.core.queues.metadata import MetadataRules
from storage.base import SideStore
from storage.model import MOST_METADATA, Queue

#: What can be a part of a queue's name.
PART_OF_NAME = re.compile(r"[A-Za-z0-9_.-]{0,64}\Z")

#: Queues that are read at once while metadata is compared, at first and at most, and bytes of their metadata. The next
#: step asks for as many as fit if they are as large as those of the last one.
FIRST_STEP, STEP = 20, 1000
STEP_BYTES = 1024 * 1024

#: Steps that any request may make; only requests that look further need a turn.
FREE_STEPS = 2

#: Requests that compare more metadata than that at the same time, those that wait for them, and seconds they wait.
AT_ONCE, WAITING, PATIENCE = 2, 2, 1.0
BUSY = "Other requests are comparing the metadata of many queues now; try again, or filter by name alone"

#: Does a queue with this metadata, as clients see it, belong into the list?
Matches = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class ListedQueue:
    """A queue in a list; ``metadata`` is the JSON that clients see, empty where it was not asked for."""

    name: str
    metadata: bytes = b""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list is asked for: at most ``limit`` queues of a project after the name ``after``, by name.

    ``part`` must be in the name; ``matches`` looks at the metadata; ``detailed``: show it; ``count``: count all that
    match, whatever ``after`` and ``limit`` are. ``filled``: what is shown has the reserved keys filled in.
    """

    project: str
    after: str
    limit: int
    part: str = ""
    matches: Matches | None = None
    detailed: bool = False
    count: bool = False
    filled: bool = True


class QueueLists:
    """Makes the lists of a side-store's queues. ``gate``: for those who compare much metadata."""

    def __init__(self, store: SideStore, rules: MetadataRules, gate: Gate | None = None):
        self._store = store
        self._rules = rules
        self._gate = gate or Gate(AT_ONCE, WAITING, PATIENCE, BUSY)

    def page(self, wanted: Wanted) -> tuple[list[ListedQueue], int | None]:
        """The page, and the count if it was asked for.

        A page may have fewer queues than ``limit``, though one at least, when their metadata is large. Raises Busy.
        """
        if not PART_OF_NAME.match(wanted.part):
            return [], 0 if wanted.count else None
        if wanted.matches is not None:
            return self._compare(wanted, wanted.matches)
        page = self._named(wanted)
        if not wanted.count:
            return page, None
        return page, self._store.catalogue.count_queues(wanted.project, wanted.part)

    def _named(self, wanted: Wanted) -> list[ListedQueue]:
        place = wanted.project, wanted.after, wanted.limit, wanted.part
        if not wanted.detailed:
            return [ListedQueue(name) for name in self._store.catalogue.list_names(*place)]
        found = self._store.catalogue.list_queues(*place)
        if not wanted.filled:
            return [ListedQueue(queue.name, queue.metadata) for queue in found]
        # One by one: parsed, metadata takes many times its size in memory.
        return [ListedQueue(queue.name, orjson.dumps(self._shown(queue))) for queue in found]

    def _shown(self, queue: Queue) -> dict[str, Any]:
        return self._rules.show(orjson.loads(queue.metadata))

    def _compare(self, wanted: Wanted, matches: Matches) -> tuple[list[ListedQueue], int | None]:
        """The page and count of the queues whose metadata matches: each of them has to be looked at."""
        page: list[ListedQueue] = []
        count = size = 0
        full = False
        for queue in self._read(wanted):
            shown = self._shown(queue)
            if not matches(shown):
                continue
            count += 1
            if full or queue.name <= wanted.after:
                continue
            listed = ListedQueue(queue.name, orjson.dumps(shown) if wanted.detailed else b"")
            size += len(listed.metadata)
            if not page or size <= MOST_METADATA:
                page.append(listed)
            full = len(page) == wanted.limit or size > MOST_METADATA
            if full and not wanted.count:
                break
        return page, count if wanted.count else None

    def _read(self, wanted: Wanted) -> Iterator[Queue]:
        """The project's queues from the page's beginning on, or all to count them, a few at a time."""
        deadline = time.monotonic() + self._store.timeout
        after = "" if wanted.count else wanted.after
        steps, most = 0, min(FIRST_STEP, STEP)
        with ExitStack() as turn:
            while found := self._store.catalogue.list_queues(wanted.project, after, most, wanted.part, STEP_BYTES):
                yield from found
                after = found[-1].name
                steps += 1
                size = sum(len(queue.metadata) for queue in found) // len(found)
                most = max(1, min(STEP, STEP_BYTES // max(1, size)))
                if steps == FREE_STEPS:
                    turn.enter_context(self._gate.turn())
                if time.monotonic() > deadline:
                    raise Busy(
                        "There are too many queues to compare the metadata of all in time; filter by name as well"
                    )
