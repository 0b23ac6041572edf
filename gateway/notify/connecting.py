"""Who may be connected to: names are resolved here, for each connection anew, and each address is judged.

An address is judged when it is resolved, when a socket is made for it, and once more for each request when its
connection is ready: see gateway.notify.exchange. So whatever finds an address, no byte goes to a refused one.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from ipaddress import ip_address

from gateway.core.subscriptions.addresses import Verdict

#: Whether an address (as text, and a port) may be connected to.
Judge = Callable[[str, int], Verdict]

#: Addresses of a host, and their families.
Addresses = Sequence[tuple[str, int]]

#: Threads that resolve names in one process. Each waits for a name server for some seconds at worst.
RESOLVING = 32

#: Hosts of which it is remembered whether they are addresses.
LITERALS = 4096


class NotNow(Exception):
    """The attempt must not begin any more: the subscription has changed while it connected."""


class Resolver:
    """The system's resolver, in threads of its own. Callers that ask for the same name at once share an answer."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVING, thread_name_prefix="resolve")
        self._asked: dict[str, asyncio.Future[Addresses]] = {}

    async def resolve(self, host: str) -> Addresses:
        """The addresses of a host. Raises OSError, UnicodeError if it has none."""
        asked = self._asked.get(host)
        if asked is None:
            loop = asyncio.get_running_loop()
            asked = self._asked[host] = loop.run_in_executor(self._threads, addresses_of, host)
            asked.add_done_callback(lambda done: self._forget(host, done))
        return await asyncio.shield(asked)

    def _forget(self, host: str, done: asyncio.Future[Addresses]) -> None:
        del self._asked[host]
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


@lru_cache(LITERALS)
def is_literal(host: str) -> bool:
    """Is a URL's host an address?"""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
