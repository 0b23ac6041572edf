"""A proxy in front of a MongoDB that can stop single commands on their way, and lose their answers.

A race of two gateways is a matter of microseconds. With this it is a matter of choice: what one gateway has sent is
kept back until the other has done what is to come in between.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import bson

from functional.services.mongodb import REPLICA_SET, MongoDB
from functional.services.ports import free_port

#: Length of a message, its number, the number of the one that it answers, and its kind (MongoDB wire protocol).
HEADER = struct.Struct("<iiii")
OP_MSG = 2013

#: Seconds for a connection to the server, and for what is asked of a held command.
TIMEOUT = 10.0

#: Seconds after which a forgotten command continues, so that no thread waits forever.
LONGEST = 120.0

#: A command as it was sent, the documents of an insert included.
Command = dict[str, Any]


class Held:
    """A command that is kept back, or whose answer is."""

    def __init__(self, wanted: Callable[[Command], bool], *, answer: bool) -> None:
        self.wanted = wanted
        self.answer = answer
        self.command: Command | None = None
        self._reached = threading.Event()
        self._go = threading.Event()
        self._lost = False

    def until_reached(self, timeout: float = TIMEOUT) -> Command:
        """Wait until the command has come by; it is stopped now."""
        if not self._reached.wait(timeout):
            raise TimeoutError("the command that is to be stopped has not come by")
        assert self.command is not None
        return self.command

    @property
    def reached(self) -> bool:
        """Has the command come by?"""
        return self._reached.is_set()

    def release(self) -> None:
        """Let it go on."""
        self._go.set()

    def lose(self) -> None:
        """Close the connection instead: the answer never arrives."""
        self._lost = True
        self._go.set()

    def stop_here(self) -> bool:
        """For the proxy's threads: wait for release; False if the connection is to be closed."""
        self._reached.set()
        self._go.wait(LONGEST)
        return not self._lost


class MongoDBProxy:
    """A TCP proxy to one member; clients that come through it are told that the whole set is here."""

    def __init__(self, mongodb: MongoDB) -> None:
        self._server = mongodb
        self.port = free_port()
        # Both have five digits, so that the addresses in the server's answers can be replaced in place.
        self._theirs, self._ours = mongodb.host.encode(), f"127.0.0.1:{self.port}".encode()
        assert len(self._theirs) == len(self._ours)
        self._lock = threading.Lock()
        self._holds: list[Held] = []
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", self.port))

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            holds, self._holds = self._holds, []
            sockets = list(self._sockets)
        for held in holds:
            held.release()
        for end in [self._listener, *sockets]:
            _close(end)

    def database_uri(self, database: str) -> str:
        """Address of `database`."""
        return f"mongodb://127.0.0.1:{self.port}/{database}?replicaSet={REPLICA_SET}"

    @contextmanager
    def hold(self, wanted: Callable[[Command], bool], *, answer: bool = False) -> Iterator[Held]:
        """Keep back the next command that is wanted, or with `answer` what the server says to it."""
        held = Held(wanted, answer=answer)
        with self._lock:
            self._holds.append(held)
        try:
            yield held
        finally:
            held.release()
            with self._lock, contextlib.suppress(ValueError):
                self._holds.remove(held)

    # -- threads ------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server.port), TIMEOUT)
            except OSError:
                return
            answers: dict[int, Held] = {}
            for end in (client, server):
                end.settimeout(None)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets |= {client, server}
            for pump in (self._requests, self._answers):
                threading.Thread(target=pump, args=(client, server, answers), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket, answers: dict[int, Held]) -> None:
        with contextlib.suppress(OSError):
            while (message := _receive(client)) is not None:
                held = self._match(message)
                if held is not None and held.answer:
                    answers[HEADER.unpack_from(message)[1]] = held
                elif held is not None and not held.stop_here():
                    break
                server.sendall(message)
        if not answers:  # an answer that is kept back needs its connection
            _close(server)

    def _answers(self, client: socket.socket, server: socket.socket, answers: dict[int, Held]) -> None:
        with contextlib.suppress(OSError):
            while (message := _receive(server)) is not None:
                held = answers.pop(HEADER.unpack_from(message)[2], None)
                if held is not None and not held.stop_here():
                    break
                client.sendall(message.replace(self._theirs, self._ours))
        _close(client)
        _close(server)

    def _match(self, message: bytes) -> Held | None:
        with self._lock:
            holds = list(self._holds)
        if not holds or HEADER.unpack_from(message)[3] != OP_MSG:
            return None
        command = _command(message)
        for held in holds:
            if held.wanted(command):
                with self._lock:
                    if held not in self._holds:
                        continue
                    self._holds.remove(held)
                held.command = command
                return held
        return None


def claims(command: Command) -> bool:
    """Updates that put messages into a claim."""
    return command.get("update") == "messages" and any(
        isinstance(update["u"], dict) and "c" in update["u"].get("$set", {}) for update in command["updates"]
    )


def inserts(command: Command) -> bool:
    """Inserts of messages, not of tombstones or leases alone."""
    return command.get("insert") == "messages" and any("b" in document for document in command["documents"])


def lands(command: Command) -> bool:
    """What lands messages: an insert, or under a lease a pipeline that ends in a merge."""
    return inserts(command) or (
        command.get("aggregate") == "messages" and any("$merge" in stage for stage in command["pipeline"])
    )


def deletes(collection: str) -> Callable[[Command], bool]:
    """Commands that delete documents of a collection."""
    return lambda command: command.get("delete") == collection


def finds(collection: str, **query: Any) -> Callable[[Command], bool]:
    """Queries of a collection whose filter has these values."""

    def wanted(command: Command) -> bool:
        return command.get("find") == collection and query.items() <= command.get("filter", {}).items()

    return wanted


def _receive(end: socket.socket) -> bytes | None:
    """A whole message; None at the end of the connection."""
    head = _exactly(end, 4)
    if head is None:
        return None
    rest = _exactly(end, int.from_bytes(head, "little") - 4)
    return None if rest is None else head + rest


def _exactly(end: socket.socket, count: int) -> bytes | None:
    received = bytearray()
    while len(received) < count:
        chunk = end.recv(count - len(received))
        if not chunk:
            return None
        received += chunk
    return bytes(received)


def _command(message: bytes) -> Command:
    """What an OP_MSG asks for: its body, and its sequences of documents under their names."""
    place = HEADER.size + 4
    flags = int.from_bytes(message[HEADER.size:place], "little")
    end = len(message) - (4 if flags & 1 else 0)  # a checksum
    command: Command = {}
    sequences: Command = {}
    while place < end:
        kind = message[place]
        size = int.from_bytes(message[place + 1:place + 5], "little")
        section = message[place + 1:place + 1 + size]
        if kind == 0:
            command = bson.decode(section)
        else:
            name, _, documents = section[4:].partition(b"\0")
            sequences[name.decode()] = bson.decode_all(documents)
        place += 1 + size
    return command | sequences


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
