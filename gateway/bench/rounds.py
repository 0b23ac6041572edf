"""Runs a measurement. Servers take turns, so that changes on the machine affect all of them alike."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.bench.client import Client, Job
from gateway.bench.cpu import CPUMeter
from gateway.bench.driver import Task, Window
from gateway.bench.messages import random_body
from gateway.bench.outcome import Operation, Outcome
from gateway.bench.processes import LoadFailed, ProcessPool
from gateway.bench.progress import Progress
from gateway.bench.settings import Settings
from gateway.bench.wire import Address
from gateway.bench.workloads import Workload, delete_queues, fill_queues, hold_messages, make_queues

#: Seconds between handing out tasks and their start, so that all processes start at the same time.
START_DELAY = 0.1

#: Seconds between two turns, so that a server can finish work that goes on after its answers.
SETTLE_TIME = 0.5

#: Number of connections that create, fill and delete queues.
SETUP_CONNECTIONS = 4

#: Timeout in seconds of requests that create, fill and delete queues. Some servers are slow with a full queue.
SETUP_TIMEOUT = 120.0

#: Seconds between two checks of the clock while waiting.
POLL_INTERVAL = 0.2


class BenchFailed(Exception):
    """The server can't be measured; the text says why."""


@dataclass(frozen=True)
class Server:
    """A server to measure. ``headers``: sent with each request. ``meter``: None if its CPU time can't be read.

    ``dialect``: for a server that does not speak the API, its own version of each job that it can do.
    """

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    meter: CPUMeter | None = None
    dialect: Mapping[Job, Job] | None = None

    def suits(self, workload: Workload) -> bool:
        """Whether the server can run the workload."""
        return self.dialect is None or all(job in self.dialect for job, _ in workload.roles)

    def own(self, job: Job) -> Job | None:
        """The server's version of a job; None if it can't do it."""
        return job if self.dialect is None else self.dialect.get(job)


@dataclass(frozen=True)
class Turn:
    """One measurement. ``seconds``: its length. ``cpu``, ``watched``: CPU seconds of the server and of others."""

    seconds: float
    operations: Mapping[str, Operation]
    cpu: float | None
    watched: Mapping[str, float]
    client_cpu: float
    client_busy: float
    reconnects: int
    first_error: str

    @property
    def requests(self) -> int:
        """Number of successful requests."""
        return sum(len(operation.seconds) for operation in self.operations.values())

    @property
    def rate(self) -> float:
        """Successful requests per second."""
        return self.requests / self.seconds

    def requests_of(self, kind: str) -> int:
        """Number of successful requests of a kind."""
        operation = self.operations.get(kind)
        return len(operation.seconds) if operation else 0

    def messages(self, kind: str) -> int:
        """Number of messages moved by requests of a kind."""
        operation = self.operations.get(kind)
        return operation.messages if operation else 0


@dataclass(frozen=True)
class Result:
    """All turns of one workload, by server, in the order of the rounds.

    ``prepared``: number of messages put into the queues before the first turn, by server.
    """

    workload: Workload
    turns: Mapping[str, Sequence[Turn]]
    prepared: Mapping[str, int]
    queues: Sequence[str]


def run(
    servers: Sequence[Server],
    workloads: Sequence[Workload],
    settings: Settings,
    progress: Progress,
    watched: Mapping[str, CPUMeter] | None = None,
    keep: bool = False,
) -> list[Result]:
    """Measure all servers with all workloads that suit them.

    ``watched``: meters of other processes by name. ``keep``: don't delete the queues. Raises BenchFailed or LoadFailed
    if nothing can be measured; error answers during a turn are counted and raise nothing.
    """
    with ProcessPool(settings.processes) as pool:
        bench = _Bench(pool, settings, progress, watched or {})
        progress.expect(sum(
            settings.seconds for workload in workloads for server in servers if server.suits(workload)
        ))
        return [
            bench.measure(workload, [server for server in servers if server.suits(workload)], keep)
            for workload in workloads
        ]


def head_lines(address: Address, project: str, own: Mapping[str, str] | None = None) -> bytes:
    """The header lines of every request of a new client. ``own``: headers that are added, or replace some of them."""
    headers = {
        "Host": address.authority,
        "Accept": "application/json",
        "Content-Type": "application/json",
        "Client-ID": str(uuid.uuid4()),
        "X-Project-ID": project,
    }
    own = own or {}
    given = {name.lower() for name in own}
    headers = {name: value for name, value in headers.items() if name.lower() not in given} | dict(own)
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")


