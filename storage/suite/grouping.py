"""Groups: messages of a FIFO queue that are claimed in order, by one at a time."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from storage.base import SideStore
from storage.errors import LeaseLost, QueueGone
from storage.model import Claim, InGroups, Message, Ring
from storage.suite.support import (
    CROWD,
    HOUR,
    KEYS,
    MINUTE,
    Clock,
    SuiteFixtures,
    add,
    ids_of,
    new,
    new_claim,
    together,
)

#: Seconds that the lease lasts which tests take. It is longer than a claim of a minute.
LEASED = 3600

#: Groups and messages in each of them, for tests with many claimers.
GROUPS, MESSAGES = 4, 8

#: Messages and groups of a queue that is large.
MANY, MANY_GROUPS = 10_000, 1000

#: Messages that land at once there.
AT_ONCE = 2000


def add_groups(store: SideStore, q: str, *ids: str, **fields: Any) -> list[Message]:
    """Land new messages in this order, each in the group that its first letter names; a ``-`` is none."""
    messages = [new(store, id_, group=id_[0].strip("-"), **fields) for id_ in ids]
    store.landed.append(q, messages)
    return messages


def lease(store: SideStore, q: str, owner: str = "us") -> None:
    """Take the lease that nobody holds."""
    assert store.landed.acquire_lease(q, owner, LEASED) is not None


def found(store: SideStore, q: str, limit: int = 1000, **more: Any) -> list[str]:
    """Ids that may be handed out."""
    return ids_of(store.landed.find_in_groups(q, limit, **more).messages)


def take_in_groups(store: SideStore, q: str, claim: Claim, *ids: str) -> list[Message]:
    """Claim these, or all that may be handed out; under the lease of ``us``."""
    messages = store.landed.find_in_groups(q, 1000).messages
    (got,) = store.landed.claim_in_groups(q, "us", [(claim, [m for m in messages if m.id in ids or not ids])])
    return got


class GroupTests(SuiteFixtures):
    """Messages of a FIFO queue that are claimed in order, by one at a time."""

    # -- what is kept -------------------------------------------------------------------------------------------

    def test_group_and_dedup_id_are_kept(self, store: SideStore, q: str, q2: str) -> None:
        lease(store, q)
        messages = [
            new(store, "both", seq=1, group="g", dedup_id="d"), new(store, "group", seq=2, group="ü" * 128),
            new(store, "dedup", seq=3, dedup_id="'\"$.\\ x"), new(store, "none", seq=4),
        ]
        store.landed.land(q, messages[:2], "us")
        store.landed.land(q, messages[2:])
        assert store.landed.export(q, 0, 10) == messages
        assert list(store.landed.list_messages(q, 0, 10)) == messages
        assert store.landed.find_free(q, 10)[0] == messages
        assert store.landed.find_in_groups(q, 10).messages == messages
        assert sorted(store.landed.get_messages(q, ids_of(messages)), key=lambda m: m.seq) == messages
        assert (store.landed.stats(q).oldest, store.landed.newest(q)) == (messages[0], messages[-1])
        claimed = store.landed.claim(q, messages, new_claim(store))
        assert [(m.group, m.dedup_id) for m in claimed] == [(m.group, m.dedup_id) for m in messages]
        assert store.landed.get_claim(q, "claim") == claimed
        assert store.landed.land(q2, store.landed.export(q, 0, 10)) == set()
        assert store.landed.export(q2, 0, 10) == claimed

    def test_copies_have_the_group(self, store: SideStore, q: str) -> None:
        store.landed.open_queue(f"{q}/~1")
        store.landed.bind(q, f"{q}/~1")
        add(store, q, "m", group="g", dedup_id="d")
        (copy,) = store.landed.export(f"{q}/~1", 0, 10)
        assert (copy.group, copy.dedup_id) == ("g", "d")

    @pytest.mark.parametrize("remove", ["delete", "purge", "remove", "queue"])
    def test_message_that_has_the_id_of_a_removed_one_has_its_own_group(
        self, store: SideStore, q: str, remove: str
    ) -> None:
        messages = add(store, q, "m", group="g", dedup_id="d")
        calls: dict[str, Callable[[], Any]] = {
            "delete": lambda: store.landed.delete_unclaimed(q, ["m"]), "purge": lambda: store.landed.purge(q),
            "remove": lambda: store.landed.remove(q, messages), "queue": lambda: store.landed.remove_queue(q),
        }
        calls[remove]()
        store.landed.open_queue(q)
        add(store, q, "m")
        (message,) = store.landed.export(q, 0, 10)
        assert (message.group, message.dedup_id) == ("", "")

    # -- which may be handed out --------------------------------------------------------------------------------

    def test_free_messages_of_all_groups_come_by_position(self, store: SideStore, q: str, q2: str) -> None:
        add_groups(store, q, "a1", "b1", "-1", "a2", "c1", "-2")
        add_groups(store, q2, "a9")
        assert found(store, q) == ["a1", "b1", "-1", "a2", "c1", "-2"]
        assert found(store, q, 3) == ["a1", "b1", "-1"]
        assert found(store, q2, 3) == ["a9"]
        assert store.landed.find_in_groups(q, 10).blocked == store.landed.find_in_groups(q, 10).blocked_since == 0

    def test_group_with_a_claimed_message_is_left_out(self, store: SideStore, q: str) -> None:
        """Also what comes before it: that has come back since it was handed out."""
        add_groups(store, q, "a1", "b1", "a2", "a3", "-1", "-2", "b2")
        lease(store, q)
        take_in_groups(store, q, new_claim(store, "one"), "a2")
        assert found(store, q) == ["b1", "-1", "-2", "b2"]
        take_in_groups(store, q, new_claim(store, "two"), "-1")
        assert found(store, q) == ["b1", "b2"]
        assert found(store, q, 1) == ["b1"]

    def test_messages_of_a_released_claim_come_back_before_what_follows_them(self, store: SideStore, q: str) -> None:
        add_groups(store, q, "a1", "b1", "a2", "b2", "a3")
        lease(store, q)
        take_in_groups(store, q, new_claim(store), "a1", "a2")
        store.landed.release_claim(q, "claim")
        assert found(store, q) == ["a1", "b1", "a2", "b2", "a3"]

    def test_messages_of_a_claim_that_is_over_come_back_before_what_follows_them(
        self, store: SideStore, q: str, clock: Clock
    ) -> None:
        add_groups(store, q, "a1", "b1", "a2", "a3")
        lease(store, q)
        take_in_groups(store, q, new_claim(store, lasts=MINUTE), "a1", "a2")
        clock.advance(MINUTE - 1)
        assert found(store, q) == ["b1"]
        clock.advance(1)
        messages = store.landed.find_in_groups(q, 10).messages
        assert ids_of(messages) == ["a1", "b1", "a2", "a3"]
        assert [(m.hidden_until, m.claim, m.claims) for m in messages] == [
            (0, None, 1), (0, None, 0), (0, None, 1), (0, None, 0),
        ]

    def test_group_goes_on_when_its_claimed_messages_are_deleted(self, store: SideStore, q: str) -> None:
        add_groups(store, q, "a1", "a2", "a3")
        lease(store, q)
        take_in_groups(store, q, new_claim(store), "a1", "a2")
        store.landed.delete_claimed(q, ["a1"], ["claim"])
        assert found(store, q) == []
        store.landed.delete_claimed(q, ["a2"], ["claim"])
        assert found(store, q) == ["a3"]

    def test_claim_that_was_put_back_is_not_renewed(self, store: SideStore, q: str, clock: Clock) -> None:
        """By one whose clock says that it is not over: a gateway may be stopped in the middle of a renewal."""
        add_groups(store, q, "a1", "a2")
        lease(store, q)
        take_in_groups(store, q, new_claim(store, lasts=MINUTE), "a1")
        clock.advance(MINUTE)
        assert found(store, q) == ["a1", "a2"]
        clock.advance(-MINUTE)
        assert store.landed.renew_claim(q, new_claim(store, lasts=HOUR)) is False
        assert found(store, q) == ["a1", "a2"]

    def test_delayed_message_delays_what_follows_in_its_group(self, store: SideStore, q: str, clock: Clock) -> None:
        add_groups(store, q, "a1", "b1")
        add_groups(store, q, "a2", hidden_until=clock.time + MINUTE)
        add_groups(store, q, "a3", "b2")
        clock.advance(MINUTE - 1)
        assert found(store, q) == ["a1", "b1", "b2"]
        clock.advance(1)
        assert found(store, q) == ["a1", "b1", "a2", "a3", "b2"]

    def test_expired_message_holds_nothing_up(self, store: SideStore, q: str, clock: Clock) -> None:
        add_groups(store, q, "a1", hidden_until=clock.time + HOUR, expires=clock.time + MINUTE)
        add_groups(store, q, "b1", expires=clock.time + MINUTE)
        add_groups(store, q, "a2", "b2")
        clock.advance(MINUTE)
        assert found(store, q) == ["a2", "b2"]
        assert store.landed.find_in_groups(q, 10).blocked == 0

    def test_message_that_a_ring_does_not_open_holds_its_group_up(self, store: SideStore, q: str) -> None:
        add_groups(store, q, "a1", "b1", "c1")
        add_groups(store, q, "a2", encrypted=True, key=KEYS[1])
        add_groups(store, q, "b2", encrypted=True, key=f"{KEYS[0]}?0123abcd")
        add_groups(store, q, "c2", encrypted=True, key=KEYS[0])
        add_groups(store, q, "d1", encrypted=True, key=f"{KEYS[0]}?another1")
        add_groups(store, q, "-1", encrypted=True)
        add_groups(store, q, "a3", "b3", "c3", "d2", "-2")
        ring = Ring("0123abcd", (KEYS[0],))
        assert found(store, q, ring=ring) == ["a1", "b1", "c1", "c2", "d1", "-1", "c3", "d2", "-2"]
        assert found(store, q, 8, ring=ring) == ["a1", "b1", "c1", "c2", "d1", "-1", "c3", "d2"]
        assert found(store, q, ring=Ring("none0000", ())) == ["a1", "b1", "c1", "-1", "-2"]
        assert len(found(store, q)) == 13
        in_groups = store.landed.find_in_groups(q, 100, ring)
        assert in_groups.blocked == 0 and set(in_groups.stops) == {"a", "b"}

    def test_more_may_be_left_out(self, store: SideStore, q: str) -> None:
        messages = add_groups(store, q, "a1", "b1", "-1", "a2", "b2", "-2")
        stops = {"a": 0, "b": messages[4].seq, "": messages[2].seq + 1}
        assert found(store, q, stops=stops) == ["b1", "-1"]
        assert found(store, q, 1, stops=stops) == ["b1"]
        in_groups = store.landed.find_in_groups(q, 10, stops=stops)
        assert (in_groups.blocked, in_groups.stops) == (0, stops)

    def test_blocked_groups_are_counted_since_the_first_claim_or_delay(
        self, store: SideStore, q: str, clock: Clock
    ) -> None:
        add_groups(store, q, "a1", "a2", "b1", "c1", "d1")
        lease(store, q)
        (delayed,) = add_delayed(store, q, "c2", clock.time + HOUR)
        clock.advance(1000)
        take_in_groups(store, q, new_claim(store, "one", lasts=MINUTE), "a1", "a2")
        clock.advance(1000)
        take_in_groups(store, q, new_claim(store, "two", lasts=HOUR), "b1")
        assert counted(store.landed.find_in_groups(q, 10)) == (3, delayed.posted)
        store.landed.delete_unclaimed(q, ["c2"])
        assert counted(store.landed.find_in_groups(q, 10)) == (2, clock.time - 1000)
        clock.advance(MINUTE)
        assert counted(store.landed.find_in_groups(q, 10)) == (1, clock.time - MINUTE)
        assert store.landed.find_in_groups(q, 10).stops == {"b": 0}
        store.landed.renew_claim(q, new_claim(store, "two", lasts=2 * MINUTE))
        assert counted(store.landed.find_in_groups(q, 10)) == (1, clock.time)

    def test_group_that_is_left_out_hides_no_other_one(self, store: SideStore, q: str) -> None:
        """However many groups and messages there are, and wherever they are."""
        last = store.landed.acquire_lease(q, "us", LEASED) or 0
        messages = [
            new(store, f"m{n}", seq=last + n + 1, group=f"group-{n % MANY_GROUPS}") for n in range(MANY)
        ]
        # One group begins where all others have ended, and one has no name.
        late = [new(store, f"late-{n}", seq=last + MANY + n + 1, group="late" * (n % 2)) for n in range(6)]
        for n in range(0, MANY, AT_ONCE):
            store.landed.land(q, messages[n:n + AT_ONCE], "us")
        store.landed.land(q, late, "us")
        claims = [(new_claim(store, f"claim-{n}"), [messages[n]]) for n in range(MANY_GROUPS - 1)]
        for n in range(0, len(claims), 100):
            assert all(store.landed.claim_in_groups(q, "us", claims[n:n + 100]))
        free = [f"m{n}" for n in range(MANY_GROUPS - 1, MANY, MANY_GROUPS)]
        assert found(store, q, 20) == free + ids_of(late)
        assert found(store, q, 3) == free[:3]
        in_groups = store.landed.find_in_groups(q, 12)
        assert (ids_of(in_groups.messages), in_groups.blocked) == (free + ids_of(late[:2]), MANY_GROUPS - 1)

    def test_nothing_is_found_where_nothing_is(self, store: SideStore, q: str) -> None:
        assert store.landed.find_in_groups(q, 10) == InGroups([])

    def test_closed_key_is_looked_at(self, store: SideStore, q: str) -> None:
        add_groups(store, q, "a1", "b1", "a2")
        lease(store, q)
        take_in_groups(store, q, new_claim(store), "a1")
        store.landed.close_queue(q)
        assert found(store, q) == ["b1"]

    # -- claims -------------------------------------------------------------------------------------------------

    def test_claimed_messages_of_groups_are_returned_as_they_are_now(self, store: SideStore, q: str) -> None:
        add_groups(store, q, "a1", "b1", "a2", expires=store.now() + MINUTE)
        add_groups(store, q, "c1", dedup_id="d")
        lease(store, q)
        a1, b1, a2, c1 = store.landed.find_in_groups(q, 10).messages
        one, two, three = new_claim(store, "one"), new_claim(store, "two", lasts=HOUR), new_claim(store, "three")
        got = store.landed.claim_in_groups(q, "us", [(one, [a1, a2]), (two, [b1, c1]), (three, [])])
        assert [ids_of(messages) for messages in got] == [["a1", "a2"], ["b1", "c1"], []]
        assert {(m.hidden_until, m.claim, m.claim_ttl, m.claims) for m in got[0]} == {(one.expires, "one", 60, 1)}
        assert {(m.hidden_until, m.claim, m.claim_ttl, m.claims) for m in got[1]} == {(two.expires, "two", 3600, 1)}
        assert [m.expires for m in (*got[0], *got[1])] == [one.keep_until] * 2 + [two.keep_until] * 2
        assert (got[1][1].group, got[1][1].dedup_id) == ("c", "d")
        assert [store.landed.get_claim(q, claim.id) for claim in (one, two, three)] == got

    def test_claim_in_groups_does_not_shorten_a_life_and_is_counted(self, store: SideStore, q: str) -> None:
        (message,) = add_groups(store, q, "a1", expires=store.now() + 9 * HOUR)
        lease(store, q)
        for number in (1, 2, 3):
            (got,) = take_in_groups(store, q, new_claim(store, f"claim-{number}"))
            assert (got.claims, got.expires) == (number, message.expires)
            store.landed.release_claim(q, f"claim-{number}")

    def test_what_is_gone_or_taken_is_not_claimed_in_groups(self, store: SideStore, q: str) -> None:
        add_groups(store, q, "a1", "a2", "b1", "c1")
        lease(store, q)
        messages = store.landed.find_in_groups(q, 10).messages
        store.landed.delete_unclaimed(q, ["a1"])
        store.landed.tombstone(q, {"dead": store.now() + HOUR})
        store.landed.claim(q, [messages[2]], new_claim(store, "theirs"))
        dead = replace(messages[3], id="dead")
        claim = new_claim(store, "ours")
        assert [ids_of(m) for m in store.landed.claim_in_groups(q, "us", [(claim, [*messages, dead])])] == [
            ["a2", "c1"]
        ]
        assert ids_of(store.landed.get_claim(q, "ours")) == ["a2", "c1"]
        assert ids_of(store.landed.get_claim(q, "theirs")) == ["b1"]
        assert [id_ for id_, _ in store.landed.list_tombstones(q, "", 10)] == ["dead"]
        assert len(store.landed.export(q, 0, 10)) == 3

    def test_claim_in_groups_leaves_the_lease(self, store: SideStore, q: str) -> None:
        add_groups(store, q, "a1")
        lease(store, q)
        take_in_groups(store, q, new_claim(store))
        assert store.landed.acquire_lease(q, "them", 60) is None
        assert store.landed.renew_lease(q, "us", 60) is True
        store.landed.release_lease(q, "us", 0)
        assert store.landed.acquire_lease(q, "them", 60) is not None

    def test_claim_in_groups_may_give_the_lease_back(self, store: SideStore, q: str) -> None:
        add_groups(store, q, "a1")
        last = store.landed.acquire_lease(q, "us", LEASED) or 0
        messages = store.landed.find_in_groups(q, 10).messages
        (got,) = store.landed.claim_in_groups(q, "us", [(new_claim(store), messages)], last + 7)
        assert ids_of(got) == ["a1"]
        assert store.landed.acquire_lease(q, "them", LEASED) == last + 7
        assert store.landed.claim_in_groups(q, "them", [], 5) == []
        assert store.landed.acquire_lease(q, "us", LEASED) == last + 7, "it never goes back"
        with pytest.raises(LeaseLost):
            store.landed.claim_in_groups(q, "them", [(new_claim(store, "late"), messages)], last + 9)
        assert store.landed.renew_lease(q, "us", LEASED) is True

    def test_nothing_is_claimed_in_groups_without_the_lease(self, store: SideStore, q: str, clock: Clock) -> None:
        add_groups(store, q, "a1", expires=clock.time + 9 * HOUR)
        messages = store.landed.find_in_groups(q, 10).messages
        wants = [(new_claim(store, lasts=9 * HOUR), messages)]

        def refused() -> None:
            with pytest.raises(LeaseLost):
                store.landed.claim_in_groups(q, "us", wants)

        refused()
        lease(store, q, "them")
        refused()
        clock.advance(LEASED * 1000)
        lease(store, q)
        clock.advance(LEASED * 1000)
        refused()
        lease(store, q, "them")
        refused()
        assert found(store, q) == ["a1"]
        assert [ids_of(got) for got in store.landed.claim_in_groups(q, "them", wants)] == [["a1"]]

    def test_nothing_is_claimed_in_groups_under_a_closed_key(self, store: SideStore, q: str) -> None:
        add_groups(store, q, "a1")
        lease(store, q)
        messages = store.landed.find_in_groups(q, 10).messages
        store.landed.close_queue(q)
        with pytest.raises(QueueGone):
            store.landed.claim_in_groups(q, "us", [(new_claim(store), messages)])
        assert found(store, q) == ["a1"]

    def test_claiming_nothing_in_groups(self, store: SideStore, q: str) -> None:
        lease(store, q)
        assert store.landed.claim_in_groups(q, "us", []) == []
        assert store.landed.claim_in_groups(q, "us", [(new_claim(store), [])]) == [[]]


class GroupCrowdTests(SuiteFixtures):
    """Many who claim, renew, release, delete and post at the same time."""

    def test_of_many_claimers_one_at_a_time_works_at_a_group_and_in_order(self, store: SideStore, q: str) -> None:
        GroupCrowd(q, store).check()

    def test_renewals_at_the_end_of_claims_leave_one_claim_in_a_group(self, store: SideStore, q: str) -> None:
        """Some renew a claim just when it ends, or a little later, while others put its messages back."""
        add_groups(store, q, *(f"a{number}" for number in range(6)))
        stopped = threading.Event()
        claims: list[Claim] = []

        def renew() -> None:
            while not stopped.is_set():
                for claim in claims[-3:]:
                    expires = store.now() + 20
                    store.landed.renew_claim(q, Claim(claim.id, 60, expires, expires + MINUTE))

        def claim_again_and_again() -> int:
            taken = 0
            try:
                for number in range(30):
                    lease(store, q)
                    messages = store.landed.find_in_groups(q, 3).messages
                    claims.append(new_claim(store, f"claim-{number}", lasts=10))
                    (got,) = store.landed.claim_in_groups(q, "us", [(claims[-1], messages)])
                    taken += bool(got)
                    assert len({message.claim for message in store.landed.export(q, 0, 10)} - {None}) <= 1
                    store.landed.release_lease(q, "us", 0)
            finally:
                stopped.set()
            return taken

        *_, taken = together(renew, renew, claim_again_and_again)
        assert taken > 0


def add_delayed(store: SideStore, q: str, id_: str, until: int) -> list[Message]:
    """Land a delayed message while ``us`` hold the lease."""
    message = new(store, id_, group=id_[0], seq=2**62, hidden_until=until)
    store.landed.land(q, [message], "us")
    return [message]


def counted(in_groups: InGroups) -> tuple[int, int]:
    return in_groups.blocked, in_groups.blocked_since


class GroupCrowd:
    """Workers at the groups of a queue, each with claims of its own, and what they see of the order."""

    groups = [chr(ord("a") + number) for number in range(GROUPS - 1)] + ["-"]

    def __init__(self, q: str, *stores: SideStore):
        """``stores``: one database, as several gateways use it."""
        self._stores = stores
        self._q = q
        self._lock = threading.Lock()
        #: Who works at a group, what was deleted, and what went wrong.
        self._working: dict[str, int] = {}
        self.done: dict[str, list[str]] = {group: [] for group in self.groups}
        self.faults: list[str] = []

    def check(self) -> None:
        """Let all of them work, till each message has been deleted once, in order."""
        together(*[lambda n=n: self.work(n) for n in range(CROWD)], self.post)
        assert self.faults == []
        assert self.done == {group: [f"{group}{number:02}" for number in range(MESSAGES)] for group in self.groups}

    def post(self) -> None:
        """Post in rounds, as the landing of a FIFO queue does: under the lease."""
        for number in range(MESSAGES):
            add_groups(self._stores[0], self._q, *(f"{group}{number:02}" for group in self.groups))

    def work(self, worker: int) -> None:
        """Claim and delete, or release, until all is done."""
        rounds = 0
        while sum(map(len, self.done.values())) < MESSAGES * GROUPS and not self.faults:
            rounds += 1
            store = self._stores[worker % len(self._stores)]
            claim = new_claim(store, f"claim-{worker}-{rounds}")
            messages = self._claim(store, f"worker-{worker}", claim)
            self._begin(worker, messages)
            time.sleep(0.001)
            given_up = (worker + rounds) % 3 == 0
            self._end(messages, given_up)
            if not given_up:
                for message in messages:
                    store.landed.delete_claimed(self._q, [message.id], [claim.id])
            store.landed.release_claim(self._q, claim.id)

    def _claim(self, store: SideStore, owner: str, claim: Claim) -> list[Message]:
        landed = store.landed
        if landed.acquire_lease(self._q, owner, LEASED) is None:
            return []
        messages = landed.find_in_groups(self._q, 3).messages
        (got,) = landed.claim_in_groups(self._q, owner, [(claim, messages)], 0)
        return got

    def _begin(self, worker: int, messages: list[Message]) -> None:
        with self._lock:
            expected = {group: len(done) for group, done in self.done.items()}
            for message in messages:
                group = message.id[0]
                if self._working.setdefault(group, worker) != worker:
                    self.faults.append(f"{message.id} went to {worker} beside {self._working[group]}")
                if message.id != f"{group}{expected[group]:02}":
                    self.faults.append(f"{message.id} came after {self.done[group]}")
                expected[group] += 1

    def _end(self, messages: list[Message], given_up: bool) -> None:
        """Noted before the messages are deleted or released: others may have the groups from then on."""
        with self._lock:
            for message in messages:
                self._working.pop(message.id[0], None)
                if not given_up:
                    self.done[message.id[0]].append(message.id)
