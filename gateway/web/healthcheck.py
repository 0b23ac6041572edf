"""``GET /healthcheck``: can this gateway do its work? For load balancers and orchestrators, which send no headers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from gateway.environ import DRAINING
from gateway.web.errors import Answer, Unready

LOG = logging.getLogger(__name__)

#: Seconds for which an answer of a dependency counts: however many ask, it is asked once in that time.
FRESH = 1.0

#: Seconds that one request waits for a dependency; less than Kubernetes' own limit of one.
PATIENCE = 0.8

#: Seconds for which a dependency that was well is taken to be so while it is asked again.
TRUSTED = 5.0


class Dependency:
    """Something that must answer. It is asked in a thread of its own, one at a time: it may hang."""

    def __init__(self, name: str, ping: Callable[[], object]):
        self.name = name
        self._ping = ping
        self._lock = threading.Lock()
        self._asking = False
        self._answered = threading.Event()
        self._well = False
        self._at = float("-inf")

    def ask(self) -> float:
        """Ask unless the last answer still counts or somebody is asking; seconds that it is worth to wait."""
        with self._lock:
            if time.monotonic() - self._at < FRESH:
                return 0.0
            if self._asking:  # one waits, the others hear what was known; there is nothing of that at first
                return 0.0 if self._at > 0 else PATIENCE
            self._asking = True
            self._answered.clear()
        threading.Thread(target=self._run, name=f"healthcheck-{self.name}", daemon=True).start()
        return PATIENCE

    def is_well(self, wait: float) -> bool:
        """Did it answer, not too long ago? Waits so many seconds for the answer at most."""
        self._answered.wait(wait)
        with self._lock:
            return self._well and time.monotonic() - self._at < (TRUSTED if self._asking else FRESH + PATIENCE)

    def _run(self) -> None:
        well = False
        try:
            self._ping()
            well = True
        except Exception as error:  # whatever it is, it does not work
            if self._well or self._at < 0:  # once, and not at each check
                LOG.warning("healthcheck: %s: %s", self.name, error)
        finally:
            with self._lock:
                self._well, self._at, self._asking = well, time.monotonic(), False
            self._answered.set()


class Healthcheck:
    """The broker and the side-store."""

    def __init__(self, core: Any):
        self._dependencies = (
            Dependency("message broker", core.pool.bridge.ping), Dependency("side-store", core.pool.store.ping)
        )

    def answer(self, environ: dict[str, Any]) -> Answer:
        """200, or 503 with the reason."""
        if DRAINING in environ:
            raise Unready("This gateway is about to end.")
        waits = [dependency.ask() for dependency in self._dependencies]
        until = time.monotonic() + max(waits)
        down = [
            dependency.name for dependency in self._dependencies
            if not dependency.is_well(max(0.0, until - time.monotonic()))
        ]
        if down:
            raise Unready(f"No answer from the {' and the '.join(down)}.")
        return 200, b"OK", {"Content-Type": "text/plain; charset=utf-8"}
