"""The run: servers measured in turns, so that what changes on the machine meanwhile meets all of them alike."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.bench.cpu import Meter
from gateway.bench.load import Crew, LoadFailed, Operation, Outcome, Task, Window
from gateway.bench.progress import Progress
from gateway.bench.settings import Settings
from gateway.bench.wire import Address
from gateway.bench.workloads import (
    Client,
    Job,
    Workload,
    delete_queues,
    fill_queues,
    hold_messages,
    make_queues,
    random_body,
)

#: Seconds from handing a task out to its begin: time for all processes to get it.
LEAD = 0.1

#: Seconds between two turns, for what a server still does after its answers.
REST = 0.5

#: Connections that prepare and clean up.
HANDS = 4

#: Seconds that one call may take while queues are prepared and removed: a full one takes some servers long.
PATIENCE = 120.0

#: Seconds between two looks at the clock while waiting.
STEP = 0.2


class BenchFailed(Exception):
    """There is nothing to measure; the text says why."""


@dataclass(frozen=True)
class Server:
    """What is measured. ``meter``: of its CPU time, None if that can't be read.

    ``headers`` are sent with each request. ``dialect``: how it does what it can do, if it does not speak the API.
    """

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    meter: Meter | None = None
    dialect: Mapping[Job, Job] | None = None

    def suits(self, workload: Workload) -> bool:
        """Whether it can do the work."""
        return self.dialect is None or all(job in self.dialect for job, _ in workload.roles)

    def own(self, job: Job) -> Job | None:
        """How it does that, None if it doesn't."""
        return job if self.dialect is None else self.dialect.get(job)


@dataclass(frozen=True)
class Turn:
    """One measurement. ``cpu``: seconds of the server's, ``watched``: of other processes'; ``seconds``: its length."""

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
        """Those that went well."""
        return sum(len(operation.seconds) for operation in self.operations.values())

    @property
    def rate(self) -> float:
        """Requests per second that went well."""
        return self.requests / self.seconds

    def requests_of(self, kind: str) -> int:
        """Those of a kind that went well."""
        operation = self.operations.get(kind)
        return len(operation.seconds) if operation else 0

    def messages(self, kind: str) -> int:
        """Moved by requests of a kind."""
        operation = self.operations.get(kind)
        return operation.messages if operation else 0


@dataclass(frozen=True)
class Result:
    """All turns of one workload, by server, in the order of the rounds.

    ``prepared``: messages that were put into queues before, for each server.
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
    watched: Mapping[str, Meter] | None = None,
    keep: bool = False,
) -> list[Result]:
    """Measure all servers with all workloads that suit them.

    ``watched``: other processes whose CPU time is read, by a name for them. ``keep``: leave the queues.
    BenchFailed or LoadFailed if that is not possible; a server that answers with errors is no reason.
    """
    with Crew(settings.processes) as crew:
        bench = _Bench(crew, settings, progress, watched or {})
        progress.expect(sum(
            settings.seconds for workload in workloads for server in servers if server.suits(workload)
        ))
        return [
            bench.measure(workload, [server for server in servers if server.suits(workload)], keep)
            for workload in workloads
        ]


class _Bench:
    """What stays the same for a whole run."""

    def __init__(self, crew: Crew, settings: Settings, progress: Progress, watched: Mapping[str, Meter]):
        self._crew = crew
        self._settings = settings
        self._progress = progress
        self._watched = watched
        self._body = random_body(settings.body_size)

    def measure(self, workload: Workload, servers: Sequence[Server], keep: bool) -> Result:
        """All rounds of a workload. In every second round the servers come in the opposite order."""
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
        except BaseException:  # Ctrl-C as well
            self._crew.restart()
            raise
        finally:
            if not keep:
                for server in servers:
                    self._clean(workload, server, [*queues, *idle])
        return Result(workload, turns, prepared, queues)

    def _clean(self, workload: Workload, server: Server, queues: Sequence[str]) -> None:
        self._progress.say(f"{workload.name} {server.name}: removing queues")
        outcome = self._by_hand(server, delete_queues, queues)
        if outcome.first_error:
            self._progress.note(f"{server.name}: queues are left: {outcome.first_error}")

    def _prepare(self, workload: Workload, server: Server, queues: Sequence[str], idle: Sequence[str]) -> int:
        """Make and fill the queues; how many messages were posted. BenchFailed if the server doesn't do that."""
        claimed = self._settings.claimed
        filled = 0
        for job, names, amount in (
            (make_queues, [*queues, *idle], 0),
            (fill_queues, queues, max(workload.backlog, self._settings.backlog) + claimed),
            (fill_queues, idle, 1),
            (hold_messages, queues if claimed else (), claimed),
        ):
            outcome = self._by_hand(server, job, names, amount)
            if outcome.first_error:
                raise BenchFailed(f"{server.name} can't be prepared: {outcome.first_error}")
            filled += outcome.operation("fill").all_messages
        return filled

    def _by_hand(self, server: Server, job: Job, queues: Sequence[str], amount: int = 0) -> Outcome:
        """Let some connections do something until they are done, if the server can do it."""
        own = server.own(job)
        if own is None or not queues:
            return Outcome()
        now = time.monotonic()
        self._begin(server, ((own, HANDS),), queues, 1, Window(now, now, math.inf), PATIENCE, amount)
        while not self._crew.poll(STEP):
            self._progress.show()
        return self._crew.finish()

    def _turn(self, workload: Workload, server: Server, queues: Sequence[str]) -> Turn:
        settings = self._settings
        begin = time.monotonic() + LEAD
        window = Window(begin, begin + settings.warm_up, begin + settings.warm_up + settings.duration)
        self._progress.begin()
        roles = [(own, count) for job, count in workload.roles if (own := server.own(job))]
        self._begin(server, roles, queues, workload.batch, window, settings.timeout)
        self._wait_until(window.measure)
        start, before = time.monotonic(), self._read(server)
        self._wait_until(window.end)
        end, after = time.monotonic(), self._read(server)
        # The processes count inside the window; here the clock may be read some milliseconds after each of its ends.
        scale = settings.duration / (end - start)
        outcome = self._crew.finish()
        self._progress.done(settings.warm_up + settings.duration)
        time.sleep(REST)
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
        """Spread the connections over the processes."""
        address = Address.of(server.url)
        common = Client(
            0, 1, address.prefix, self._head(server, address), tuple(queues), batch, self._body, amount
        )
        clients = [
            (job, replace(common, index=index, count=count)) for job, count in roles for index in range(count)
        ]
        size = len(self._crew)
        parts = [clients[number::size] for number in range(size)]
        self._crew.begin([Task(address, tuple(part), window, timeout) for part in parts if part])

    def _head(self, server: Server, address: Address) -> bytes:
        headers = {
            "Host": address.authority,
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Client-ID": str(uuid.uuid4()),
            "X-Project-ID": self._settings.project,
        }
        given = {name.lower() for name in server.headers}
        headers = {name: value for name, value in headers.items() if name.lower() not in given} | dict(server.headers)
        return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")

    def _wait_until(self, when: float) -> None:
        while (left := when - time.monotonic()) > 0:
            self._progress.show()
            if self._crew.poll(0):
                self._crew.finish()  # says what has happened, if it knows
                raise LoadFailed("the load ended too early")
            time.sleep(min(left, STEP))

    def _read(self, server: Server) -> dict[str, float]:
        """CPU seconds by name, the server's under an empty one."""
        read = {name: meter.seconds() for name, meter in self._watched.items()}
        if server.meter is not None:
            read[""] = server.meter.seconds()
        return read
