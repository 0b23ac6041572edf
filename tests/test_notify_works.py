"""What outlets share: what a queue says is read once for all of its subscriptions."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.notify import works as module
from gateway.notify.terms import SourceTerms
from gateway.notify.works import TERMS_FOR, Works


def subscription(source: str) -> Any:
    return SimpleNamespace(project="project", source=source)


def works(read: Callable[[Any], SourceTerms]) -> Works:
    nothing: Any = None
    return Works(*[nothing] * 4, ThreadPoolExecutor(4), *[nothing] * 5, read, *[nothing] * 3)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "elapsed", clock)
    return clock


def test_all_subscriptions_of_a_queue_share_what_is_read(clock: Clock) -> None:
    read: list[str] = []
    go = threading.Event()

    def reading(found: Any) -> SourceTerms:
        go.wait(5)
        read.append(found.source)
        return SourceTerms(found.source, None, clock())  # type: ignore[arg-type]

    async def run() -> None:
        shared = works(reading)
        asked = [asyncio.create_task(shared.terms_of(subscription(source))) for source in ("a", "a", "a", "b")]
        await asyncio.sleep(0)
        asked[0].cancel()  # the others get it all the same
        go.set()
        found = await asyncio.gather(*asked[1:])
        assert [each.info for each in found] == ["a", "a", "b"] and sorted(read) == ["a", "b"]
        assert await shared.terms_of(subscription("a")) is found[0]
        assert await shared.terms_of(subscription("a"), found[1]) is found[1]
        assert sorted(read) == ["a", "b"]

    asyncio.run(run())


def test_what_is_too_old_is_read_again(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TERMS_FOR", 0.05)
    read: list[str] = []

    def reading(found: Any) -> SourceTerms:
        read.append(found.source)
        return SourceTerms(found.source, None, clock())  # type: ignore[arg-type]

    async def run() -> None:
        shared = works(reading)
        before = await shared.terms_of(subscription("a"))
        clock.now += 1
        await asyncio.sleep(0.1)
        assert await shared.terms_of(subscription("a"), before) is not before and len(read) == 2

    asyncio.run(run())
    assert TERMS_FOR == 5.0


def test_queue_that_can_t_be_read_is_as_it_was_known_and_is_tried_again(clock: Clock) -> None:
    read: list[str] = []

    def reading(found: Any) -> SourceTerms:
        read.append(found.source)
        raise OSError("down")

    async def run() -> None:
        shared = works(reading)
        known = SourceTerms("a", None, clock() - TERMS_FOR)  # type: ignore[arg-type]
        assert await shared.terms_of(subscription("a"), known) is known
        with pytest.raises(OSError, match="down"):
            await shared.terms_of(subscription("a"))
        assert len(read) == 2

    asyncio.run(run())
