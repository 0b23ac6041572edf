"""Who waits for a queue in this process is told of what this process makes available there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateway.core.arrivals import Arrivals, Interest
from gateway.core.core import Core
from gateway.core.messages.post import Post
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.names import topic_project

CLIENT = "client"


@pytest.fixture
def arrivals() -> Arrivals:
    return Arrivals()


def test_what_is_told_is_kept_until_it_is_taken(arrivals: Arrivals) -> None:
    interest = arrivals.listen("project", "queue")
    assert interest.take() == (0, False)
    arrivals.tell("project", "queue", 2)
    arrivals.tell("project", "queue")
    assert interest.take() == (3, False)
    arrivals.tell_changed("project", "queue")
    assert interest.take() == (0, True)
    assert interest.take() == (0, False)
    assert interest.told == 3


def test_other_queues_are_not_told_of(arrivals: Arrivals) -> None:
    interest = arrivals.listen("project", "queue")
    for project, name in ("project", "other"), ("other", "queue"):
        arrivals.tell(project, name)
        arrivals.tell_changed(project, name)
    arrivals.tell_copied("other")
    assert interest.take() == (0, False)


def test_each_call_to_wake_is_for_what_was_told_since_the_last_time(arrivals: Arrivals) -> None:
    woken: list[Interest] = []
    arrivals.wake = woken.append
    interest = arrivals.listen("project", "queue")
    arrivals.tell("project", "queue")
    assert woken == []  # nobody has asked to be called
    assert interest.take() == (1, False)
    arrivals.tell("project", "queue")
    arrivals.tell("project", "queue")
    assert woken == [interest]
    assert interest.take() == (2, False)


def test_interest_lasts_as_long_as_somebody_has_it(arrivals: Arrivals) -> None:
    first, second = arrivals.listen("project", "queue"), arrivals.listen("project", "queue")
    other = arrivals.listen("project", "other")
    assert first is second
    arrivals.leave(first)
    arrivals.tell("project", "queue")
    assert second.take() == (1, False)
    arrivals.leave(second)
    arrivals.tell("project", "queue")
    assert second.told == 1
    assert not arrivals.is_idle
    arrivals.leave(other)
    assert arrivals.is_idle
    assert arrivals.listen("project", "queue") is not second


def test_copies_are_told_to_all_queues_of_the_project(arrivals: Arrivals) -> None:
    interests = [arrivals.listen("project", "one"), arrivals.listen("project", "two")]
    arrivals.tell_copied(topic_project("project"))
    assert [interest.take() for interest in interests] == [(0, True)] * 2


def test_nothing_is_lost_among_many_threads(arrivals: Arrivals) -> None:
    taken = 0
    woken = threading.Event()
    arrivals.wake = lambda interest: woken.set()
    interest = arrivals.listen("project", "queue")

    def tell() -> None:
        for _ in range(2000):
            arrivals.tell("project", "queue")

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    while taken < 8000:
        woken.clear()
        number, _ = interest.take()
        taken += number
        if taken < 8000:
            assert woken.wait(10)
    for thread in threads:
        thread.join()
    assert (taken, interest.told) == (8000, 8000)


# -- what the core tells ------------------------------------------------------------------------------------------


@contextmanager
def heard(core: Core, queue: str = "queue") -> Iterator[Callable[[], tuple[int, bool]]]:
    interest = core.arrivals.listen("project", queue)
    yield interest.take
    core.arrivals.leave(interest)


def post(core: Core, queue: str, *bodies: bytes, **fields: Any) -> list[str]:
    return core.messages.post("project", queue, CLIENT, [Post(body, None, None, None, **fields) for body in bodies], 1)


def claim(core: Core, info: QueueInfo, limit: int = 10) -> list[Any]:
    return core.claims.create(info, 60, 60, limit)


def test_posts_are_told(core: Core) -> None:
    with heard(core) as told:
        post(core, "queue", b"1", b"2")
        assert told() == (2, True)  # it was created, too
        post(core, "queue", b"3")
        assert told() == (1, False)
        post(core, "other", b"4")
        assert told() == (0, False)


def test_released_messages_are_told(core: Core, info: QueueInfo) -> None:
    post(core, "queue", b"1", b"2")
    claimed = claim(core, info)
    with heard(core) as told:
        core.claims.release(info, "unknown")
        assert told() == (0, False)
        core.claims.release(info, claimed[0].claim)
        assert told() == (2, False)


@pytest.fixture
def fifo(core: Core) -> QueueInfo:
    core.queues.create("project", "fifo", {"_fifo": True})
    return core.directory.ensure("project", "fifo")


def test_posts_to_a_fifo_queue_are_told_by_groups(core: Core, fifo: QueueInfo) -> None:
    with heard(core, "fifo") as told:
        post(core, "fifo", b"1", b"2", b"3", group="a")
        assert told() == (1, False)


@pytest.mark.parametrize("way", ["delete", "delete_many"])
def test_deletions_in_a_fifo_queue_are_told(core: Core, fifo: QueueInfo, way: str) -> None:
    post(core, "fifo", b"1", b"2", group="a")
    (message,) = claim(core, fifo, 1)
    with heard(core, "fifo") as told:
        if way == "delete":
            assert core.messages.delete(fifo, message.id, message.claim)
        else:
            core.messages.delete_many(fifo, [message.id], [message.claim])
        assert told() == (1, False)


def test_pops_of_a_fifo_queue_are_told(core: Core, fifo: QueueInfo) -> None:
    post(core, "fifo", b"1", b"2", group="a")
    with heard(core, "fifo") as told:
        assert len(core.messages.pop(fifo, 1)) == 1
        assert told() == (1, False)


def test_deletions_elsewhere_are_not_told(core: Core, info: QueueInfo) -> None:
    post(core, "queue", b"1")
    (message,) = claim(core, info)
    with heard(core) as told:
        core.messages.delete(info, message.id, message.claim)
        assert told() == (0, False)


@pytest.mark.parametrize("is_fifo", [False, True])
def test_dead_letters_are_told_in_both_queues(core: Core, is_fifo: bool) -> None:
    metadata = {"_max_claim_count": 1, "_dead_letter_queue": "dead", "_fifo": is_fifo}
    core.queues.create("project", "queue", metadata)
    info = core.directory.ensure("project", "queue")
    core.queues.create("project", "dead", None)
    post(core, "queue", b"1")
    (message,) = claim(core, info)
    core.claims.release(info, message.claim)
    with heard(core) as told, heard(core, "dead") as told_there:
        assert claim(core, info) == []
        assert told_there() == (1, False)
        assert told() == (1 if is_fifo else 0, False)


def test_change_and_end_of_a_queue_are_told(core: Core, info: QueueInfo) -> None:
    with heard(core) as told:
        core.queues.create("project", "queue", {"team": "shop"})
        assert told() == (0, True)
        core.queues.patch("project", "queue", [{"op": "add", "path": "/metadata/x", "value": 1}])
        assert told() == (0, True)
        core.queues.delete("project", "queue")
        assert told() == (0, True)
