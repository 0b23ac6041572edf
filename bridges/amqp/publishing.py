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

#: Share of the timeout for the first attempt to publish. A second attempt, with the same message ids, gets the rest.
FIRST_TRY = 0.5

#: Shares of the timeout that must be left to begin a publish, and to begin the second attempt. Without the time for a
#: confirm the outcome would be unknown, and the client would send the messages again to a broker that is slow already.
LEAST_LEFT, SECOND_TRY = 0.1, 0.25

#: Routing key on the default exchange that leads to no queue.
NOBODY = "marconi-ping"


class Publishing:
    """Publishes on connections of ``publishers``; ``timeout``: seconds that one call may take. Thread-safe."""

    def __init__(self, publishers: Pool[Publisher], timeout: float):
        self._publishers = publishers
        self._timeout = timeout
        self._sizes = Sizes()

    def publish(
        self, exchange: str, routing_key: str, envelopes: Sequence[Envelope], *, mandatory: bool,
        copies: str | None = None,
    ) -> None:
        """As Bridge.publish, to an exchange, and to exchange ``copies`` if that is given.

        Raises ExchangeMissing, and Unroutable when ``mandatory``; without the exchange ``copies`` nothing is enqueued.
        """
        deadline = time.monotonic() + self._timeout
        self._sizes.check(
            [len(envelope.body) for envelope in envelopes], lambda size: self.publish_to_nobody(size, deadline)
        )
        try:
            self._publish(exchange, routing_key, envelopes, deadline, mandatory, FIRST_TRY, copies)
        except PublishBlocked:
            raise  # so is every other connection, and when the alarm is over each would enqueue what it was sent
        except OutcomeUnknown as unknown:
            if deadline - time.monotonic() < self._timeout * SECOND_TRY:
                raise
            # The same message ids: what arrives twice lands once.
            try:
                self._publish(exchange, routing_key, envelopes, deadline, mandatory, copies=copies)
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
        share: float = 1.0, copies: str | None = None,
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
            publisher.publish(exchange, routing_key, envelopes, until, mandatory, copies)
        except (Unroutable, PropertiesTooLarge, QueueFull):
            self._publishers.put(publisher)
            raise
        except NotFound as error:
            self._publishers.drop(publisher)
            raise ExchangeMissing(exchange if copies is None else f"{exchange or routing_key} or {copies}") from error
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
