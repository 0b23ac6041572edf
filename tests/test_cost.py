"""What a request costs in function calls, from the socket and back to it: a guard of the hot path that no clock is in.

A limit is some percent above what was counted when it was set. A change that needs more has a reason, and sets it anew.
"""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import orjson
import pytest

from bridges import memory
from bridges.memory import MemoryBridge
from gateway.app import make_app
from gateway.core.core import Core
from gateway.server.connection import ClientConnection
from gateway.server.loop import Listener

OURS = tuple(f"{Path(__file__).parents[1] / folder}{os.sep}" for folder in ("gateway", "bridges", "storage"))

#: Requests before the one that counts: caches are filled, and what is prepared once is prepared.
WARM_UP = 3

#: Requests of which one has to cost so little: on a busy machine, what is remembered for a second may be asked again.
TRIES = 5

#: Calls of functions of ours, and of all written in Python: those of others depend on their versions.
#: Raised by 5 % when parsing, handling and rendering a call became three functions, and by 4 % where nothing was left:
#: a thread that works beside may add a call or two (a lock that is held is waited for). A post makes one more since all
#: versions of the API share how its body is read; all make some more since requests may be left without an answer by
#: their thread, and who waits is told of posts.
LIMITS = {
    "post-1": (84, 224),
    "post-20": (238, 519),
    "list-20": (168, 312),
    "claim-1": (175, 347),
    "delete": (80, 211),
    "pop-1": (146, 285),
}


class InThisThread:
    """Stands in for the threads that serve requests: a count must not depend on which of them is when where."""

    def offer(self, connection: ClientConnection) -> bool:
        connection.service()
        return True

    def take_late(self, before: float) -> list[ClientConnection]:
        return []


class Client:
    """One kept connection to a listener that is driven by hand."""

    def __init__(self, listener: Listener, address: Any):
        self._listener = listener
        self._socket = socket.create_connection(address)
        self.turn()

    def turn(self) -> None:
        """Let the server do what there is to do."""
        self._listener.turn(1.0)

    def send(self, method: str, path: str, document: Any = None) -> None:
        """Send a request, which the server's next turn serves."""
        body = orjson.dumps(document) if document is not None else b""
        self._socket.sendall((
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nX-Project-ID: project\r\n"
            "Client-ID: 3381af92-2b9e-11e3-b191-71861300734c\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body)

    def receive(self) -> Any:
        """The document of the answer that has been sent."""
        head, _, body = self._socket.recv(1 << 20).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 20"), head
        return orjson.loads(body) if body else None

    def call(self, method: str, path: str, document: Any = None) -> Any:
        """All of it."""
        self.send(method, path, document)
        self.turn()
        return self.receive()


@pytest.fixture
def client(core: Core, configured: Callable[..., Any]) -> Iterator[Client]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        options = SimpleNamespace(
            max_queue_time=5.0, client_timeout=30.0, trusted_proxy=None, threads=0, max_queued_requests=1,
            direct_syscalls=True,
        )
        listener = Listener(make_app(configured(), core), listening, options, max_body=1 << 20)
        listener.task_dispatcher = InThisThread()
        yield Client(listener, listening.getsockname())
        for connection in list(listener.active_channels.values()):
            connection.handle_close()


def counted(call: Callable[[], Any]) -> tuple[int, int]:
    """Calls of Python functions: of ours, and of all."""
    ours = total = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal ours, total
        if event == "call":
            total += 1
            # The bridge in memory stands for a broker, which would not be counted.
            ours += frame.f_code.co_filename.startswith(OURS) and frame.f_code.co_filename != memory.__file__

    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(None)
    return ours, total


def prepare(client: Client, work: str) -> tuple[Any, ...]:
    """Do what comes before, and the request to count."""
    path = "/v2/queues/queue"
    kind, _, number = work.partition("-")
    messages = {"messages": [{"body": "x" * 100, "ttl": 300} for _ in range(int(number or 1))]}
    if kind == "post":
        return "POST", f"{path}/messages", messages
    client.call("POST", f"{path}/messages", messages)
    if kind == "list":
        return "GET", f"{path}/messages?echo=true&limit={number}"
    if kind == "claim":
        return "POST", f"{path}/claims?limit={number}", {"ttl": 300, "grace": 60}
    if kind == "pop":
        return "DELETE", f"{path}/messages?pop={number}"
    claimed = client.call("POST", f"{path}/claims?limit=1", {"ttl": 300, "grace": 60})
    return "DELETE", claimed["messages"][0]["href"]


@pytest.mark.parametrize("work", LIMITS)
def test_request_costs_no_more_calls(client: Client, bridge: MemoryBridge, work: str) -> None:
    for _ in range(WARM_UP):
        client.call(*prepare(client, work))
    most_ours, most = LIMITS[work]
    counts = []
    for _ in range(TRIES):
        client.send(*prepare(client, work))
        counts.append(counted(client.turn))
        client.receive()
        if counts[-1][0] <= most_ours and counts[-1][1] <= most:
            return
    pytest.fail(f"calls of ours, and in all: {counts}; at most {most_ours} and {most} are allowed")
