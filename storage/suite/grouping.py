"""Groups: which messages of a FIFO queue may be handed out."""

from collections.abc import Callable
from typing import Any

import pytest

from storage.base import SideStore
from storage.model import Claim, InGroups, Message, Ring
from storage.suite.support import HOUR, KEYS, MINUTE, Clock, SuiteFixtures, add, ids_of, new, new_claim

#: Seconds that the lease lasts which tests take. It is longer than a claim of a minute.
LEASED = 3600

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
    """What is kept of groups, and which of their messages may be handed out."""

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


def add_delayed(store: SideStore, q: str, id_: str, until: int) -> list[Message]:
    """Land a delayed message while ``us`` hold the lease."""
    message = new(store, id_, group=id_[0], seq=2**62, hidden_until=until)
    store.landed.land(q, [message], "us")
    return [message]


def counted(in_groups: InGroups) -> tuple[int, int]:
    return in_groups.blocked, in_groups.blocked_since
