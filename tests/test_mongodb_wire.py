"""MongoDB's wire protocol, against a server that says what a test wants it to."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import bson
import pytest

from storage.mongodb.direct.wire import _PREFIX, Connection

#: Answers a request's number and document with bytes.
Script = Callable[[int, dict], bytes]

TIMEOUT = 0.5


def answer(number: int, document: dict, *, kind: int = 2013, flags: int = 0, section: int = 0) -> bytes:
    body = bson.encode(document)
    return _PREFIX.pack(_PREFIX.size + len(body), 7, number, kind, flags, section) + body


class Server:
    """Takes one connection, and answers each command by ``script``; an empty answer hangs up, None says nothing."""

    def __init__(self) -> None:
        self.script: Script = lambda number, document: answer(number, {"ok": 1.0})
        self.received: list[dict] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            self.peer, _ = self._listener.accept()
        except OSError:
            return
        with contextlib.suppress(ConnectionError), self.peer, self.peer.makefile("rb") as stream:
            while head := stream.read(_PREFIX.size):
                length, number, _, kind, flags, section = _PREFIX.unpack(head)
                assert (kind, flags, section) == (2013, 0, 0)
                document = bson.decode(stream.read(length - _PREFIX.size))
                self.received.append(document)
                if said := self.script(number, document):
                    self.peer.sendall(said)
                else:
                    return

    def close(self) -> None:
        self._listener.close()
        if hasattr(self, "peer"):
            self.peer.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def connection(server: Server) -> Iterator[Connection]:
    connection = Connection(server.address, TIMEOUT, None)
    yield connection
    connection.close()


def test_command_and_answer(server: Server, connection: Connection) -> None:
    server.script = lambda number, document: answer(number, {"ok": 1.0, "echo": document})
    for number in range(3):
        assert connection.command({"ping": number})["echo"] == {"ping": number}
    assert connection.alive


@pytest.mark.parametrize("size", [0, 1000, 65_515, 65_516, 1_000_000, 20_000_000])
def test_answers_of_any_size(server: Server, connection: Connection, size: int) -> None:
    server.script = lambda number, document: answer(number, {"ok": 1.0, "data": b"x" * size})
    assert connection.command({"ping": 1})["data"] == b"x" * size


def test_answer_in_pieces(server: Server, connection: Connection) -> None:
    def piecewise(number: int, document: dict) -> bytes:
        said = answer(number, {"ok": 1.0, "data": b"abc"})
        server.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(said) - 1):
            server.peer.sendall(said[at:at + 1])
        return said[-1:]

    server.script = piecewise
    assert connection.command({"ping": 1})["data"] == b"abc"


def test_dates_come_as_milliseconds(server: Server, connection: Connection) -> None:
    server.script = lambda number, document: answer(number, {"at": bson.DatetimeMS(2**60)})
    assert int(connection.command({"ping": 1})["at"]) == 2**60


def test_silence_is_a_timeout(server: Server, connection: Connection) -> None:
    release = threading.Event()
    server.script = lambda number, document: b"" if release.wait(10) else b""
    with pytest.raises(TimeoutError, match="no answer from 127.0.0.1"):
        connection.command({"ping": 1})
    release.set()


def test_trickle_is_a_timeout(server: Server, connection: Connection) -> None:
    stop = threading.Event()

    def trickle(number: int, document: dict) -> bytes:
        said = answer(number, {"ok": 1.0, "data": b"x" * 1000})
        for at in range(len(said)):
            if stop.wait(TIMEOUT / 10):
                break
            server.peer.sendall(said[at:at + 1])
        return b""

    server.script = trickle
    with pytest.raises(TimeoutError, match="did not come in time"):
        connection.command({"ping": 1})
    stop.set()


def test_hanging_up_is_an_error(server: Server, connection: Connection) -> None:
    server.script = lambda number, document: b""
    with pytest.raises(OSError, match="closed"):
        connection.command({"ping": 1})
    assert not connection.alive


@pytest.mark.parametrize("said", [
    lambda number: answer(number + 1, {"ok": 1.0}),
    lambda number: answer(number, {"ok": 1.0}, kind=1),
    lambda number: answer(number, {"ok": 1.0}, flags=2),
    lambda number: answer(number, {"ok": 1.0}, section=1),
    lambda number: answer(number, {"ok": 1.0}) + b"more",
    lambda number: answer(number, {"ok": 1.0})[:-3] + b"abc",
    lambda number: (5).to_bytes(4, "little") + bytes(30),
    lambda number: (2**31 - 1).to_bytes(4, "little") + bytes(30),
    lambda number: (-1).to_bytes(4, "little", signed=True) + bytes(30),
])
def test_nonsense_is_an_error(server: Server, connection: Connection, said: Callable[[int], bytes]) -> None:
    server.script = lambda number, document: said(number)
    with pytest.raises(ValueError):
        connection.command({"ping": 1})


def test_nobody_there_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(OSError):
        Connection(address, TIMEOUT, None)


def test_unasked_words_are_noticed(server: Server, connection: Connection) -> None:
    connection.command({"ping": 1})
    assert connection.alive
    server.peer.sendall(b"x")
    for _ in range(100):
        if not connection.alive:
            return
    pytest.fail("it counts as alive")
