"""The load: processes, each with one thread that drives many connections."""

from __future__ import annotations

import heapq
import multiprocessing
import selectors
import signal
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import SpawnProcess
from typing import Self

from gateway.bench.wire import Address, Answer, BadAnswer, Connection, Place
from gateway.bench.workloads import ERROR_PAUSE, Client, Job, Pause, Reply, Request, Steps, reply_to

#: Seconds between two looks at requests that take too long.
PATIENCE_STEP = 0.25

#: Seconds that a process may take to end when it is told to.
END_TIMEOUT = 5.0

#: Bytes of an answer that an error shows.
SHOWN = 300

#: What stands for a status when there was no answer.
NO_CONNECTION, LOST, TIMEOUT = "no connection", "connection lost", "timeout"

#: What stands for a status when the answer had an expected one, but not what belongs in it.
UNREADABLE = "unreadable"


class LoadFailed(Exception):
    """A process of the load has ended or failed; the text says how."""


@dataclass(frozen=True)
class Window:
    """When to begin, and what to measure, as seconds of the monotonic clock, which all processes share.

    Generators that end by themselves may end earlier; those that don't are left at ``end``, after their request.
    """

    begin: float
    measure: float
    end: float


@dataclass(frozen=True)
class Task:
    """What one process does: a generator for each connection."""

    address: Address
    clients: tuple[tuple[Job, Client], ...]
    window: Window
    timeout: float


@dataclass
class Operation:
    """What happened to the requests of one kind; those answered inside the window, unless it says otherwise.

    ``seconds``: of each request that went well, and of no other. ``all_messages``, ``all_statuses``: outside as well.
    """

    seconds: array[float] = field(default_factory=lambda: array("d"))
    messages: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    all_messages: int = 0
    all_statuses: Counter[str] = field(default_factory=Counter)
    all_errors: Counter[str] = field(default_factory=Counter)

    def add(self, other: Operation) -> None:
        """Take over the numbers of another one."""
        self.seconds.extend(other.seconds)
        self.messages += other.messages
        self.all_messages += other.all_messages
        for name in ("statuses", "errors", "all_statuses", "all_errors"):
            getattr(self, name).update(getattr(other, name))


@dataclass
class Outcome:
    """What a process, or all of them, have seen. ``busy``: the largest share of a core that one of them has used."""

    operations: dict[str, Operation] = field(default_factory=dict)
    cpu: float = 0.0
    busy: float = 0.0
    reconnects: int = 0
    first_error: str = ""

    def operation(self, kind: str) -> Operation:
        """Of a kind; it begins empty."""
        return self.operations.setdefault(kind, Operation())

    def add(self, other: Outcome) -> None:
        """Take over what another process has seen."""
        for kind, operation in other.operations.items():
            self.operation(kind).add(operation)
        self.cpu += other.cpu
        self.busy = max(self.busy, other.busy)
        self.reconnects += other.reconnects
        self.first_error = self.first_error or other.first_error


class Lane:
    """One connection, what it does, the request that is on the way, and the reply that its generator waits for."""

    def __init__(self, steps: Steps):
        self.steps = steps
        self.connection: Connection | None = None
        self.request: Request | None = None
        self.reply: Reply | None = None
        self.sent = 0.0


