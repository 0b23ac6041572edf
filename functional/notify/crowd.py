"""Nobody waits for others: `python -m functional.notify.crowd`.

A thousand subscriptions: half of their receivers hang, a tenth refuses connections, the others are healthy. They belong
to a hundred queues, ten to each, so that a hundred posts a second are a thousand notifications a second, which one
process of `marconi notify` can send. Starts a private RabbitMQ and MongoDB, a gateway that delivers nothing, and the
notifier. Prints how long after the 201 of a post the healthy ones were told, what the others got, and the notifier's
memory. The exit status is 1 if one of the promises was not kept.
"""

import argparse
import contextlib
import itertools
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median

import psutil

from functional.deployments import beside, through
from functional.http import Api
from functional.notify.sink import HANGING, Sink
from functional.services.gateway import Gateway, Options, merge
from functional.services.mongodb import MongoDB
from functional.services.notifier import Notifier
from functional.services.ports import free_port
from functional.services.process import Missing, StartFailed, started
from functional.services.rabbitmq import RabbitMQ
from gateway.bench.stats import percentile

#: Subscriptions of each queue, by what their receivers do.
HANG, REFUSE, HEALTHY = 5, 1, 4

#: Seconds from the 201 to the first attempt: what 99 % of the healthy ones may wait at most.
LAG = 0.3

#: Deliveries to one subscription at a time, as by default.
MOST = 10

#: What the notifier may use: bytes for itself, and for each subscription.
MEMORY, MEMORY_EACH = 200 * 2**20, 200 * 2**10

#: Seconds in which healthy receivers get what is left, and for the notifier to open all subscriptions.
REST, OPENING = 20.0, 120.0

#: Threads that subscribe, and those that post.
THREADS = 16

OPTIONS: Options = {
    "wsgi": {"threads": THREADS},
    "bridge": {"pool_size": THREADS},
    "notification": {"deliver": False, "allowed_networks": ["127.0.0.1/32"], "max_in_flight": MOST},
}


