"""Erlang's port mapper, with one difference: a lookup of a node returns the port of a proxy to it.

Protocol: "EPMD Protocol" in the Erlang Run-Time System's "Distribution Protocol".
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

ALIVE2_REQ, ALIVE2_X_RESP = 120, 118
PORT_PLEASE2_REQ, PORT2_RESP = 122, 119
NAMES_REQ = 110


@dataclass(frozen=True)
class Node:
    """A node that has registered: the port that others get, and the rest of its answer as it came."""

    port: int
    rest: bytes


class PortMapper:
    """``proxy`` makes a port that leads to one of a service; ``owner`` tells whose a connection is."""

    def __init__(
        self,
        proxy: Callable[[str, int], Awaitable[int]],
        owner: Callable[[asyncio.StreamWriter], str | None],
    ):
        self._proxy = proxy
        self._owner = owner
        self._nodes: dict[bytes, Node] = {}
        self._creation = 1
        self.port = 0

    async def start(self) -> int:
        """Listen; the port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return self.port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            (length,) = struct.unpack(">H", await reader.readexactly(2))
            request = await reader.readexactly(length)
            match request[0]:
                case kind if kind == ALIVE2_REQ:
                    await self._register(request[1:], reader, writer)
                case kind if kind == PORT_PLEASE2_REQ:
                    writer.write(self._look_up(request[1:]))
                case kind if kind == NAMES_REQ:
                    lines = [b"name %s at port %d\n" % (name, node.port) for name, node in self._nodes.items()]
                    writer.write(struct.pack(">I", self.port) + b"".join(lines))
            await writer.drain()
        writer.close()

    async def _register(self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A node stays registered for as long as this connection is open."""
        port, rest = struct.unpack(">H", request[:2])[0], request[2:]
        (length,) = struct.unpack(">H", rest[6:8])
        name = rest[8:8 + length]
        service = self._owner(writer)
        node = Node(await self._proxy(service, port) if service else port, rest)
        self._creation += 1
        self._nodes[name] = node
        writer.write(struct.pack(">BBI", ALIVE2_X_RESP, 0, self._creation))
        await writer.drain()
        await reader.read()
        if self._nodes.get(name) is node:
            del self._nodes[name]

    def _look_up(self, name: bytes) -> bytes:
        node = self._nodes.get(name)
        if node is None:
            return bytes((PORT2_RESP, 1))
        return bytes((PORT2_RESP, 0)) + struct.pack(">H", node.port) + node.rest
