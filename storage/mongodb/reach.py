"""Whether MongoDB can be reached, as far as the calls of this process have found out; and the time that a call has.

Requests must not all wait for a server that is not there, and one command that is slow must not stop the others. So:

* *Down*: the driver has found no server to send a command to. One call at a time goes on trying, the others fail at
  once.
* *Suspect*: an answer did not come in time, and no other call got one while that one waited. The next call asks the
  server first, with a command that costs nothing, and finds out which of the two it is; the others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pymongo
from pymongo.errors import NetworkTimeout, PyMongoError, ServerSelectionTimeoutError

from storage.errors import StoreUnavailable

#: Part of the timeout that a server gets to answer the question whether it is there.
ASKING = 0.5

#: Characters of the driver's error texts that are of use: it appends the state of the whole topology.
MAX_ERROR = 300


class Reach:
    """``ask`` sends the command that costs nothing."""

    def __init__(self, timeout: float, ask: Callable[[], object]):
        """``timeout``: seconds that a whole call may take."""
        self._timeout = timeout
        self._ask = ask
        self._trial = threading.Lock()
        self._down: str | None = None
        self._suspect = False
        self._answers = 0
        self._own = threading.local()

    @property
    def down(self) -> str | None:
        """Why no server can be reached; None if one can be, for all that is known."""
        return self._down

    @property
    def left(self) -> float:
        """Seconds that are left of the call that this thread is in."""
        return float(getattr(self._own, "until", time.monotonic() + self._timeout) - time.monotonic())

    @contextmanager
    def call(self, most: float | None = None) -> Iterator[None]:
        """A call, or a part of one: all commands inside have one time limit. ``most``: seconds, if fewer than usual.

        Raises StoreUnavailable for whatever the driver raises.
        """
        if hasattr(self._own, "until"):
            yield
            return
        trying = (self._down is not None or self._suspect) and self._trial.acquire(blocking=False)
        if self._down is not None and not trying:
            raise StoreUnavailable(self._down)
        limit = self._timeout if most is None else max(0.0, min(most, self._timeout))
        before = self._answers
        self._own.until = time.monotonic() + limit
        try:
            with pymongo.timeout(limit or 0.001):  # 0 is no limit at all to the driver
                if trying:
                    self._find_out()
                yield
            self._answers += 1
            self._down = None
        except PyMongoError as error:
            self._learn(error, before)
            raise StoreUnavailable(text_of(error)) from error
        finally:
            del self._own.until
            if trying:
                self._trial.release()

    def _find_out(self) -> None:
        """Is there a server that answers at all?"""
        try:
            with pymongo.timeout(self._timeout * ASKING):
                self._ask()
        except PyMongoError as error:
            if error.timeout:
                self._down = text_of(error)
            raise
        self._answers += 1
        self._down = None
        self._suspect = False

    def _learn(self, error: PyMongoError, before: int) -> None:
        if isinstance(error, ServerSelectionTimeoutError):
            self._down = text_of(error)
        elif isinstance(error, NetworkTimeout) and self._answers == before:
            self._suspect = True


def text_of(error: PyMongoError) -> str:
    """An error of the driver, for the log and the answer."""
    return f"MongoDB: {type(error).__name__}: {str(error)[:MAX_ERROR]}"
