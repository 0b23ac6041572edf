"""The way into the broker: publishes within a deadline, tried twice where that is safe."""

from __future__ import annotations

import time
from collections.abc import Sequence

from amqp.exceptions import NotFound

from bridges.amqp.pool import Pool
from bridges.amqp.publisher import Publisher
from bridges.amqp.refusals import CONNECTION_ERRORS, refusal
from bridges.amqp.sizes import Sizes
from bridges.base import Envelope
from bridges.errors import (
    BridgeUnavailable,
    BrokerBlocked,
    ExchangeMissing,
    MessageTooLarge,
    OutcomeUnknown,
    PropertiesTooLarge,
    PublishBlocked,
    QueueFull,
    Unroutable,
)

#: Share of the timeout that the first try to publish gets; a second one with the same message ids has the rest.
FIRST_TRY = 0.5

#: Shares of the timeout that must be left for a publish to begin, and for a second try: what is sent without the time
#: to be confirmed has an unknown outcome, is sent again by the client, and adds to what the broker is slow with.
LEAST_LEFT, SECOND_TRY = 0.1, 0.25

#: Routing key on the default exchange that leads to no queue.
NOBODY = "marconi-ping"


class Publishing:
    """Publishes on connections of ``publishers``; ``timeout``: seconds that one call may take. Thread-safe."""

    def __init__(self, publishers: Pool[Publisher], timeout: float):
        self._publishers = publishers
        self._timeout = timeout
        self._sizes = Sizes()

    def publish(self, exchange: str, routing_key: str, envelopes: Sequence[Envelope], *, mandatory: bool) -> None:
        """As Bridge.publish, to an exchange. Raises ExchangeMissing, and Unroutable when ``mandatory``."""
        deadline = time.monotonic() + self._timeout
        self._sizes.check(
            [len(envelope.body) for envelope in envelopes], lambda size: self.publish_to_nobody(size, deadline)
        )
        try:
            self._publish(exchange, routing_key, envelopes, deadline, mandatory, FIRST_TRY)
        except PublishBlocked:
            raise  # so is every other connection, and when the alarm is over each would enqueue what it was sent
        except OutcomeUnknown as unknown:
            if deadline - time.monotonic() < self._timeout * SECOND_TRY:
                raise
            # The same message ids: what arrives twice lands once.
            try:
                self._publish(exchange, routing_key, envelopes, deadline, mandatory)
            except QueueFull as error:  # the first copy may be in another queue, or in this one
                raise QueueFull(str(error)) from error
            except BridgeUnavailable as error:
                raise unknown from error

    def publish_to_nobody(self, size: int, deadline: float) -> None:
        """Publish a message of ``size`` bytes that reaches no queue, and is confirmed all the same."""
        try:
            self._publish("", NOBODY, [Envelope(bytes(size))], deadline, mandatory=False)
        except PublishBlocked as error:
            raise BrokerBlocked(str(error)) from error
        except OutcomeUnknown as error:
            raise BridgeUnavailable(str(error)) from error

    def _publish(
        self, exchange: str, routing_key: str, envelopes: Sequence[Envelope], deadline: float, mandatory: bool,
        share: float = 1.0,
    ) -> None:
        """Publish, and wait for confirms for a ``share`` of the timeout, till ``deadline`` (monotonic seconds).

        Its waits before it sends count, too. Raises OutcomeUnknown only when it has sent something.
        """
        latest = deadline - self._timeout * LEAST_LEFT
        publisher = self._publishers.take(latest)
        now = time.monotonic()
        if now > latest:
            self._publishers.put(publisher)
            raise BridgeUnavailable("no connection to the broker was free in time; nothing was sent")
        until = min(deadline, now + self._timeout * share)
        try:
            publisher.publish(exchange, routing_key, envelopes, until, mandatory)
        except (Unroutable, PropertiesTooLarge, QueueFull):
            self._publishers.put(publisher)
            raise
        except NotFound as error:
            self._publishers.drop(publisher)
            raise ExchangeMissing(exchange) from error
        except CONNECTION_ERRORS as error:
            self._publishers.drop(publisher)
            if (refused := refusal(error)) is not None:
                if isinstance(refused, MessageTooLarge):
                    self._sizes.learn(refused)
                    refused.partly = len(envelopes) > 1
                raise refused from error
            raise OutcomeUnknown(f"the connection to the broker broke before it confirmed: {error}") from error
        except BridgeUnavailable:
            if publisher.blocked:  # keep it: it knows of the alarm, and of its end
                self._publishers.put(publisher)
            else:
                self._publishers.drop(publisher)
            raise
        except BaseException:
            self._publishers.drop(publisher)
            raise
        self._publishers.put(publisher)
