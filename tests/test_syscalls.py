"""Sockets: the C library's calls, which keep the GIL, and Python's own do the same."""

import ctypes
import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.observe.fast_paths import DIRECT_SYSCALLS
from gateway.server.sockets import MAX_RECEIVED, DirectSockets, OrdinarySockets, Sockets, choose_sockets

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=[DirectSockets, OrdinarySockets])
def sockets(request: pytest.FixtureRequest) -> Sockets:
    made: Sockets = request.param()
    return made


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


def test_what_is_sent_arrives(sockets: Sockets, pair: Pair) -> None:
    ours, theirs = pair
    assert sockets.send(ours, b"a\0b") == 3
    assert sockets.receive(theirs) == b"a\0b"


def test_nothing_to_receive_is_an_error_and_no_wait(sockets: Sockets, pair: Pair) -> None:
    with pytest.raises(BlockingIOError):
        sockets.receive(pair[0])


def test_end_of_the_other_side_is_nothing(sockets: Sockets, pair: Pair) -> None:
    ours, theirs = pair
    ours.close()
    assert sockets.receive(theirs) == b""


def test_send_takes_what_fits_and_then_none_without_waiting(sockets: Sockets, pair: Pair) -> None:
    ours, theirs = pair
    data = bytes(2**24)
    sent = sockets.send(ours, data)
    assert 0 < sent < len(data)
    with pytest.raises(BlockingIOError):
        while True:
            sent += sockets.send(ours, data)
    received = 0
    while received < sent:
        received += len(sockets.receive(theirs))
    assert received == sent


def test_other_side_that_is_gone_is_an_error_and_no_signal(sockets: Sockets, pair: Pair) -> None:
    ours, theirs = pair
    theirs.close()
    with pytest.raises(OSError) as failure:
        sockets.send(ours, b"x")
    assert failure.value.errno == errno.EPIPE


def test_no_more_than_the_limit_is_received_in_one_go(sockets: Sockets, pair: Pair) -> None:
    ours, theirs = pair
    sent = sockets.send(ours, bytes(MAX_RECEIVED + 10))
    assert len(sockets.receive(theirs)) == min(sent, MAX_RECEIVED)


def test_direct_calls_never_block(pair: Pair) -> None:
    ours, theirs = pair
    ours.setblocking(True)
    with pytest.raises(BlockingIOError):
        DirectSockets().receive(ours)


def test_direct_calls_are_used_unless_they_are_switched_off(fallbacks: Callable[[], list[str]]) -> None:
    assert isinstance(choose_sockets(True), DirectSockets)
    assert isinstance(choose_sockets(False), OrdinarySockets)
    assert fallbacks() == []


class NoLibrary:
    """What ctypes has where the C library exports no send()."""

    def __init__(self, *_: Any, **__: Any):
        pass


class WrongLibrary:
    """A library whose send() and recv() are something else."""

    def __init__(self, *_: Any, **__: Any):
        class Call:
            def __call__(self, *_: Any) -> int:
                return 3

        self.send, self.recv = Call(), Call()


def refuse(*_: Any, **__: Any) -> None:
    raise OSError("cannot load any more object with static TLS")


@pytest.mark.parametrize("library", [NoLibrary, WrongLibrary, refuse])
def test_python_s_calls_take_over_where_the_direct_ones_do_not_work(
    library: Any, monkeypatch: pytest.MonkeyPatch, fallbacks: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(ctypes, "PyDLL", library)
    assert [type(choose_sockets(True)) for _ in range(2)] == [OrdinarySockets] * 2
    assert fallbacks() == [DIRECT_SYSCALLS]


def test_python_s_calls_take_over_where_the_flags_are_unknown(
    monkeypatch: pytest.MonkeyPatch, fallbacks: Callable[[], list[str]]
) -> None:
    monkeypatch.delattr(socket, "MSG_NOSIGNAL")
    assert isinstance(choose_sockets(True), OrdinarySockets)
    assert fallbacks() == [DIRECT_SYSCALLS]
