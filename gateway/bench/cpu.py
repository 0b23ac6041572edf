"""CPU time of server processes on this machine."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from gateway.bench.wire import Address


class Unknown(Exception):
    """The CPU time of a process can't be read; the text says why."""


def _psutil() -> ModuleType:
    try:
        import psutil
    except ImportError as error:
        raise Unknown("CPU time needs psutil: pip install 'marconi[bench]'") from error
    return psutil  # type: ignore[no-any-return,unused-ignore]


class CPUMeter:
    """Adds up the CPU time of processes and of all their descendants."""

    def __init__(self, pids: Iterable[int]):
        """Raises Unknown if a process does not exist or can't be read."""
        self._psutil = _psutil()
        self._roots = [self._process(pid) for pid in pids]
        self.seconds()

    def _process(self, pid: int) -> Any:
        try:
            return self._psutil.Process(pid)
        except self._psutil.Error as error:
            raise Unknown(f"process {pid}: {error}") from error

    def seconds(self) -> float:
        """User and system time up to now, in seconds, with that of descendants that have ended. Raises Unknown."""
        total = 0.0
        try:
            found = {process.pid: process for root in self._roots for process in [root, *root.children(recursive=True)]}
        except self._psutil.Error as error:
            raise Unknown(f"the server has ended: {error}") from error
        for process in found.values():
            try:
                times = process.cpu_times()
            except self._psutil.NoSuchProcess:  # it has just ended
                continue
            except self._psutil.Error as error:
                raise Unknown(f"process {process.pid}: {error}") from error
            total += times.user + times.system + times.children_user + times.children_system
        return total


def listeners(address: Address) -> list[int]:
    """Ids of the processes on this machine that listen on the address, without descendants of one another.

    Raises Unknown if the server is on another machine, or if no listening process can be seen.
    """
    if not _is_here(address.host):
        raise Unknown(f"{address.host} is not this machine")
    psutil = _psutil()
    try:
        pids = {
            connection.pid for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == address.port and connection.pid
        }
        found = sorted(pid for pid in pids if not pids & {parent.pid for parent in psutil.Process(pid).parents()})
    except psutil.Error as error:
        raise Unknown(f"the process on port {address.port} can't be looked at: {error}") from error
    if not found:
        raise Unknown(f"the process on port {address.port} can't be seen")
    return found


def _is_here(host: str) -> bool:
    """Whether a host name is this machine's loopback interface. Other addresses may be forwarded elsewhere."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
        return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)
    except (OSError, ValueError):
        return False
