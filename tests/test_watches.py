"""Those who wait for a queue are woken: by this process at once, else by a bounded look; as many as have work."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from bridges.errors import BridgeUnavailable
from bridges.memory import MemoryBridge
from gateway.config.limits import Limits
from gateway.core.core import Core
from gateway.core.messages.post import Post
from gateway.core.queues.info import QueueInfo
from gateway.core.seal import KEY_SIZE, Seal
from gateway.stream import looks
from gateway.stream.loop import StreamLoop
from gateway.stream.watched import LONGEST_PAUSE, Pace
from gateway.stream.watches import Watch, Watches
from storage.errors import StoreUnavailable
from storage.sqlite import SQLiteStore

#: Seconds after which a test fails that waits for something; far more than a slow machine needs.
PATIENCE = 20.0

#: Seconds in which nothing must happen, where looks are made every 40 ms.
QUIET = 0.5


@pytest.fixture
def streams() -> Iterator[StreamLoop]:
    streams = StreamLoop()
    yield streams
    streams.close()


@pytest.fixture
def elsewhere(bridge: MemoryBridge, tmp_path: Any) -> Iterator[Core]:
    """Another gateway with the same broker and side-store, that tells nobody here."""
    store = SQLiteStore(f"sqlite:///{tmp_path}/marconi.db", SimpleNamespace(timeout=5.0))
    core = Core(bridge, store, Limits(), Seal(bytes(KEY_SIZE)))
    yield core
    core.close()


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Waiter:
    """Somebody who waits: it notes its calls, and looks when it is told to."""

    def __init__(self, streams: StreamLoop, watches: Watches, consumes: bool, queue: str = "queue"):
        self.calls = 0
        self.errors: list[Exception | None] = []
        self.answer: Callable[[], tuple[bool, bool]] | None = None
        self._streams = streams
        self.watch: Watch
        self.on_loop(lambda: setattr(self, "watch", watches.watch("project", queue, self._woken, consumes=consumes)))

    def on_loop(self, call: Callable[[], Any]) -> None:
        done = threading.Event()

        def run() -> None:
            try:
                call()
            finally:
                done.set()

        self._streams.call(run)
        assert done.wait(PATIENCE)

    def _woken(self) -> None:
        self.calls += 1
        self.errors.append(self.watch.error)
        if self.answer is not None:
            self._streams.call(lambda: self.watch.looked(*self.answer()) if self.answer else None)

    def looked(self, found: bool, more: bool = False) -> None:
        self.on_loop(lambda: self.watch.looked(found, more))

    def close(self) -> None:
        self.on_loop(self.watch.close)


@pytest.fixture
def watches(core: Core, streams: StreamLoop) -> Watches:
    return Watches(core, streams)


@pytest.fixture
def waiter(streams: StreamLoop, watches: Watches) -> Callable[..., Waiter]:
    return lambda consumes=True, queue="queue": Waiter(streams, watches, consumes, queue)


def post(core: Core, number: int = 1, queue: str = "queue", **fields: Any) -> None:
    posts = [Post(b"1", None, fields.get("delay"), None, fields.get("group")) for _ in range(number)]
    core.messages.post("project", queue, "client", posts, 1)


def without_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks.Looks, "add", lambda self, queue: None)
    monkeypatch.setattr(looks.Looks, "hint", lambda self, queue: None)


# -- by this process ------------------------------------------------------------------------------------------------


def test_post_wakes_at_once(core: Core, info: QueueInfo, waiter: Any, monkeypatch: Any) -> None:
    without_looks(monkeypatch)
    taker, lister, other = waiter(), waiter(consumes=False), waiter(queue="other")
    post(core)
    until(lambda: taker.calls == lister.calls == 1)
    assert other.calls == 0


def test_as_many_are_woken_as_messages_came_first_those_who_waited_longest(
    core: Core, info: QueueInfo, waiter: Any, monkeypatch: Any
) -> None:
    without_looks(monkeypatch)
    takers = [waiter() for _ in range(5)]
    listers = [waiter(consumes=False) for _ in range(3)]
    post(core, 2)
    until(lambda: [taker.calls for taker in takers] == [1, 1, 0, 0, 0])
    until(lambda: [lister.calls for lister in listers] == [1, 1, 1])
    post(core)
    until(lambda: [taker.calls for taker in takers] == [1, 1, 1, 0, 0])


def test_who_leaves_messages_wakes_the_next(core: Core, info: QueueInfo, waiter: Any, monkeypatch: Any) -> None:
    without_looks(monkeypatch)
    takers = [waiter() for _ in range(3)]
    post(core)
    until(lambda: takers[0].calls)
    takers[0].looked(True, more=True)
    until(lambda: takers[1].calls)
    takers[1].looked(True)
    assert [taker.calls for taker in takers] == [1, 1, 0]


def test_who_goes_without_using_the_call_passes_it_on(
    core: Core, info: QueueInfo, waiter: Any, monkeypatch: Any
) -> None:
    without_looks(monkeypatch)
    takers = [waiter() for _ in range(3)]
    post(core)
    until(lambda: takers[0].calls)
    takers[0].close()
    until(lambda: takers[1].calls)
    takers[2].close()
    takers[1].close()


def test_who_found_nothing_keeps_its_place(core: Core, info: QueueInfo, waiter: Any, monkeypatch: Any) -> None:
    without_looks(monkeypatch)
    takers = [waiter() for _ in range(2)]
    for number in 1, 2:
        post(core)
        until(lambda number=number: takers[0].calls == number)
        takers[0].looked(False)
    assert takers[1].calls == 0


def test_message_that_comes_while_all_look_is_not_missed(
    core: Core, info: QueueInfo, waiter: Any, monkeypatch: Any
) -> None:
    without_looks(monkeypatch)
    taker = waiter()
    post(core)
    until(lambda: taker.calls)
    post(core)  # perhaps after it has looked
    time.sleep(0.1)
    assert taker.calls == 1
    taker.looked(False)
    until(lambda: taker.calls == 2)
    taker.looked(False)
    time.sleep(0.1)
    assert taker.calls == 2


def test_nobody_is_woken_who_has_left(core: Core, info: QueueInfo, waiter: Any) -> None:
    taker, lister = waiter(), waiter(consumes=False)
    for each in taker, lister:
        each.close()
        each.close()
    assert core.arrivals.is_idle
    post(core)
    time.sleep(QUIET)
    assert taker.calls == lister.calls == 0


# -- by looks -------------------------------------------------------------------------------------------------------


def test_post_through_another_gateway_wakes(elsewhere: Core, info: QueueInfo, waiter: Any) -> None:
    taker, lister = waiter(), waiter(consumes=False)
    post(elsewhere)
    until(lambda: taker.calls and lister.calls)
    assert taker.errors[0] is None


def test_queue_that_does_not_exist_can_be_waited_for(elsewhere: Core, waiter: Any) -> None:
    taker = waiter()
    time.sleep(0.2)
    assert taker.calls == 0
    post(elsewhere)
    until(lambda: taker.calls)


def test_queue_that_is_created_again_can_be_waited_for(elsewhere: Core, info: QueueInfo, waiter: Any) -> None:
    taker = waiter()
    elsewhere.queues.delete("project", "queue")
    post(elsewhere)
    until(lambda: taker.calls)


@pytest.mark.parametrize("consumes", [True, False])
def test_release_through_another_gateway_wakes(
    core: Core, elsewhere: Core, info: QueueInfo, waiter: Any, consumes: bool
) -> None:
    post(core)
    (message,) = elsewhere.claims.create(info, 60, 60, 1)
    waiting = waiter(consumes)
    if not consumes:
        until(lambda: waiting.calls)  # the first look: something is there, which may have come before
        waiting.looked(False)
    before = waiting.calls
    elsewhere.claims.release(info, message.claim)
    until(lambda: waiting.calls > before)


def test_delayed_message_wakes_when_its_time_has_come(
    core: Core, info: QueueInfo, waiter: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("gateway.core.messages.posting.check_seconds", lambda *_: None)
    taker = waiter()
    taker.answer = lambda: (False, False)
    post(core, delay=1)
    time.sleep(QUIET)
    assert taker.calls == 0
    until(lambda: taker.calls)


def test_copies_of_what_is_posted_elsewhere_wake(core: Core, waiter: Any) -> None:
    core.queues.create("project", "source", None)
    core.queues.create("project", "queue", None)
    core.subscriptions.create("project", "source", "marconi:queue", 3600, {})
    taker = waiter()
    core.directory.refresh("project", "source")
    post(core, queue="source")
    until(lambda: taker.calls)


def test_looks_that_wake_in_vain_become_rare(core: Core, info: QueueInfo, waiter: Any) -> None:
    core.pool.bridge.depth = lambda queue: 1  # a broker that counts what nobody gets
    taker = waiter()
    taker.answer = lambda: (False, False)
    time.sleep(2.0)
    assert 3 <= taker.calls <= 7  # at about 0, 40, 120, 280, 600, 1240 ms
    taker.answer = lambda: (True, False)
    until(lambda: taker.calls > 12)  # somebody found something: it is worth looking


def test_pause_is_doubled_to_its_bound() -> None:
    pace, now, pauses = Pace(), 100.0, []
    for _ in range(8):
        pace.woke(now)
        pauses.append(round(pace.until - now, 3))
    assert pauses == [0.04, 0.08, 0.16, 0.32, 0.64, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    pace.reset()
    assert pace.until <= 0


def test_lister_is_not_woken_by_what_was_there_before(
    core: Core, elsewhere: Core, info: QueueInfo, waiter: Any
) -> None:
    post(core, 3)
    core.messages.list(info, None, 10, None, False, False)
    lister = waiter(consumes=False)
    until(lambda: lister.calls == 1)
    time.sleep(QUIET)
    assert lister.calls == 1
    post(elsewhere)
    until(lambda: lister.calls == 2)


def counted(bridge: Any) -> list[str]:
    asked: list[str] = []
    ask = bridge.depth

    def depth(queue: str) -> int:
        asked.append(queue)
        return ask(queue)

    bridge.depth = depth
    return asked


def test_queues_share_a_budget_of_looks(core: Core, waiter: Any) -> None:
    names = [f"queue{number}" for number in range(60)]
    for name in names:
        core.queues.create("project", name, None)
        core.directory.find("project", name)  # so that its pool is known
    asked = counted(core.pool.bridge)
    for name in names:
        waiter(queue=name)
    asked.clear()
    start = time.monotonic()
    until(lambda: len(set(asked)) == len(names))
    seconds = time.monotonic() - start
    assert len(asked) <= seconds / looks.GAP + 1
    assert max(asked.count(queue) for queue in set(asked)) <= 2  # in turn


def test_queue_alone_is_looked_at_often_and_nobody_looks_when_nobody_waits(
    core: Core, info: QueueInfo, waiter: Any
) -> None:
    asked = counted(core.pool.bridge)
    taker = waiter()
    start = time.monotonic()
    until(lambda: len(asked) >= 10)
    assert len(asked) <= (time.monotonic() - start) / looks.INTERVAL + 1
    taker.close()
    time.sleep(0.2)
    before = len(asked)
    time.sleep(QUIET)
    assert len(asked) == before


def test_side_store_is_asked_for_all_queues_at_once(core: Core, waiter: Any, monkeypatch: Any) -> None:
    asked: list[int] = []
    landed = core.pool.store.landed
    ready = landed.ready
    monkeypatch.setattr(landed, "ready", lambda keys: asked.append(len(keys)) or ready(keys))
    for number in range(30):
        core.queues.create("project", f"queue{number}", None)
        core.directory.find("project", f"queue{number}")
        waiter(queue=f"queue{number}")
    until(lambda: 30 in asked)
    before, start = len(asked), time.monotonic()
    time.sleep(1.0)
    assert len(asked) - before <= (time.monotonic() - start) / looks.ASKED_EVERY + 1


def test_error_of_a_look_is_met_by_all_who_wait(core: Core, info: QueueInfo, waiter: Any) -> None:
    waiting = [waiter(), waiter(), waiter(consumes=False)]
    error = BridgeUnavailable("it is gone")

    def depth(queue: str) -> int:
        raise error

    core.pool.bridge.depth = depth
    until(lambda: all(each.errors == [error] for each in waiting))
    time.sleep(0.2)
    assert waiting[0].calls == 1  # it is not back yet
    waiting[0].looked(False)
    until(lambda: waiting[0].calls == 2)


@pytest.mark.parametrize("part", ["broker", "side-store"])
def test_look_that_fails_once_is_made_again(
    core: Core, elsewhere: Core, info: QueueInfo, waiter: Any, part: str
) -> None:
    """A connection may have been lost."""
    target, name = (core.pool.bridge, "depth") if part == "broker" else (core.pool.store.landed, "ready")
    call, failed = getattr(target, name), threading.Event()

    def once(*args: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise BridgeUnavailable("lost") if part == "broker" else StoreUnavailable("lost")
        return call(*args)

    setattr(target, name, once)
    taker = waiter()
    assert failed.wait(PATIENCE)
    time.sleep(QUIET)
    assert taker.calls == 0
    post(elsewhere)
    until(lambda: taker.calls)
    assert taker.errors == [None]


class Slow:
    """A glance at a queue of another pool that hangs."""

    def __init__(self, core: Core):
        self.entered = threading.Event()
        self.goes_on = threading.Event()
        in_broker = core.glances.in_broker

        def slow(project: str, name: str) -> Any:
            if name == "slow":
                self.entered.set()
                self.goes_on.wait(PATIENCE)
            return in_broker(project, name)

        core.glances.in_broker = slow  # type: ignore[method-assign]


def test_slow_pool_delays_no_other(core: Core, elsewhere: Core, info: QueueInfo, waiter: Any) -> None:
    slow = Slow(core)
    taker = waiter()
    hanging = [waiter(queue="slow") for _ in range(3)]  # of a pool that is not known
    assert slow.entered.wait(PATIENCE)
    try:
        post(elsewhere)
        until(lambda: taker.calls)
        assert not any(each.calls for each in hanging)
    finally:
        slow.goes_on.set()


# -- many at once ---------------------------------------------------------------------------------------------------


def test_no_message_is_left_while_somebody_waits(
    core: Core, info: QueueInfo, streams: StreamLoop, watches: Watches, monkeypatch: Any
) -> None:
    """Without looks: each wake-up that is lost would leave a message lying, and the test waiting."""
    without_looks(monkeypatch)
    messages, takers, producers = 400, 6, 3
    got: list[str] = []
    lock = threading.Lock()
    done = threading.Event()

    def take_one() -> list[str]:
        """Take a message; wait as a request does."""
        interest = core.arrivals.listen("project", "queue")
        told = interest.told
        taken = core.messages.pop(info, 1)
        watch: list[Watch] = []
        woken = threading.Event()

        def begin() -> None:
            watch.append(watches.watch("project", "queue", woken.set, consumes=True))
            if interest.told != told:
                watch[0].woken()

        if not taken:
            streams.call(begin)
        while not taken and not done.is_set():
            if not woken.wait(0.2):
                continue
            woken.clear()
            taken = core.messages.pop(info, 1)
            streams.call(lambda found=bool(taken): watch[0].looked(found, found))
        streams.call(lambda: [each.close() for each in watch])
        core.arrivals.leave(interest)
        return [message.id for message in taken]

    def take() -> None:
        while not done.is_set():
            taken = take_one()
            with lock:
                got.extend(taken)
                if len(got) >= messages:
                    done.set()

    def produce() -> None:
        for number in range(messages // producers + 1):
            post(core)
            time.sleep(0.002 * (number % 5))

    threads = [threading.Thread(target=take, daemon=True) for _ in range(takers)]
    threads += [threading.Thread(target=produce, daemon=True) for _ in range(producers)]
    for thread in threads:
        thread.start()
    assert done.wait(6 * PATIENCE)
    for thread in threads:
        thread.join(PATIENCE)
    assert len(set(got)) == len(got)


def test_loop_ends_with_looks_under_way(core: Core, info: QueueInfo, caplog: Any) -> None:
    streams = StreamLoop()
    watches = Watches(core, streams)
    Waiter(streams, watches, True)
    time.sleep(0.2)
    streams.call(watches.close)
    streams.close()
    assert "Task was destroyed" not in caplog.text
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
