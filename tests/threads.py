"""Threads of a test: they start together, and all of them are over when the test goes on."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

#: Seconds after which a test that waits for a thread fails; far more than a slow machine needs.
DEADLINE = 30.0


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Run the calls at the same moment, each in a thread of its own; their results, or what one of them raised."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait(DEADLINE)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(DEADLINE) for future in [pool.submit(run, call) for call in calls]]


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
