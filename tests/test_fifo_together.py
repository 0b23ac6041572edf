"""Many claims of a FIFO queue at once: who gets what, and what those cost who find nothing."""

import threading
import time
from collections import defaultdict
from functools import partial
from itertools import count, pairwise
from typing import Any

import pytest

from bridges.memory import MemoryBridge
from functional.wait import wait_until
from gateway.core.core import Core
from gateway.core.demand import Count
from gateway.core.errors import Busy
from gateway.core.fifo.sharing import looked_at, not_after, share_out
from gateway.core.queues.info import QueueInfo
from storage.model import Message
from storage.suite import together
from tests.fifo import claim, delete, elsewhere, fifo, landed, names, ordered, publish, taken
from tests.threads import DEADLINE, in_background

__all__ = ["ordered"]


class TestTogether:
    """Many claims at once, of one gateway and of several."""

    def test_claims_that_wait_are_served_together(self, ordered: Core) -> None:
        info = fifo(ordered)
        publish(info, *(f"{group}-{number}" for group in "abcdefgh" for number in range(3)))
        got = together(*[lambda: claim(ordered, info, 3)] * 8)
        assert sorted(map(names, got)) == [[f"{group}-{number}" for number in range(3)] for group in "abcdefgh"]

    def test_claim_waits_no_longer_than_its_time_for_those_before_it(
        self, core: Core, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = fifo(core)
        publish(info, "a-1", "b-1")
        find, go_on, called = core.pool.store.landed.find_in_groups, threading.Event(), threading.Event()

        def slow(*args: Any) -> Any:
            called.set()
            assert go_on.wait(DEADLINE)
            return find(*args)

        monkeypatch.setattr(core.pool.store.landed, "find_in_groups", slow)
        first = in_background(lambda: claim(core, info, 1))
        assert called.wait(DEADLINE)
        monkeypatch.setattr("gateway.core.fifo.taking.LANDING_BUDGET", 0.1)
        with pytest.raises(Busy, match="other requests"):
            claim(core, info)
        go_on.set()
        assert names(first.result(DEADLINE)) == ["a-1"]
        assert names(claim(core, info)) == ["b-1"]

    @pytest.mark.parametrize("waits", ["in the broker", "in the side-store"])
    def test_claims_that_come_late_get_what_is_left_in_the_same_write(
        self, core: Core, bridge: MemoryBridge, monkeypatch: pytest.MonkeyPatch, waits: str
    ) -> None:
        info = fifo(core)
        (publish if waits == "in the broker" else partial(landed, core))(info, "a-1", "b-1")
        called, go_on, writes = threading.Event(), threading.Event(), []

        def slow(owner: Any, name: str) -> None:
            call = getattr(owner, name)

            def stopped(*args: Any, **how: Any) -> Any:
                called.set()
                assert go_on.wait(DEADLINE)
                return call(*args, **how)

            monkeypatch.setattr(owner, name, stopped)

        def noted(name: str) -> None:
            call = getattr(core.pool.store.landed, name)
            monkeypatch.setattr(
                core.pool.store.landed, name, lambda *args, **how: (writes.append(name), call(*args, **how))[1]
            )

        slow(*((core.pool.bridge, "fetch") if waits == "in the broker" else (core.pool.store.landed, "find_in_groups")))
        noted("land")
        noted("claim_in_groups")
        claims = [in_background(lambda: claim(core, info, 1))]
        assert called.wait(DEADLINE)
        claims.append(in_background(lambda: claim(core, info, 1)))
        line = core.pool.taking._fifo._lines._lines[info.key]
        wait_until(lambda: len(line) == 1, DEADLINE, "the other one to wait")
        go_on.set()
        assert [names(each.result(DEADLINE)) for each in claims] == [["a-1"], ["b-1"]]
        assert writes == ["land" if waits == "in the broker" else "claim_in_groups"]

    def test_lease_passes_from_one_round_to_the_next(self, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
        info = fifo(core)
        publish(info, *(f"{number}-1" for number in range(6)))
        for module in ("lines", "taking"):
            monkeypatch.setattr(f"gateway.core.fifo.{module}.TOGETHER", 2)
        monkeypatch.setattr("gateway.core.fifo.lines.TENURE", DEADLINE)
        take, find, leases, waiting = (
            core.pool.store.landed.acquire_lease, core.pool.store.landed.find_in_groups, count(), threading.Event()
        )
        monkeypatch.setattr(
            core.pool.store.landed, "acquire_lease", lambda *args: (next(leases), take(*args))[1]
        )
        monkeypatch.setattr(
            core.pool.store.landed, "find_in_groups", lambda *args: (waiting.wait(DEADLINE), find(*args))[1]
        )
        claims = [in_background(lambda: claim(core, info, 1)) for _ in range(6)]
        lines = core.pool.taking._fifo._lines._lines
        wait_until(lambda: sum(len(line) for line in lines.values()) >= 4, DEADLINE, "all to wait")
        waiting.set()
        assert sorted(names(each.result(DEADLINE))[0] for each in claims) == [f"{number}-1" for number in range(6)]
        assert next(leases) == 1
        assert lines == {}

    def test_groups_stay_in_order_whoever_claims(self, ordered: Core) -> None:
        info = fifo(ordered)
        places = [info, elsewhere(info), elsewhere(info)]
        total, groups = 240, "abcd"
        numbers = {group: count() for group in groups}
        got: dict[str, list[int]] = defaultdict(list)
        held: dict[str, str] = {}
        mistakes: list[str] = []
        lock, ids = threading.Lock(), count()

        def produce() -> None:
            for index in range(total):
                group = groups[index % len(groups)]
                publish(info, f"{group}-{next(numbers[group])}")

        def consume(place: QueueInfo) -> None:
            deadline = time.monotonic() + DEADLINE
            while sum(map(len, got.values())) < total and time.monotonic() < deadline:
                name = f"claim-{next(ids)}"
                try:
                    messages = taken(place, name, 3)
                except Busy:
                    continue
                with lock:
                    for message in messages:
                        if held.get(message.group, name) != name:
                            mistakes.append(f"{message.group} is held twice")
                        held[message.group] = name
                        got[message.group].append(int(names([message])[0].partition("-")[2]))
                with lock:
                    for message in messages:
                        held.pop(message.group, None)
                if messages:
                    delete(place, messages)

        together(produce, *[lambda place=place: consume(place) for place in (*places, *places)])
        assert mistakes == []
        assert got == {group: list(range(total // len(groups))) for group in groups}

    def test_lists_and_claims_get_along(self, core: Core) -> None:
        info = fifo(core)
        there = elsewhere(info)
        publish(info, *(f"a-{number}" for number in range(200)))

        def walk() -> list[str]:
            seen: list[Message] = []
            while page := core.messages.list(info, str(seen[-1].seq) if seen else None, 7, None, True, True):
                seen += page
            return names(seen)

        def drain() -> list[str]:
            popped: list[Message] = []
            while len(popped) < 200:
                popped += (messages := taken(there, f"claim-{len(popped)}", 9))
                if messages:
                    delete(there, messages)
            return names(popped)

        seen, popped = together(walk, drain)
        assert popped == [f"a-{number}" for number in range(200)]
        assert all(int(a[2:]) < int(b[2:]) for a, b in pairwise(seen))


class TestSharing:
    """Who gets what, when several claims are served together."""

    @staticmethod
    def messages(text: str) -> list[Message]:
        """One message for each letter, which is its group."""
        return [Message(f"{group}{seq}", 0, 0, b"", seq=seq, group=group) for seq, group in enumerate(text)]

    @pytest.mark.parametrize(
        ("found", "limits", "shares"),
        [
            ("aab", [3], ["a0 a1 b2"]),
            ("abab", [2], ["a0 a2"]),
            ("abab", [3], ["a0 b1 a2"]),
            ("aabb", [1, 1, 1], ["a0", "b2", ""]),
            ("abc", [9, 9], ["a0 c2", "b1"]),
            ("aaabbc", [2, 9], ["a0 a1", "b3 b4 c5"]),
            ("aaabc", [9, 9], ["a0 a1 a2", "b3 c4"]),
            ("", [1], [""]),
        ],
    )
    def test_shares(self, found: str, limits: list[int], shares: list[str]) -> None:
        got = share_out(self.messages(found), limits)
        assert [" ".join(message.id for message in share) for share in got] == shares

    def test_what_follows_a_message_that_stays_stays(self) -> None:
        messages = self.messages("abab")
        assert [message.id for message in not_after(messages, {"a0"})] == ["b1", "b3"]
        assert [message.id for message in not_after(messages, {"b3"})] == ["a0", "b1", "a2"]

    @pytest.mark.parametrize(("limits", "looked"), [([1], 2), ([1, 1], 3), ([2], 12), ([20, 20], 100), ([90, 90], 181)])
    def test_looks_further_for_claims_of_several(self, limits: list[int], looked: int) -> None:
        assert looked_at(limits) == looked


class TestIdle:
    """Those who ask an empty queue again and again."""

    def test_empty_queue_costs_no_lease(self, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
        info = fifo(core)
        assert claim(core, info) == []
        leases: list[str] = []
        take = core.pool.store.landed.acquire_lease
        monkeypatch.setattr(
            core.pool.store.landed, "acquire_lease", lambda q, *rest: leases.append(q) or take(q, *rest)
        )
        assert claim(core, info) == []
        assert leases == []
        publish(info, "a-1")
        assert names(claim(core, info)) == ["a-1"]
        assert leases == [info.key]

    def test_what_another_gateway_is_just_landing_is_waited_for(
        self, core: Core, bridge: MemoryBridge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info, there = fifo(core), elsewhere(fifo(core))
        assert claim(core, info) == []
        publish(info, "a-1")
        land, fetched, go_on = there.pool.store.landed.land, threading.Event(), threading.Event()

        def slow(*args: Any, **how: Any) -> Any:
            fetched.set()
            assert go_on.wait(DEADLINE)
            return land(*args, **how)

        there.pool.store.landed.land = slow
        listing = in_background(lambda: there.pool.landing.land_free(there, Count(1)))
        assert fetched.wait(DEADLINE)
        claiming = in_background(lambda: claim(core, info))
        with pytest.raises(TimeoutError):
            claiming.result(0.1)
        go_on.set()
        assert names(claiming.result(DEADLINE)) == ["a-1"]
        listing.result(DEADLINE)
