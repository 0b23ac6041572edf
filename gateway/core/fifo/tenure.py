"""A tenure: the time in which this process alone lands and claims messages of a FIFO queue."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.core.errors import CoreError
from gateway.core.lease import LandingLease
from gateway.core.locks import SharedLock
from storage.errors import LeaseLost, StoreError

LOG = logging.getLogger(__name__)


class Tenure:
    """Holds the queue's lock in this process and its landing lease. It may be passed on between threads.

    Raises Busy when others don't let go of them until the deadline (monotonic seconds), and QueueGone.
    """

    def __init__(self, lock: SharedLock, lease: LandingLease, deadline: float):
        lock.acquire(True, max(0.0, deadline - time.monotonic()))
        try:
            lease.take()
        except BaseException:
            lock.release(True)
            raise
        self.lease = lease
        self._lock = lock
        self._begun = time.monotonic()
        self._is_writing = False
        #: Has the lease been given back already?
        self.is_over = False

    @property
    def owner(self) -> str:
        """The name under which the lease is held."""
        return self.lease.owner

    @property
    def lasts(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._begun

    @contextmanager
    def writing(self) -> Iterator[None]:
        """While this lasts something is written under the lease. If it fails, that may still happen later."""
        self._is_writing = True
        try:
            yield
        except StoreError:
            raise
        except BaseException:
            self._is_writing = False
            raise
        self._is_writing = False

    def renew_if_due(self) -> None:
        """Let the lease last for one more write. Raises LeaseLost."""
        if self.lease.is_due and not self.lease.renew():
            raise LeaseLost("the landing lease was over before it was renewed")

    def end(self) -> None:
        """Give both back. Raises nothing: a lease that can't be given back ends by itself."""
        try:
            if not self.is_over:
                self.lease.release()
        except (StoreError, CoreError) as error:  # the latter while the queue moves to another side-store
            LOG.warning("a landing lease stays until its time is over: %s", error)
        finally:
            self._lock.release(True)

    def leave(self) -> None:
        """As ``end``, after a StoreError: a write that may still happen keeps the lease, lest others come before it."""
        if self._is_writing:
            self._lock.release(True)
        else:
            self.end()
