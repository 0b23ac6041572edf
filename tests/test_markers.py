"""Markers: what a page of messages ends with is where the next one begins."""

import pytest

from gateway.core.core import Core
from gateway.core.errors import InvalidInput
from gateway.core.messages.markers import MAX_POSITION, marker_after, peeked_by, position_of
from gateway.core.queues.info import QueueInfo
from storage.model import Message


@pytest.fixture
def info(core: Core) -> QueueInfo:
    return core.directory.ensure("p", "q")


def at(position: int) -> Message:
    return Message("id", 0, 0, b"1", seq=position)


@pytest.mark.parametrize("position", [0, 1, 1 << 60, MAX_POSITION])
def test_page_goes_on_after_a_landed_message(info: QueueInfo, position: int) -> None:
    marker = marker_after(at(position))
    assert position_of(info, marker) == position
    assert peeked_by(marker) is None


@pytest.mark.parametrize("number", [1, 20, 100])
def test_page_goes_on_after_a_message_that_was_only_looked_at(info: QueueInfo, number: int) -> None:
    marker = marker_after(at(-number))
    assert marker == f"peek-{number}"
    assert peeked_by(marker) == number
    assert position_of(info, marker) is None  # a queue whose messages land has no such places


def test_what_is_no_marker_is_refused(info: QueueInfo) -> None:
    with pytest.raises(InvalidInput, match="neither one of ours nor the id"):
        position_of(info, "!")
