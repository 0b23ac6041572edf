"""Queues that get a copy of what is published to another one."""

import pytest

from bridges.base import Bridge
from bridges.errors import QueueMissing
from bridges.suite.support import CROWD, MISSING, bodies, drain, envelopes, together


class CopyTests:
    """``add_copy``, ``remove_copy``, and what is published with ``copied``."""

    @pytest.mark.parametrize("count", [1, 3])
    def test_copies_get_what_is_published_copied_in_its_order(self, bridge: Bridge, queue: str, count: int) -> None:
        copies = [f"{queue}.1", f"{queue}.2"]
        for copy in copies:
            bridge.add_copy(queue, copy)
        posted = [f"{number:02}" for number in range(2 * count)]
        bridge.publish(queue, envelopes(*posted[:count]), copied=True)
        bridge.publish(queue, envelopes(*posted[count:]), copied=True)
        sent = drain(bridge, queue)
        assert bodies(sent) == posted
        assert [drain(bridge, copy) for copy in copies] == [sent, sent]
        for copy in copies:
            bridge.remove_copy(queue, copy)

    def test_what_is_not_published_copied_is_in_its_queue_alone(self, bridge: Bridge, queue: str) -> None:
        bridge.add_copy(queue, f"{queue}.1")
        bridge.publish(queue, envelopes("a"))
        bridge.publish(queue, envelopes("b"), copied=True)
        assert bodies(drain(bridge, f"{queue}.1")) == ["b"]
        assert bodies(drain(bridge, queue)) == ["a", "b"]
        bridge.remove_copy(queue, f"{queue}.1")

    def test_removed_copy_is_gone_and_others_are_not(self, bridge: Bridge, queue: str) -> None:
        for copy in (f"{queue}.1", f"{queue}.2"):
            bridge.add_copy(queue, copy)
        bridge.publish(queue, envelopes("a"), copied=True)
        bridge.remove_copy(queue, f"{queue}.1")
        with pytest.raises(QueueMissing):
            bridge.publish(f"{queue}.1", envelopes("x"))
        bridge.publish(queue, envelopes("b"), copied=True)
        assert bodies(drain(bridge, f"{queue}.2")) == ["a", "b"]
        bridge.remove_copy(queue, f"{queue}.2")
        bridge.publish(queue, envelopes("c"), copied=True)  # without a copy it goes on
        assert bodies(drain(bridge, queue)) == ["a", "b", "c"]

    def test_adding_and_removing_again_changes_nothing(self, bridge: Bridge, queue: str) -> None:
        for _ in range(2):
            bridge.add_copy(queue, f"{queue}.1")
            bridge.publish(queue, envelopes("a"), copied=True)
        assert bodies(drain(bridge, f"{queue}.1")) == ["a", "a"]
        for _ in range(2):
            bridge.remove_copy(queue, f"{queue}.1")
        bridge.remove_copy(MISSING, f"{MISSING}.1")
        bridge.publish(queue, envelopes("b"), copied=True)
        assert bodies(drain(bridge, queue)) == ["a", "a", "b"]

    def test_queue_that_is_somebody_else_s_gets_copies_while_it_is_there(self, bridge: Bridge, queue: str) -> None:
        other = f"{queue}.other"
        bridge.add_copy(queue, other, create=False)
        bridge.publish(queue, envelopes("a"), copied=True)
        with pytest.raises(QueueMissing):
            bridge.publish(other, envelopes("x"))
        bridge.create(other)
        for _ in range(2):
            bridge.add_copy(queue, other, create=False)
        bridge.publish(queue, envelopes("b"), copied=True)
        bridge.publish(other, envelopes("c"))
        bridge.delete(other)
        bridge.publish(queue, envelopes("d"), copied=True)
        bridge.create(other)
        bridge.add_copy(queue, other, create=False)
        bridge.publish(queue, envelopes("e"), copied=True)
        assert bodies(drain(bridge, other)) == ["e"]
        assert bodies(drain(bridge, queue)) == ["a", "b", "d", "e"]
        bridge.remove_copy(queue, other)

    def test_queue_that_is_to_be_kept_is_there_with_its_messages_when_it_is_no_copy_any_more(
        self, bridge: Bridge, queue: str
    ) -> None:
        other = f"{queue}.other"
        bridge.create(other)
        bridge.add_copy(queue, other, create=False)
        bridge.add_copy(queue, f"{queue}.1")
        bridge.publish(queue, envelopes("a"), copied=True)
        for _ in range(2):
            bridge.remove_copy(queue, other, keep=True)
        bridge.publish(queue, envelopes("b"), copied=True)
        bridge.publish(other, envelopes("c"))
        assert bodies(drain(bridge, other)) == ["a", "c"]
        assert bodies(drain(bridge, f"{queue}.1")) == ["a", "b"]
        bridge.delete(other)
        bridge.remove_copy(queue, other, keep=True)
        bridge.remove_copy(MISSING, other, keep=True)
        bridge.remove_copy(queue, f"{queue}.1")
        bridge.publish(queue, envelopes("c"), copied=True)
        assert bodies(drain(bridge, queue)) == ["a", "b", "c"]

    @pytest.mark.parametrize("count", [1, 3])
    def test_published_to_the_copies_alone_it_is_in_no_queue_but_these(
        self, bridge: Bridge, queue: str, count: int
    ) -> None:
        copies = [f"{queue}.1", f"{queue}.2"]
        for copy in copies:
            bridge.add_copy(queue, copy)
        posted = list("abcdef"[:2 * count])
        bridge.publish_copies(queue, envelopes(*posted[:count]))
        bridge.publish_copies(queue, envelopes(*posted[count:]))
        assert [bodies(drain(bridge, copy)) for copy in copies] == [posted, posted]
        assert drain(bridge, queue) == []
        for copy in copies:
            bridge.remove_copy(queue, copy)

    def test_copies_may_be_published_to_without_a_queue(self, bridge: Bridge, queue: str) -> None:
        bridge.delete(queue)
        bridge.add_copy(queue, f"{queue}.none", create=False)
        bridge.publish_copies(queue, envelopes("a"))  # nobody gets it
        bridge.add_copy(queue, f"{queue}.1")
        bridge.publish_copies(queue, envelopes("b"))
        assert bodies(drain(bridge, f"{queue}.1")) == ["b"]
        bridge.remove_copy(queue, f"{queue}.1")
        bridge.publish_copies(queue, envelopes("c"))
        with pytest.raises(QueueMissing):
            bridge.publish(queue, envelopes("x"))
        bridge.delete(queue)
        with pytest.raises(QueueMissing):
            bridge.publish_copies(queue, envelopes("d"))
        bridge.add_copy(queue, f"{queue}.1")
        bridge.publish_copies(queue, envelopes("e"))
        assert bodies(drain(bridge, f"{queue}.1")) == ["e"]
        bridge.remove_copy(queue, f"{queue}.1")
        bridge.delete(queue)

    def test_many_add_at_once(self, bridge: Bridge, queue: str) -> None:
        copies = [f"{queue}.{number}" for number in range(CROWD // 2)]
        together(*[lambda copy=copy: bridge.add_copy(queue, copy) for copy in copies * 2])
        bridge.publish(queue, envelopes("a"), copied=True)
        assert [bodies(drain(bridge, copy)) for copy in copies] == [["a"]] * len(copies)
        for copy in copies:
            bridge.remove_copy(queue, copy)

    def test_copy_may_be_there_before_its_queue(self, bridge: Bridge, queue: str) -> None:
        bridge.delete(queue)
        bridge.add_copy(queue, f"{queue}.1")
        with pytest.raises(QueueMissing):
            bridge.publish(queue, envelopes("a"))
        bridge.create(queue)
        bridge.publish(queue, envelopes("b"), copied=True)
        assert bodies(drain(bridge, f"{queue}.1")) == bodies(drain(bridge, queue)) == ["b"]
        bridge.remove_copy(queue, f"{queue}.1")

    @pytest.mark.parametrize("count", [1, 3])
    def test_deleted_queue_leaves_its_copies_and_gets_them_again(
        self, bridge: Bridge, queue: str, count: int
    ) -> None:
        bridge.add_copy(queue, f"{queue}.1")
        bridge.publish(queue, envelopes("a"), copied=True)
        bridge.delete(queue)
        with pytest.raises(QueueMissing):
            bridge.publish(queue, envelopes(*"xyz"[:count]), copied=True)
        bridge.create(queue)
        bridge.add_copy(queue, f"{queue}.1")
        bridge.publish(queue, envelopes(*"bcd"[:count]), copied=True)
        assert bodies(drain(bridge, f"{queue}.1")) == ["a", *"bcd"[:count]]
        assert bodies(drain(bridge, queue)) == list("bcd"[:count])
        bridge.remove_copy(queue, f"{queue}.1")
