"""Drives the connections of one process of the load, all in one thread."""

from __future__ import annotations

import heapq
import selectors
import time
from dataclasses import dataclass

from gateway.bench.client import ERROR_PAUSE, Client, Job, Pause, Reply, Request, Steps, reply_to
from gateway.bench.outcome import LOST, NO_CONNECTION, TIMEOUT, UNREADABLE, Operation, Outcome
from gateway.bench.wire import Address, Answer, BadAnswer, Connection, SocketAddress

#: Seconds between two checks for requests that have waited longer than the timeout.
TIMEOUT_CHECK_INTERVAL = 0.25

#: Bytes of an unexpected answer that its error message quotes.
QUOTED_BYTES = 300


@dataclass(frozen=True)
class Window:
    """When a task begins and what is measured, in seconds of the monotonic clock, which all processes share.

    ``measure`` to ``end`` is measured; before it the servers warm up. A generator stops at its own end, or at ``end``
    after the request that is on its way, or the last of those that belong together (``Request.more``).
    """

    begin: float
    measure: float
    end: float


@dataclass(frozen=True)
class Task:
    """What one process does: a generator of requests per connection. ``timeout``: seconds to wait for an answer."""

    address: Address
    clients: tuple[tuple[Job, Client], ...]
    window: Window
    timeout: float


class _ClientState:
    """The state of one client: its generator, its connection, the request on its way, and the reply to hand over."""

    def __init__(self, steps: Steps):
        self.steps = steps
        self.connection: Connection | None = None
        self.request: Request | None = None
        self.reply: Reply | None = None
        self.sent = 0.0


