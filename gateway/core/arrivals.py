"""Arrivals: what makes messages of a queue available in this process tells those who wait for them in this process.

The core does not know who waits, nor how. Messages that become available through other gateways are not told here:
those who wait look for them (gateway.core.glances).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from gateway.core.queues.names import client_project

#: Project and name of a queue, which need not exist.
Key = tuple[str, str]


class Interest:
    """Somebody in this process waits for messages of the queue ``key``. Thread-safe.

    What is told is kept until it is taken, so nothing is lost while those who wait are busy with looking.
    """

    __slots__ = ("key", "told", "users", "_is_heard", "_lock", "_must_look", "_number", "_wake")

    def __init__(self, key: Key, wake: Callable[[Interest], None]):
        self.key = key
        #: How often this queue has been told of; it only grows.
        self.told = 0
        #: How many have asked for it; see Arrivals.listen.
        self.users = 1
        self._lock = threading.Lock()
        self._wake = wake
        self._number = 0
        self._must_look = False
        self._is_heard = False

    def tell(self, number: int) -> None:
        """So many messages are available now; 0: nobody knows whether there are any."""
        with self._lock:
            self.told += 1
            self._number += number
            self._must_look = self._must_look or not number
            is_heard, self._is_heard = self._is_heard, False
        if is_heard:
            self._wake(self)

    def take(self) -> tuple[int, bool]:
        """The messages that were told of since the last call, and whether more may be there.

        When more is told after this, ``wake`` is called, once, in the thread that tells.
        """
        with self._lock:
            number, must_look = self._number, self._must_look
            self._number, self._must_look, self._is_heard = 0, False, True
        return number, must_look


class Arrivals:
    """The interests of a process. Thread-safe. While nobody waits, telling costs one call."""

    def __init__(self) -> None:
        #: By project and name.
        self._interests: dict[str, dict[str, Interest]] = {}
        self._lock = threading.Lock()
        #: Does nobody wait for anything?
        self.is_idle = True
        #: Called with an interest of which there is news, by any thread; set before anybody listens. It must not block.
        self.wake: Callable[[Interest], None] = lambda interest: None

    # -- those who wait -----------------------------------------------------------------------------------------

    def listen(self, project: str, name: str) -> Interest:
        """Have a queue told of from now on; call ``leave`` as often as this."""
        with self._lock:
            self.is_idle = False
            interests = self._interests.setdefault(project, {})
            interest = interests.get(name)
            if interest is None:
                interest = interests[name] = Interest((project, name), lambda interest: self.wake(interest))
            else:
                interest.users += 1
            return interest

    def leave(self, interest: Interest) -> None:
        """The opposite of ``listen``."""
        project, name = interest.key
        with self._lock:
            interest.users -= 1
            if not interest.users:
                del self._interests[project][name]
                if not self._interests[project]:
                    del self._interests[project]
                self.is_idle = not self._interests

    # -- those who tell -----------------------------------------------------------------------------------------

    def tell(self, project: str, name: str, number: int = 1) -> None:
        """About so many messages of a queue have become available, or that many groups of a FIFO queue."""
        if not self.is_idle:
            self._tell(project, name, number)

    def tell_changed(self, project: str, name: str) -> None:
        """The queue was created, changed, deleted or is on its way to another pool: look where its messages are now."""
        if not self.is_idle:
            self._tell(project, name, 0)

    def tell_copied(self, project: str) -> None:
        """Something was posted to a queue or topic of a project that has subscriptions, of which some may be queues.

        Which ones, the poster does not know: those who wait for any queue of the project look.
        """
        if not self.is_idle:
            with self._lock:
                interests = list(self._interests.get(client_project(project), {}).values())
            for interest in interests:
                interest.tell(0)

    def _tell(self, project: str, name: str, number: int) -> None:
        interest = self._interests.get(project, {}).get(name)
        if interest is not None:
            interest.tell(number)
