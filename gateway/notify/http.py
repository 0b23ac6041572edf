"""One request to a receiver: bounded in time and size, without redirects, cookies, decompression or the environment."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from gateway.notify.connecting import (
    ATTEMPT,
    AddressRefused,
    Attempt,
    Judge,
    JudgingConnector,
    NotNow,
    Resolver,
)
from gateway.notify.settings import HttpSettings

LOG = logging.getLogger(__name__)

#: Bytes of the status line and headers of an answer; of one line of them; and how many headers.
LARGEST_HEAD = 16 * 1024
LARGEST_LINE = 8 * 1024
MOST_HEADERS = 100

#: Bytes of an answer's body that are kept for the owner of the subscription.
KEPT_BODY = 1024

#: Media types, beside text/…, whose body is shown to people.
TEXTUAL = ("application/json", "application/problem+json", "application/xml", "application/x-www-form-urlencoded")

#: Headers of answers that decide what comes next; all that is looked at where tenants must not see the answer.
UNTOLD = ("retry-after", "date", "webhook-delivery", "webhook-allowed-origin", "webhook-allowed-rate")

#: Reasons that would tell tenants whether something listens there.
TELLING = ("timeout", "tls", "response")

#: Bytes that are read at once.
PIECE = 16 * 1024


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
        self._tls = ssl.create_default_context(cafile=settings.ca_file)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._cookies = aiohttp.DummyCookieJar()

    def line(self, judge: Judge) -> Line:
        """The connections of one subscription. ``judge``: which addresses it may use."""
        return Line(self._settings, self._resolver, self._tls, self._cookies, judge)

    async def close(self) -> None:
        """After all lines."""
        await self._resolver.close()


class Line:
    """The connections of one subscription: no other uses them, and idle ones are kept for KEPT_FOR seconds."""

    def __init__(
        self, settings: HttpSettings, resolver: Resolver, tls: ssl.SSLContext, cookies: Any, judge: Judge
    ):
        self._settings = settings
        self._session = aiohttp.ClientSession(
            connector=JudgingConnector(resolver, None if settings.proxy else judge, judge, ssl=tls),
            cookie_jar=cookies,
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
            timeout=aiohttp.ClientTimeout(total=None, connect=settings.connect_timeout),
            max_line_size=LARGEST_LINE,
            max_field_size=LARGEST_LINE,
            max_headers=MOST_HEADERS,
        )

    async def send(
        self, url: str, headers: Sequence[tuple[str, str]], body: bytes, may_begin: Callable[[], bool],
        method: str = "POST",
    ) -> Answer:
        """Send a request, all of which takes up to ``request_timeout``. Raises NotNow if ``may_begin`` becomes false.

        An answer whose status came in time counts, however long its body trickles.
        """
        attempt = Attempt(may_begin)
        token = ATTEMPT.set(attempt)
        start = time.monotonic()
        deadline = asyncio.get_running_loop().time() + self._settings.request_timeout
        try:
            status, answer_headers, text, reason = await self._tried_twice(
                attempt, method, url, headers, body, deadline
            )
        finally:
            ATTEMPT.reset(token)
        seconds = time.monotonic() - start
        if attempt.excepted:  # others must not learn what is inside, nor whether a port is open
            kept = {name: value for name, value in answer_headers.items() if name in UNTOLD}
            return Answer(status, seconds, "connection" if reason in TELLING else reason, kept)
        return Answer(status, seconds, reason, answer_headers, text)

    async def _tried_twice(
        self, attempt: Attempt, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes,
        deadline: float,
    ) -> tuple[int, Mapping[str, str], str, str]:
        """Once more on a new connection, if a kept one was closed by the receiver when the request came."""
        for _ in range(2):
            answer = _Partial()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._exchange(answer, method, url, headers, body)
            except NotNow:
                raise
            except Exception as error:
                if answer.status:  # it was given, and only its body is late or broken
                    break
                answer.reason = _reason(error)
                if attempt.reused and isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
                    continue
            break
        return answer.status, answer.headers, answer.text, answer.reason

    async def _exchange(
        self, answer: _Partial, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> None:
        async with self._session.request(
            method, URL(url, encoded=True), data=body, headers=CIMultiDict(headers), allow_redirects=False,
            proxy=self._settings.proxy,
        ) as response:
            try:
                head = len(response.reason or "") + sum(
                    len(name) + len(value) + 4 for name, value in response.raw_headers
                )
                if head > LARGEST_HEAD:
                    raise aiohttp.ClientPayloadError("the headers are too large")
                answer.headers = {name.lower(): value for name, value in response.headers.items()}
                answer.status = response.status
                textual = response.content_type.startswith("text/") or response.content_type in TEXTUAL
                size = 0
                while piece := await response.content.read(PIECE):
                    if textual and size < KEPT_BODY:
                        answer.kept += piece[:KEPT_BODY - size]
                    size += len(piece)
                    if size >= self._settings.max_response_size:
                        break
                else:
                    return  # all of it is read, so the connection can be used again
            except BaseException:
                response.close()
                raise
            response.close()

    async def close(self) -> None:
        """Close the connections; no attempt may be under way."""
        await self._session.close()


@dataclass(slots=True)
class _Partial:
    """An answer as far as it has come."""

    status: int = 0
    reason: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    kept: bytes = b""

    @property
    def text(self) -> str:
        """What is kept of the body, without control characters."""
        text = self.kept.decode(errors="replace")
        return "".join(char for char in text if char.isprintable() or char in "\n\t")


def _reason(error: Exception) -> str:
    """The class of a failure, for people and metrics. Error texts name hosts and addresses: nobody gets to see them."""
    if isinstance(error, (AddressRefused, aiohttp.InvalidURL)):
        return "address"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns"
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return "tls"
    if isinstance(error, (aiohttp.ServerDisconnectedError, OSError)):
        return "connection"
    if isinstance(error, (aiohttp.ClientPayloadError, aiohttp.ClientResponseError)):
        return "response"
    if not isinstance(error, aiohttp.ClientError):
        LOG.error("sending failed: %s", type(error).__name__, exc_info=error)
    return "connection"
