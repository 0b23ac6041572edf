"""Links in mails: to a page that asks for a confirmation, and to end a subscription."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from gateway.config.mail import MailSettings
from gateway.core.subscriptions.confirming import Confirmations
from gateway.core.subscriptions.record import CONFIRMATION, Subscription

#: The gateway's own page.
PAGE = "/v2/confirm"

#: What stays as it is in the values of parameters, besides letters and digits: existing pages take them undecoded.
_SAFE = "/:"

#: What makes the page end a subscription.
UNSUBSCRIBE = "&Action=unsubscribe"


class MailLinks:
    """``confirmations``: the core's, which sign."""

    def __init__(self, settings: MailSettings, confirmations: Confirmations):
        self._external = settings.external_url
        self._own = settings.public_url and settings.public_url + PAGE
        self._confirmations = confirmations

    def confirm(self, document: Mapping[str, Any]) -> str:
        """The link for a request to confirm; empty without an external page and without a public URL, which may also
        be that of the request.
        """
        page = self._external or self._own
        if not page and (url := document.get("WSGISubscribeURL")):
            page = url.removesuffix(document["URL-Paths"]) + PAGE
        return page and _link(page, document)

    def unsubscribe(self, subscription: Subscription) -> str:
        """The link that ends a subscription; empty if nothing can be signed, or our public URL is not configured."""
        if not self._own or not self._confirmations.can_sign:
            return ""
        document = self._confirmations.document(subscription, CONFIRMATION, subscription.expires)
        return _link(self._own, document) + UNSUBSCRIBE


def _link(page: str, document: Mapping[str, Any]) -> str:
    """With names and order of parameters as in OpenStack Zaqar."""
    values = (
        ("Signature", document["URL-Signature"]),
        ("Methods", document["URL-Methods"]),
        ("Paths", document["URL-Paths"]),
        ("Project", document["X-Project-ID"]),
        ("Expires", document["URL-Expires"]),
        ("Url", document.get("WSGISubscribeURL", "")),
        ("Queue", document["queue_name"]),
    )
    query = "&".join(f"{name}={quote(value, safe=_SAFE)}" for name, value in values)
    return f"{page}{'&' if '?' in page else '?'}{query}"
