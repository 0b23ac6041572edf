"""Asking Sentinels which server is the master now."""

from __future__ import annotations

import time
from collections.abc import Callable

from bridges.addresses import Address
from bridges.errors import BridgeError, BridgeUnavailable, BrokerRefused
from bridges.redis.link import FAILURES, Link
from bridges.redis.refusals import failure

#: Share of the time that is left which one Sentinel gets, so that others can be asked, and Redis be connected to.
EACH = 0.4


class Sentinels:
    """``addresses`` of Sentinels that know a ``service``; ``open_link`` opens a link to one until a deadline."""

    def __init__(self, addresses: tuple[Address, ...], service: str, open_link: Callable[[Address, float], Link]):
        self._addresses = list(addresses)
        self._service = service
        self._open_link = open_link

    def master(self, until: float) -> Address:
        """The master's address, as the first Sentinel says that answers. Raises BridgeUnavailable.

        ``until``: monotonic seconds.
        """
        why: BridgeError | None = None
        for address in list(self._addresses):
            now = time.monotonic()
            try:
                found = self._ask(address, now + (until - now) * EACH)
            except FAILURES as error:
                why = failure(error)
                continue
            if found is None:
                why = BrokerRefused(
                    f"Sentinel {address} knows no master {self._service!r}; correct the name after the Sentinels in"
                    " [bridge] uri"
                )
                continue
            if self._addresses[0] != address:  # it is asked first from now on
                self._addresses = [address, *(other for other in self._addresses if other != address)]
            return found
        if why is None:
            raise BridgeUnavailable("there was no time left to ask a Sentinel")
        raise type(why)(f"no Sentinel has told where the master is: {why}")

    def _ask(self, address: Address, until: float) -> Address | None:
        link = self._open_link(address, until)
        try:
            found = link.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
        finally:
            link.close()
        return None if found is None else Address(found[0].decode(), int(found[1]))
