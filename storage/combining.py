"""Calls that several threads make at the same moment, made as one: what waits for a disk costs the same for many."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from storage.errors import StoreError, StoreUnavailable

#: Part of the timeout that work gets at the least: who has waited for all of it has had bad luck enough.
AT_LEAST = 0.1

T = TypeVar("T")
R = TypeVar("R")


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
    """Has one thread do what it and others want, while whoever comes in between waits to be in the next batch.

    So nobody waits for company, and a batch is as large as the store is slow. Of each ``key`` one batch is done at a
    time, by ``work``: it gets at most ``most`` items and returns their results in the same order; a result that is a
    StoreError is raised for its item. What ``work`` raises is raised for all of them.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R | StoreError]], timeout: float, most: int = 16):
        """``timeout``: seconds that a thread may wait and work; ``work`` asks how many are ``left`` of them."""
        self._work = work
        self._timeout = timeout
        self._most = most
        self._mutex = threading.Lock()
        self._own = threading.local()
        #: Who waits, by key; a key is there as long as a thread does a batch of it.
        self._lines: dict[Hashable, list[_Ticket[T, R]]] = {}

    @property
    def left(self) -> float:
        """Seconds that are left for the work that this thread does, of the one who has waited longest for it."""
        until = getattr(self._own, "until", None)
        return self._timeout if until is None else max(float(until - time.monotonic()), AT_LEAST * self._timeout)

    def do(self, item: T, key: Hashable = None) -> R:
        """The result for an item. Raises what ``work`` raises, and StoreUnavailable after too long a wait."""
        ticket: _Ticket[T, R] = _Ticket(item, time.monotonic() + self._timeout)
        with self._mutex:
            line = self._lines.get(key)
            if line is None:
                self._lines[key] = []
                ticket.batch = [ticket]
            else:
                line.append(ticket)
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
                self._lines[key].remove(ticket)
                raise StoreUnavailable(f"the side-store has been busy for {self._timeout} s with what others wanted")
        ticket.called.acquire()  # it is in a batch by now, which has an end of its own

    def _lead(self, batch: list[_Ticket[T, R]], key: Hashable) -> None:
        """Do a batch, and have one of those who wait do the next."""
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
                line = self._lines[key]
                following, self._lines[key] = line[:self._most], line[self._most:]
                if not following:
                    del self._lines[key]
            if following:
                following[0].batch = following
                following[0].called.release()
            for ticket in batch:
                ticket.error = error or ticket.error
            for ticket in batch[1:]:
                ticket.batch = None
                ticket.called.release()
