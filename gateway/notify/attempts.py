"""One attempt: the request for a message, signed now, and what the receiver made of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from gateway.core.queues.info import QueueInfo
from gateway.core.subscriptions.record import HANDSHAKE, Subscription
from gateway.core.subscriptions.trusts import TRUST_ID
from gateway.notify import handshake, signing
from gateway.notify.formats import Content, Target, build, webhook_id
from gateway.notify.http import Answer, Line
from gateway.notify.item import Item
from gateway.notify.outcomes import Kind, Outcome, failure, judge
from gateway.notify.settings import DeliverySettings
from gateway.notify.trust_tokens import TrustTokens

LOG = logging.getLogger(__name__)

#: Reason of attempts that could not be signed, since another gateway has the key to the secret.
NO_KEY = "no_key"


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of an attempt, and when it began (ms).

    ``allowed_rate``: the receiver has agreed to be sent so many messages a minute, 0 for any number; None if it has
    not, or was not asked.
    """

    outcome: Outcome
    answer: Answer
    at: int
    allowed_rate: int | None = None


async def attempt(
    line: Line, url: str, subscription: Subscription, info: QueueInfo, item: Item, settings: DeliverySettings,
    now: Callable[[], int], may_begin: Callable[[], bool], tokens: TrustTokens | None = None,
) -> Tried:
    """Send a message once. ``info``: the source as it is now; ``now``: the side-store's clock, in ms.

    ``tokens``: for a receiver that gets a token. Raises NotNow if ``may_begin`` becomes false before anything is sent.
    """
    at = now()
    if subscription.locked is not None and not subscription.secrets:
        return Tried(failure(NO_KEY), Answer(0, 0.0, NO_KEY), at)
    if tokens is not None and settings.http.proxy and url.startswith("http:"):
        # Nobody knows which address the proxy would send the token to.
        return Tried(failure("address"), Answer(0, 0.0, "address"), at)

    asks = item.kind == HANDSHAKE

    async def send(token: str | None = None) -> Answer:
        try:
            if asks:
                headers, body = handshake.headers(subscription, settings, token), b""
            else:
                headers, body = request(subscription, info, item, at, token, settings.origin)
        except Exception as error:  # of one message and one subscription: it must not hold up others
            LOG.error("subscription %s: no request can be made: %s", subscription.name, type(error).__name__)
            return Answer(0, 0.0, "request")
        return await line.send(url, headers, body, may_begin, handshake.METHOD if asks else "POST")

    answer = await (send() if tokens is None else tokens.send(subscription.options.get(TRUST_ID), send))
    if asks and (rate := handshake.allowed_rate(answer.headers, settings.origin)) is not None:
        return Tried(Outcome(Kind.DELIVERED), answer, at, rate)
    if not answer.status:
        return Tried(failure(answer.reason), answer, at)
    client_errors = subscription.options.get("_retry_client_errors") is not False
    outcome = judge(
        answer.status, answer.headers, now(), retry_after_max=settings.retry_after_max, client_errors=client_errors
    )
    if asks and outcome.kind is Kind.DELIVERED:
        outcome = failure(handshake.NO_CONSENT)
    return Tried(outcome, answer, at)


def request(
    subscription: Subscription, info: QueueInfo, item: Item, at: int, token: str | None = None, origin: str = ""
) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body of the attempt at the time ``at`` (ms). ``origin``: our name, for receivers that agree to it."""
    message = item.message
    content = Content(
        message.id, item.body, item.ttl, message.posted, info.settings.default_delay or None, item.properties
    )
    target = Target(subscription.source, subscription.id, subscription.options, subscription.source_path)
    agreed = origin if subscription.shakes_hands else None
    headers, body = build(content, target, item.attempt, item.kind, replay=item.replay, token=token, origin=agreed)
    secrets = [secret.text for secret in subscription.valid_secrets(at)]
    return [*headers, *signing.headers(webhook_id(message.id, item.kind), at // 1000, body, secrets)], body
