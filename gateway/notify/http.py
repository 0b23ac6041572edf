"""One request to a receiver: bounded in time and size, without redirects, cookies, decompression or the environment."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pycurl

from gateway.notify.connecting import Judge, NotNow, Resolver, is_literal
from gateway.notify.exchange import Authorities, Exchange
from gateway.notify.settings import HttpSettings
from gateway.notify.transfers import KEPT_FOR, Sockets, Transfers

LOG = logging.getLogger(__name__)

#: Headers of answers that decide what comes next; all that is looked at where tenants must not see the answer.
UNTOLD = ("retry-after", "date", "webhook-delivery", "webhook-allowed-origin", "webhook-allowed-rate")

#: Reasons that would tell tenants whether something listens there.
TELLING = ("timeout", "tls", "response")

#: The class of a failure by libcurl's code, for people and metrics; all others are of the connection.
REASONS = {
    pycurl.E_URL_MALFORMAT: "address",
    pycurl.E_COULDNT_RESOLVE_HOST: "dns",
    pycurl.E_OPERATION_TIMEDOUT: "timeout",
    **dict.fromkeys((
        pycurl.E_SSL_CONNECT_ERROR, pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CERTPROBLEM, pycurl.E_SSL_CIPHER,
        pycurl.E_SSL_CACERT_BADFILE, pycurl.E_SSL_ISSUER_ERROR, pycurl.E_SSL_INVALIDCERTSTATUS,
    ), "tls"),
    **dict.fromkeys((
        pycurl.E_UNSUPPORTED_PROTOCOL, pycurl.E_FTP_WEIRD_SERVER_REPLY, pycurl.E_PARTIAL_FILE,
        pycurl.E_BAD_CONTENT_ENCODING,
    ), "response"),
}

#: What certificates of authorities are called in a folder that OpenSSL looks into one by one.
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+\Z")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt. ``status`` 0: no answer, for the ``reason`` given.

    Reasons: address (refused), dns, connection, tls, timeout, response (an answer that is no HTTP, or too large).
    ``headers`` have names in lower case. ``body``: the first KiB, if it is text and may be shown. ``seconds``: how long
    it took.
    """

    status: int
    seconds: float
    reason: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""


class Sender:
    """Sends for all subscriptions of a process. Belongs to the loop that it is created in."""

    def __init__(self, settings: HttpSettings):
        """Raises OSError if the file of certificate authorities can't be read."""
        self._settings = settings
        self._resolver = Resolver()
        self._authorities = authorities(settings.ca_file)
        self._sockets = Sockets()

    def line(self, judge: Judge) -> Line:
        """The connections of one subscription. ``judge``: which addresses it may use."""
        return Line(self._settings, self._resolver, self._sockets, self._authorities, judge)

    async def close(self) -> None:
        """After all lines."""
        self._sockets.close()
        await self._resolver.close()


def authorities(file: str | None) -> Authorities:
    """Where to find certificates of authorities: in this file, else in the system's. Raises OSError.

    A folder, into which OpenSSL looks for each connection, is better than a file: each subscription would hold that in
    memory.
    """
    if file:
        ssl.create_default_context(cafile=file)
        return [(pycurl.CAPATH, None), (pycurl.CAINFO, file)]
    paths = ssl.get_default_verify_paths()
    is_named = paths.openssl_cafile_env in os.environ  # by the operator
    if paths.capath and not is_named and any(_HASHED.match(found.name) for found in Path(paths.capath).iterdir()):
        return [(pycurl.CAPATH, paths.capath), (pycurl.CAINFO, None)]
    return [(pycurl.CAPATH, paths.capath), (pycurl.CAINFO, paths.cafile)]


