"""One attempt now, for an owner who tests a subscription: the same rules as for others, and nothing is repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import uuid4

from gateway.config.mail import MAILTO
from gateway.core.core import Core
from gateway.core.subscriptions import subscriber
from gateway.core.subscriptions.addresses import Rules
from gateway.core.subscriptions.record import Subscription
from gateway.core.subscriptions.testing import Tested
from gateway.notify.formats import TEST
from gateway.notify.mail_limit import MailLimit
from gateway.notify.settings import DeliverySettings
from storage.model import Message


class Tester:
    """Sends with a loop and connections of its own, in the thread that asks. ``rules``: of the addresses.

    ``fetch_token``: see gateway.notify.trust_tokens.
    """

    def __init__(
        self, core: Core, settings: DeliverySettings, rules: Callable[[], Rules],
        fetch_token: Callable[[str], tuple[str, float]] | None = None,
    ):
        self._core = core
        self._settings = settings
        self._rules = rules
        self._fetch_token = fetch_token
        self._limit = MailLimit(settings.mail.per_hour)

    def send(self, subscription: Subscription, body: bytes) -> Tested:
        """Send a body once, within ``request_timeout``, or ``smtp_timeout`` for mail; see also trust_tokens.

        Raises OSError if the file of authorities can't be read.
        """
        return asyncio.run(self._send(subscription, body))

    async def _send(self, subscription: Subscription, body: bytes) -> Tested:
        # Not before it is needed: it imports an HTTP client.
        from gateway.notify.attempts import Tried, attempt
        from gateway.notify.http import Sender
        from gateway.notify.item import Item
        from gateway.notify.mail import Mailer
        from gateway.notify.trust_tokens import TrustTokens

        project, source = subscription.project, subscription.source
        info = self._core.directory.find(project, source) or self._core.directory.expected(project, source)
        now = self._core.now()
        message = Message(f"test-{uuid4()}", now, now + info.settings.default_ttl * 1000, body)
        item = Item(message, message.expires, TEST, body=body)

        async def by_mail() -> Tried:
            mailer = Mailer(self._settings.mail, self._core.confirmations, 1, self._limit)
            try:
                return await mailer.attempt(subscription, info, item, self._core.now, lambda: True)
            finally:
                mailer.close()

        async def by_http() -> Tried:
            rules = self._rules()
            sender = Sender(self._settings.http)
            parsed = subscriber.parse(subscription.subscriber)
            plain = parsed.scheme == "http"
            line = sender.line(lambda address, port: rules.judge(address, port, parsed.trust, plain))
            tokens = TrustTokens(self._fetch_token) if parsed.trust else None
            try:
                return await attempt(
                    line, parsed.url, subscription, info, item, self._settings, self._core.now, lambda: True, tokens
                )
            finally:
                if tokens is not None:
                    tokens.close()
                await line.close()
                await sender.close()

        tried = await (by_mail() if subscription.scheme == MAILTO else by_http())
        answer = tried.answer
        return Tested(answer.status, round(answer.seconds, 3), tried.outcome.reason, answer.body)
