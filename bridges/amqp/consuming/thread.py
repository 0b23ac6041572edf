"""The thread of one connection: it connects and connects again, and does what other threads ask for meanwhile."""

from __future__ import annotations

import logging
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import amqp

from bridges.amqp.connection import OPEN_ERRORS
from bridges.amqp.consuming.connection import ConsumingConnection
from bridges.amqp.consuming.queue_consumer import QueueConsumer
from bridges.amqp.consuming.wake import Wake
from bridges.amqp.wire.decoder import decode
from bridges.consuming import Delivery

LOG = logging.getLogger(__name__)

#: Seconds before a broken connection is replaced. They double with each failure, up to the longest.
PAUSE, LONGEST_PAUSE = 0.5, 5.0

#: A connection that has lasted so many seconds was a good one: the pauses begin again with the shortest.
LASTS = 10.0

#: Opens a connection: gets its deadline (monotonic seconds), and the last three arguments of ConsumingConnection.
Connect = Callable[
    [float, Wake, Callable[[QueueConsumer, amqp.Message], None], Callable[[str], None]], ConsumingConnection
]


class Tag(NamedTuple):
    """Where a delivery is unsettled. It means nothing any more once the connection is another one."""

    thread: ConsumerThread
    connection: ConsumingConnection
    consumer: QueueConsumer
    number: int


class ConsumerThread:
    """``no_room`` gets this thread and each queue that does not fit on its connection."""

    def __init__(
        self, connect: Connect, timeout: float, arrived: Callable[[Delivery], None],
        no_room: Callable[[ConsumerThread, str], None],
    ):
        """``timeout``: seconds to open a connection."""
        self._connect = connect
        self._timeout = timeout
        self._arrived = arrived
        self._pass_on = no_room
        self._wanted: dict[str, int] = {}
        self._connection: ConsumingConnection | None = None
        self._calls: deque[tuple[Any, ...]] = deque()
        self._wake = Wake()
        self._is_waiting = False
        self._is_closing = False
        #: The last attempt to connect or to consume: it is said once, and when it is over.
        self._has_failed = False
        self._thread = threading.Thread(target=self._run, name="amqp-consumer", daemon=True)
        self._thread.start()

    # -- for other threads --------------------------------------------------------------------------------------

    def add(self, queue: str, most: int) -> None:
        """Consume a queue, with this prefetch."""
        self._call(self._add, queue, most)

    def remove(self, queue: str) -> None:
        """Consume a queue no more."""
        self._call(self._remove, queue)

    def settle(self, tag: Tag) -> None:
        """Acknowledge a message."""
        self._call(self._settle, tag)

    def settle_all(self, tags: Sequence[Tag]) -> None:
        """Acknowledge messages."""
        self._call(self._settle_all, tags)

    def requeue(self, tag: Tag) -> None:
        """Give a message back to its queue."""
        self._call(self._requeue, tag)

    def close(self) -> None:
        """Do what was asked for before, and end. Returns when nothing is handed out any more."""
        self._is_closing = True
        self._wake.set()
        self._thread.join()

    @property
    def is_connected(self) -> bool:
        """Has it a connection?"""
        return self._connection is not None

    def _call(self, *call: Any) -> None:
        self._calls.append(call)
        if self._is_waiting:
            self._is_waiting = False
            self._wake.set()

    # -- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = PAUSE
        while not self._is_closing:
            began = time.monotonic()
            try:
                self._serve()
            except OPEN_ERRORS as error:
                if not self._has_failed:
                    LOG.warning("consuming from the broker has failed, and is tried again: %s", error)
            except Exception:  # it must go on whatever happened once
                LOG.exception("consuming from the broker has failed, and is tried again")
            self._has_failed = True
            self._drop()
            if time.monotonic() - began > LASTS + self._timeout:
                pause = PAUSE
            self._wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        self._wake.close()

    def _serve(self) -> None:
        """Consume until the connection breaks, or close is called."""
        while not self._is_closing:
            self._do_calls()
            if not self._wanted and self._connection is None:
                self._wait(None)
                continue
            if self._connection is None:
                until = time.monotonic() + self._timeout
                self._connection = self._connect(until, self._wake, self._take, self._no_room)
                if self._has_failed:
                    LOG.warning("consuming from the broker goes on")
                self._has_failed = False
                for queue, most in self._wanted.items():
                    self._connection.add(queue, most)
            seconds = self._connection.work()
            self._is_waiting = True
            self._connection.read(0.0 if self._calls or self._is_closing else seconds)
            self._is_waiting = False
        self._do_calls()
        if self._connection is not None:
            self._connection.leave()
            self._connection = None

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _wait(self, seconds: float | None) -> None:
        """Wait, and do what is asked for meanwhile. Without a number: until something is asked for."""
        end = None if seconds is None else time.monotonic() + seconds
        while not self._is_closing:
            self._is_waiting = True
            left = None if end is None else max(0.0, end - time.monotonic())
            if not self._calls and not select.select([self._wake], [], [], left)[0]:
                break
            self._is_waiting = False
            self._wake.clear()
            self._do_calls()
            if end is None:
                break
        self._is_waiting = False

    def _do_calls(self) -> None:
        while self._calls:
            do, *arguments = self._calls.popleft()
            do(*arguments)

    def _add(self, queue: str, most: int) -> None:
        before = self._wanted.get(queue)
        self._wanted[queue] = most
        if self._connection is not None and before != most:
            (self._connection.add if before is None else self._connection.change)(queue, most)

    def _remove(self, queue: str) -> None:
        if self._wanted.pop(queue, None) is not None and self._connection is not None:
            self._connection.remove(queue)

    def _settle(self, tag: Tag) -> None:
        if tag.connection is self._connection:
            self._connection.settle(tag.consumer, tag.number)

    def _settle_all(self, tags: Sequence[Tag]) -> None:
        for tag in tags:
            self._settle(tag)

    def _requeue(self, tag: Tag) -> None:
        if tag.connection is self._connection:
            self._connection.requeue(tag.consumer, tag.number)

    def _take(self, consumer: QueueConsumer, message: amqp.Message) -> None:
        connection = self._connection
        if connection is None or self._is_closing:
            return
        tag = Tag(self, connection, consumer, message.delivery_tag)
        try:
            self._arrived(Delivery(consumer.queue, decode(message, connection.dialect), tag))
        except Exception:  # the next message must come all the same
            LOG.exception("a message of queue %s was handed out and not taken", consumer.queue)

    def _no_room(self, queue: str) -> None:
        del self._wanted[queue]
        self._pass_on(self, queue)
