"""Delivers notifications beside whatever else a process does: a thread with a loop, once there is a subscription."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.core.core import Core
from gateway.core.subscriptions.addresses import Rules
from gateway.loops import new_loop
from gateway.notify.settings import DeliverySettings

if TYPE_CHECKING:  # it needs an HTTP client, which nobody imports who delivers nothing
    from gateway.notify.serving import Serving

LOG = logging.getLogger(__name__)

#: Seconds that the thread is waited for at the end: longer than it waits for attempts under way.
ENDING = 15.0


class Notifier:
    """``tend`` is called from time to time; until it finds a subscription there is no thread.

    ``make_rules``: which addresses may be used; it may block. ``fetch_token``: see gateway.notify.trust_tokens.
    """

    def __init__(
        self, core: Core, settings: DeliverySettings, make_rules: Callable[[], Rules],
        fetch_token: Callable[[str], tuple[str, float]] | None = None,
    ):
        self._core = core
        self._settings = settings
        self._make_rules = make_rules
        self._fetch_token = fetch_token
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._serving: Serving | None = None
        self._is_closed = False

    def tend(self) -> None:
        """Start if there has ever been a subscription. Raises StoreError."""
        if not self._runs and not self._is_closed and self._core.subscription_records.version():
            self.start()

    @property
    def _runs(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start, unless it runs or has been closed."""
        with self._lock:
            if not self._runs and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="notifier", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(self._serve())
        except Exception:
            LOG.exception("delivering notifications has failed, and begins again")

    async def _serve(self) -> None:
        from gateway.notify.serving import Serving

        rules = await asyncio.to_thread(self._make_rules)
        serving = Serving(self._core, self._settings, rules, self._fetch_token)
        with self._lock:
            self._loop, self._serving = asyncio.get_running_loop(), serving
            if self._is_closed:
                serving.stop()
        await serving.run()

    def close(self) -> None:
        """Begin no more attempts, and return when those under way have ended or were given up."""
        with self._lock:
            self._is_closed = True
            if self._loop is not None and self._serving is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._serving.stop)
            thread = self._thread
        if thread is not None:
            thread.join(ENDING)
