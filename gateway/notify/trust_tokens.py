"""Tokens for the trusts of ``trust+`` subscriptions, which deliveries carry. They are in no log and no error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from cachetools import TLRUCache

from gateway.core.subscriptions.trusts import NoToken
from gateway.notify.clock import elapsed
from gateway.notify.http import Answer
from gateway.notify.settings import TOKEN_TIMEOUT

LOG = logging.getLogger(__name__)

#: Seconds before its end from which on a token is used no more.
MARGIN = 60.0

#: Threads that wait for the identity service, and tokens that are kept.
THREADS = 2
MOST = 10_000

#: Reason of attempts that had no token.
IDENTITY = "identity"

#: Gets a token for the trust with this id, and the seconds until it expires. Blocks. Raises NoToken.
FetchToken = Callable[[str], tuple[str, float]]


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    good_until: float


class TrustTokens:
    """All methods belong to the loop. ``fetch`` None: there is no identity service, and so no token."""

    def __init__(self, fetch: FetchToken | None):
        self._fetch = fetch
        self._known: TLRUCache[str, _Token] = TLRUCache(MOST, lambda _, token, now: token.good_until, elapsed)
        self._coming: dict[str, asyncio.Task[_Token]] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="notify-identity")

    async def send(self, trust_id: str | None, send: Callable[[str], Awaitable[Answer]]) -> Answer:
        """The answer to what is sent with a token for a trust: once more with a new one if it was not accepted.

        The answer has no body: a receiver may have put the token into it.
        """
        try:
            token = await self._get(trust_id)
            answer = await send(token.text)
            if answer.status == 401 and trust_id is not None:
                if self._known.get(trust_id) is token:
                    del self._known[trust_id]
                answer = await send((await self._get(trust_id)).text)
        except NoToken as error:
            LOG.warning("trust %s: %s", trust_id, error)
            return Answer(0, 0.0, IDENTITY)
        return replace(answer, body="")

    async def _get(self, trust_id: str | None) -> _Token:
        if trust_id is None or self._fetch is None:
            raise NoToken("there is no identity service" if trust_id else "the subscription has none")
        known: _Token | None = self._known.get(trust_id)
        if known is not None:
            return known
        coming = self._coming.get(trust_id)
        if coming is None:
            coming = self._coming[trust_id] = asyncio.create_task(self._fetched(trust_id))
            coming.add_done_callback(lambda task: self._came(trust_id, task))
        try:
            async with asyncio.timeout(TOKEN_TIMEOUT):
                return await asyncio.shield(coming)  # others wait for it, too
        except TimeoutError:
            raise NoToken(f"there has been no token within {TOKEN_TIMEOUT:.0f} s") from None

    async def _fetched(self, trust_id: str) -> _Token:
        assert self._fetch is not None  # nosec B101  # nobody asks otherwise
        try:
            text, seconds = await asyncio.get_running_loop().run_in_executor(self._threads, self._fetch, trust_id)
        except NoToken:
            raise
        except Exception as error:  # of one trust: it must not hold up others
            raise NoToken(f"getting a token has failed: {type(error).__name__}") from error
        token = _Token(text, elapsed() + seconds - MARGIN)
        self._known[trust_id] = token
        return token

    def _came(self, trust_id: str, task: asyncio.Task[_Token]) -> None:
        del self._coming[trust_id]
        if not task.cancelled():
            task.exception()  # those who have waited know of it

    def close(self) -> None:
        """Get no more tokens."""
        self._threads.shutdown(wait=False, cancel_futures=True)
