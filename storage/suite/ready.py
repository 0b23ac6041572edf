"""Keys with messages that are free, and queues that notify: what those ask for who deliver."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from storage.base import SideStore
from storage.suite.support import HOUR, MINUTE, Clock, SuiteFixtures, add, created, free_ids, new, new_claim, take

#: Keys of which one call says which have free messages.
MANY = 3000


def notifies(store: SideStore, name: str) -> bool:
    """What the document of a queue says that exists."""
    queue = store.catalogue.get_queue(name)
    assert queue is not None
    return queue.notifies


class ReadyTests(SuiteFixtures):
    """Which of many keys have messages that are free."""

    @pytest.fixture
    def key(self, store: SideStore) -> str:
        """An open key."""
        key = f"ready/{uuid4().hex}/~1"
        store.landed.open_queue(key)
        return key

    def test_keys_with_free_messages_are_ready(self, store: SideStore, key: str, q: str, q2: str) -> None:
        assert store.landed.ready([key, q, q2, "none"]) == []
        assert store.landed.ready([]) == []
        add(store, key, "a", "b")
        add(store, q2, "c")
        assert store.landed.ready([key, q, q2, "none"]) in ([key, q2], [q2, key])
        assert store.landed.ready([q, q2]) == [q2]
        assert store.landed.ready([q]) == []
        store.landed.delete_unclaimed(q2, ["c"])
        assert store.landed.ready([key, q, q2, "none"]) == [key]

    def test_delayed_message_is_ready_in_time(self, store: SideStore, key: str, clock: Clock) -> None:
        add(store, key, "m", hidden_until=store.now() + MINUTE)
        assert store.landed.ready([key]) == []
        clock.advance(MINUTE - 1)
        assert store.landed.ready([key]) == []
        clock.advance(1)
        for _ in range(2):
            assert store.landed.ready([key]) == [key]
        assert free_ids(store, key) == ["m"]
        assert store.landed.ready([key]) == [key]

    @pytest.mark.parametrize("lands", [True, False])
    def test_claimed_message_is_ready_after_its_claim(
        self, store: SideStore, key: str, clock: Clock, lands: bool
    ) -> None:
        claim = new_claim(store)
        if lands:
            fields = {"hidden_until": claim.expires, "claim": claim.id, "claim_ttl": claim.ttl, "claims": 1}
            store.landed.land(key, [new(store, "m", seq=1025, **fields)])
        else:
            add(store, key, "m")
            take(store, key, claim)
        assert store.landed.ready([key]) == []
        store.landed.renew_claim(key, new_claim(store, lasts=2 * MINUTE))
        clock.advance(MINUTE)
        assert store.landed.ready([key]) == []
        clock.advance(MINUTE)
        assert store.landed.ready([key]) == [key]

    def test_released_message_is_ready(self, store: SideStore, key: str) -> None:
        add(store, key, "m")
        take(store, key, new_claim(store))
        store.landed.release_claim(key, "claim")
        assert store.landed.ready([key]) == [key]

    def test_deleted_message_is_not_ready(self, store: SideStore, key: str, clock: Clock) -> None:
        add(store, key, "m")
        take(store, key, new_claim(store))
        store.landed.delete_claimed(key, ["m"], ["claim"])
        store.landed.tombstone(key, {"dead": store.now() + HOUR})
        store.landed.acquire_lease(key, "us", 1)
        clock.advance(2 * MINUTE)
        assert store.landed.ready([key]) == []

    def test_expired_message_is_not_ready(self, store: SideStore, key: str, q: str, clock: Clock) -> None:
        now = store.now()
        add(store, key, "a", "b", expires=now + MINUTE)
        add(store, key, "delayed", expires=now + MINUTE, hidden_until=now + MINUTE - 1)
        add(store, q, "a", expires=now + MINUTE)
        add(store, q, "living")
        assert len(store.landed.ready([key, q])) == 2
        clock.advance(MINUTE)
        assert store.landed.ready([key, q]) == [q]

    @pytest.mark.parametrize("end", ["close_queue", "remove_queue"])
    def test_key_may_be_closed(self, store: SideStore, key: str, end: str) -> None:
        add(store, key, "m")
        getattr(store.landed, end)(key)
        assert store.landed.ready([key]) == ([key] if end == "close_queue" else [])

    def test_thousands_of_keys_are_asked_for_at_once(self, store: SideStore, key: str, q: str) -> None:
        keys = [f"{key}{n}" for n in range(MANY)]
        keys[MANY // 2 : MANY // 2] = [key, q]
        add(store, key, "m")
        add(store, q, "m")
        assert sorted(store.landed.ready(keys)) == sorted([key, q])

    def test_edges_are_the_last_position_and_the_latest_time(
        self, store: SideStore, key: str, q: str, q2: str, clock: Clock
    ) -> None:
        assert store.landed.edges([]) == store.landed.edges([key, q, "none"]) == {}
        _, last = add(store, key, "a", "b")
        assert store.landed.edges([key, q, "none"]) == {key: (last.seq, 0)}
        claim = new_claim(store)
        take(store, key, claim, "a")
        (other,) = add(store, q2, "c")
        store.landed.tombstone(q, {"dead": store.now() + HOUR})
        store.landed.acquire_lease(key, "us", 1)
        edges = {key: (last.seq, claim.expires), q2: (other.seq, 0)}
        assert store.landed.edges([key, q, q2, "none"]) == edges
        clock.advance(2 * MINUTE)
        assert store.landed.edges([key, q2]) == edges  # what is over is in the past
        store.landed.delete_unclaimed(key, ["b"])
        assert 0 < store.landed.edges([key])[key][0] < last.seq
        store.landed.close_queue(key)
        assert set(store.landed.edges([key])) == {key}

    def test_thousands_of_keys_have_edges(self, store: SideStore, key: str) -> None:
        (message,) = add(store, key, "m")
        assert store.landed.edges([*(f"{key}{n}" for n in range(MANY)), key]) == {key: (message.seq, 0)}


class NotifyingTests(SuiteFixtures):
    """Queues of which the catalogue knows that they notify."""

    def test_queue_notifies_when_it_is_said(self, store: SideStore, name: str, project: str) -> None:
        created(store, name)
        created(store, f"{name}2")
        assert notifies(store, name) is False
        for _ in range(2):
            assert store.catalogue.set_notifies(name) is True
            assert notifies(store, name) is True
        assert notifies(store, f"{name}2") is False
        assert [queue.notifies for queue in store.catalogue.list_queues(project, "", 10)] == [True, False]
        for _ in range(2):
            assert store.catalogue.set_notifies(name, False) is True
            assert notifies(store, name) is False

    def test_missing_queue_does_not_notify(self, store: SideStore, name: str) -> None:
        assert store.catalogue.set_notifies(name) is False
        assert store.catalogue.set_notifies(name, False) is False
        assert store.catalogue.get_queue(name) is None
        created(store, name)
        assert notifies(store, name) is False

    @pytest.mark.parametrize("change", [
        lambda store, name, version: store.catalogue.replace_metadata(name, b'{"a":1}', version),
        lambda store, name, version: not store.catalogue.create_queue(name, b'{"a":1}'),
        lambda store, name, version: not store.catalogue.create_queue(name, None),
        lambda store, name, version: store.catalogue.change_move(name, None, b"move", "pool-1"),
        lambda store, name, version: store.catalogue.change_move(name, None, None, "pool-1"),
    ], ids=["replace", "put", "create", "move", "pool"])
    def test_no_change_of_the_queue_takes_it_back(
        self, store: SideStore, name: str, change: Callable[[SideStore, str, int], bool]
    ) -> None:
        created(store, name)
        before = store.catalogue.get_queue(name)
        store.catalogue.set_notifies(name)
        queue = store.catalogue.get_queue(name)
        assert before is not None and queue is not None
        assert (queue.version, queue.metadata, queue.key) == (before.version, before.metadata, before.key)
        assert change(store, name, queue.version)
        assert notifies(store, name) is True

    def test_queue_in_another_pool_notifies(self, store: SideStore, name: str) -> None:
        store.catalogue.create_queue(name, None, "pool-1")
        store.catalogue.change_move(name, None, b"move")
        assert store.catalogue.set_notifies(name) is True
        queue = store.catalogue.get_queue(name)
        assert queue is not None and (queue.pool, queue.move, queue.notifies) == ("pool-1", b"move", True)

    def test_queue_that_is_created_again_does_not_notify(self, store: SideStore, name: str) -> None:
        created(store, name)
        store.catalogue.set_notifies(name)
        store.catalogue.delete_queue(name)
        assert store.catalogue.set_notifies(name) is False
        created(store, name)
        assert notifies(store, name) is False
