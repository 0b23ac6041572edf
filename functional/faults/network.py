"""The network between the services of a cluster: TCP proxies whose links can be cut, stalled and delayed.

Every service is told the address of a proxy instead of that of its peer, and each connection belongs to a link: the
pair of services at its ends. Which service has opened it is read from /proc, so members of a replica set and nodes of a
broker, which find each other by one address for all, have links of their own as well. Needs Linux, and no privileges.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import multiprocessing
import os
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

from functional.faults.epmd import PortMapper

#: Environment variable that names a service; its children have it too.
NAME_VARIABLE = "MARCONI_FAULTS_SERVICE"

#: Bytes that are passed on in one go, and how many of those may be under way on a slow link.
CHUNK = 256 * 1024
UNDER_WAY = 64

#: The end of a link that is none of the cluster's services: the tests themselves.
OTHERS = "others"

#: Seconds for the proxies' process to do what it is told.
CONTROL_TIMEOUT = 10.0

#: What a link does with its connections. PASS: nothing. STALL: no byte comes through, and connections stay open, as if
#: packets were lost. CUT: they are reset, and so are new ones.
PASS, STALL, CUT = "pass", "stall", "cut"


@dataclass(frozen=True)
class State:
    """How a link behaves; ``delay`` in seconds, each way."""

    mode: str = PASS
    delay: float = 0.0


class Network:
    """The proxies, in a process of their own."""

    def __init__(self) -> None:
        self._control, there = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_serve, args=(there,), daemon=True)
        self._states: dict[frozenset[str], State] = {}

    def __enter__(self) -> Self:
        self._process.start()
        self.port_mapper_port = int(self._ask("port mapper"))
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def proxy(self, name: str, port: int) -> int:
        """A port that leads to ``port`` of the service ``name``."""
        return int(self._ask("proxy", name, port))

    def set(self, one: str, other: str, state: State) -> None:
        """Let the link between two services behave like this from now on."""
        self._states[frozenset((one, other))] = state
        self._ask("states", self._states)

    def heal(self) -> None:
        """Let all links pass everything at once."""
        self._states = {}
        self._ask("states", {})

    def _ask(self, *command: object) -> object:
        self._control.send(command)
        if not self._control.poll(CONTROL_TIMEOUT):
            raise TimeoutError("the proxies do not answer")
        return self._control.recv()


def _serve(control: Connection) -> None:
    asyncio.run(_Proxies(control).run())


class _Proxies:
    """What runs in the proxies' process."""

    def __init__(self, control: Connection):
        self._control = control
        self._states: Mapping[frozenset[str], State] = {}
        self._changed = asyncio.Event()
        self._open: dict[frozenset[str], set[asyncio.StreamWriter]] = {}
        self._mapper = PortMapper(self.add, owner)

    async def run(self) -> None:
        mapper = await self._mapper.start()
        asyncio.get_running_loop().add_reader(self._control.fileno(), self._told, mapper)
        await asyncio.Event().wait()

    def _told(self, mapper: int) -> None:
        try:
            command, *arguments = self._control.recv()
        except EOFError:
            os._exit(0)
        match command:
            case "port mapper":
                self._control.send(mapper)
            case "proxy":
                task = asyncio.ensure_future(self.add(*arguments))
                task.add_done_callback(lambda done: self._control.send(done.result()))
            case "states":
                self._states = arguments[0]
                self._changed.set()
                self._changed = asyncio.Event()
                for link, writers in self._open.items():
                    if self._state(link).mode == CUT:
                        for writer in writers:
                            reset(writer)
                self._control.send(None)

    def _state(self, link: frozenset[str]) -> State:
        return self._states.get(link, State())

    async def add(self, name: str, port: int) -> int:
        """Listen on a new port for those who want ``port`` of the service ``name``."""
        server = await asyncio.start_server(functools.partial(self._accept, name, port), "127.0.0.1", 0, limit=CHUNK)
        return int(server.sockets[0].getsockname()[1])

    async def _accept(
        self, name: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        link = frozenset((owner(writer) or OTHERS, name))
        writers = self._open.setdefault(link, set())
        writers.add(writer)
        ends = [writer]
        try:
            if self._state(link).mode == CUT:
                return
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port, limit=CHUNK)
            ends.append(there_writer)
            writers.add(there_writer)
            for end in ends:
                end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(link, reader, there_writer))
                group.create_task(self._pump(link, there_reader, writer))
        except* OSError:
            pass
        finally:
            for end in ends:
                writers.discard(end)
                reset(end)

    async def _pump(self, link: frozenset[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes, as the link's state says, until one end closes; raises ConnectionError then."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(UNDER_WAY)

        async def receive() -> None:
            while data := await reader.read(CHUNK):
                await under_way.put((time.monotonic() + self._state(link).delay, data))
            await under_way.put((0.0, b""))

        async def send() -> None:
            while True:
                due, data = await under_way.get()
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                while self._state(link).mode == STALL:
                    await self._changed.wait()
                if not data:
                    raise ConnectionResetError
                writer.write(data)
                await writer.drain()

        async with asyncio.TaskGroup() as group:
            group.create_task(receive())
            group.create_task(send())


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection at once, so that its other end sees a reset."""
    with contextlib.suppress(OSError):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


_names: dict[int, str | None] = {}


def owner(accepted: asyncio.StreamWriter) -> str | None:
    """The service at the other end of an accepted connection; None if it is none of the cluster's."""
    inode = _inode(accepted.get_extra_info("peername")[1], accepted.get_extra_info("sockname")[1])
    if inode is None:
        return None
    wanted = f"socket:[{inode}]"
    pids = {int(entry) for entry in os.listdir("/proc") if entry.isdigit()}
    for gone in _names.keys() - pids:
        del _names[gone]
    for pid in pids:
        if pid not in _names:
            _names[pid] = _name(pid)
        if _names[pid] is not None and _has(pid, wanted):
            return _names[pid]
    return None


def _inode(local: int, remote: int) -> int | None:
    """The inode of the socket that is connected from port ``local`` to port ``remote``."""
    ends = f":{local:04X}", f":{remote:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(ends[0]) and fields[2].endswith(ends[1]) and fields[9] != "0":
            return int(fields[9])
    return None


def _name(pid: int) -> str | None:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    start = f"{NAME_VARIABLE}=".encode()
    return next((variable[len(start):].decode() for variable in variables if variable.startswith(start)), None)


def _has(pid: int, wanted: str) -> bool:
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(folder):
            with contextlib.suppress(OSError):
                if os.readlink(f"{folder}/{descriptor}") == wanted:
                    return True
    return False
