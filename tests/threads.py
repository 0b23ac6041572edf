"""A call that runs beside a test. For calls that start at the same moment, the drivers' suites have `together`."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

#: Seconds after which a test that waits for a thread fails; far more than a slow machine needs.
DEADLINE = 30.0


def in_background(call: Callable[[], Any]) -> "Future[Any]":
    """Start a call; ask the future for its result, with a deadline."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