class Driver:
    """Runs a task in the calling thread: many connections, each with one request at a time."""

    def __init__(self, task: Task):
        self._task = task
        self._window = task.window
        self._outcome = Outcome()
        self._selector = selectors.DefaultSelector()
        self._pauses: list[tuple[float, int, _ClientState]] = []
        self._busy: set[_ClientState] = set()
        self._socket_address: SocketAddress | None = None

    def run(self) -> Outcome:
        """Run until all generators have ended, or until the window has ended and no request is on its way."""
        states = [_ClientState(job(client)) for job, client in self._task.clients]
        for number, state in enumerate(states):
            heapq.heappush(self._pauses, (self._window.begin, number, state))
        cpu_at_start = cpu_at_end = None
        next_check = 0.0
        while self._pauses or self._busy:
            now = time.monotonic()
            if cpu_at_start is None and now >= self._window.measure:
                cpu_at_start = time.process_time()
            if now >= self._window.end:
                cpu_at_end = cpu_at_end or time.process_time()
                self._pauses.clear()
            while self._pauses and self._pauses[0][0] <= now:
                self._next_step(heapq.heappop(self._pauses)[2])
            if now >= next_check:
                next_check = now + TIMEOUT_CHECK_INTERVAL
                self._fail_late_requests(now)
            for key, _ in self._selector.select(self._time_to_wait(now)):
                self._handle_event(key.data)
        for state in states:
            state.steps.close()
            if state.connection:
                state.connection.close()
        self._selector.close()
        self._account(cpu_at_start, cpu_at_end)
        return self._outcome

    def _account(self, start: float | None, end: float | None) -> None:
        """Note the client's own CPU time inside the window; it stays 0 if all generators ended before that."""
        if start is not None:
            self._outcome.cpu = (end or time.process_time()) - start
            self._outcome.busy = self._outcome.cpu / max(1e-9, self._window.end - self._window.measure)

    def _time_to_wait(self, now: float) -> float:
        """Seconds until something must be done even if no answer arrives."""
        due = min(TIMEOUT_CHECK_INTERVAL, self._pauses[0][0] - now if self._pauses else TIMEOUT_CHECK_INTERVAL)
        if now < self._window.end:
            due = min(due, self._window.end - now)
        return max(0.0, due)

    def _next_step(self, state: _ClientState) -> None:
        """Ask a generator for its next step, and begin it."""
        reply, state.reply = state.reply, None
        try:
            step = state.steps.send(reply)  # type: ignore[arg-type]
        except StopIteration:
            return
        if isinstance(step, Pause):
            # The id keeps the heap from comparing states whose times are equal.
            heapq.heappush(self._pauses, (time.monotonic() + step.seconds, id(state), state))
        else:
            self._send(state, step)

    def _send(self, state: _ClientState, request: Request) -> None:
        state.request = request
        state.sent = time.monotonic()
        self._busy.add(state)
        try:
            if state.connection is None:
                state.connection = self._connect()
                self._selector.register(state.connection, selectors.EVENT_WRITE, state)
            else:
                state.connection.send(request.data)
        except OSError as error:
            self._fail(state, LOST if state.connection else NO_CONNECTION, str(error))

    def _connect(self) -> Connection:
        if self._socket_address is None:
            self._socket_address = SocketAddress.of(self._task.address)
        return Connection(self._task.address, self._socket_address)

    def _handle_event(self, state: _ClientState) -> None:
        """Handle an event of a connection."""
        if state.connection is None:  # dropped earlier in this round
            return
        if state.connection.established:
            self._read(state, state.connection)
            return
        try:
            state.connection.establish()
            self._selector.modify(state.connection, selectors.EVENT_READ, state)
            assert state.request is not None  # nosec B101
            state.connection.send(state.request.data)
        except OSError as error:
            self._fail(state, NO_CONNECTION, str(error))

    def _read(self, state: _ClientState, connection: Connection) -> None:
        try:
            answer = connection.receive()
        except (OSError, BadAnswer) as error:
            if state.request is None:
                self._drop(state)  # servers may close idle connections
                self._outcome.reconnects += 1
            else:
                self._fail(state, LOST, str(error))
            return
        if answer is not None:
            self._take(state, answer)

    def _take(self, state: _ClientState, answer: Answer) -> None:
        request = state.request
        if request is None:
            self._drop(state)  # nobody asked: a later answer could be matched to the wrong request
            return
        now = time.monotonic()
        if answer.closes:
            self._drop(state)
            self._outcome.reconnects += 1
        reply = reply_to(request, answer)
        self._count(request, reply, now, now - state.sent)
        state.request = None
        self._busy.discard(state)
        if now < self._window.end or request.more:
            state.reply = reply
            self._next_step(state)

    def _count(self, request: Request, reply: Reply, now: float, seconds: float) -> None:
        operation = self._outcome.operation(request.kind)
        inside = self._window.measure <= now < self._window.end
        status = str(reply.status)
        operation.all_statuses[status] += 1
        if inside:
            operation.statuses[status] += 1
        if not reply.ok:
            name = UNREADABLE if reply.status in request.expected else status
            text = reply.body[:QUOTED_BYTES].decode(errors="replace")
            self._error(operation, name, inside, f"{request.kind}: {status} {text}")
            return
        messages = len(reply.items) if callable(request.messages) else request.messages
        operation.all_messages += messages
        if inside:
            operation.messages += messages
            operation.seconds.append(seconds)

    def _error(self, operation: Operation, name: str, inside: bool, text: str) -> None:
        operation.all_errors[name] += 1
        if inside:
            operation.errors[name] += 1
        self._outcome.first_error = self._outcome.first_error or text

    def _fail(self, state: _ClientState, name: str, text: str) -> None:
        """Count the request as failed without an answer. Its generator goes on after ERROR_PAUSE."""
        request = state.request
        assert request is not None  # nosec B101
        now = time.monotonic()
        operation = self._outcome.operation(request.kind)
        inside = self._window.measure <= now < self._window.end
        self._error(operation, name, inside, f"{request.kind}: {name}: {text}")
        self._drop(state)
        state.request = None
        self._busy.discard(state)
        # Not at once: it would most likely fail again.
        state.reply = Reply(False, 0, b"", ())
        heapq.heappush(self._pauses, (now + ERROR_PAUSE, id(state), state))

    def _drop(self, state: _ClientState) -> None:
        if state.connection is not None:
            self._selector.unregister(state.connection)
            state.connection.close()
            state.connection = None

    def _fail_late_requests(self, now: float) -> None:
        for state in [state for state in self._busy if now - state.sent > self._task.timeout]:
            self._fail(state, TIMEOUT, f"no answer after {self._task.timeout:g} s")
