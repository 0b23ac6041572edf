"""System calls that keep the GIL."""

import errno
import socket

import pytest

from gateway.server.sockets import RECEIVED, Receiver, send


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_what_is_sent_arrives(pair):
    ours, theirs = pair
    assert send(ours, b"a\0b") == 3
    assert Receiver().receive(theirs) == b"a\0b"


def test_nothing_to_receive_is_an_error_and_no_wait(pair):
    with pytest.raises(BlockingIOError):
        Receiver().receive(pair[0])


def test_end_of_the_other_side_is_nothing(pair):
    ours, theirs = pair
    ours.close()
    assert Receiver().receive(theirs) == b""


def test_send_takes_what_fits_and_then_none_without_waiting(pair):
    ours, theirs = pair
    data = bytes(2**24)
    sent = send(ours, data)
    assert 0 < sent < len(data)
    with pytest.raises(BlockingIOError):
        send(ours, data)
    receiver, received = Receiver(), 0
    while received < sent:
        received += len(receiver.receive(theirs))
    assert received == sent


def test_other_side_that_is_gone_is_an_error_and_no_signal(pair):
    ours, theirs = pair
    theirs.close()
    with pytest.raises(OSError) as failure:
        send(ours, b"x")
    assert failure.value.errno == errno.EPIPE


def test_no_more_than_the_limit_is_received_in_one_go(pair):
    ours, theirs = pair
    sent = send(ours, bytes(RECEIVED + 10))
    assert len(Receiver().receive(theirs)) == min(sent, RECEIVED)
