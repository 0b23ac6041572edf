"""Messages of many streams as they come, over two connections."""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator

from bridges.consuming import Consumer, Delivery
from bridges.redis.feeds import Feeds, Tag
from bridges.redis.handing import Former, Handing
from bridges.redis.link import Link
from bridges.redis.pool import OPEN_FAILURES
from bridges.redis.refusals import failure
from bridges.redis.scripts import HOLDER
from bridges.redis.session import LINKS, Session
from bridges.redis.wake import Wake

LOG = logging.getLogger(__name__)

#: Seconds until it connects again after a failure: the first time, and at most.
FIRST_WAIT, LONGEST_WAIT = 0.5, 5.0

#: Earlier sessions of which what they held is given back; what others held comes back after the lease.
REMEMBERED = 10

#: Seconds that may pass until all is given back at the end; at worst the lease does it.
ENDING = 2.0


class RedisConsumer(Consumer):
    """``arrived`` gets each message; ``key_of`` gives the stream of a queue; ``open_link`` opens a link, and gets a
    deadline (monotonic seconds); ``lease``: seconds after which others get what a dead consumer held; ``timeout``:
    seconds for one call to Redis.

    One thread talks to Redis, from the first queue on. What it holds unsettled is renewed as long as it lives.
    """

    def __init__(
        self, arrived: Callable[[Delivery], None], key_of: Callable[[str], str], open_link: Callable[[float], Link],
        lease: float, timeout: float,
    ):
        self._arrived = arrived
        self._key_of = key_of
        self._open_link = open_link
        self._lease = lease
        self._timeout = timeout
        self._feeds = Feeds()
        self._wake = Wake()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._token = secrets.token_hex(8)
        self._count = itertools.count()
        self._former: list[Former] = []
        self._said = ""
        self._is_connected = False

    def add(self, queue: str, most: int) -> None:
        self._feeds.add(queue, self._key_of(queue), max(1, most))
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="redis-consumer", daemon=True)
                self._thread.start()
        self._wake.set()

    def remove(self, queue: str) -> None:
        if self._feeds.remove(self._key_of(queue)):
            self._wake.set()

    def settle(self, delivery: Delivery) -> None:
        tag: Tag = delivery.tag
        if self._feeds.settle(tag):
            self._wake.set()

    def requeue(self, delivery: Delivery) -> None:
        tag: Tag = delivery.tag
        if self._feeds.requeue(tag):
            self._wake.set()

    def connections(self) -> int:
        return LINKS if self._is_connected else 0

    def close(self) -> None:
        self._feeds.close()
        self._closed.set()
        self._wake.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(ENDING)

    # -- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        wait = FIRST_WAIT
        while not self._closed.is_set():
            if self._serve():
                wait, self._said = FIRST_WAIT, ""
            self._closed.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT)
        self._wake.close()

    def _serve(self) -> bool:
        """Hand out messages until it fails, or is to end; whether there was anything before it failed."""
        worked = False
        try:
            for _ in self._rounds():
                worked = True
        except OPEN_FAILURES as error:
            if (text := str(failure(error))) != self._said:
                LOG.warning("consuming from Redis failed, and is tried again: %s", text)
                self._said = text
        except Exception:  # a thread that ended would hand out nothing for good
            LOG.exception("consuming from Redis failed, and is tried again")
        return worked

    def _rounds(self) -> Iterator[None]:
        """Each round over one session. Raises FAILURES and BridgeError."""
        # With the process id, as a process that is forked off has the same token and count.
        name = f"{HOLDER}{self._token}-{os.getpid()}-{next(self._count)}"
        session = Session(self._open_link, name, self._lease, self._timeout)
        self._is_connected = True
        try:
            self._feeds.begin()
            handing = Handing(session, self._feeds, self._arrived, self._wake, self._lease, self._former)
            while not self._closed.is_set():
                handing.round()
                yield
            session.timeout = min(session.timeout, ENDING)
            handing.end()
        except BaseException:
            self._former.append(Former(name, frozenset(self._feeds.keys())))
            del self._former[:-REMEMBERED]
            raise
        finally:
            self._is_connected = False
            session.close()
