"""Receivers that log what they get, and have bad spells: they fail, reset, hang, or are down for a while."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import ThreadingHTTPServer
from random import Random
from typing import Any

from functional.notify.faults.history import Attempt, NotifyHistory
from functional.notify.receivers import Handler, Request, resets
from functional.services.ports import free_port

#: What receivers do in their bad spells; FAST and SLOW ones have none.
FAST, SLOW, FAILING, RESETTING, HANGING, DOWN = "fast", "slow", "failing", "resetting", "hanging", "down"
NATURES = (FAST, SLOW, FAILING, RESETTING, HANGING, DOWN)

#: Seconds that a slow receiver takes, from and to.
SLOWNESS = 0.1, 0.4

#: Seconds of good and bad spells, from and to.
GOOD, BAD = (3.0, 10.0), (2.0, 6.0)

#: What a failing receiver answers.
FAILURES = (500, 503, 404, 408)

#: Seconds after which a hanging receiver ends a connection that nobody else has ended.
HANGS = 60.0

#: Seconds to get a port again.
BIND_TIMEOUT = 20.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    receiver: Receiver

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that go away are part of the run


class Receiver:
    """A server that is known by its nature."""

    def __init__(self, nature: str, history: NotifyHistory, random: Random) -> None:
        self.nature = nature
        self.is_bad = False
        self._history = history
        self._random = random
        self._port = free_port()
        self._ended = threading.Event()
        self._server = self._listen()
        self._spells = threading.Thread(target=self._live, name=f"receiver-{nature}", daemon=True)
        self._spells.start()

    def url(self, name: str) -> str:
        """Where the subscription of this name is told."""
        return f"http://127.0.0.1:{self._port}/{name}"

    def _listen(self) -> _Server:
        deadline = time.monotonic() + BIND_TIMEOUT
        while True:
            try:
                server = _Server(("127.0.0.1", self._port), Handler)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
                continue
            server.receiver = self
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            return server

    def _live(self) -> None:
        if self.nature in (FAST, SLOW):
            return
        while not self._ended.wait(self._random.uniform(*GOOD)):
            self.is_bad = True
            if self.nature == DOWN:
                self._server.shutdown()
                self._server.server_close()
            self._ended.wait(self._random.uniform(*BAD))
            if self.nature == DOWN:
                self._server = self._listen()
            self.is_bad = False

    def recover(self) -> None:
        """Be good from now on."""
        self._ended.set()
        self._spells.join()

    def close(self) -> None:
        """Listen no more."""
        self.recover()
        self._server.shutdown()
        self._server.server_close()

    # -- what Handler asks for ----------------------------------------------------------------------------------

    def note(self, request: Request) -> None:
        """Nothing: the habit notes more."""

    def habit(self, handler: Handler, request: Request) -> None:
        """Log the request, and answer it as one's mood is."""
        headers = request.headers
        attempt = Attempt(
            request.path.lstrip("/"), self._history.now(),
            self._history.since_began(float(headers["webhook-timestamp"])), headers["webhook-id"],
            headers["webhook-timestamp"], headers.get("webhook-signature", ""), request.attempt,
            request.body.decode(errors="replace"),
        )
        self._history.attempts.append(attempt)
        if self.nature == SLOW:
            time.sleep(self._random.uniform(*SLOWNESS))
        if not self.is_bad:
            self._answer(handler, attempt, 204)
        elif self.nature == FAILING:
            self._answer(handler, attempt, self._random.choice(FAILURES))
        elif self.nature == HANGING:
            _wait_for_end(handler.connection)
            attempt.ended = self._history.now()
            handler.close_connection = True
        else:
            attempt.ended = self._history.now()
            resets(handler, request)

    def _answer(self, handler: Handler, attempt: Attempt, status: int) -> None:
        attempt.ended, attempt.status = self._history.now(), status
        handler.answer(status)


def _wait_for_end(connection: socket.socket) -> None:
    connection.settimeout(HANGS)
    try:
        connection.recv(1)
    except OSError:
        return


@contextmanager
def receiving(history: NotifyHistory, seed: int) -> Iterator[Sequence[Receiver]]:
    """One receiver of each nature."""
    with ExitStack() as stack:
        receivers = []
        for nature in NATURES:
            receivers.append(Receiver(nature, history, Random(f"{seed} {nature}")))
            stack.callback(receivers[-1].close)
        yield receivers
