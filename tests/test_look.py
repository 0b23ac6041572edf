"""A look at the front of somebody else's queue keeps no more than a page, and not too large a one."""

import pytest

from bridges.base import Envelope
from gateway.core.messages import peeking
from gateway.core.messages.peeking import LOOKS_AT_MOST, Look
from storage.model import Message


def shown(envelope: Envelope) -> Message | None:
    """Everything but poison."""
    return None if envelope.body.startswith(b"poison") else Message("id", 0, 0, envelope.body)


def look(bodies: list[bytes], skip: int = 0, count: int = 10) -> Look:
    """A look at a queue with these messages, as a bridge does it."""
    look = Look(shown, skip, count)
    for body in bodies:
        if not look.see(Envelope(body)):
            break
    return look


def found(look: Look) -> list[bytes]:
    return [message.body for message in look.found]


def test_small_messages_are_all_looked_at_and_a_page_of_them_is_kept() -> None:
    seen = look([b"%d" % number for number in range(100)], skip=20, count=10)
    assert found(seen) == [b"%d" % number for number in range(20, 30)]
    assert [message.seq for message in seen.found] == list(range(-21, -31, -1))
    assert seen.seen == 100
    assert not seen.ended_early


def test_large_messages_end_the_look_and_the_next_page_begins_behind_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peeking, "LOOK_BYTES", 250)
    queue = [b"%0100d" % number for number in range(10)]
    walked: list[bytes] = []
    while len(walked) < 10:
        page = look(queue, skip=len(walked))
        assert page.seen <= len(walked) + 3
        assert page.ended_early == (len(walked) < 9)
        walked += found(page)
    assert walked == queue


def test_one_message_is_found_however_large_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peeking, "LOOK_BYTES", 1)
    assert found(look([b"poison" * 10, b"poison" * 10, b"first", b"second"])) == [b"first"]


def test_look_that_takes_long_ends_with_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peeking, "LOOK_TIME", -1.0)
    assert found(look([b"poison", b"first", b"second"])) == [b"first"]


@pytest.mark.parametrize("returned", [Envelope(b"x", deliveries=LOOKS_AT_MOST), Envelope(b"x", readable=False)])
def test_message_that_has_come_back_too_often_or_can_not_tell_is_noticed_wherever_it_is(returned: Envelope) -> None:
    seen = Look(shown, skip=1, count=1)
    assert seen.see(returned)
    assert seen.must_land
