"""Connections to receivers: each address is judged when it is resolved, when it is connected to and once connected.

aiohttp's resolver is not asked for hosts that are addresses already, so the connector judges these by itself. The
address that is connected to is the one that was judged: names are resolved once for each connection, and the socket
for an address is made only if that address may be used.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from weakref import WeakSet

from aiohttp import ClientConnectionError, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.core.subscriptions.addresses import Verdict

#: Whether an address (as text, and a port) may be connected to.
Judge = Callable[[str, int], Verdict]

#: Threads that resolve names in one process. Each waits for a name server for some seconds at worst.
RESOLVING = 32

#: Hosts of which it is remembered whether they are addresses.
LITERALS = 4096

#: Seconds that an idle connection is kept: no longer, as the name may lead elsewhere by then.
KEPT_FOR = 30.0


class AddressRefused(Exception):
    """No address of the host may be connected to."""


class NotNow(Exception):
    """The attempt must not begin any more: the subscription has changed while it connected."""


@dataclass(slots=True)
class Attempt:
    """What becomes known of one attempt while it connects.

    ``may_begin`` is asked right before the request is sent. ``excepted``: it goes to an address that is allowed as an
    exception, so tenants must not see what it answers. ``reused``: the connection was kept from an earlier attempt.
    """

    may_begin: Callable[[], bool]
    excepted: bool = False
    reused: bool = False


#: The attempt that the present task makes.
ATTEMPT: ContextVar[Attempt] = ContextVar("attempt")


class Resolver(AbstractResolver):
    """The system's resolver, in threads of its own. Callers that ask for the same name at once share an answer."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVING, thread_name_prefix="resolve")
        self._asked: dict[tuple[str, int], asyncio.Future[Any]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises OSError if it has none."""
        asked = self._asked.get((host, family))
        if asked is None:
            asked = asyncio.get_running_loop().run_in_executor(self._threads, addresses_of, host, family)
            self._asked[host, family] = asked
            asked.add_done_callback(lambda done: self._forget(host, family, done))
        found = await asyncio.shield(asked)
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=kind, proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address, kind in found
        ]

    def _forget(self, host: str, family: int, done: asyncio.Future[Any]) -> None:
        del self._asked[host, family]
        if not done.cancelled():
            done.exception()  # if everybody who has asked has given up, nobody else looks at it

    async def close(self) -> None:
        """End the threads, when they have ended what they do."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def addresses_of(host: str, family: int = socket.AF_UNSPEC) -> list[tuple[str, int]]:
    """The addresses of a host by the system's resolver, and their families. Blocks. Raises OSError, UnicodeError."""
    found = socket.getaddrinfo(host, None, family=family, type=socket.SOCK_STREAM)
    # Without scope: link-local addresses are refused. Each once, in the resolver's order.
    return list(dict.fromkeys((str(address[0]), kind) for kind, _, _, _, address in found))


class JudgingResolver(AbstractResolver):
    """Another resolver without the addresses that are refused."""

    def __init__(self, resolver: AbstractResolver, judge: Judge):
        self._resolver = resolver
        self._judge = judge

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses that may be used. Raises AddressRefused if there are none of that kind."""
        allowed = [
            found for found in await self._resolver.resolve(host, port, family)
            if judged(self._judge, found["host"], port)
        ]
        if not allowed:
            raise AddressRefused(host)
        return allowed

    async def close(self) -> None:
        """The other resolver is closed by its owner."""


def judged(judge: Judge, address: str, port: int) -> bool:
    """May the present attempt use this address? It is noted if that is an exception."""
    verdict = judge(address, port)
    if verdict.excepted:
        ATTEMPT.get().excepted = True
    return verdict.allowed


@lru_cache(LITERALS)
def is_literal(host: str) -> bool:
    """Is a URL's host an address?"""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class JudgingConnector(TCPConnector):
    """Connections to the receiver of one subscription. ``judge`` None: to a proxy, which is the operator's."""

    def __init__(self, resolver: AbstractResolver, judge: Judge | None, literals: Judge, **options: Any):
        """``literals`` judges hosts that are addresses, also those that a proxy gets to see."""
        self._judge = judge
        self._literals = literals
        self._known: WeakSet[Any] = WeakSet()
        super().__init__(
            resolver=resolver if judge is None else JudgingResolver(resolver, judge),
            socket_factory=None if judge is None else self._socket,
            use_dns_cache=False, limit=0, keepalive_timeout=KEPT_FOR, **options,
        )

    def _socket(self, found: Any) -> socket.socket:
        family, kind, protocol, _, address = found
        if self._judge is None or not judged(self._judge, address[0], address[1]):
            raise AddressRefused(address[0])
        return socket.socket(family, kind, protocol)

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        """A connection for a request that may be sent now. Raises AddressRefused, NotNow, and what aiohttp raises."""
        attempt = ATTEMPT.get()
        host, port = req.url.raw_host, req.url.port
        if is_literal(host) and not judged(self._literals, host, port):
            raise AddressRefused(host)
        if not attempt.may_begin():
            raise NotNow
        connection = await super().connect(req, traces, timeout)
        protocol, transport = connection.protocol, connection.transport
        if transport is None:
            connection.close()
            raise ClientConnectionError("the connection is lost")
        attempt.reused = protocol in self._known
        self._known.add(protocol)
        if self._judge is not None:
            peer = transport.get_extra_info("peername")
            if peer is None or not judged(self._judge, peer[0], peer[1]):
                connection.close()
                raise AddressRefused(host)
        if not attempt.may_begin():
            connection.release()
            raise NotNow
        return connection
