"""Readers of feeds: what is read once for many, in which order, and what becomes of failures."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from bridges.errors import BridgeUnavailable
from gateway.core.errors import Busy, InvalidInput
from gateway.stream import reader as reader_module
from gateway.stream.events import end_event, head
from gateway.stream.feed import DELETED, REFUSED, UNAVAILABLE
from gateway.stream.feeds import FeedKey
from gateway.stream.lanes import AT_ONCE, Lanes
from gateway.stream.page import Page
from gateway.stream.reader import Reader

KEY = FeedKey("project", "queue", "/v2/queues/queue", 2, False, False)


class Lane:
    """Work that is done when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, Callable[[], Any], Callable[[Any], None]]] = []
        self.done = 0

    def do(self, lane: str, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.waiting.append((lane, work, done))

    def work(self) -> None:
        """Do one piece of it."""
        self.done += 1
        _, work, done = self.waiting.pop(0)
        done(work())

    def work_all(self) -> None:
        while self.waiting:
            self.work()


class Fed:
    """A feed without a connection."""

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self.reader: Reader | None = None
        self.is_paused = False
        self.got: list[bytes] = []
        self.end_reason: str | None = None

    def send(self, page: Page) -> None:
        self.got.append(page.for_client(None)[0])
        self.position = page.last

    def end(self, reason: str, **more: object) -> None:
        self.end_reason = reason
        assert self.reader is not None
        self.reader.leave(self)  # type: ignore[arg-type]


class Queue:
    """What there is to read, and how often it was read."""

    def __init__(self, *bodies: bytes) -> None:
        self.bodies = list(bodies)
        self.key: str | None = "key"
        self.reads: list[int] = []
        self.error: Exception | None = None

    def read(self, key: FeedKey, after: int) -> tuple[Page, str]:
        self.reads.append(after)
        if self.error is not None:
            raise self.error
        found = self.bodies[after:after + key.limit]
        return Page(self.key, [("", body) for body in found], after + len(found), len(found) < key.limit), "pool"


@pytest.fixture
def lane() -> Lane:
    return Lane()


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def looks() -> list[bool]:
    return []


@pytest.fixture
def reader(lane: Lane, queue: Queue, looks: list[bool]) -> Any:
    made = Reader(KEY, "pool", queue.read, lane, lambda reader: None)  # type: ignore[arg-type]
    made.watch = SimpleNamespace(looked=looks.append, close=lambda: looks.append(None))  # type: ignore[assignment]
    return made


def test_feeds_at_the_same_place_share_what_is_read(reader: Any, lane: Lane, queue: Queue) -> None:
    feeds = [Fed() for _ in range(100)]
    for feed in feeds:
        reader.join(feed)
    lane.work_all()
    assert queue.reads == [0]
    queue.bodies.append(b"one")
    reader.woken()
    lane.work_all()
    assert queue.reads == [0, 0]
    assert all(feed.got == [b"one"] for feed in feeds)
    queue.bodies.append(b"two")
    reader.woken()
    lane.work_all()
    assert queue.reads == [0, 0, 1]
    assert all(feed.got == [b"one", b"two"] for feed in feeds)


def test_full_page_is_followed_by_the_next(reader: Any, lane: Lane, queue: Queue) -> None:
    queue.bodies += [b"1", b"2", b"3", b"4", b"5"]
    feed = Fed()
    reader.join(feed)
    lane.work_all()
    assert feed.got == [b"12", b"34", b"5"]
    assert queue.reads == [0, 2, 4]


def test_feed_that_is_far_behind_keeps_no_other_from_what_is_new(reader: Any, lane: Lane, queue: Queue) -> None:
    queue.bodies += [b"%d" % number for number in range(100)]
    ahead, behind = Fed(100), Fed()
    reader.join(ahead)
    lane.work_all()
    reader.join(behind)
    lane.work()
    queue.bodies.append(b"new")
    reader.woken()
    lane.work()
    lane.work()
    assert ahead.got == [b"new"]
    lane.work_all()
    assert b"".join(behind.got) == b"".join(queue.bodies)


def test_what_comes_while_a_page_is_read_is_not_missed(reader: Any, lane: Lane, queue: Queue) -> None:
    feed = Fed()
    reader.join(feed)
    _, work, done = lane.waiting.pop()
    result = work()  # it was empty
    queue.bodies.append(b"one")
    reader.woken()
    done(result)
    lane.work_all()
    assert feed.got == [b"one"]


def test_page_goes_to_those_who_came_while_it_was_read(reader: Any, lane: Lane, queue: Queue) -> None:
    queue.bodies.append(b"one")
    first, second = Fed(), Fed()
    reader.join(first)
    reader.join(second)
    lane.work()
    assert first.got == second.got == [b"one"]
    assert queue.reads == [0]


def test_client_that_takes_nothing_is_sent_nothing_more(reader: Any, lane: Lane, queue: Queue) -> None:
    queue.bodies += [b"1", b"2", b"3"]
    slow, quick = Fed(), Fed()
    reader.join(slow)
    reader.join(quick)
    slow.is_paused = True
    lane.work_all()
    assert slow.got == [] and quick.got == [b"12", b"3"]
    reader.woken()
    lane.work_all()
    assert slow.got == []
    slow.is_paused = False
    reader.want(slow)
    lane.work_all()
    assert slow.got == [b"12", b"3"]


def test_watch_hears_what_came_of_it(reader: Any, lane: Lane, queue: Queue, looks: list[bool]) -> None:
    feed = Fed()
    reader.join(feed)
    lane.work_all()
    queue.bodies.append(b"one")
    reader.woken()
    lane.work_all()
    assert looks == [False, True]
    reader.leave(feed)
    assert looks == [False, True, None]


@pytest.mark.parametrize("key", [None, "another"])
def test_feeds_end_with_their_queue(reader: Any, lane: Lane, queue: Queue, key: str | None) -> None:
    feeds = [Fed(), Fed()]
    for feed in feeds:
        reader.join(feed)
    lane.work_all()
    queue.key = key
    reader.woken()
    lane.work_all()
    assert [feed.end_reason for feed in feeds] == [DELETED, DELETED]


def test_feed_may_wait_for_a_queue_to_be_created(reader: Any, lane: Lane, queue: Queue) -> None:
    queue.key = None
    feed = Fed()
    reader.join(feed)
    lane.work_all()
    queue.key = "key"
    queue.bodies.append(b"one")
    reader.woken()
    lane.work_all()
    assert feed.got == [b"one"] and feed.end_reason is None


@pytest.mark.parametrize("error", [BridgeUnavailable("down"), Busy("busy"), RuntimeError("unexpected")])
def test_failure_that_passes_is_not_noticed(
    reader: Any, lane: Lane, queue: Queue, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "PAUSES", (0.01, 0.01))
    reader._pause = 0.01

    async def run() -> None:
        feed = Fed()
        queue.bodies.append(b"one")
        queue.error = error
        reader.join(feed)
        lane.work_all()
        queue.error = None
        await asyncio.sleep(0.05)
        lane.work_all()
        assert feed.got == [b"one"] and feed.end_reason is None

    asyncio.run(run())


def test_failure_that_lasts_ends_the_feeds(
    reader: Any, lane: Lane, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "TRYING", 0.0)
    queue.error = BridgeUnavailable("down")
    feed = Fed()
    reader.join(feed)
    lane.work_all()
    assert feed.end_reason == UNAVAILABLE


def test_refusal_ends_the_feeds_at_once(reader: Any, lane: Lane, queue: Queue) -> None:
    queue.error = InvalidInput("it has no feeds any more")
    feed = Fed()
    reader.join(feed)
    lane.work_all()
    assert feed.end_reason == REFUSED and queue.reads == [0]


def test_pool_that_hangs_leaves_threads_to_others() -> None:
    submitted: list[tuple[Any, ...]] = []
    streams = SimpleNamespace(hands=SimpleNamespace(submit=lambda *args: submitted.append(args)))
    lanes = Lanes(streams)  # type: ignore[arg-type]
    done: list[str] = []
    for number in range(AT_ONCE + 3):
        lanes.do("hangs", lambda: None, lambda result, number=number: done.append(f"hangs {number}"))
    lanes.do("works", lambda: None, done.append)
    assert [args[1] for args in submitted] == ["hangs"] * AT_ONCE + ["works"]
    lanes._done("hangs", lambda result: done.append("first"), None)
    assert [args[1] for args in submitted][-1] == "hangs" and len(submitted) == AT_ONCE + 2
    assert done == ["first"]


def test_client_s_own_messages_are_left_out_of_its_page() -> None:
    page = Page("key", [("me", b"1"), ("you", b"2"), ("me", b"3")], 3, True)
    assert page.for_client("me") == (b"2", 1)
    assert page.for_client("you") == (b"13", 2)
    assert page.for_client("nobody") == page.for_client(None) == (b"123", 3)


def test_event_is_in_one_line_whatever_it_says() -> None:
    event = end_event("refused", {"description": "two\nlines"})
    assert event.count(b"data:") == 1
    assert rb"two\nlines" in event
    assert event.endswith(b"\n\n") and event.count(b"\n\n") == 1
    assert end_event("deleted", {}, forget=True).startswith(b"id:\n")


def test_head_says_that_the_answer_is_a_feed() -> None:
    lines, _, first = head([("X-Openstack-Request-Id", "req-1")]).partition(b"\r\n\r\n")
    assert lines.split(b"\r\n")[0] == b"HTTP/1.1 200 OK"
    assert b"Content-Type: text/event-stream" in lines and b"X-Accel-Buffering: no" in lines
    assert b"X-Openstack-Request-Id: req-1" in lines
    assert first.startswith(b"retry: ") and first.endswith(b"\n\n")
