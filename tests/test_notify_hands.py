"""What crosses between the loop and a consumer's thread: in one piece, in order, and nothing stays behind."""

import asyncio
import sys
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from bridges.base import Envelope
from bridges.consuming import Consumer, Delivery
from gateway.loops import new_loop
from gateway.notify.hands import AT_ONCE, WAIT, Hands


class Noting(Consumer):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def add(self, queue: str, most: int) -> None:
        self.told.append(("add", queue, most))

    def remove(self, queue: str) -> None:
        self.told.append(("remove", queue))

    def settle(self, delivery: Delivery) -> None:
        self.told.append(("settle", [delivery.tag]))

    def settle_all(self, deliveries: Sequence[Delivery]) -> None:
        self.told.append(("settle", [delivery.tag for delivery in deliveries]))

    def requeue(self, delivery: Delivery) -> None:
        self.told.append(("requeue", delivery.tag))

    def close(self) -> None:
        self.told.append("close")


def delivery(tag: int, queue: str = "q") -> Delivery:
    return Delivery(queue, Envelope(b"1"), tag)


def opened(arrived: Any = lambda hands, deliveries: None) -> tuple[Hands, Noting]:
    hands, consumer = Hands(arrived), Noting()
    hands.open(lambda arrived: consumer)
    return hands, consumer


def test_what_arrives_meanwhile_is_seen_at_once_and_in_order() -> None:
    async def run() -> list[list[int]]:
        seen: list[list[int]] = []
        hands, _ = opened(lambda hands, deliveries: seen.append([each.tag for each in deliveries]))

        def hand_over(tags: range) -> None:
            for tag in tags:
                hands.hand_over(delivery(tag))

        for tags in range(100), range(100, 150):
            thread = threading.Thread(target=hand_over, args=(tags,))
            thread.start()
            thread.join()  # the loop is busy meanwhile
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return seen

    assert asyncio.run(run()) == [list(range(100)), list(range(100, 150))]


def test_threads_that_hand_over_while_the_loop_takes_lose_nothing() -> None:
    async def run() -> list[int]:
        seen: list[int] = []
        hands, _ = opened(lambda hands, deliveries: seen.extend(each.tag for each in deliveries))
        threads = [
            threading.Thread(target=lambda first=first: [  # type: ignore[misc]
                hands.hand_over(delivery(first + number)) for number in range(2000)
            ])
            for first in (0, 10_000, 20_000)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) or len(seen) < 6000:
            await asyncio.sleep(0)
        return seen

    seen = asyncio.run(run())
    assert len(seen) == len(set(seen)) == 6000
    assert [tag for tag in seen if tag < 10_000] == list(range(2000))


def test_acknowledgements_go_together() -> None:
    async def run() -> list[Any]:
        hands, consumer = opened()
        hands.add("q", 2 * AT_ONCE)
        for tag in range(AT_ONCE):
            hands.settle(delivery(tag))
        await asyncio.sleep(0)  # full: they do not wait for the time to come
        assert len(consumer.told) == 2
        hands.settle(delivery(99))
        await asyncio.sleep(0)
        assert len(consumer.told) == 2
        await asyncio.sleep(10 * WAIT)
        return consumer.told

    assert asyncio.run(run()) == [
        ("add", "q", 2 * AT_ONCE), ("settle", list(range(AT_ONCE))), ("settle", [99]),
    ]


def test_where_the_broker_waits_for_each_none_is_held_up() -> None:
    async def run() -> list[Any]:
        hands, consumer = opened()
        hands.add("q", 1)
        hands.settle(delivery(1))
        await asyncio.sleep(0)
        return consumer.told

    assert asyncio.run(run()) == [("add", "q", 1), ("settle", [1])]


def test_what_is_settled_goes_before_what_would_give_it_back() -> None:
    async def run() -> list[Any]:
        hands, consumer = opened()
        hands.add("q", 100)
        hands.settle(delivery(1))
        hands.add("q", 50)
        hands.settle(delivery(2))
        hands.remove("q")
        hands.settle(delivery(3))
        hands.close()()
        return consumer.told

    assert asyncio.run(run()) == [
        ("add", "q", 100), ("settle", [1]), ("add", "q", 50), ("settle", [2]), ("remove", "q"), ("settle", [3]),
        "close",
    ]


def test_without_uvloop_the_loop_is_asyncios(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with caplog.at_level("INFO"):
        loop = new_loop()
    loop.close()
    assert isinstance(loop, asyncio.SelectorEventLoop) and "uvloop" in caplog.text
