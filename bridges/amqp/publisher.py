"""A connection that publishes, with confirms."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import kombu

from bridges.amqp.connection import Connection
from bridges.amqp.fast_confirms import FastConfirms
from bridges.amqp.wire.encoder import encode
from bridges.base import Envelope
from bridges.errors import BrokerBlocked, OutcomeUnknown, PublishBlocked, QueueFull, Unroutable

#: Reply code of a return that is not for want of a queue.
RESOURCE_ERROR = 506


class Publisher(Connection):
    """Sends one batch at a time, and knows afterwards what became of it.

    A channel that py-amqp has reopened confirms nothing: after a channel error a publisher is of no use any more.
    """

    def __init__(
        self, candidates: Sequence[kombu.Connection], timeout: float, until: float, *, fast_confirms: bool = True
    ):
        self._published = 0
        self._unconfirmed: set[int] = set()
        self._nacked = 0
        self._returned = 0
        super().__init__(candidates, timeout, until)
        self._fast_confirms: FastConfirms | None = None
        if fast_confirms and self._reads_ahead:
            self._fast_confirms = FastConfirms(self._amqp, self.channel.channel_id, self._on_ack)

    def _open_channel(self) -> None:
        super()._open_channel()
        self.channel.confirm_select()
        self.channel.events["basic_ack"].add(self._on_ack)
        self.channel.events["basic_nack"].add(self._on_nack)
        self.channel.events["basic_return"].add(self._on_return)

    def publish(
        self, exchange: str, routing_key: str, envelopes: Sequence[Envelope], deadline: float, mandatory: bool
    ) -> None:
        """Send a batch in one write and wait for all its confirms, till ``deadline`` (monotonic seconds).

        Raises BrokerBlocked, PropertiesTooLarge (nothing is sent then), PublishBlocked, OutcomeUnknown, Unroutable,
        QueueFull, what a connection raises, and amqp's NotFound when there is no such exchange.
        """
        if self.blocked:
            raise BrokerBlocked("the broker takes no messages now: memory or disk alarm")
        frames = encode(
            self.channel.channel_id, exchange, routing_key, self.dialect.outgoing(envelopes), self._amqp.frame_max,
            mandatory,
        )
        first = self._published + 1
        self._published += len(envelopes)
        self._unconfirmed = set(range(first, self._published + 1))
        self._nacked = self._returned = 0
        self.until = deadline
        self._amqp.transport.write(frames)
        self._amqp.bytes_sent += 1  # keeps py-amqp's heartbeat from being sent on top
        try:
            self._await_confirms(deadline)
        finally:
            self.until = None
        if self._returned:
            raise Unroutable(f"{self._returned} of {len(envelopes)} messages")
        if self._nacked:
            total = len(envelopes)
            raise QueueFull(
                f"the broker did not take {self._nacked} of {total} messages: a queue is full, or fails",
                partly=bool(exchange) or self._nacked < total,
            )

    def _await_confirms(self, deadline: float) -> None:
        while self._unconfirmed:
            if self.blocked:
                raise PublishBlocked("the broker has raised a memory or disk alarm")
            left = deadline - time.monotonic()
            if left <= 0:
                raise OutcomeUnknown("the broker has not confirmed in time")
            with suppress(TimeoutError):
                if self._fast_confirms is not None and self._fast_confirms.take():
                    continue
                # A socket that reads ahead ends the wait by itself.
                self._amqp.blocking_read(None if self._reads_ahead else left)

    def _on_ack(self, tag: int, multiple: bool) -> None:
        if multiple:
            self._unconfirmed = {t for t in self._unconfirmed if t > tag}
        else:
            self._unconfirmed.discard(tag)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        # What was published before an alarm may be nacked after it: that is no news of this batch.
        self._nacked += sum(t <= tag if multiple else t == tag for t in self._unconfirmed)
        self._on_ack(tag, multiple)

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        # Broker-J returns what a full queue does not take, too, and nacks it besides.
        self._returned += getattr(error, "reply_code", None) != RESOURCE_ERROR
