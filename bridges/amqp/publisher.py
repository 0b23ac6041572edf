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

#: Reply code of a returned message if the reason is something else than a missing queue.
RESOURCE_ERROR = 506


class Publisher(Connection):
    """Sends one batch at a time, and knows afterwards what became of it.

    A channel that py-amqp has reopened confirms nothing: after a channel error a publisher is of no use any more.
    """

    def __init__(
        self, candidates: Sequence[kombu.Connection], timeout: float, until: float, *, fast_confirms: bool = True
    ):
        self._unconfirmed: set[int] = set()
        self._nacked = 0
        self._returned = 0
        self._is_stopped = False
        self._reads_fast = fast_confirms
        super().__init__(candidates, timeout, until)

    def _open_channel(self) -> None:
        super()._open_channel()
        self._published = 0
        self._fast_confirms: FastConfirms | None = None
        if self._reads_fast and self._reads_ahead:
            self._fast_confirms = FastConfirms(self._amqp, self.channel.channel_id, self._on_ack)
        self.channel.confirm_select()
        self.channel.events["basic_ack"].add(self._on_ack)
        self.channel.events["basic_nack"].add(self._on_nack)
        self.channel.events["basic_return"].add(self._on_return)

    def check(self) -> None:
        """As in Connection. The broker may have stopped the channel (channel.flow): then it gets a new one.

        A channel is stopped because one queue is too long, which need not be the next one's; or, as new ones are then,
        too, because the broker is short of something, which is ``blocked``. Broker-J closes a channel that goes on.
        """
        super().check()
        if self._is_stopped:
            if self.channel.active:
                self._is_stopped = self.blocked = False
        elif not self.channel.active:
            self.channel.close()
            self._open_channel()
            self._is_stopped = self.blocked = not self.channel.active

    def publish(
        self, exchange: str, routing_key: str, envelopes: Sequence[Envelope], deadline: float, mandatory: bool,
        copies: str | None = None,
    ) -> None:
        """Send a batch in one write and wait for all its confirms, till ``deadline`` (monotonic seconds).

        ``copies``: an exchange that gets all of it, too, and first: if it is missing the channel is closed before
        anything is enqueued. Nobody need be bound to it.

        Raises BrokerBlocked, PropertiesTooLarge (nothing is sent then), PublishBlocked, OutcomeUnknown, Unroutable,
        QueueFull, what a connection raises, and amqp's NotFound when there is no such exchange.
        """
        if self.blocked:
            raise BrokerBlocked("the broker takes no messages now: memory or disk alarm")
        outgoing = self.dialect.outgoing(envelopes)
        frames = encode(
            self.channel.channel_id, exchange, routing_key, outgoing, self._amqp.frame_max, mandatory
        )
        total = len(envelopes)
        if copies is not None:
            frames = encode(self.channel.channel_id, copies, "", outgoing, self._amqp.frame_max, False) + frames
            total *= 2
        first = self._published + 1
        self._published += total
        self._unconfirmed = set(range(first, self._published + 1))
        self._nacked = self._returned = 0
        self.until = deadline
        self._amqp.transport.write(frames)
        self._amqp.bytes_sent += 1  # keeps py-amqp's heartbeat from being sent on top
        try:
            self._await_confirms(deadline)
            if self._nacked and mandatory and self.dialect.returns_follow_nacks:
                self.channel.confirm_select()  # changes nothing; the returns are there when it is answered
        finally:
            self.until = None
        if self._returned:
            raise Unroutable(f"{self._returned} of {len(envelopes)} messages")
        if self._nacked:
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