class _Bench:
    """A run: its processes, settings and meters."""

    def __init__(self, pool: ProcessPool, settings: Settings, progress: Progress, watched: Mapping[str, CPUMeter]):
        self._pool = pool
        self._settings = settings
        self._progress = progress
        self._watched = watched
        self._body = random_body(settings.body_size)

    def measure(self, workload: Workload, servers: Sequence[Server], keep: bool) -> Result:
        """Run all rounds of a workload. Every second round takes the servers in reverse order."""
        name = f"bench-{workload.name}-{uuid.uuid4().hex[:8]}"
        queues = [f"{name}-{number}" for number in range(self._settings.queues)]
        idle = [f"{name}-idle-{number}" for number in range(self._settings.idle_queues)]
        turns: dict[str, list[Turn]] = {server.name: [] for server in servers}
        prepared: dict[str, int] = {}
        try:
            for server in servers:
                self._progress.say(f"{workload.name} {server.name}: preparing")
                prepared[server.name] = self._prepare(workload, server, queues, idle)
            for number in range(self._settings.rounds):
                for server in servers if number % 2 == 0 else reversed(servers):
                    self._progress.say(f"{workload.name} {server.name} round {number + 1}/{self._settings.rounds}")
                    turns[server.name].append(self._turn(workload, server, queues))
        except BaseException:  # including Ctrl-C
            self._pool.restart()
            raise
        finally:
            if not keep:
                for server in servers:
                    self._clean(workload, server, [*queues, *idle])
        return Result(workload, turns, prepared, queues)

    def _clean(self, workload: Workload, server: Server, queues: Sequence[str]) -> None:
        self._progress.say(f"{workload.name} {server.name}: removing queues")
        outcome = self._set_up(server, delete_queues, queues)
        if outcome.first_error:
            self._progress.note(f"{server.name}: queues are left: {outcome.first_error}")

    def _prepare(self, workload: Workload, server: Server, queues: Sequence[str], idle: Sequence[str]) -> int:
        """Create and fill the queues. Returns the number of messages posted. Raises BenchFailed if that fails."""
        claimed = self._settings.claimed
        filled = 0
        for job, names, amount in (
            (make_queues, [*queues, *idle], 0),
            (fill_queues, queues, max(workload.backlog, self._settings.backlog) + claimed),
            (fill_queues, idle, 1),
            (hold_messages, queues if claimed else (), claimed),
        ):
            outcome = self._set_up(server, job, names, amount)
            if outcome.first_error:
                raise BenchFailed(f"{server.name} can't be prepared: {outcome.first_error}")
            filled += outcome.operation("fill").all_messages
        return filled

    def _set_up(self, server: Server, job: Job, queues: Sequence[str], amount: int = 0) -> Outcome:
        """Run a job to its end on SETUP_CONNECTIONS connections; an empty outcome if the server can't do it."""
        own = server.own(job)
        if own is None or not queues:
            return Outcome()
        now = time.monotonic()
        self._begin(server, ((own, SETUP_CONNECTIONS),), queues, 1, Window(now, now, math.inf), SETUP_TIMEOUT, amount)
        while not self._pool.poll(POLL_INTERVAL):
            self._progress.show()
        return self._pool.finish()

    def _turn(self, workload: Workload, server: Server, queues: Sequence[str]) -> Turn:
        settings = self._settings
        begin = time.monotonic() + START_DELAY
        window = Window(begin, begin + settings.warm_up, begin + settings.warm_up + settings.duration)
        self._progress.begin()
        roles = [(own, count) for job, count in workload.roles if (own := server.own(job))]
        self._begin(server, roles, queues, workload.batch, window, settings.timeout)
        self._wait_until(window.measure)
        start, before = time.monotonic(), self._read(server)
        self._wait_until(window.end)
        end, after = time.monotonic(), self._read(server)
        # The load counts exactly inside the window; CPU time is read here up to some milliseconds after each end.
        scale = settings.duration / (end - start)
        outcome = self._pool.finish()
        self._progress.done(settings.warm_up + settings.duration)
        time.sleep(SETTLE_TIME)
        used = {name: (after[name] - before[name]) * scale for name in before}
        return Turn(
            settings.duration, outcome.operations, used.pop("", None), used,
            outcome.cpu, outcome.busy, outcome.reconnects, outcome.first_error,
        )

    def _begin(
        self,
        server: Server,
        roles: Sequence[tuple[Job, int]],
        queues: Sequence[str],
        batch: int,
        window: Window,
        timeout: float,
        amount: int = 0,
    ) -> None:
        """Distribute the connections over the processes, and start them."""
        address = Address.of(server.url)
        common = Client(
            0, 1, address.prefix, head_lines(address, self._settings.project, server.headers), tuple(queues), batch,
            self._body, amount, self._settings.groups if self._settings.fifo else 0, self._settings.dedup_ids,
        )
        clients = [
            (job, replace(common, index=index, count=count)) for job, count in roles for index in range(count)
        ]
        size = len(self._pool)
        parts = [clients[number::size] for number in range(size)]
        self._pool.begin([Task(address, tuple(part), window, timeout) for part in parts if part])

    def _wait_until(self, when: float) -> None:
        while (left := when - time.monotonic()) > 0:
            self._progress.show()
            if self._pool.poll(0):
                self._pool.finish()  # raises LoadFailed if a process has failed
                raise LoadFailed("the load ended too early")
            time.sleep(min(left, POLL_INTERVAL))

    def _read(self, server: Server) -> dict[str, float]:
        """CPU seconds by name; the server's have an empty name."""
        read = {name: meter.seconds() for name, meter in self._watched.items()}
        if server.meter is not None:
            read[""] = server.meter.seconds()
        return read
