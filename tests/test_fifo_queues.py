"""What makes a queue a FIFO queue, and what travels through the broker with its messages."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from bridges.base import Envelope
from bridges.memory import MemoryBridge
from gateway.core.core import Core
from gateway.core.envelopes import CLIENT_HEADER, DEDUP_HEADER, GROUP_HEADER, HIDDEN_HEADER, envelope_of, is_label
from gateway.core.errors import Conflict, InvalidInput
from gateway.core.fifo.blocked import BLOCKED
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.names import TOPICS
from gateway.observe.metrics import BLOCKED_GROUPS, BLOCKED_SECONDS
from storage.model import Message
from storage.sqlite import SQLiteStore
from storage.suite.support import Clock
from tests.fifo import HOUR, claim, delete, fifo, names, publish


class TestEnvelopes:
    """Groups, dedup ids and delays on their way through the broker."""

    def test_native_message_has_the_group_that_jms_clients_set(self, core: Core, bridge: MemoryBridge) -> None:
        info = fifo(core)
        bridge.publish(info.broker, [
            Envelope(b"1", headers={GROUP_HEADER: "a"}), Envelope(b"2", headers={GROUP_HEADER: "a" * 129}),
            Envelope(b"3", headers={GROUP_HEADER: "\n"}), Envelope(b"4", headers={GROUP_HEADER: 1}),
        ])
        assert [message.group for message in claim(core, info)] == ["a", "", "", ""]

    def test_native_message_is_not_hidden(self, core: Core, bridge: MemoryBridge) -> None:
        info = fifo(core)
        bridge.publish(info.broker, [Envelope(b"1", headers={HIDDEN_HEADER: core.now() + HOUR})])
        assert [message.body for message in claim(core, info)] == [b"1"]

    def test_headers_are_those_of_a_message(self) -> None:
        message = Message("id", 1, 2, b"1", "client", hidden_until=3, group="a", dedup_id="b")
        assert envelope_of(message).headers == {
            CLIENT_HEADER: "client", GROUP_HEADER: "a", DEDUP_HEADER: "b", HIDDEN_HEADER: 3
        }
        assert envelope_of(replace(message, hidden_until=0, group="", dedup_id="")).headers == {CLIENT_HEADER: "client"}

    @pytest.mark.parametrize(
        ("text", "fits"), [("a", True), ("ü" * 128, True), ("", False), ("a" * 129, False), ("\t", False), (1, False)]
    )
    def test_label(self, text: Any, fits: bool) -> None:
        assert is_label(text) is fits

    @pytest.mark.parametrize("take", ["claim", "pop"])
    def test_copy_of_a_delayed_message_is_hidden_in_an_ordinary_queue(
        self, core: Core, info: QueueInfo, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, take: str
    ) -> None:
        publish(info, "1", hidden_until=store.now() + 5000)
        publish(info, "2")

        def get() -> Sequence[Message]:
            return claim(core, info) if take == "claim" else core.messages.pop(info, 20)

        assert names(get()) == ["2"]
        clock = Clock(store.now())
        monkeypatch.setattr(store, "now", clock)
        clock.advance(5001)
        assert names(get()) == ["1"]


class TestMetadata:
    """``_fifo`` is set when a queue is created."""

    @pytest.mark.parametrize("before", [True, False])
    def test_it_cannot_be_changed(self, core: Core, before: bool) -> None:
        core.queues.create("project", "queue", {"_fifo": before, "a": 1})
        with pytest.raises(Conflict, match="_fifo"):
            core.queues.create("project", "queue", {"_fifo": not before})
        with pytest.raises(Conflict, match="_fifo"):
            core.queues.patch(
                "project", "queue", [{"op": "replace", "path": "/metadata/_fifo", "value": not before}]
            )
        assert core.queues.create("project", "queue", {"_fifo": before, "a": 2}) is False
        assert core.queues.patch("project", "queue", [{"op": "remove", "path": "/metadata/a"}])["_fifo"] is before

    def test_queue_of_that_kind_keeps_it_when_metadata_leaves_it_out(self, core: Core) -> None:
        core.queues.create("project", "queue", {"_fifo": True})
        with pytest.raises(Conflict, match="repeat it"):
            core.queues.create("project", "queue", {"a": 1})
        with pytest.raises(Conflict, match="repeat it"):
            core.queues.patch("project", "queue", [{"op": "remove", "path": "/metadata/_fifo"}])
        assert core.queues.create("project", "queue", None) is False
        assert core.queues.metadata("project", "queue")["_fifo"] is True

    def test_queue_that_was_created_by_a_post_has_none(self, core: Core, info: QueueInfo) -> None:
        assert core.queues.metadata(info.project, info.name)["_fifo"] is False
        with pytest.raises(Conflict, match="created without _fifo"):
            core.queues.create(info.project, info.name, {"_fifo": True})

    def test_topic_has_none(self, core: Core) -> None:
        with pytest.raises(InvalidInput, match="topic"):
            core.queues.create(f"{TOPICS}project", "topic", {"_fifo": True})

    def test_broker_is_told_as_the_queue_is_created(self, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
        created: dict[str, bool] = {}

        def create(queue: str, in_order: bool = False) -> None:
            created[queue] = in_order

        monkeypatch.setattr(core.pool.bridge, "create", create)
        info, other = fifo(core), core.directory.ensure("project", "queue")
        assert created == {info.broker: True, other.broker: False}


class TestMetrics:
    """Groups that wait for a claim to end."""

    def test_blocked_groups_are_counted(self, core: Core, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(BLOCKED, "_looks", {})
        info, other = fifo(core), fifo(core, "other")
        publish(info, "a-1", "b-1")
        publish(other, "c-1")
        held = claim(core, info), claim(core, other)
        clock = Clock(store.now())
        monkeypatch.setattr(store, "now", clock)
        monkeypatch.setattr(core.pool.store, "now", clock)
        clock.advance(30_000)
        assert claim(core, info) == claim(core, other) == []
        BLOCKED.show()
        assert BLOCKED_GROUPS._value.get() == 3
        assert 30 <= BLOCKED_SECONDS._value.get() < 40
        delete(info, held[0])
        assert claim(core, info) == []
        BLOCKED.show()
        assert BLOCKED_GROUPS._value.get() == 1
        monkeypatch.setattr("gateway.core.fifo.blocked.COUNTED_FOR", 0.0)
        BLOCKED.show()
        assert BLOCKED_GROUPS._value.get() == BLOCKED_SECONDS._value.get() == 0