class Driver:
    """Runs a task in this thread."""

    def __init__(self, task: Task):
        self._task = task
        self._window = task.window
        self._outcome = Outcome()
        self._selector = selectors.DefaultSelector()
        self._pauses: list[tuple[float, int, Lane]] = []
        self._busy: set[Lane] = set()
        self._place: Place | None = None

    def run(self) -> Outcome:
        """Until all generators have ended, or the window has and nothing is on the way."""
        lanes = [Lane(job(client)) for job, client in self._task.clients]
        for number, lane in enumerate(lanes):
            heapq.heappush(self._pauses, (self._window.begin, number, lane))
        cpu_at_start = cpu_at_end = None
        patience = 0.0
        while self._pauses or self._busy:
            now = time.monotonic()
            if cpu_at_start is None and now >= self._window.measure:
                cpu_at_start = time.process_time()
            if now >= self._window.end:
                cpu_at_end = cpu_at_end or time.process_time()
                self._pauses.clear()
            while self._pauses and self._pauses[0][0] <= now:
                self._go_on(heapq.heappop(self._pauses)[2])
            if now >= patience:
                patience = now + PATIENCE_STEP
                self._give_up_late(now)
            for key, _ in self._selector.select(self._rest(now)):
                self._work(key.data)
        for lane in lanes:
            lane.steps.close()
            if lane.connection:
                lane.connection.close()
        self._selector.close()
        self._account(cpu_at_start, cpu_at_end)
        return self._outcome

    def _account(self, start: float | None, end: float | None) -> None:
        """The client's own cost inside the window; nothing if its generators ended before that."""
        if start is not None:
            self._outcome.cpu = (end or time.process_time()) - start
            self._outcome.busy = self._outcome.cpu / max(1e-9, self._window.end - self._window.measure)

    def _rest(self, now: float) -> float:
        """Seconds until the next thing is due without any answer."""
        due = min(PATIENCE_STEP, self._pauses[0][0] - now if self._pauses else PATIENCE_STEP)
        if now < self._window.end:
            due = min(due, self._window.end - now)
        return max(0.0, due)

    def _go_on(self, lane: Lane) -> None:
        """Have a generator say what is next, and do it."""
        reply, lane.reply = lane.reply, None
        try:
            step = lane.steps.send(reply)  # type: ignore[arg-type]
        except StopIteration:
            return
        if isinstance(step, Pause):
            # The number only keeps equal times from comparing lanes.
            heapq.heappush(self._pauses, (time.monotonic() + step.seconds, id(lane), lane))
        else:
            self._send(lane, step)

    def _send(self, lane: Lane, request: Request) -> None:
        lane.request = request
        lane.sent = time.monotonic()
        self._busy.add(lane)
        try:
            if lane.connection is None:
                lane.connection = self._connect()
                self._selector.register(lane.connection, selectors.EVENT_WRITE, lane)
            else:
                lane.connection.send(request.data)
        except OSError as error:
            self._fail(lane, LOST if lane.connection else NO_CONNECTION, str(error))

    def _connect(self) -> Connection:
        if self._place is None:
            self._place = Place.of(self._task.address)
        return Connection(self._task.address, self._place)

    def _work(self, lane: Lane) -> None:
        """Something has happened on a connection."""
        if lane.connection is None:  # given up in the same round
            return
        if lane.connection.established:
            self._read(lane, lane.connection)
            return
        try:
            lane.connection.establish()
            self._selector.modify(lane.connection, selectors.EVENT_READ, lane)
            assert lane.request is not None  # nosec B101
            lane.connection.send(lane.request.data)
        except OSError as error:
            self._fail(lane, NO_CONNECTION, str(error))

    def _read(self, lane: Lane, connection: Connection) -> None:
        try:
            answer = connection.receive()
        except (OSError, BadAnswer) as error:
            if lane.request is None:
                self._drop(lane)  # an idle connection may be closed by the server
                self._outcome.reconnects += 1
            else:
                self._fail(lane, LOST, str(error))
            return
        if answer is not None:
            self._take(lane, answer)

    def _take(self, lane: Lane, answer: Answer) -> None:
        request = lane.request
        if request is None:
            self._drop(lane)  # an answer to nothing: the next one could be taken for another's
            return
        now = time.monotonic()
        if answer.closes:
            self._drop(lane)
            self._outcome.reconnects += 1
        reply = reply_to(request, answer)
        self._count(request, reply, now, now - lane.sent)
        lane.request = None
        self._busy.discard(lane)
        if now < self._window.end:
            lane.reply = reply
            self._go_on(lane)

    def _count(self, request: Request, reply: Reply, now: float, seconds: float) -> None:
        operation = self._outcome.operation(request.kind)
        inside = self._window.measure <= now < self._window.end
        status = str(reply.status)
        operation.all_statuses[status] += 1
        if inside:
            operation.statuses[status] += 1
        if not reply.ok:
            name = UNREADABLE if reply.status in request.expected else status
            text = reply.body[:SHOWN].decode(errors="replace")
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

    def _fail(self, lane: Lane, name: str, text: str) -> None:
        """No answer came to the request on the way. Its generator goes on after a while."""
        request = lane.request
        assert request is not None  # nosec B101
        now = time.monotonic()
        operation = self._outcome.operation(request.kind)
        inside = self._window.measure <= now < self._window.end
        self._error(operation, name, inside, f"{request.kind}: {name}: {text}")
        self._drop(lane)
        lane.request = None
        self._busy.discard(lane)
        # At once it would only ask again.
        lane.reply = Reply(False, 0, b"", ())
        heapq.heappush(self._pauses, (now + ERROR_PAUSE, id(lane), lane))

    def _drop(self, lane: Lane) -> None:
        if lane.connection is not None:
            self._selector.unregister(lane.connection)
            lane.connection.close()
            lane.connection = None

    def _give_up_late(self, now: float) -> None:
        for lane in [lane for lane in self._busy if now - lane.sent > self._task.timeout]:
            self._fail(lane, TIMEOUT, f"no answer after {self._task.timeout:g} s")


def _serve(pipe: Pipe) -> None:
    """A process of the load: does one task after the other until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it then closes the pipe
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(Driver(task).run())
        except Exception as error:  # whatever it is, the parent must not wait for ever
            pipe.send(LoadFailed(f"{type(error).__name__}: {error}"))


def _ended(process: SpawnProcess) -> LoadFailed:
    process.join(END_TIMEOUT)
    return LoadFailed(f"a process of the load ended with {process.exitcode}")


class Crew:
    """The processes. They are started anew, not forked: nothing of the parent's can disturb them."""

    def __init__(self, size: int):
        self._size = size
        self._members: list[tuple[SpawnProcess, Pipe]] = []
        self._working = 0
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        for _ in range(self._size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._members.append((process, ours))

    def __len__(self) -> int:
        return self._size

    def begin(self, tasks: Sequence[Task]) -> None:
        """Hand out tasks, at most one for each process. LoadFailed if a process is gone."""
        for (process, pipe), task in zip(self._members, tasks, strict=False):
            try:
                pipe.send(task)
            except OSError:
                raise _ended(process) from None
        self._working = len(tasks)

    def poll(self, timeout: float) -> bool:
        """Wait ``timeout`` seconds at the most; whether all have finished."""
        deadline = time.monotonic() + timeout
        return all(pipe.poll(max(0.0, deadline - time.monotonic())) for _, pipe in self._members[:self._working])

    def finish(self) -> Outcome:
        """Wait for all, and add up. LoadFailed if a process did not do its task."""
        total = Outcome()
        failure = None
        for process, pipe in self._members[:self._working]:
            try:
                outcome = pipe.recv()
            except (EOFError, OSError):
                raise _ended(process) from None
            if isinstance(outcome, Outcome):
                total.add(outcome)
            else:
                failure = outcome
        if failure is not None:
            raise failure
        return total

    def close(self) -> None:
        """End the processes."""
        for _, pipe in self._members:
            pipe.close()
        for process, _ in self._members:
            process.terminate()
            process.join(END_TIMEOUT)
        self._members.clear()

    def restart(self) -> None:
        """Drop whatever the processes are doing."""
        self.close()
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
