"""WebSocket connections: frames of every kind, requests ahead, slow and silent clients, and the end."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from gateway.stream.loop import StreamLoop
from gateway.stream.websocket import connection, hub
from gateway.stream.websocket.hub import Hub
from gateway.stream.websocket.session import Session
from gateway.stream.websocket.settings import WebSocketSettings
from tests.websocket_peer import PATIENCE, Peer

SMALL = WebSocketSettings(max_message=1000, ping_interval=30.0, client_timeout=30.0)


class Echo:
    """In place of the requests: answers with what came, one at a time, when it may."""

    def __init__(self) -> None:
        self.may_go = threading.Event()
        self.may_go.set()
        self.begun: list[bytes] = []
        self.expires: float | None = None

    def serve(self, session: Session, data: bytes, is_binary: bool) -> bytes:
        self.begun.append(data)
        assert self.may_go.wait(PATIENCE)
        if data == b"fail":
            raise ZeroDivisionError
        if self.expires is not None:
            session.expires = self.expires
        return data * 2000 if data == b"large" * 40 else data


class NoPushes:
    """In place of the subscriptions of connections; it knows who was told what."""

    def __init__(self) -> None:
        self.pushed: list[connection.Connection] = []
        self.ended: list[connection.Connection] = []

    def settle(self, of: connection.Connection) -> None:
        pass

    def push(self, to: connection.Connection) -> None:
        self.pushed.append(to)

    def end(self, of: connection.Connection) -> None:
        self.ended.append(of)

    def close(self, timeout: float) -> None:
        pass


class Site:
    """A hub and its clients."""

    def __init__(self, settings: WebSocketSettings = SMALL) -> None:
        self.echo, self.pushes = Echo(), NoPushes()
        self.streams = StreamLoop()
        self.hub = Hub(self.streams, settings, self.echo, self.pushes)  # type: ignore[arg-type]
        self.sessions: list[Session] = []
        self.closed: list[Peer] = []
        self._peers: list[Peer] = []

    def connect(self, ahead: bytes = b"") -> Peer:
        """A client whose handshake has been accepted."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        peer = Peer(theirs)
        self._peers.append(peer)
        self.sessions.append(Session())
        self.hub.take(b"accepted\r\n\r\n", self.sessions[-1], ours, ahead, lambda: self.closed.append(peer))
        assert peer.accepted() == b"accepted\r\n\r\n"
        return peer

    def in_loop(self, call: Callable[[], Any]) -> Any:
        """What a call comes to in the thread of the loop."""
        done: list[Any] = []
        came = threading.Event()
        self.streams.call(lambda: (done.append(call()), came.set()))
        assert came.wait(PATIENCE)
        return done[0]

    def close(self) -> None:
        self.echo.may_go.set()
        for peer in self._peers:
            peer.sock.close()
        self.hub.close()
        self.streams.close()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients get less time to close their side."""
    monkeypatch.setattr(connection, "CLOSING", 0.5)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


def written(first: int, data: bytes = b"x") -> bytes:
    """A short frame with any first byte, masked with zeros."""
    return bytes((first, 0x80 | len(data))) + bytes(4) + data


def until(happens: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_text_and_binary_are_answered_in_their_kind(site: Site) -> None:
    peer = site.connect()
    peer.send(b"text")
    assert (frame := peer.frame()).opcode is Opcode.TEXT and frame.data == b"text"
    peer.send(b"\xff", Opcode.BINARY)
    assert (frame := peer.frame()).opcode is Opcode.BINARY and frame.data == b"\xff"


def test_what_came_with_the_handshake_is_first(site: Site) -> None:
    peer = site.connect(Frame(Opcode.TEXT, b"ahead").serialize(mask=True))
    peer.send(b"later")
    assert [peer.frame().data, peer.frame().data] == [b"ahead", b"later"]


def test_message_in_fragments_is_one_request(site: Site) -> None:
    peer = site.connect()
    peer.send("zwölf".encode()[:3], fin=False)  # in the middle of a character
    peer.send(b"", Opcode.PING)
    peer.send(b"", Opcode.CONT, fin=False)
    peer.send("zwölf".encode()[3:], Opcode.CONT)
    frames = [peer.frame(), peer.frame()]
    assert [frame.data.decode() for frame in frames if frame.opcode is Opcode.TEXT] == ["zwölf"]


def test_requests_are_answered_one_at_a_time_in_order(site: Site) -> None:
    site.echo.may_go.clear()
    peer = site.connect()
    for number in range(10):
        peer.send(b"%d" % number)
    until(lambda: site.echo.begun)
    time.sleep(0.1)
    assert site.echo.begun == [b"0"]
    site.echo.may_go.set()
    assert [peer.frame().data for _ in range(10)] == [b"%d" % number for number in range(10)]


def test_reading_pauses_when_many_requests_are_ahead(site: Site) -> None:
    site.echo.may_go.clear()
    peer = site.connect()
    peer.sock.settimeout(1.0)
    frame = Frame(Opcode.TEXT, b"x" * 500).serialize(mask=True)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 20_000_000:
            peer.raw(frame)
            sent += len(frame)
    (held,) = site.in_loop(lambda: [each.held for each in site.hub._connections])
    assert held < 200_000
    site.echo.may_go.set()
    peer.sock.settimeout(PATIENCE)
    for _ in range(sent // len(frame)):
        assert peer.frame().data == b"x" * 500


@pytest.mark.parametrize(("name", "sent", "code"), [
    ("bad UTF-8", Frame(Opcode.TEXT, b"\xff\xfe").serialize(mask=True), 1007),
    ("surrogate", Frame(Opcode.TEXT, b"\xed\xa0\x80").serialize(mask=True), 1007),
    ("unmasked", Frame(Opcode.TEXT, b"x").serialize(mask=False), 1002),
    ("reserved bit", written(0xC1), 1002),
    ("all reserved bits", written(0xF2), 1002),
    ("reserved opcode", written(0x83), 1002),
    ("reserved control opcode", written(0x8B), 1002),
    ("long ping", b"\x89\xfe\x00\x7e" + bytes(4 + 126), 1002),
    ("ping in fragments", written(0x09), 1002),
    ("continues nothing", Frame(Opcode.CONT, b"x").serialize(mask=True), 1002),
    ("too large", Frame(Opcode.TEXT, bytes(1001)).serialize(mask=True), 1009),
    ("says that it is huge", b"\x81\xff" + b"\x7f" * 8 + bytes(4), 1009),
    ("length beyond 63 bits", b"\x81\xff" + b"\xff" * 8 + bytes(4), 1009),
    ("bad close code", written(0x88, b"\x00\x01"), 1002),
    ("close of one byte", written(0x88, b"\x03"), 1002),
    ("close with bad UTF-8", written(0x88, b"\x03\xe8\xff"), 1007),
], ids=lambda value: value if isinstance(value, str) else "")
def test_frame_that_breaks_the_protocol_ends_the_connection(
    site: Site, caplog: pytest.LogCaptureFixture, name: str, sent: bytes, code: int
) -> None:
    peer, other = site.connect(), site.connect()
    peer.raw(sent)
    assert peer.close_code() == code
    assert peer.sock.recv(1) == b""
    until(lambda: site.closed == [peer])
    other.send(b"still here")
    assert other.frame().data == b"still here"
    assert not caplog.records


def test_two_messages_at_once_end_the_connection(site: Site) -> None:
    peer = site.connect()
    peer.send(b"begins", fin=False)
    peer.send(b"begins, too")
    assert peer.close_code() == 1002


def test_fragments_are_too_large_together(site: Site) -> None:
    peer = site.connect()
    peer.send(bytes(600), fin=False)
    peer.send(bytes(600), Opcode.CONT)
    assert peer.close_code() == 1009


def test_close_is_answered_and_nothing_after_it_is(site: Site) -> None:
    peer = site.connect()
    peer.raw(
        Frame(Opcode.CLOSE, b"\x03\xe8bye").serialize(mask=True) + Frame(Opcode.TEXT, b"late").serialize(mask=True)
    )
    assert (frame := peer.frame()).opcode is Opcode.CLOSE and frame.data == b"\x03\xe8bye"
    assert peer.sock.recv(1) == b""
    assert site.echo.begun == []
    until(lambda: site.closed and site.pushes.ended)


def test_client_that_is_gone_is_forgotten_when_its_request_is_over(site: Site) -> None:
    site.echo.may_go.clear()
    peer = site.connect()
    peer.send(b"x")
    until(lambda: site.echo.begun)
    peer.sock.close()
    until(lambda: site.closed)
    assert not site.pushes.ended
    site.echo.may_go.set()
    until(lambda: site.pushes.ended)


def test_request_that_fails_unexpectedly_closes_the_connection(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    peer = site.connect()
    peer.send(b"fail")
    assert peer.close_code() == 1011
    assert "ZeroDivisionError" in caplog.text


def test_silent_client_is_cut_after_two_pings() -> None:
    site = Site(WebSocketSettings(ping_interval=0.2))
    try:
        silent = site.connect()
        start = time.monotonic()
        seen = b""
        while data := silent.sock.recv(100):
            seen += data
        assert seen == b"\x89\x00" * 2
        assert time.monotonic() - start >= 0.6
        alive = site.connect()
        threading.Timer(1.5, lambda: alive.send(b"here")).start()
        assert alive.frame().data == b"here"  # it has answered pings meanwhile
    finally:
        site.close()


def test_message_has_to_be_complete_in_time() -> None:
    site = Site(WebSocketSettings(client_timeout=0.5))
    try:
        begins, trickles, busy = site.connect(), site.connect(), site.connect()
        begins.send(b"begins", fin=False)
        whole = Frame(Opcode.TEXT, bytes(100)).serialize(mask=True)
        for number in range(12):
            trickles.raw(whole[number:number + 1])
            busy.send(b"whole")
            busy.raw(whole[:5])
            time.sleep(0.06)
            busy.raw(whole[5:])
        assert begins.close_code() == 1008
        assert trickles.close_code() == 1008
        busy.send(b"last")
        while busy.frame().data != b"last":
            pass
    finally:
        site.close()


def test_client_that_does_not_read_is_closed() -> None:
    site = Site(WebSocketSettings(client_timeout=1.0))
    try:
        peer, other = site.connect(), site.connect()
        for _ in range(30):
            peer.send(b"large" * 40)  # each answer has 400 kB
        until(lambda: site.in_loop(lambda: any(each._is_slow for each in site.hub._connections)))
        begun = len(site.echo.begun)
        other.send(b"meanwhile")
        assert other.frame().data == b"meanwhile"
        assert begun < 10
        until(lambda: not site.in_loop(lambda: [each for each in site.hub._connections if each._is_open and (
            each._is_slow)]))
        assert peer.close_code() == 1008
    finally:
        site.close()


def test_slow_client_that_reads_in_time_gets_everything(site: Site) -> None:
    peer = site.connect()
    for _ in range(5):
        peer.send(b"large" * 40)
    time.sleep(0.5)
    assert [len(peer.frame().data) for _ in range(5)] == [400_000] * 5


def test_floods_of_pings_and_of_empty_fragments_hold_nothing(site: Site) -> None:
    peer, other = site.connect(), site.connect()
    peer.sock.settimeout(1.0)
    ping = Frame(Opcode.PING, bytes(125)).serialize(mask=True) * 100
    with pytest.raises(TimeoutError):  # it is not read on, as nobody reads the answers
        for _ in range(2000):
            peer.raw(ping)
    other.send(b"", fin=False)
    other.raw(Frame(Opcode.CONT, b"", fin=False).serialize(mask=True) * (connection.IDLE_FRAMES - 10))
    other.send(b"end", Opcode.CONT)
    assert other.frame().data == b"end"
    held = site.in_loop(lambda: [each.held for each in site.hub._connections])
    assert max(held) < 500_000
    last = site.connect()
    last.raw(Frame(Opcode.PONG, b"").serialize(mask=True) * (connection.IDLE_FRAMES + 10))
    assert last.close_code() == 1008


def test_when_too_much_is_held_the_largest_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MAX_HELD", 100_000)
    site = Site(WebSocketSettings(max_message=90_000))
    try:
        small, large, last = site.connect(), site.connect(), site.connect()
        large.send(bytes(80_000), fin=False)
        small.send(bytes(10_000), fin=False)
        last.send(bytes(15_000), fin=False)
        until(lambda: site.closed == [large])
        small.send(b"", Opcode.CONT)
        assert small.frame().data == bytes(10_000)
    finally:
        site.close()


def test_drain_closes_after_the_answer_under_way(site: Site) -> None:
    site.echo.may_go.clear()
    idle, busy = site.connect(), site.connect()
    busy.send(b"under way")
    busy.send(b"waits")
    until(lambda: site.echo.begun)
    site.hub.drain()
    assert idle.close_code() == 1012
    site.echo.may_go.set()
    assert busy.frame().data == b"under way"
    assert busy.close_code() == 1012
    assert site.echo.begun == [b"under way"]
    assert not site.hub.has_room


def test_connection_ends_with_its_credentials(site: Site) -> None:
    peer = site.connect()
    site.echo.expires = time.time() + 0.6
    peer.send(b"authenticate")
    assert peer.frame().data == b"authenticate"
    site.echo.expires = time.time() + 1.2
    peer.send(b"again")
    assert peer.frame().data == b"again"
    start = time.monotonic()
    assert peer.close_code() == 4003
    assert time.monotonic() - start > 0.8


def test_no_push_while_a_request_is_there(site: Site) -> None:
    """Whole or in part, it waits for its answer, which must be the next frame."""
    peer = site.connect()
    until(lambda: site.hub._connections)
    (here,) = site.hub._connections
    assert site.in_loop(lambda: here.may_push)
    site.echo.may_go.clear()
    request = Frame(Opcode.TEXT, b"request").serialize(mask=True)
    peer.raw(request[:5])
    until(lambda: not site.in_loop(lambda: here.may_push))
    peer.raw(request[5:])
    until(lambda: site.echo.begun)
    assert not site.in_loop(lambda: here.may_push)
    site.pushes.pushed.clear()
    site.echo.may_go.set()
    assert peer.frame().data == b"request"
    until(lambda: site.pushes.pushed == [here])
    assert site.in_loop(lambda: here.may_push)


def test_place_is_free_when_a_connection_is_gone() -> None:
    site = Site(WebSocketSettings(max_connections=1))
    try:
        assert site.hub.has_room
        peer = site.connect()
        assert not site.hub.has_room
        peer.sock.close()
        until(lambda: site.hub.has_room)
    finally:
        site.close()


def test_json_of_answers_is_not_touched(site: Site) -> None:
    peer = site.connect()
    text = json.dumps({"a": ["ä", 1.5, None]}).encode()
    peer.send(text)
    assert peer.frame().data == text
