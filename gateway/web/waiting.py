"""Requests that wait until there is something to answer: ``?wait=<seconds>`` and ``Prefer: wait=<seconds>``.

Such a request is admitted and parsed once. Each look at the queue is made by a thread of the server, and in between no
thread belongs to it. Who waits, and when it looks again, is decided elsewhere (gateway.stream.waiting).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from gateway.core.errors import InvalidInput
from gateway.observe.logs import REQUEST_ID
from gateway.observe.metrics import WAKES
from gateway.web import query
from gateway.web.call import Call
from gateway.web.operations import TAKING, Answer, Operation

PREFER = "HTTP_PREFER"

#: Longest Prefer header that is read, in characters.
LONGEST = 1000

#: A preference: its name, and its value, which may be quoted; then its parameters (RFC 7240, section 2).
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PREFERENCE = re.compile(
    rf'\s*([^\s=;,"]+)\s*(?:=\s*({_QUOTED}|[^\s;,"]*))?\s*(?:;(?:{_QUOTED}|[^",])*)?(?:,|\Z)'
)
_SECONDS = re.compile(r"[0-9]{1,9}\Z", re.ASCII)


class Wait(NamedTuple):
    """How many seconds to wait at most; ``is_preferred``: the client prefers that, it does not demand it."""

    seconds: int
    is_preferred: bool


def read_wait(call: Call) -> Wait | None:
    """What a request says about waiting; None if it does not wait. The query wins over the header.

    Raises InvalidInput for a parameter that can't be used. A preference that can't be used is ignored, and one for
    more than the service's bound gets the bound (RFC 7240, 2 and 4.3).
    """
    highest = call.core.limits.max_wait
    args = call.args
    if "wait" in args:
        if "ids" in args:
            raise InvalidInput("wait is for messages that may come, and can't be used with ids", query.TITLE)
        seconds = query.integer(args, "wait") or 0
        if not 0 <= seconds <= highest:
            raise InvalidInput(f"wait must be from 0 to {highest} seconds", query.TITLE)
        return Wait(seconds, False) if seconds else None
    if "ids" in args:
        return None
    seconds = min(preferred_wait(call.request.environ.get(PREFER, "")), highest)
    return Wait(seconds, True) if seconds else None


def preferred_wait(header: str) -> int:
    """The seconds of the preference ``wait`` in a Prefer header; 0 if there is none that can be used.

    Of several the first one counts (RFC 7240, section 2).
    """
    at = 0
    while at < len(header) <= LONGEST:
        found = _PREFERENCE.match(header, at)
        if found is None:
            return 0
        if found[1].lower() == "wait":
            value = (found[2] or "").strip('"')
            return int(value) if _SECONDS.match(value) else 0
        at = found.end()
    return 0


class Place(Protocol):
    """A request's place among those who wait. A thread that looks for the request calls the methods.

    ``is_over``: nothing is to be waited for any more, and no look is needed. ``error``: why nobody could look.
    """

    @property
    def is_over(self) -> bool: ...

    @property
    def error(self) -> Exception | None: ...

    def suspend(self) -> bool:
        """After a look that found nothing: suspend the request, which is resumed when there may be something.

        False if it has to be answered now. Raises TooFast.
        """

    def leave(self, found: bool = False, more: bool = False) -> None:
        """The request is answered. ``more``: there may be more messages than it ``found``."""


class Places(Protocol):
    """All places."""

    def enter(
        self, project: str, queue: str, environ: dict[str, Any], seconds: int, takes: bool, again: Callable[[], Any]
    ) -> Place:
        """Take a place before the first look, for so many seconds. ``takes``: what is found is there for nobody else.

        When the request is resumed the application calls ``again``, which makes the answer; see environ.RESUMED.
        """


class WaitingCall:
    """A request that waits, from its first look to its answer.

    ``started``: when the request began (perf_counter). ``request_id`` and ``worked``, the seconds in which a thread
    worked for it, are for its records.
    """

    def __init__(
        self, call: Call, operation: Operation, names: dict[str, str], values: dict[str, Any], wait: Wait,
        places: Places, started: float, resumed: Callable[[WaitingCall], Any],
    ):
        """``resumed``: makes the answer to a request that has been resumed, with ``again``."""
        self.request_id = REQUEST_ID.get()
        self.worked = 0.0
        self._call = call
        self._operation = operation
        self._names = names
        self._values = values
        self._wait = wait
        self._started = started
        self._nothing: Any = None
        self._place = places.enter(
            call.project, names["queue"], call.request.environ, wait.seconds, operation.waits == TAKING,
            lambda: resumed(self),
        )

    def begin(self) -> Answer | None:
        """The answer, or None if the request has been suspended."""
        return self._look()[1]

    def again(self, started: float) -> Answer | None:
        """As ``begin``, when it has been resumed. Raises why it must not wait any longer."""
        self._started = started
        place = self._place
        if place.error is not None:
            place.leave()
            raise place.error.with_traceback(None)  # others raise it too
        if place.is_over:
            place.leave()
            return self._answer(self._nothing)
        found, answer = self._look()
        WAKES.labels("found" if found else "nothing").inc()
        return answer

    def _look(self) -> tuple[bool, Answer | None]:
        """Whether something was found, and the answer."""
        place, values = self._place, self._values
        try:
            found = self._operation.handler(self._call, **self._names, **values)
            if found:
                answer = self._answer(found)
                place.leave(True, more=len(found) >= (values.get("limit") or values.get("pop") or 0))
                return True, answer
            self._nothing = found
            self.worked += perf_counter() - self._started
            if place.suspend():
                return False, None
        except BaseException:
            place.leave()
            raise
        place.leave()
        return False, self._answer(found)

    def _answer(self, value: Any) -> Answer:
        status, document, headers = self._operation.render(self._call, value, **self._names)
        if self._wait.is_preferred:
            headers = {**headers, "Preference-Applied": f"wait={self._wait.seconds}"}
        return status, document, headers
