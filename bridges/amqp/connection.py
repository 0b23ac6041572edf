"""One AMQP connection with one channel, used by one thread at a time.

py-amqp's connections and channels are not thread-safe, so two connections share nothing, and every wait has an end
(sockets.py). A connection is either a Publisher or a Fetcher: an alarm makes RabbitMQ stop reading from connections
that publish, and fetching goes on on the others.
"""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Sequence
from typing import Any

import amqp
import kombu
from amqp.abstract_channel import IGNORED_METHOD_DURING_CHANNEL_CLOSE
from kombu.exceptions import OperationalError

from bridges.amqp.dialects import choose_dialect
from bridges.amqp.refusals import CONNECTION_ERRORS
from bridges.amqp.sockets import LEAST_WAIT, end_waits
from bridges.amqp.wire.frames import readable

#: Exceptions that opening a connection may raise. kombu wraps some of them.
OPEN_ERRORS: tuple[type[Exception], ...] = (*CONNECTION_ERRORS, OperationalError)


def _is_news(record: logging.LogRecord) -> bool:
    """py-amqp warns of each message that arrives while we close its channel; we do that to give messages back."""
    return record.msg != IGNORED_METHOD_DURING_CHANNEL_CLOSE


logging.getLogger("amqp").addFilter(_is_news)


class Connection:
    """``candidates`` are kombu's connections that are not open yet, to brokers of a cluster: the first that opens
    counts.

    ``timeout`` bounds each wait, in seconds. ``until`` (monotonic seconds), where it is set, ends all waits of what is
    done now, however many there are: first of all the opening.
    """

    def __init__(self, candidates: Sequence[kombu.Connection], timeout: float, until: float):
        self.timeout = timeout
        self.until: float | None = until
        #: Whether the broker has told this connection about an alarm that has not ended.
        self.blocked = False
        self._kombu = _first_open(candidates, until)
        self._amqp: amqp.Connection = self._kombu.connection
        self.dialect = choose_dialect(self._amqp.server_properties)
        self._reads_ahead = end_waits(self._amqp.transport, self)
        self._amqp.on_inbound_frame = readable(self._amqp.on_inbound_frame)
        self._amqp.on_blocked = self._on_blocked
        self._amqp.on_unblocked = self._on_unblocked
        self._poll = select.poll()
        self._poll.register(self._amqp.transport.sock, select.POLLIN)
        self._open_channel()

    def _open_channel(self) -> None:
        self.channel: amqp.Channel = self._amqp.channel()
        self.channel.auto_decode = False

    @property
    def is_open(self) -> bool:
        """False when the broker has closed it: some close a connection where others close a channel."""
        return bool(self._amqp.connected)

    def channel_reopened(self) -> None:
        """Call it after a channel error: it closes the channel, and py-amqp has opened it again."""

    def check(self) -> None:
        """Read what has come in meanwhile: a close, a block, heartbeats. Raises if the connection is gone."""
        while (self._reads_ahead and self._amqp.transport._read_buffer) or self._poll.poll(0):
            try:
                self._amqp.drain_events(timeout=0.01)
            except TimeoutError:  # half a frame, or a heartbeat only
                return

    def tick(self) -> None:
        """Keep an idle connection alive. Raises if the connection is gone."""
        self.check()
        self._amqp.heartbeat_tick()

    def close(self) -> None:
        """Close without waiting for the broker; whatever is not acknowledged goes back to its queue."""
        self._kombu.collect(socket_timeout=0.1)

    def _on_blocked(self, reason: str) -> None:
        self.blocked = True

    def _on_unblocked(self) -> None:
        self.blocked = False


def _first_open(candidates: Sequence[kombu.Connection], until: float) -> Any:
    """Open the first connection that can be; none is begun after ``until`` (monotonic seconds)."""
    for candidate in candidates[:-1]:
        try:
            return _opened(candidate, until)
        except OPEN_ERRORS:
            if time.monotonic() >= until:
                raise
    return _opened(candidates[-1], until)


def _opened(candidate: kombu.Connection, until: float) -> kombu.Connection:
    candidate.connect_timeout = max(until - time.monotonic(), LEAST_WAIT)  # type: ignore[assignment]  # kombu says int
    candidate.ensure_connection(max_retries=0, interval_start=0, interval_step=0, interval_max=0)
    return candidate
