"""The handshake by which receivers of CloudEvents agree to be sent something.

Section 4 of HTTP 1.1 Web Hooks for Event Delivery 1.0.2, which also asks for the origin in each delivery:
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateway.core.subscriptions.record import HANDSHAKE, Subscription
from gateway.notify.formats import USER_AGENT, Headers, with_theirs
from gateway.notify.settings import DeliverySettings
from gateway.notify.terms import wanted_rate

METHOD = "OPTIONS"

#: Reason of attempts that were answered without consent.
NO_CONSENT = "no-consent"

#: Messages per minute, as a receiver allows them.
_RATE = re.compile(r"0*[1-9][0-9]{0,8}\Z", re.ASCII)


def headers(subscription: Subscription, settings: DeliverySettings, token: str | None = None) -> Headers:
    """Of the request. ``token``: of Keystone, for ``trust+`` subscribers."""
    own = [
        ("WebHook-Request-Origin", settings.origin), ("User-Agent", USER_AGENT), ("Accept-Encoding", "identity"),
        ("marconi-queue", subscription.source), ("marconi-subscription", subscription.id),
        ("marconi-message-type", HANDSHAKE),
    ]
    if rate := wanted_rate(subscription.options, settings):
        own.append(("WebHook-Request-Rate", str(max(1, int(rate * 60)))))
    if token is not None:
        own.append(("X-Auth-Token", token))
    return with_theirs(own, subscription.options)


def allowed_rate(answer: Mapping[str, str], origin: str) -> int | None:
    """Messages per minute that an answer with these headers allows, 0 for any number; None if it does not consent.

    Its status does not matter.
    """
    agreed = answer.get("webhook-allowed-origin", "").strip().lower()
    if agreed not in ("*", origin.lower()):
        return None
    rate = answer.get("webhook-allowed-rate", "").strip()
    return int(rate) if _RATE.match(rate) else 0
