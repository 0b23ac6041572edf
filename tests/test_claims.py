"""Claims, and messages that were claimed too often."""

from typing import Any

import pytest

from bridges.base import Envelope
from bridges.errors import BridgeError, BridgeUnavailable, LimitReached, MessageTooLarge, QueueFull
from bridges.memory import MemoryBridge
from gateway.api.v2.render import message
from gateway.core.core import Core
from gateway.core.errors import InvalidInput, NotFound
from gateway.core.messages.post import Post
from gateway.core.queues.info import QueueInfo
from storage.model import Message


def post(core: Core, info: QueueInfo, *bodies: str, ttl: int | None = None) -> list[str]:
    return core.messages.post(info.project, info.name, "client", [Post(body.encode(), ttl) for body in bodies], 100)


def bodies(messages: list[Message]) -> list[str]:
    return [message.body.decode() for message in messages]


class TestClaims:
    """The life of a claim."""

    def test_claim_lasts_as_long_as_asked(self, core: Core, info: QueueInfo) -> None:
        post(core, info, "1", ttl=60)
        before = core.pool.store.now()
        (message,) = core.claims.create(info, 100, 200, 5)
        after = core.pool.store.now()
        assert before + 100_000 <= message.hidden_until <= after + 100_000
        assert message.expires == message.hidden_until + 200_000
        assert core.claims.age(message, core.now()) == 0

    def test_defaults_are_the_operators(self, core: Core, info: QueueInfo) -> None:
        post(core, info, "1")
        (message,) = core.claims.create(info, None, None, 5)
        assert message.claim_ttl == 300

    @pytest.mark.parametrize(
        ("ttl", "grace", "name"), [(59, 60, "ttl"), (43201, 60, "ttl"), (60, 59, "grace"), (60, 43201, "grace")]
    )
    def test_value_out_of_range_is_refused(
        self, core: Core, info: QueueInfo, ttl: int, grace: int, name: str
    ) -> None:
        post(core, info, "1")
        with pytest.raises(InvalidInput, match=name):
            core.claims.create(info, ttl, grace, 5)
        with pytest.raises(InvalidInput, match=name):
            core.claims.renew(info, "claim", ttl, grace)
        assert bodies(core.claims.create(info, None, None, 5)) == ["1"]

    def test_age_starts_again_when_renewed(
        self, core: Core, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        post(core, info, "1")
        (message,) = core.claims.create(info, 300, 60, 5)
        now = core.pool.store.now()
        monkeypatch.setattr(core.pool.store, "now", lambda: now + 100_000)
        assert core.claims.age(message, core.now()) == 100
        core.claims.renew(info, str(message.claim), 300, 60)
        (renewed,) = core.claims.get(info, str(message.claim))
        assert core.claims.age(renewed, core.now()) == 0

    def test_released_messages_come_again_in_order(self, core: Core, info: QueueInfo) -> None:
        post(core, info, *"123")
        first = core.claims.create(info, None, None, 2)
        core.claims.release(info, str(first[0].claim))
        assert bodies(core.claims.create(info, None, None, 5)) == ["1", "2", "3"]

    def test_claim_that_is_not_there_is_not_found(self, core: Core, info: QueueInfo) -> None:
        with pytest.raises(NotFound):
            core.claims.get(info, "unknown")
        with pytest.raises(NotFound):
            core.claims.renew(info, "unknown", None, None)
        core.claims.release(info, "unknown")

    def test_claim_without_messages_left_is_not_found(self, core: Core, info: QueueInfo) -> None:
        post(core, info, "1")
        (message,) = core.claims.create(info, None, None, 5)
        core.messages.delete(info, message.id, message.claim)
        with pytest.raises(NotFound):
            core.claims.get(info, str(message.claim))


class TestDeadLetters:
    """`_max_claim_count` and `_dead_letter_queue`."""

    @pytest.fixture
    def info(self, core: Core) -> QueueInfo:
        core.queues.create("p", "work", {
            "_max_claim_count": 2, "_dead_letter_queue": "dead", "_dead_letter_queue_messages_ttl": 7200,
        })
        return core.directory.ensure("p", "work")

    @staticmethod
    def fail(core: Core, info: QueueInfo) -> list[str]:
        """Claim what there is and give it back."""
        claimed = core.claims.create(info, None, None, 20)
        if claimed:
            core.claims.release(info, str(claimed[0].claim))
        return bodies(claimed)

    def test_message_claimed_too_often_moves(self, core: Core, info: QueueInfo) -> None:
        post(core, info, "1")
        assert [self.fail(core, info) for _ in range(3)] == [["1"], ["1"], []]
        dead = core.directory.ensure("p", "dead")
        (letter,) = core.claims.create(dead, None, None, 20)
        assert (letter.body, letter.claims, letter.client) == (b"1", 1, "client")
        assert core.messages.stats(info)[0].newest is None

    def test_dead_letter_lives_from_its_moving(self, core: Core, info: QueueInfo) -> None:
        (id_,) = post(core, info, "1", ttl=60)
        for _ in range(3):
            self.fail(core, info)
        (letter,) = core.messages.get(core.directory.ensure("p", "dead"), [id_])
        assert abs(letter.expires - core.pool.store.now() - 7_200_000) < 60_000

    def test_other_messages_are_claimed_in_its_place(self, core: Core, info: QueueInfo) -> None:
        post(core, info, "1")
        for _ in range(2):
            self.fail(core, info)
        post(core, info, "2")
        assert bodies(core.claims.create(info, None, None, 1)) == ["2"]

    def test_without_a_target_messages_stay(self, core: Core) -> None:
        core.queues.create("p", "plain", {"_max_claim_count": 1})
        info = core.directory.ensure("p", "plain")
        post(core, info, "1")
        assert [self.fail(core, info) for _ in range(3)] == [["1"]] * 3

    def test_message_is_not_lost_when_the_broker_fails(
        self, core: Core, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (id_,) = post(core, info, "1")
        for _ in range(2):
            self.fail(core, info)

        def down(*_: Any) -> None:
            raise BridgeUnavailable("down")

        monkeypatch.setattr(core.pool.bridge, "publish", down)
        with pytest.raises(BridgeUnavailable):
            self.fail(core, info)
        assert bodies(core.messages.get(info, [id_])) == ["1"]

    def test_letters_that_can_not_be_sent_keep_nobody_from_the_others(
        self, core: Core, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        post(core, info, "1")
        for _ in range(2):
            self.fail(core, info)
        post(core, info, "2", "3")
        core.messages.list(info, None, 20, None, False, False)

        def full(*_: Any) -> None:
            raise BridgeUnavailable("the dead-letter queue is full")

        with monkeypatch.context() as patch:
            patch.setattr(core.pool.bridge, "publish", full)
            assert bodies(core.claims.create(info, None, None, 20)) == ["2", "3"]
        assert bodies(core.messages.list(info, None, 20, None, True, False))[0] == "1"

    @pytest.mark.parametrize(
        ("call", "error"),
        [("publish", QueueFull("full")), ("publish", MessageTooLarge("large")), ("create", LimitReached("max-queues"))],
    )
    def test_dead_letter_queue_that_is_refused_holds_up_no_other_message(
        self, core: Core, info: QueueInfo, monkeypatch: pytest.MonkeyPatch, error: BridgeError, call: str
    ) -> None:
        (id_,) = post(core, info, "1")
        for _ in range(2):
            self.fail(core, info)
        post(core, info, "2")
        if call == "publish":
            core.directory.ensure("p", "dead")

        def refuse(*_: Any) -> None:
            raise error

        monkeypatch.setattr(core.pool.bridge, call, refuse)
        assert "2" in bodies(core.claims.create(info, None, None, 20))
        assert bodies(core.messages.get(info, [id_])) == ["1"]

    def test_native_messages_of_the_same_id_both_arrive(
        self, core: Core, bridge: MemoryBridge, info: QueueInfo
    ) -> None:
        """Native producers choose their ids, so two queues that share a dead-letter queue may hold the same one."""
        core.queues.create("p", "work2", {"_max_claim_count": 2, "_dead_letter_queue": "dead"})
        other = core.directory.ensure("p", "work2")
        bridge.publish(info.broker, [Envelope(b'"a"', "job-1")])
        bridge.publish(other.broker, [Envelope(b'"b"', "job-1")])
        for queue in (info, other):
            for _ in range(3):
                self.fail(core, queue)
        got = bodies(core.claims.create(core.directory.ensure("p", "dead"), None, None, 20))
        assert sorted(got) == ['"a"', '"b"']


def test_answer_about_a_claim_names_it_even_if_its_time_has_just_run_out() -> None:
    over = Message("id", 0, 10_000, b"1", "client", hidden_until=1_000, claim="claim")
    assert message("/v2/queues/q", over, 2_000, False, of_claim=True)["href"].endswith("/messages/id?claim_id=claim")
    assert message("/v2/queues/q", over, 2_000, False)["href"].endswith("/messages/id")
