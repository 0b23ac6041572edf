"""Requests that wait, sent from threads of the tests."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import Any

import requests

from functional.api.helpers import claims_path, messages_path
from functional.http import Api
from functional.wait import wait_until

#: Seconds that requests wait, and within which a message must be answered that comes meanwhile: far below the former,
#: and far more than a busy machine needs.
WAIT, SOON = 20, 10.0

#: The calls that may wait, with status and document of an answer with nothing.
CALLS = ("claim", "pop", "list")
NOTHING = {"claim": (204, None), "pop": (200, {"messages": []}), "list": (200, {"messages": [], "links": []})}


def call(api: Api, queue: str, kind: str, wait: int = WAIT, **headers: str) -> requests.Response:
    """Make a call that waits."""
    params: dict[str, Any] = {"wait": wait} if wait else {}
    if kind == "claim":
        return api.post(claims_path(queue), params={"limit": 1, **params}, headers=headers)
    if kind == "pop":
        return api.delete(messages_path(queue), params={"pop": 1, **params}, headers=headers)
    return api.get(messages_path(queue), params={"echo": "true", **params}, headers=headers)


class Waiter:
    """A call in a thread of its own; ``took``: seconds until its answer."""

    def __init__(self, api: Api, queue: str, kind: str, wait: int = WAIT, **headers: str):
        self.kind = kind
        self._future: Future[requests.Response] = Future()
        self._start = self._end = time.monotonic()
        threading.Thread(target=self._run, args=(api, queue, kind, wait), kwargs=headers, daemon=True).start()

    def _run(self, *args: Any, **headers: str) -> None:
        try:
            answer = call(*args, **headers)
        except Exception as error:
            self._future.set_exception(error)
        else:
            self._end = time.monotonic()
            self._future.set_result(answer)

    @property
    def answer(self) -> requests.Response:
        """The answer, once it is there."""
        return self._future.result(60)

    @property
    def is_answered(self) -> bool:
        return self._future.done()

    @property
    def messages(self) -> list[Any]:
        """The messages in the answer."""
        assert self.answer.status_code in (200, 201), self.answer.text
        return list(self.answer.json()["messages"])

    def ended_after(self, moment: float) -> float:
        """Seconds from a moment (monotonic seconds) to the answer."""
        assert self.answer is not None
        return self._end - moment

    def is_nothing(self) -> bool:
        """Is it the answer with nothing?"""
        answer = self.answer
        return (answer.status_code, answer.json() if answer.content else None) == NOTHING[self.kind]


def waiting_at(url: str) -> float:
    """How many requests wait at a gateway, as its metrics say."""
    text = requests.get(f"{url}/metrics", timeout=30).text
    (line,) = [line for line in text.splitlines() if line.startswith("marconi_waiting_requests ")]
    return float(line.split()[1])


def until_waiting(url: str, number: int) -> None:
    """Return when so many requests wait at a gateway."""
    wait_until(lambda: waiting_at(url) == number, 30, f"{number} waiting requests")
