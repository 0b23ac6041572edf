"""A call that runs beside a test. For calls that start at the same moment, the drivers' suites have `together`."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

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


def replace_sleep(patch: pytest.MonkeyPatch, module: ModuleType, sleep: Callable[[float], Any]) -> None:
    """Have one module call this in place of time.sleep. To replace that itself would reach all modules and threads."""
    patch.setattr(module, "time", SimpleNamespace(**vars(time) | {"sleep": sleep}))
