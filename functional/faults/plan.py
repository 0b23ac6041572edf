"""Which queues a run has, and who works on each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from functional.faults.clients import Claimer, GroupClaimer, Lister, Popper, Producer, Reader, Sweeper
from functional.faults.follower import Follower
from functional.faults.load import Load
from functional.faults.repeating import DEDUP_ID, KEY, NOTHING, Repeater

#: Seconds of ttl of the messages that are to expire.
BRIEF_TTL = 60

#: Number of groups in FIFO queues that have several, and the share of posts there that are delayed.
GROUPS = 10
DELAYED = 0.02

#: Queues of which there are feeds alone.
FOLLOWED = ("followed-1", "followed-2", "followed-3")

#: Metadata of FIFO queues.
FIFO = {"_fifo": True}

#: The queue of the probe of each gateway.
PROBES = ("probe-1", "probe-2")

#: Ordinary queues. In the last one posts are repeated until they are answered.
WORK, POPPED, FEED, BRIEF, REPEATED = ("work-1", "work-2"), "popped", "feed", "brief", "repeated"

#: FIFO queues: with ten groups, with one, one from which is popped, and one that is listed only.
GROUPED, SINGLE, FIFO_POPPED, FIFO_FEED = "fifo-groups", "fifo-single", "fifo-popped", "fifo-feed"


def _ordinary(load: Load, keys: bool) -> None:
    for queue in WORK:
        load.add_producers(Producer, queue, 2)
        load.add_consumers(Claimer, queue, 3)
        load.add_consumers(Sweeper, queue)
    load.add_producers(Producer, POPPED)
    load.add_consumers(Popper, POPPED)
    load.add_producers(Producer, FEED)
    load.add_consumers(Reader, FEED)
    load.add_listers(Lister, FEED, 2)
    load.add_listers(Follower, FEED, 2)
    load.add_producers(Producer, BRIEF, ttl=BRIEF_TTL)
    load.add_consumers(Sweeper, BRIEF)


def _fifo(load: Load, keys: bool) -> None:
    load.add_producers(Producer, GROUPED, 2, groups=GROUPS, delayed=DELAYED)
    load.add_producers(Repeater, GROUPED, groups=GROUPS, by=KEY if keys else NOTHING)
    load.add_consumers(GroupClaimer, GROUPED, 4)
    load.add_listers(Lister, GROUPED)
    load.add_producers(Producer, SINGLE, groups=1, delayed=DELAYED)
    load.add_producers(Repeater, SINGLE, groups=1, by=DEDUP_ID if keys else NOTHING)
    load.add_consumers(GroupClaimer, SINGLE, 2)
    load.add_producers(Producer, FIFO_POPPED, groups=GROUPS)
    load.add_consumers(Popper, FIFO_POPPED, 2)
    load.add_producers(Producer, FIFO_FEED, groups=GROUPS, delayed=DELAYED)
    load.add_consumers(Reader, FIFO_FEED)
    load.add_listers(Lister, FIFO_FEED)
    load.add_listers(Follower, FIFO_FEED)


def _feeds(load: Load, keys: bool) -> None:
    for queue in FOLLOWED:
        load.add_producers(Producer, queue)
        load.add_listers(Follower, queue, 3)


def _repeated(load: Load, keys: bool) -> None:
    load.add_producers(Repeater, REPEATED, 2, by=KEY if keys else NOTHING)
    load.add_consumers(Claimer, REPEATED, 2)


#: Parts of the load by name: the queues with their metadata, and what adds their clients.
PARTS: dict[str, tuple[Mapping[str, Mapping[str, Any]], Callable[[Load, bool], None]]] = {
    "ordinary": (dict.fromkeys((*WORK, POPPED, FEED, BRIEF), {}), _ordinary),
    "fifo": (dict.fromkeys((GROUPED, SINGLE, FIFO_POPPED, FIFO_FEED), FIFO), _fifo),
    "repeated": ({REPEATED: {}}, _repeated),
    "feeds": (dict.fromkeys(FOLLOWED, {}), _feeds),
}


def queues(parts: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """The queues of these parts, and those of probes, with their metadata."""
    return {queue: metadata for part in parts for queue, metadata in PARTS[part][0].items()} | dict.fromkeys(PROBES, {})


def add_clients(load: Load, parts: Sequence[str], keys: bool) -> None:
    """Add the clients of these parts. Without ``keys`` nothing tells repeated posts from new ones."""
    for part in parts:
        PARTS[part][1](load, keys)
