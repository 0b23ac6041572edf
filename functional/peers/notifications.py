"""Notifications per second beside Zaqar's, and what subscribers cost a post.

Zaqar notifies from threads of the process that serves its API, over a new connection each time; the gateway leaves it
to `marconi notify`. Both are kept busy without end: as soon as less than OUTSTANDING notifications are on their way,
more messages are posted. What is received is counted by a process of its own.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson

from functional.deployments import beside, through
from functional.http import Api
from functional.notify.sink import Sink
from functional.peers.zaqar import Zaqar, on_mongodb
from functional.services.gateway import Gateway, merge
from functional.services.mongodb import MongoDB
from functional.services.notifier import Notifier
from functional.services.process import started
from functional.services.rabbitmq import RabbitMQ
from functional.wait import wait_until
from gateway.bench import workloads
from gateway.bench.client import Client, Job, Request, Steps
from gateway.bench.cpu import CPUMeter
from gateway.bench.messages import random_body
from gateway.bench.outcome import Operation
from gateway.bench.progress import Progress
from gateway.bench.report import cpu_per_message, table
from gateway.bench.rounds import BenchFailed, Result, Server, Turn, run
from gateway.bench.settings import Settings
from gateway.bench.stats import Spread
from gateway.bench.workloads import Workload, named

NOTIFY, ZAQAR = "notify", "zaqar notifier"

#: Subscribers of the queue, in one measurement each.
CROWDS = (1, 10, 100)

#: Notifications on their way below which more is posted, and how many follow from one post.
OUTSTANDING, FROM_A_POST = 400, 200

#: Messages of a post: Zaqar takes no more.
MOST_POSTED = 20

#: Seconds between two looks at how many have come, and until what is on its way has to have come.
LOOK, REST = 0.002, 60.0

#: What a message of these results is.
NOTIFICATION = "notification"

#: What the queues are called whose posts are measured: one that never had a subscriber, and the others.
NEVER, FORMER, ONE, TEN = "never subscribed", "0 subscribers", "1 subscriber", "10 subscribers"
PRICED = {FORMER: 0, ONE: 1, TEN: 10}

PAIRS = ((NOTIFY, ZAQAR), *((name, NEVER) for name in PRICED))

#: What is wanted of the gateway whatever Zaqar does: notifications per second, and ms of CPU for each.
WANTED_RATE, WANTED_CPU = 1000, 1.0

#: What is purged of a queue.
SUBSCRIPTIONS = {"resource_types": ["subscriptions"]}

ALLOWED = {"notification": {"deliver": False, "allowed_networks": ["127.0.0.1/32"]}}


@dataclass(frozen=True)
class Peer:
    """A server that notifies: where its API is, and the meter of the process that sends."""

    name: str
    url: str
    meter: CPUMeter


@dataclass(frozen=True)
class Notifying:
    """Everything that runs. `watched`: meters of what is used beside what sends, by name; `of_posts`: while posting."""

    peers: Sequence[Peer]
    watched: Mapping[str, CPUMeter]
    sink: Sink
    servers: Sequence[Server]
    of_posts: Mapping[str, CPUMeter]


def serve(stack: contextlib.ExitStack, cache: Path, say: Callable[[str], None]) -> Notifying:
    """Start all of them; the stack ends them. Raises Missing or StartFailed."""
    rabbitmq, mongodb = started(stack, RabbitMQ(), say), started(stack, MongoDB(), say)
    sink = started(stack, Sink(), say)
    options = merge(ALLOWED, through(rabbitmq), beside(mongodb, "marconi"))
    gateway, notifier = started(stack, Gateway(options), say), started(stack, Notifier(options), say)
    # What is posted to see its price is delivered to nobody, by another gateway with a side-store of its own.
    silent = started(stack, Gateway(merge(options, beside(mongodb, "marconi_silent"))), say)
    zaqar = started(stack, Zaqar(on_mongodb(f"mongodb://{mongodb.host}"), cache, notifies=True), say)
    behind = {"RabbitMQ": CPUMeter([rabbitmq.pid]), "MongoDB": CPUMeter([mongodb.pid])}
    return Notifying(
        [Peer(NOTIFY, gateway.url, CPUMeter([notifier.pid])), Peer(ZAQAR, zaqar.url, CPUMeter([zaqar.pid]))],
        {"marconi serve": CPUMeter([gateway.pid]), **behind},
        sink,
        [priced(name, silent, sink, count) for name, count in {NEVER: None, **PRICED}.items()],
        behind,
    )


# -- notifications --------------------------------------------------------------------------------------------------


def measure(found: Notifying, settings: Settings, progress: Progress) -> list[Result]:
    """All crowds, and the peers in turns. Raises BenchFailed."""
    progress.expect(len(CROWDS) * len(found.peers) * settings.seconds)
    return [_measure(found, crowd, settings, progress) for crowd in CROWDS]


def _measure(found: Notifying, crowd: int, settings: Settings, progress: Progress) -> Result:
    work = Workload(f"notify-{crowd}", ((workloads.post, 1),), min(MOST_POSTED, FROM_A_POST // crowd), NOTIFICATION)
    turns: dict[str, list[Turn]] = {peer.name: [] for peer in found.peers}
    with contextlib.ExitStack() as stack:
        posts = {
            peer.name: stack.enter_context(_subscribed(peer, found.sink, work, crowd, settings)) for peer in found.peers
        }
        for number in range(settings.rounds):
            for peer in found.peers if number % 2 == 0 else reversed(found.peers):
                progress.say(f"{work.name} {peer.name} round {number + 1}/{settings.rounds}")
                turns[peer.name].append(_turn(found, peer, posts[peer.name], work.batch * crowd, settings, progress))
    return Result(work, turns, dict.fromkeys(turns, 0), [work.name])


@contextmanager
def _subscribed(
    peer: Peer, sink: Sink, work: Workload, crowd: int, settings: Settings
) -> Iterator[Callable[[], None]]:
    """What posts once to a queue with so many subscribers."""
    api = Api(peer.url, settings.project)
    path = f"/v2/queues/bench-{work.name}"
    for number in range(crowd):
        answer = api.post(f"{path}/subscriptions", json={"subscriber": f"{sink.url}/{number}", "ttl": 86400})
        if answer.status_code != 201:
            raise BenchFailed(f"{peer.name}: no subscription can be made: {answer.text}")
    message = {"ttl": 3600, "body": orjson.loads(random_body(settings.body_size))}
    body = orjson.dumps({"messages": [message] * work.batch})

    def post() -> None:
        answer = api.post(f"{path}/messages", data=body, headers={"Content-Type": "application/json"})
        if answer.status_code != 201:
            raise BenchFailed(f"{peer.name}: nothing can be posted: {answer.text}")

    try:
        _warm_up(peer, sink, post, crowd * work.batch)
        yield post
    finally:
        # More than once, as Zaqar purges only the first ten of them.
        while api.get(f"{path}/subscriptions").json()["subscriptions"]:
            api.post(f"{path}/purge", json=SUBSCRIPTIONS)
        api.delete(path)
        api.close()


def _warm_up(peer: Peer, sink: Sink, post: Callable[[], None], each: int) -> None:
    """Post once, and see all of it come: a notifier gets to know of new subscriptions after a moment."""
    wanted = sink.count() + each
    post()
    try:
        wait_until(lambda: sink.count() >= wanted, REST)
    except TimeoutError:
        raise BenchFailed(f"{peer.name}: not all of the first {each} notifications have come") from None


def _turn(
    found: Notifying, peer: Peer, post: Callable[[], None], each: int, settings: Settings, progress: Progress
) -> Turn:
    """Have it notify. `each`: notifications that follow from a post."""
    sink, wanted = found.sink, found.sink.count()
    meters = {"": peer.meter, **found.watched}

    def go_on(until: float) -> tuple[float, int, dict[str, float]]:
        nonlocal wanted
        while time.monotonic() < until:
            if wanted - sink.count() < OUTSTANDING:
                post()
                wanted += each
            else:
                time.sleep(LOOK)
        return time.monotonic(), sink.count(), {name: meter.seconds() for name, meter in meters.items()}

    progress.begin()
    began = time.monotonic()
    before = go_on(began + settings.warm_up)
    after = go_on(began + settings.warm_up + settings.duration)
    try:
        wait_until(lambda: sink.count() >= wanted, REST)
    except TimeoutError:
        raise BenchFailed(f"{peer.name}: {wanted - sink.count()} notifications have not come") from None
    progress.done(settings.warm_up + settings.duration)
    used = {name: after[2][name] - before[2][name] for name in meters}
    counted = Operation(messages=after[1] - before[1])
    return Turn(after[0] - before[0], {NOTIFICATION: counted}, used.pop(""), used, 0.0, 0.0, 0, "")


def rates_table(results: Sequence[Result]) -> str:
    """Notifications per second of each, the CPU for one of the process that sends, and whether that is enough."""
    rows = []
    for result in results:
        for name, turns in result.turns.items():
            rate = Spread.of([turn.messages(NOTIFICATION) / turn.seconds for turn in turns])
            used = Spread.of([cpu_per_message(turn, NOTIFICATION) or 0.0 for turn in turns])
            met = "" if name == ZAQAR else "yes" if rate.median >= WANTED_RATE and used.median <= WANTED_CPU else "no"
            rows.append((
                result.workload.name, name, f"{rate.median:,.0f}", f"{rate.low:,.0f}–{rate.high:,.0f}",
                f"{used.median:.2f}", f"{used.low:.2f}–{used.high:.2f}", met,
            ))
    head = "work", "server", "notifications/s", "low–high", "CPU ms", "low–high"
    return table((*head, f"≥ {WANTED_RATE:,}/s and ≤ {WANTED_CPU:g} ms"), rows)


# -- posts ----------------------------------------------------------------------------------------------------------


def priced(name: str, gateway: Gateway, sink: Sink, count: int | None) -> Server:
    """A queue with so many subscribers as a server of its own: all of them are of one gateway, in projects.

    `count` 0: it has had one and has none. None: it never had one.
    """
    project = {"X-Project-ID": name.replace(" ", "-")}
    make = workloads.make_queues if count is None else partial(subscribe, sink.url, count)
    dialect: Mapping[Job, Job] = {
        workloads.post: workloads.post, workloads.make_queues: make, workloads.delete_queues: workloads.delete_queues,
    }
    return Server(name, gateway.url, project, CPUMeter([gateway.pid]), dialect)


def subscribe(url: str, count: int, client: Client) -> Steps:
    """Create this connection's part of the queues, with so many subscribers; 0: with one that is deleted again."""
    yield from workloads.make_queues(client)
    for queue in client.queues[client.index::client.count]:
        path = f"/v2/queues/{queue}"
        for number in range(max(1, count)):
            body = orjson.dumps({"subscriber": f"{url}/{number}", "ttl": 86400})
            yield Request("make", client.request("POST", f"{path}/subscriptions", body), (201,))
        if not count:
            yield Request("make", client.request("POST", f"{path}/purge", orjson.dumps(SUBSCRIPTIONS)), (204,))


def measure_posts(found: Notifying, settings: Settings, progress: Progress) -> list[Result]:
    """Posts to each kind of queue, in turns. Raises BenchFailed or LoadFailed."""
    return run(found.servers, [named("post-1")], settings, progress, found.of_posts)
