"""Landing: from the broker into the side-store, each message once and in order."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from bridges.base import Batch, Envelope
from bridges.errors import BridgeUnavailable
from bridges.memory import MemoryBridge
from gateway.core.core import Core
from gateway.core.demand import Count
from gateway.core.envelopes import CLIENT_HEADER, LATEST
from gateway.core.pools.pool import Pool
from gateway.core.queues.info import QueueInfo
from storage.errors import StoreUnavailable
from storage.model import Claim, Message
from storage.sqlite import SQLiteStore

MINUTE = 60_000


@pytest.fixture
def pool(core: Core) -> Pool:
    return core.pool


def native(*bodies: str, **fields: Any) -> list[Envelope]:
    """Messages of a producer that knows nothing of the gateway; bodies are numbers, as JSON."""
    return [Envelope(body.encode(), **fields) for body in bodies]


def posted(core: Core, *bodies: str, ttl: int = 3_600_000, made: int | None = None) -> list[Envelope]:
    """Messages of a gateway."""
    now = core.pool.store.now() if made is None else made
    ids = core.ids.make(now, len(bodies))
    return [
        Envelope(body.encode(), id_, ttl, now // 1000, headers={CLIENT_HEADER: "client"})
        for id_, body in zip(ids, bodies, strict=True)
    ]


def claim(pool: Pool, info: QueueInfo, limit: int = 20, name: str = "claim") -> list[Message]:
    """Claim for a minute, with a minute of grace."""
    expires = pool.store.now() + MINUTE
    return pool.taking.claim(info, Claim(name, 60, expires, expires + MINUTE), limit, lambda info, found: found)


def land_free(pool: Pool, info: QueueInfo, wanted: int = 20) -> tuple[list[Message], bool]:
    """Land up to this many messages free; those, and whether that was enough."""
    landed: list[Message] = []

    class Collecting(Count):
        def take(self, batch: Sequence[Message]) -> int:
            landed.extend(batch)
            return super().take(batch)

    return landed, pool.landing.land_free(info, Collecting(wanted))


def bodies(messages: Sequence[Message]) -> list[str]:
    return [message.body.decode() for message in messages]


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


class TestClaim:
    """Messages that land claimed."""

    def test_backlog_is_claimed_in_order(self, pool: Pool, bridge: MemoryBridge, info: QueueInfo) -> None:
        bridge.publish(info.broker, native(*"12345"))
        assert bodies(claim(pool, info, 2)) == ["1", "2"]
        assert bodies(claim(pool, info, 20)) == ["3", "4", "5"]
        assert claim(pool, info) == []

    def test_claimed_message_says_so(
        self, pool: Pool, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo
    ) -> None:
        bridge.publish(info.broker, native("1", ttl=1000))
        (message,) = claim(pool, info, name="mine")
        assert (message.claim, message.claim_ttl, message.claims) == ("mine", 60, 1)
        assert message.expires == message.hidden_until + MINUTE  # it would have ended before its claim
        assert store.landed.get_claim(info.key, "mine") == [message]

    def test_landed_messages_go_before_the_backlog(
        self, pool: Pool, bridge: MemoryBridge, info: QueueInfo
    ) -> None:
        bridge.publish(info.broker, native(*"1234"))
        land_free(pool, info, 2)
        assert bodies(claim(pool, info, 3)) == ["1", "2", "3"]
        assert bodies(claim(pool, info, 3)) == ["4"]

    def test_nothing_waits_in_the_broker_once_it_has_landed(
        self, pool: Pool, bridge: MemoryBridge, info: QueueInfo
    ) -> None:
        bridge.publish(info.broker, native(*"12"))
        claim(pool, info)
        assert bridge.depth(info.broker) == 0

    def test_what_is_left_out_is_made_up_for(self, pool: Pool, bridge: MemoryBridge, info: QueueInfo) -> None:
        bridge.publish(info.broker, native("1", "2", ttl=0) + native("3") + native("4", ttl=0) + native("5", "6"))
        assert bodies(claim(pool, info, 3)) == ["3", "5", "6"]

    def test_what_may_not_be_claimed_is_made_up_for(
        self, pool: Pool, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo
    ) -> None:
        bridge.publish(info.broker, native(*"123"))
        land_free(pool, info, 2)

        def move_the_first(info: QueueInfo, found: list[Message]) -> list[Message]:
            moved = [message for message in found if message.body == b"1"]
            store.landed.delete_unclaimed(info.key, [message.id for message in moved])
            return [message for message in found if message not in moved]

        expires = store.now() + MINUTE
        got = pool.taking.claim(info, Claim("c", 60, expires, expires), 2, move_the_first)
        assert bodies(got) == ["2", "3"]

    def test_broker_that_fails_leaves_what_has_landed(
        self, pool: Pool, bridge: MemoryBridge, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bridge.publish(info.broker, native(*"12"))
        land_free(pool, info, 1)
        monkeypatch.setattr(pool.bridge, "fetch", failing(BridgeUnavailable("down")))
        assert bodies(claim(pool, info)) == ["1"]
        with pytest.raises(BridgeUnavailable):
            claim(pool, info)

    def test_side_store_that_fails_releases_what_was_claimed(
        self, pool: Pool, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        bridge.publish(info.broker, native(*"12"))
        land_free(pool, info, 1)
        with monkeypatch.context() as patch:
            patch.setattr(pool.store.landed, "land", failing(StoreUnavailable("down")))
            with pytest.raises(StoreUnavailable):
                claim(pool, info)
        assert store.landed.get_claim(info.key, "claim") == []
        assert bodies(claim(pool, info)) == ["1", "2"]


class TestFree:
    """Messages that land unclaimed, for those who list."""

    def test_they_land_in_order_as_many_as_wanted(
        self, pool: Pool, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo
    ) -> None:
        bridge.publish(info.broker, native(*"12345"))
        landed, enough = land_free(pool, info, 3)
        assert (bodies(landed), enough) == (["1", "2", "3"], True)
        assert bodies(store.landed.list_messages(info.key, 0, 10)) == ["1", "2", "3"]
        assert bridge.depth(info.broker) == 2

    def test_positions_grow_from_landing_to_landing(
        self, pool: Pool, bridge: MemoryBridge, info: QueueInfo
    ) -> None:
        bridge.publish(info.broker, native(*"1234"))
        first, _ = land_free(pool, info, 2)
        second, _ = land_free(pool, info, 2)
        positions = [message.seq for message in first + second]
        assert positions == sorted(set(positions))

    def test_empty_backlog_is_enough(self, pool: Pool, info: QueueInfo) -> None:
        assert land_free(pool, info) == ([], True)

    def test_lease_is_given_back(
        self, pool: Pool, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo
    ) -> None:
        bridge.publish(info.broker, native("1"))
        (message,), _ = land_free(pool, info)
        assert store.landed.acquire_lease(info.key, "another gateway", 60) == message.seq

    def test_lease_is_given_back_when_the_broker_fails(
        self, pool: Pool, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        bridge.publish(info.broker, native("1"))
        monkeypatch.setattr(pool.bridge, "fetch", failing(BridgeUnavailable("down")))
        with pytest.raises(BridgeUnavailable):
            land_free(pool, info)
        assert store.landed.acquire_lease(info.key, "another gateway", 60) is not None

    def test_lease_stays_when_it_is_unknown_what_was_stored(
        self, pool: Pool, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The write may still happen; nobody else may land before that."""
        bridge.publish(info.broker, native("1"))
        monkeypatch.setattr(pool.store.landed, "land", failing(StoreUnavailable("timed out")))
        with pytest.raises(StoreUnavailable):
            land_free(pool, info)
        assert store.landed.acquire_lease(info.key, "another gateway", 60) is None

    def test_lease_is_renewed_before_it_ends(
        self, pool: Pool, bridge: MemoryBridge, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.core.lease.LEASE_USE", -1.0)
        monkeypatch.setattr("gateway.core.landing.LANDING_BATCH", 1)
        bridge.publish(info.broker, native(*"12"))
        renewed: list[str] = []
        real = pool.store.landed.renew_lease
        monkeypatch.setattr(pool.store.landed, "renew_lease", lambda q, *rest: renewed.append(q) or real(q, *rest))
        landed, _ = land_free(pool, info)
        assert bodies(landed) == ["1", "2"]
        assert renewed == [info.key, info.key]

    def test_batch_is_given_back_when_the_lease_cannot_be_renewed(
        self, pool: Pool, bridge: MemoryBridge, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.core.lease.LEASE_USE", -1.0)
        monkeypatch.setattr(pool.store.landed, "renew_lease", failing(StoreUnavailable("timed out")))
        bridge.publish(info.broker, native(*"12"))
        with pytest.raises(StoreUnavailable):
            land_free(pool, info)
        assert bridge.depth(info.broker) == 2


class TestOnceOnly:
    """The same message again is dropped; another message never is."""

    def test_gateways_message_that_comes_again_is_dropped(
        self, core: Core, pool: Pool, bridge: MemoryBridge, info: QueueInfo
    ) -> None:
        (envelope,) = posted(core, "1")
        bridge.publish(info.broker, [envelope])
        claim(pool, info, name="first")
        bridge.publish(info.broker, [envelope])
        assert claim(pool, info) == []
        assert bridge.depth(info.broker) == 0

    def test_gateways_message_that_is_there_twice_lands_once(
        self, core: Core, pool: Pool, bridge: MemoryBridge, info: QueueInfo
    ) -> None:
        (envelope,) = posted(core, "1")
        bridge.publish(info.broker, [envelope, envelope])
        assert bodies(claim(pool, info)) == ["1"]

    @pytest.mark.parametrize("message_id", ["order-1", "not usable as it is"])
    def test_native_message_that_is_delivered_again_is_dropped(
        self, pool: Pool, bridge: MemoryBridge, info: QueueInfo, message_id: str
    ) -> None:
        bridge.publish(info.broker, native("1", message_id=message_id))
        claim(pool, info, name="first")
        bridge.publish(info.broker, native("1", message_id=message_id, redelivered=True))
        assert claim(pool, info) == []

    @pytest.mark.parametrize("message_id", ["order-1", "not usable as it is"])
    def test_native_id_that_is_used_again_is_another_message(
        self, pool: Pool, bridge: MemoryBridge, info: QueueInfo, message_id: str
    ) -> None:
        bridge.publish(info.broker, native("1", message_id=message_id))
        assert bodies(claim(pool, info, name="first")) == ["1"]
        bridge.publish(info.broker, native("2", message_id=message_id))
        (again,) = claim(pool, info, name="second")
        assert again.body == b"2"

    @pytest.mark.parametrize("message_id", ["order-1", "not usable as it is"])
    def test_native_id_twice_in_one_fetch_is_two_messages(
        self, pool: Pool, bridge: MemoryBridge, info: QueueInfo, message_id: str
    ) -> None:
        bridge.publish(info.broker, native(*"12", message_id=message_id))
        got = claim(pool, info)
        assert bodies(got) == ["1", "2"]
        assert len({message.id for message in got}) == 2

    def test_native_id_that_has_landed_and_comes_twice_in_one_fetch_is_three_messages(
        self, pool: Pool, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo
    ) -> None:
        bridge.publish(info.broker, native("1", message_id="order"))
        claim(pool, info, name="first")
        bridge.publish(info.broker, native(*"23", message_id="order"))
        assert sorted(bodies(claim(pool, info, name="second"))) == ["2", "3"]
        assert sorted(bodies(store.landed.get_claim(info.key, "second"))) == ["2", "3"]

    def test_native_message_without_an_id_gets_one(
        self, pool: Pool, bridge: MemoryBridge, info: QueueInfo
    ) -> None:
        bridge.publish(info.broker, native(*"12"))
        assert len({message.id for message in claim(pool, info)}) == 2

    def test_deleted_message_does_not_land(
        self, core: Core, pool: Pool, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo
    ) -> None:
        dead, living = posted(core, "1", "2")
        store.landed.tombstone(info.key, {str(dead.message_id): store.now() + MINUTE})
        bridge.publish(info.broker, [dead, living])
        assert bodies(claim(pool, info)) == ["2"]

    def test_acknowledgement_that_fails_does_not_matter(
        self, core: Core, pool: Pool, bridge: MemoryBridge, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bridge.publish(info.broker, posted(core, "1"))

        def lost(batch: Batch) -> None:
            bridge.requeue(batch)  # what the broker does when the connection breaks
            raise BridgeUnavailable("connection lost")

        with monkeypatch.context() as patch:
            patch.setattr(pool.bridge, "settle", lost)
            # The broker delivers it anew at once, within the same call: still once in the answer.
            assert bodies(claim(pool, info, 1, name="first")) == ["1"]
        assert bridge.depth(info.broker) == 1
        assert claim(pool, info, name="second") == []
        assert bridge.depth(info.broker) == 0

    @pytest.mark.parametrize("take", [claim, land_free])
    def test_messages_stay_in_the_broker_when_they_cannot_be_stored(
        self, core: Core, pool: Pool, bridge: MemoryBridge, info: QueueInfo, monkeypatch: pytest.MonkeyPatch,
        take: Callable[[Pool, QueueInfo], Any],
    ) -> None:
        bridge.publish(info.broker, posted(core, *"123"))
        monkeypatch.setattr(pool.store.landed, "land", failing(StoreUnavailable("down")))
        with pytest.raises(StoreUnavailable):
            take(pool, info)
        batch = bridge.fetch(info.broker, 10)
        assert [envelope.body for envelope in batch.envelopes] == [b"1", b"2", b"3"]


class TestMessage:
    """What a landed message is made of."""

    def test_gateways_message_keeps_its_id_client_and_times(
        self, core: Core, pool: Pool, bridge: MemoryBridge, info: QueueInfo
    ) -> None:
        made = core.pool.store.now() - 5000
        (envelope,) = posted(core, '{"a": 1}', ttl=MINUTE, made=made)
        bridge.publish(info.broker, [envelope])
        ((message,), _) = land_free(pool, info)
        assert (message.id, message.client, message.body) == (envelope.message_id, "client", b'{"a": 1}')
        assert (message.posted, message.expires) == (made, made + MINUTE)

    def test_expired_message_is_dropped(
        self, core: Core, pool: Pool, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo
    ) -> None:
        bridge.publish(info.broker, posted(core, "1", ttl=MINUTE, made=core.pool.store.now() - MINUTE))
        assert land_free(pool, info) == ([], True)
        assert bridge.depth(info.broker) == 0
        assert store.landed.newest(info.key) is None

    def test_native_message_lives_from_its_landing(
        self, pool: Pool, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo
    ) -> None:
        before = store.now()
        bridge.publish(info.broker, native("1", ttl=MINUTE, timestamp=1) + native("2"))
        (short, usual), _ = land_free(pool, info)
        assert before <= short.posted <= store.now()
        assert short.expires - short.posted == MINUTE
        assert usual.expires - usual.posted == info.settings.default_ttl * 1000

    def test_native_message_cannot_live_beyond_what_dates_can_hold(
        self, pool: Pool, bridge: MemoryBridge, info: QueueInfo
    ) -> None:
        bridge.publish(info.broker, native("1", ttl=2**62))
        ((message,), _) = land_free(pool, info)
        assert message.expires == LATEST

    def test_native_message_that_looks_like_ours_does_not_lie_about_its_age(
        self, core: Core, pool: Pool, bridge: MemoryBridge, info: QueueInfo
    ) -> None:
        (id_,) = core.ids.make(1)
        bridge.publish(info.broker, native("1", message_id=id_))
        assert bodies(land_free(pool, info)[0]) == ["1"]

    @pytest.mark.parametrize(
        ("body", "shown"), [(b"plain", b'"plain"'), (b"", b'""'), (b"\xff", b'{"base64":"/w==","content_type":null}')]
    )
    def test_native_body_becomes_json(
        self, pool: Pool, bridge: MemoryBridge, info: QueueInfo, body: bytes, shown: bytes
    ) -> None:
        bridge.publish(info.broker, [Envelope(body, content_type=None)])
        ((message,), _) = land_free(pool, info)
        assert message.body == shown

    @pytest.mark.parametrize("value", [None, 7, b"bytes", ["list"], {"a": 1}])
    def test_odd_headers_of_native_producers_are_no_clients(
        self, pool: Pool, bridge: MemoryBridge, info: QueueInfo, value: Any
    ) -> None:
        bridge.publish(info.broker, native("1", headers={CLIENT_HEADER: value, "marconi-cipher": value}))
        ((message,), _) = land_free(pool, info)
        assert (message.client, message.encrypted) == ("", False)
