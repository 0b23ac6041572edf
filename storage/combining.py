"""Calls of several threads at the same moment, combined into one: a wait for a disk costs the same for many."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from storage.errors import StoreError, StoreUnavailable

#: Share of the timeout that work gets even if its thread has spent the whole timeout waiting.
AT_LEAST = 0.1

T = TypeVar("T")
R = TypeVar("R")


class WaitedTooLong(StoreUnavailable):
    """A thread has waited for others until its time was up. Nothing was done for it."""


class _Ticket(Generic[T, R]):
    """A thread's part. ``called`` is released when it is done, or when the thread has to do a ``batch``."""

    __slots__ = ("item", "called", "batch", "result", "error", "until")

    def __init__(self, item: T, until: float):
        self.item = item
        self.until = until
        self.called = threading.Lock()
        self.called.acquire()
        self.batch: list[_Ticket[T, R]] | None = None
        self.result: R | None = None
        self.error: StoreError | None = None


class Combiner(Generic[T, R]):
    """One thread does the work for itself and for others; threads that come meanwhile wait for the next batch.

    So no thread waits for company, and batches grow as the store gets slower. Batches are done by ``work``: it gets up
    to ``most`` items and returns their results in the same order; a result that is a StoreError is raised for its
    item. What ``work`` raises is raised for all items of the batch.

    Of each ``key`` up to ``alone`` threads do their own item each, side by side. When there are more, up to
    ``together`` batches at a time carry all that wait.
    """

    def __init__(
        self, work: Callable[[Sequence[T]], Sequence[R | StoreError]], timeout: float, most: int = 16, alone: int = 1,
        together: int = 1,
    ):
        """``timeout``: seconds that a thread may wait and work; ``work`` can ask how many are ``left``."""
        self._work = work
        self._timeout = timeout
        self._most = most
        self._alone = alone
        self._together = together
        self._mutex = threading.Lock()
        self._own = threading.local()
        #: By key: batches that are being done, and threads that wait.
        self._busy: dict[Hashable, int] = {}
        self._lines: dict[Hashable, list[_Ticket[T, R]]] = {}

    @property
    def left(self) -> float:
        """Seconds left for the work that this thread does, counted for the thread that has waited longest for it."""
        until = getattr(self._own, "until", None)
        return self._timeout if until is None else max(float(until - time.monotonic()), AT_LEAST * self._timeout)

    def do(self, item: T, key: Hashable = None) -> R:
        """The result for an item. Raises what ``work`` raises, and WaitedTooLong."""
        ticket: _Ticket[T, R] = _Ticket(item, time.monotonic() + self._timeout)
        with self._mutex:
            busy, line = self._busy.get(key, 0), self._lines.get(key)
            if line is not None:
                line.append(ticket)
            elif busy < self._alone:
                self._busy[key] = busy + 1
                ticket.batch = [ticket]
            else:
                self._lines[key] = [ticket]
        if ticket.batch is None:
            self._wait(ticket, key)
        if ticket.batch is not None:
            self._lead(ticket.batch, key)
        if ticket.error is not None:
            raise type(ticket.error)(str(ticket.error)) from ticket.error
        return ticket.result  # type: ignore[return-value]

    def _wait(self, ticket: _Ticket[T, R], key: Hashable) -> None:
        if ticket.called.acquire(timeout=self._timeout):
            return
        with self._mutex:
            if ticket in self._lines.get(key, ()):
                self._keep(key, [other for other in self._lines[key] if other is not ticket])
                raise WaitedTooLong(f"the side-store has been busy for {self._timeout} s with what others wanted")
        ticket.called.acquire()  # it is in a batch by now, which ends by itself

    def _keep(self, key: Hashable, line: list[_Ticket[T, R]]) -> None:
        """Let these wait, and no others."""
        if line:
            self._lines[key] = line
        else:
            del self._lines[key]

    def _lead(self, batch: list[_Ticket[T, R]], key: Hashable) -> None:
        """Do a batch, then let a waiting thread do the next one."""
        error: StoreError | None = StoreUnavailable("another request broke off what it did for this one too")
        self._own.until = batch[0].until
        try:
            results = self._work([ticket.item for ticket in batch])
            for ticket, result in zip(batch, results, strict=True):
                if isinstance(result, StoreError):
                    ticket.error = result
                else:
                    ticket.result = result
            error = None
        except StoreError as failure:
            error = failure
        finally:
            with self._mutex:
                busy, following = self._busy[key] - 1, self._lines.get(key)
                if following is not None and busy < self._together:
                    busy += 1
                    self._keep(key, following[self._most:])
                    following = following[:self._most]
                else:
                    following = None
                if busy:
                    self._busy[key] = busy
                else:
                    del self._busy[key]
            if following:
                following[0].batch = following
                following[0].called.release()
            for ticket in batch:
                ticket.error = error or ticket.error
            for ticket in batch[1:]:
                ticket.batch = None
                ticket.called.release()