@dataclass
class Found:
    """What was seen. `lags`: seconds, one for each notification of a healthy receiver; `memory`: looks, in bytes."""

    subscriptions: int
    posts: int = 0
    lags: list[float] = field(default_factory=list)
    missing: int = 0
    late_posts: float = 0.0
    most: int = 0
    hanging: int = 0
    memory: list[int] = field(default_factory=list)
    cpu: float = 0.0

    @property
    def faults(self) -> list[str]:
        """Promises that were not kept, in words."""
        lag = percentile(sorted(self.lags), 99) if self.lags else float("inf")
        allowed = MEMORY + self.subscriptions * MEMORY_EACH
        return [text for text, kept in (
            (f"99 % of the healthy were told within {lag:.3f} s, not {LAG:g} s", lag <= LAG),
            (f"{self.missing} notifications of healthy receivers did not come", not self.missing),
            (f"{self.most} deliveries to one subscription at once, not {MOST}", self.most <= MOST),
            (f"{max(self.memory) / 2**20:.0f} MiB, not {allowed / 2**20:.0f}", max(self.memory) <= allowed),
        ) if not kept]

    def lines(self) -> list[str]:
        """For people."""
        ordered = sorted(self.lags) or [float("inf")]
        third = max(1, len(self.memory) // 3)
        return [
            f"{self.subscriptions} subscriptions, {self.posts} posts, {len(self.lags)} notifications of the healthy",
            "from the 201 to the first attempt, s: "
            + ", ".join(f"p{part:g} {percentile(ordered, part):.3f}" for part in (50, 90, 99, 99.9, 100)),
            f"{self.hanging} hanging receivers were tried, {self.most} times at once at most",
            f"memory of the notifier: {max(self.memory) / 2**20:.0f} MiB at most; the last looks are"
            f" {median(self.memory[-third:]) / median(self.memory[:third]):.3f} times the first ones",
            f"CPU of the notifier: {self.cpu:.2f} cores; posts were late by {self.late_posts:.2f} s at most",
            *self.faults,
        ]


class Crowd:
    """All services, with subscriptions for so many queues."""

    def __init__(self, stack: contextlib.ExitStack, queues: int, say: Callable[[str], None]) -> None:
        rabbitmq, mongodb = started(stack, RabbitMQ(), say), started(stack, MongoDB(), say)
        self._sink, self._hanging = started(stack, Sink(keeps=True), say), started(stack, Sink(keeps=True), say)
        options = merge(OPTIONS, through(rabbitmq), beside(mongodb, "marconi"))
        gateway, self._notifier = started(stack, Gateway(options), say), started(stack, Notifier(options), say)
        self._api = Api(gateway.url)
        self._queues = [f"crowd-{number}" for number in range(queues)]
        self._say = say
        refusing = f"http://127.0.0.1:{free_port()}"
        receivers = [
            *(f"{self._hanging.url}{HANGING}%s/{n}" for n in range(HANG)),
            *(f"{refusing}/%s/{n}" for n in range(REFUSE)),
            *(f"{self._sink.url}/%s/{n}" for n in range(HEALTHY)),
        ]
        say(f"making {queues * len(receivers)} subscriptions")
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(lambda queue: self._subscribe(queue, receivers), self._queues))

    def _subscribe(self, queue: str, receivers: Sequence[str]) -> None:
        for receiver in receivers:
            body = {"subscriber": receiver % queue, "ttl": 86400}
            answer = self._api.post(f"/v2/queues/{queue}/subscriptions", json=body)
            assert answer.status_code == 201, answer.text

    def _post(self, queue: str, number: int) -> str:
        body = {"messages": [{"body": {"number": number}, "ttl": 3600}]}
        answer = self._api.post(f"/v2/queues/{queue}/messages", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["resources"][0]).rpartition("/")[2]

    def open(self) -> None:
        """Post to each queue until all healthy receivers were told once."""
        self._say("waiting for the notifier to serve them")
        deadline = time.monotonic() + OPENING
        for queue in self._queues:
            self._post(queue, -1)
        while len({path for _, path, _ in self._sink.log()}) < len(self._queues) * HEALTHY:
            if time.monotonic() > deadline:
                raise TimeoutError("the notifier does not serve all subscriptions")
            time.sleep(0.5)

    def run(self, rate: float, duration: float) -> Found:
        """Post at this rate for so many seconds."""
        self._say("posting")
        found = Found(len(self._queues) * (HANG + REFUSE + HEALTHY))
        posted: dict[str, float] = {}
        numbers, lock, began = itertools.count(), threading.Lock(), time.monotonic()
        process = psutil.Process(self._notifier.pid)
        processes = [process, *process.children(recursive=True)]
        before = _cpu(processes)

        def post() -> None:
            while True:
                with lock:
                    number = next(numbers)
                due = began + number / rate
                if due > began + duration:
                    return
                time.sleep(max(0.0, due - time.monotonic()))
                late = time.monotonic() - due
                id_ = self._post(self._queues[number % len(self._queues)], number)
                with lock:
                    posted[id_] = time.monotonic()
                    found.late_posts = max(found.late_posts, late)

        with ThreadPoolExecutor(THREADS) as threads:
            posting = [threads.submit(post) for _ in range(THREADS)]
            while not all(each.done() for each in posting):
                found.memory.append(sum(each.memory_info().rss for each in processes))
                time.sleep(0.5)
            for each in posting:
                each.result()
        found.cpu = (_cpu(processes) - before) / (time.monotonic() - began)
        self._evaluate(found, posted)
        return found

    def _evaluate(self, found: Found, posted: dict[str, float]) -> None:
        deadline, wanted = time.monotonic() + REST, len(posted) * HEALTHY
        first: dict[tuple[str, str], float] = {}
        while len(first) < wanted and time.monotonic() < deadline:
            time.sleep(0.5)
            for at, path, id_ in self._sink.log():
                if id_ in posted:
                    first.setdefault((path, id_), at)
        found.posts, found.missing = len(posted), wanted - len(first)
        # A notification may come before the 201 does.
        found.lags = [max(0.0, at - posted[id_]) for (_, id_), at in first.items()]
        most = Counter(self._hanging.most())
        found.most, found.hanging = max(most.values(), default=0), len(most)


def _cpu(processes: Sequence[psutil.Process]) -> float:
    times = [each.cpu_times() for each in processes]
    return sum(each.user + each.system for each in times)


def run(queues: int, rate: float, duration: float, say: Callable[[str], None]) -> Found:
    """All of it. Raises Missing, StartFailed, TimeoutError."""
    with contextlib.ExitStack() as stack:
        crowd = Crowd(stack, queues, say)
        crowd.open()
        return crowd.run(rate, duration)


def main() -> int:
    """The command line; 0 if all promises were kept."""
    parser = argparse.ArgumentParser(prog="python -m functional.notify.crowd", description=__doc__)
    parser.add_argument("--queues", type=int, default=100, help="with ten subscriptions each (%(default)s)")
    parser.add_argument("--rate", type=float, default=100.0, help="posts per second, over all queues (%(default)g)")
    parser.add_argument("--duration", type=float, default=60.0, help="seconds (%(default)g)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds, so that the services end
    began = time.monotonic()
    try:
        found = run(
            options.queues, options.rate, options.duration,
            lambda text: print(f"{time.monotonic() - began:6.1f} {text}", file=sys.stderr, flush=True),
        )
    except (Missing, StartFailed, TimeoutError) as failure:
        sys.exit(str(failure))
    print("\n".join(found.lines()))
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
