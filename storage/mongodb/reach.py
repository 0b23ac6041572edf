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
from collections.abc import Callable
from types import TracebackType

import pymongo
from pymongo.errors import NetworkTimeout, PyMongoError, ServerSelectionTimeoutError

from storage.errors import StoreUnavailable

#: Share of the timeout in which a server must answer when we check whether it is up.
ASKING = 0.5

#: How many characters of the driver's error texts we keep. After these comes the state of the whole topology.
MAX_ERROR = 300


class _Own(threading.local):
    """When the call ends that a thread is in."""

    until: float | None = None


class Reach:
    """``ask`` sends the command that costs nothing; ``prepare`` is done in the first call that reaches the server."""

    def __init__(self, timeout: float, ask: Callable[[], object], prepare: Callable[[], None] = lambda: None):
        """``timeout``: seconds that a whole call may take."""
        self.timeout = timeout
        self._ask = ask
        self.prepare = prepare
        self.prepared = False
        #: Held by the thread that checks whether a server is up.
        self.trial = threading.Lock()
        #: Why no server can be reached; None if one was reachable at the last check.
        self.down: str | None = None
        self.suspect = False
        #: How many calls were answered.
        self.answers = 0
        self.own = _Own()

    @property
    def left(self) -> float:
        """Seconds that are left of the call that this thread is in."""
        until = self.own.until
        return self.timeout if until is None else until - time.monotonic()

    def call(self, most: float | None = None) -> Call:
        """A call, or a part of one: all commands inside have one time limit. ``most``: seconds, if fewer than usual.

        Raises StoreUnavailable for whatever the driver raises.
        """
        return Call(self, self.timeout if most is None else min(most, self.timeout))

    def find_out(self) -> None:
        """Is there a server that answers at all? Raises PyMongoError."""
        try:
            with pymongo.timeout(self.timeout * ASKING):
                self._ask()
        except PyMongoError as error:
            if error.timeout:
                self.down = text_of(error)
            raise
        self.answers += 1
        self.down = None
        self.suspect = False

    def learn(self, error: PyMongoError, before: int) -> None:
        """A call has failed before which there were so many answers."""
        if isinstance(error, ServerSelectionTimeoutError):
            self.down = text_of(error)
        elif isinstance(error, NetworkTimeout) and self.answers == before:
            self.suspect = True


class Call:
    """What Reach.call returns. No generator, which costs twice as much, and each request has some of these."""

    __slots__ = ("_reach", "_limit", "_inner", "_trying", "_before", "_driver")

    def __init__(self, reach: Reach, limit: float):
        self._reach = reach
        self._limit = max(limit, 0.001)  # 0 is no limit at all to the driver

    def __enter__(self) -> None:
        reach = self._reach
        self._inner = reach.own.until is not None
        if self._inner:
            return
        self._trying = (reach.down is not None or reach.suspect) and reach.trial.acquire(blocking=False)
        if reach.down is not None and not self._trying:
            raise StoreUnavailable(reach.down)
        self._before = reach.answers
        reach.own.until = time.monotonic() + self._limit
        self._driver = pymongo.timeout(self._limit)
        self._driver.__enter__()
        if self._trying or not reach.prepared:
            try:
                if self._trying:
                    reach.find_out()
                if not reach.prepared:
                    reach.prepare()
                    reach.prepared = True
            except BaseException as error:
                self.__exit__(type(error), error, error.__traceback__)
                raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._inner:
            return
        reach = self._reach
        self._driver.__exit__(kind, error, traceback)
        reach.own.until = None
        if error is None:
            reach.answers += 1
            reach.down = None
        elif isinstance(error, PyMongoError):
            reach.learn(error, self._before)
        if self._trying:
            reach.trial.release()
        if isinstance(error, PyMongoError):
            raise StoreUnavailable(text_of(error)) from error


def text_of(error: PyMongoError) -> str:
    """An error of the driver, for the log and the answer."""
    return f"MongoDB: {type(error).__name__}: {str(error)[:MAX_ERROR]}"
