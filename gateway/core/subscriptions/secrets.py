"""The secrets of subscriptions as their owners see, set and rotate them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.core.errors import Busy, InvalidInput
from gateway.core.subscriptions import webhook_secrets
from gateway.core.subscriptions.live import LiveSubscriptions
from gateway.core.subscriptions.record import Secret, Subscription

#: Seconds for which the last secret goes on signing, if the request does not say, and at most.
KEPT_FOR, MOST_KEPT = 86400, 30 * 86400

#: Secrets that sign at the same time: each is a signature in a header.
MOST_SECRETS = 5


class SubscriptionSecrets:
    """Deliveries bear a signature by each secret that is valid."""

    def __init__(self, live: LiveSubscriptions):
        self._live = live

    def get(self, project: str, source: str, id_: str) -> str:
        """The newest secret. Raises NotFound, and Busy if this gateway lacks the key that it is encrypted with."""
        found = self._live.get(project, source, id_)
        if not found.secrets:
            raise Busy(f"The secret of subscription {id_} can't be decrypted by this gateway")
        return found.secrets[0].text

    def put(self, project: str, source: str, id_: str, secret: Any) -> None:
        """Set a secret in place of all others. Raises NotFound and InvalidInput."""
        try:
            checked = webhook_secrets.check(secret)
        except ValueError as error:
            raise InvalidInput(str(error)) from None
        self._change(project, source, id_, lambda current: (Secret(checked),))

    def rotate(self, project: str, source: str, id_: str, keep: int | None) -> str:
        """Make a new secret, and return it; the last one is valid for ``keep`` seconds more. Raises as get."""
        kept_for = KEPT_FOR if keep is None else keep
        if not 0 <= kept_for <= MOST_KEPT:
            raise InvalidInput(f"'keep' must be from 0 to {MOST_KEPT} seconds")
        self.get(project, source, id_)
        new = Secret(webhook_secrets.make())

        def secrets(current: Subscription) -> tuple[Secret, ...]:
            now = self._live.now()
            until = now + kept_for * 1000
            old = [
                replace(secret, until=min(secret.until or until, until)) for secret in current.valid_secrets(now)
            ] if kept_for else []
            return (new, *old)[:MOST_SECRETS]

        self._change(project, source, id_, secrets)
        return new.text

    def _change(self, project: str, source: str, id_: str, secrets: Any) -> None:
        found = self._live.get(project, source, id_)
        self._live.change(found, lambda current: replace(current, secrets=secrets(current)))
