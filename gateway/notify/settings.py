"""What the operator says about deliveries."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

from gateway.config.mail import MAILTO, MailSettings
from gateway.config.notifications import Notifications
from gateway.core.subscriptions.subscriber import TRUST

_DEFAULTS = Notifications()

#: Seconds that a delivery waits for a token at most; see gateway.notify.trust_tokens.
TOKEN_TIMEOUT = 5.0


@dataclass(frozen=True)
class HttpSettings:
    """What the operator says in [notification]. Times in seconds, ``max_response_size`` in bytes."""

    connect_timeout: float = 5.0
    request_timeout: float = 15.0
    max_response_size: int = 65536
    proxy: str | None = None
    ca_file: str | None = None


@dataclass(frozen=True)
class DeliverySettings:
    """Options of [notification] that decide how deliveries go. Times in seconds; ``threads`` of each process.

    See the options for what each of them means.
    """

    http: HttpSettings = field(default_factory=HttpSettings)
    threads: int = 10
    max_in_flight: int = _DEFAULTS.max_in_flight
    rate_limit: float = _DEFAULTS.rate_limit
    retry_schedule: tuple[int, ...] = _DEFAULTS.retry_schedule
    max_delivery_age: int = 345600
    retry_after_max: int = 3600
    max_pending: int = 100000
    disable_after: int = 432000
    dead_letter_ttl: int = _DEFAULTS.dead_letter_ttl
    attempt_log: int = 100
    mail: MailSettings = field(default_factory=MailSettings)
    origin: str = ""

    def timeout(self, scheme: str) -> float:
        """Seconds that an attempt to a subscriber of that scheme takes at most."""
        if scheme == MAILTO:
            return self.mail.timeout
        timeout = self.http.request_timeout
        return 2 * (TOKEN_TIMEOUT + timeout) if scheme.startswith(TRUST) else timeout

    @classmethod
    def from_options(cls, conf: Any) -> DeliverySettings:
        """From a configuration (oslo.config). Raises ValueError for a file that can't be read."""
        options = conf.notification
        if options.ca_file:
            try:
                ssl.create_default_context(cafile=options.ca_file)
            except OSError as error:
                why = error.strerror or error
                raise ValueError(f"[notification] ca_file: {options.ca_file} can't be read: {why}") from error
        http = HttpSettings(
            options.connect_timeout, options.request_timeout, options.max_response_size, options.proxy, options.ca_file
        )
        return cls(
            http, options.max_notifier_workers, options.max_in_flight, options.rate_limit,
            tuple(options.retry_schedule), options.max_delivery_age, options.retry_after_max, options.max_pending,
            options.disable_after, options.dead_letter_ttl, options.attempt_log, MailSettings.from_options(conf),
            Notifications.from_options(conf).origin,
        )