class Line:
    """The connections of one subscription: no other uses them, and idle ones are kept for KEPT_FOR seconds."""

    def __init__(
        self, settings: HttpSettings, resolver: Resolver, sockets: Sockets, authorities: Authorities, judge: Judge
    ):
        self._settings = settings
        self._resolver = resolver
        self._authorities = authorities
        self._judge = judge
        self._transfers = Transfers(sockets)
        self._free: list[Exchange] = []
        #: The last URL, its host and port.
        self._target = "", "", 0
        #: About how many connections are kept and not in use, and when the name was resolved last (monotonic seconds).
        self._kept = 0
        self._addresses: Sequence[str] = ()
        self._resolved_at = float("-inf")

    async def send(
        self, url: str, headers: Sequence[tuple[str, str]], body: bytes, may_begin: Callable[[], bool],
        method: str = "POST",
    ) -> Answer:
        """Send a request, all of which takes up to ``request_timeout``. Raises NotNow if ``may_begin`` becomes false.

        An answer whose status came in time counts, however long its body trickles. If the receiver has closed a kept
        connection as the request came, it is sent once more on another.
        """
        exchange = self._free.pop() if self._free else Exchange(self._settings, self._authorities, self._judge)
        exchange.begin(may_begin)
        start = time.monotonic()
        try:
            reason = await self._exchange(exchange, start, may_begin, method, url, headers, body)
            return _answer(exchange, time.monotonic() - start, reason)
        finally:
            self._free.append(exchange)

    async def _exchange(
        self, exchange: Exchange, start: float, may_begin: Callable[[], bool], method: str, url: str,
        headers: Sequence[tuple[str, str]], body: bytes,
    ) -> str:
        """Make it. The reason why there is no answer, empty if there is one."""
        settings = self._settings
        if url != self._target[0]:
            parts = urlsplit(url)
            self._target = url, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        _, host, port = self._target
        literal = is_literal(host)
        if literal and not exchange.judged(host, port):
            return "address"
        if not self._kept and not may_begin():  # asked again before the request is sent
            raise NotNow
        if not literal and settings.proxy is None:
            if not self._kept or start - self._resolved_at >= KEPT_FOR:
                reason = await self._resolve(exchange, host, port)
                if reason:
                    return reason
            exchange.lead(host, port, self._addresses)
        spent = time.monotonic() - start
        exchange.limit(settings.connect_timeout - spent, settings.request_timeout - spent)
        try:
            exchange.prepare(method, url, headers, body)
        except ValueError as error:
            LOG.error("sending failed: %s", error)
            return "request"
        self._kept = max(0, self._kept - 1)
        code = await self._transfers.perform(exchange.curl)
        if exchange.too_late:
            raise NotNow
        if not code and exchange.is_kept:
            self._kept += 1
        return "" if exchange.status else _reason(exchange, code)

    async def _resolve(self, exchange: Exchange, host: str, port: int) -> str:
        """Get the addresses of the host that may be used; why that fails, empty if it does not."""
        try:
            async with asyncio.timeout(min(self._settings.connect_timeout, self._settings.request_timeout)):
                found = await self._resolver.resolve(host)
        except TimeoutError:  # an OSError too
            return "timeout"
        except (OSError, UnicodeError):
            return "dns"
        addresses = [address for address, _ in found if exchange.judged(address, port)]
        if not addresses:
            return "address"
        self._addresses, self._resolved_at = addresses, time.monotonic()
        return ""

    async def close(self) -> None:
        """Close the connections. Tasks of attempts that are under way are to be cancelled."""
        self._transfers.close()
        for exchange in self._free:
            exchange.close()
        self._free.clear()


def _answer(exchange: Exchange, seconds: float, reason: str) -> Answer:
    if exchange.excepted:  # others must not learn what is inside, nor whether a port is open
        kept = {name: value for name, value in exchange.headers.items() if name in UNTOLD}
        return Answer(exchange.status, seconds, "connection" if reason in TELLING else reason, kept)
    text = exchange.kept.decode(errors="replace") if exchange.kept else ""
    if not text.isprintable():
        text = "".join(char for char in text if char.isprintable() or char in "\n\t")
    return Answer(exchange.status, seconds, reason, exchange.headers, text)


def _reason(exchange: Exchange, code: int) -> str:
    """The class of a failure, for people and metrics. Error texts name hosts and addresses: nobody gets to see them."""
    if exchange.refused and not exchange.opened:
        return "address"
    if exchange.too_large:
        return "response"
    return REASONS.get(code, "connection")
