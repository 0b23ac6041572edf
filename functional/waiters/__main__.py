"""What those who wait cost, and how soon they are told: `python -m functional.waiters`.

Starts a gateway with one worker, embedded or on a private RabbitMQ and MongoDB, and has thousands of polls and feeds
wait at it. Prints its memory and CPU meanwhile, what others get at the same time, and how long it takes from the answer
to a post until its message has arrived. Then one poll and one feed alone, through the same gateway and another one.
"""

import argparse
import asyncio
import contextlib
import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil

from functional.deployments import beside, loopback, sqlite, through
from functional.http import Api
from functional.services.gateway import Gateway, Options, merge
from functional.services.mongodb import MongoDB
from functional.services.process import Missing, Service, StartFailed, started
from functional.services.rabbitmq import RabbitMQ
from functional.waiters.clients import Crowd, Target, post
from gateway.bench.report import table

#: Seconds of each look at CPU and at what others get.
LOOK = 8.0

#: Seconds in which a broker comes to rest after many queues have been made.
REST = 15.0

#: Seconds that everybody may take to begin to wait, and messages to arrive.
PATIENCE = 180.0

#: Connections that post to those who wait, and seconds between two posts of each.
POSTERS, PAUSE = 2, 0.01

#: Messages that one poll and one feed alone get.
ALONE = 100

#: Clients that go on working while others wait.
OTHERS = 4


@dataclass
class Arrivals:
    """When each message was answered 201, and when it arrived (monotonic seconds)."""

    answered: dict[str, float] = field(default_factory=dict)
    polled: dict[str, float] = field(default_factory=dict)
    fed: dict[str, list[float]] = field(default_factory=dict)

    def feed(self, message: str, now: float) -> None:
        self.fed.setdefault(message, []).append(now)

    def of_polls(self) -> list[float]:
        """Seconds from the answer to a post until its message was claimed; earlier counts as at once."""
        return [max(0.0, at - self.answered[message]) for message, at in self.polled.items()]

    def of_feeds(self) -> list[float]:
        """Seconds from the answer to a post until a feed showed its message."""
        return [max(0.0, at - self.answered[message]) for message, times in self.fed.items() for at in times]


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which ``part`` of the values are."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else float("nan")


def shown(values: Sequence[float]) -> str:
    """Median, 99th percentile and maximum in ms."""
    if not values:
        return "none arrived"
    parts = {"p50": median(values), "p99": percentile(values, 0.99), "most": max(values)}
    return ", ".join(f"{name} {value * 1000:.1f} ms" for name, value in parts.items())


@contextlib.contextmanager
def others(gateway: Gateway, project: str) -> Iterator[Callable[[], int]]:
    """Clients that post and list as fast as they can; yields a function that counts their calls."""
    stop, counts = threading.Event(), [0] * OTHERS

    def work(number: int) -> None:
        api, queue = Api(gateway.url, project), f"/v2/queues/others-{number}/messages"
        while not stop.is_set():
            api.post(queue, json={"messages": [{"body": 1, "ttl": 60}]}).raise_for_status()
            api.get(f"{queue}?echo=true").raise_for_status()
            counts[number] += 2

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(OTHERS)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: sum(counts)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def rate_of_others(gateway: Gateway, project: str) -> float:
    """Calls per second of clients that do not wait."""
    with others(gateway, project) as count:
        time.sleep(1.0)
        before = count()
        time.sleep(LOOK)
        return (count() - before) / LOOK


def cpu_of(service: Service) -> float:
    """Seconds of CPU that a service with its children has used."""
    process = psutil.Process(service.pid)
    return sum(sum(each.cpu_times()[:2]) for each in [process, *process.children(recursive=True)])


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            print(f"waited {PATIENCE:.0f} s in vain for {what}")
            return
        await asyncio.sleep(0.05)


async def crowd(
    gateway: Gateway, behind: Sequence[Service], waiters: int, queues: int, wait: int
) -> list[tuple[str, str]]:
    """Let many wait, and wake each of them by one message. What came of it."""
    rows = []
    project = "waiters"
    target = Target("127.0.0.1", gateway.port, project, wait)
    names = [f"queue-{number}" for number in range(queues)]
    api = Api(gateway.url, project)
    for name in names:
        api.put(f"/v2/queues/{name}").raise_for_status()
    await asyncio.sleep(REST)
    alone = await asyncio.to_thread(rate_of_others, gateway, project)
    arrivals = Arrivals()
    waiting = Crowd(target, arrivals.polled.setdefault, arrivals.feed)
    before = memory(gateway)
    for number, name in zip(range(waiters), itertools.cycle(names), strict=False):
        (waiting.poll if number // queues % 2 else waiting.feed)(name)
    await until(lambda: waiting.waiting + waiting.broken == waiters, "everybody to wait")
    await asyncio.sleep(5.0)
    rows.append(("memory of each", f"{(memory(gateway) - before) / waiters / 1024:.1f} KiB"))
    used, of_others = cpu_of(gateway), [cpu_of(service) for service in behind]
    answers = waiting.answers
    await asyncio.sleep(LOOK)
    rows.append(("CPU while nothing happens", f"{(cpu_of(gateway) - used) / LOOK:.1%} of a core"))
    for service, then in zip(behind, of_others, strict=True):
        rows.append((f"CPU of {service.name} meanwhile", f"{(cpu_of(service) - then) / LOOK:.1%} of a core"))
    rows.append(("polls that ended and began again meanwhile", str(waiting.answers - answers)))
    beside_them = await asyncio.to_thread(rate_of_others, gateway, project)
    rows.append(("calls per second of others, alone and beside them", f"{alone:.0f}, {beside_them:.0f}"))
    posts: asyncio.Queue[str] = asyncio.Queue()
    polls = waiters // 2
    for _, name in zip(range(polls), itertools.cycle(names), strict=False):
        posts.put_nowait(name)
    await asyncio.gather(*(
        post(target, posts, arrivals.answered.setdefault, PAUSE) for _ in range(POSTERS)
    ))
    await until(lambda: len(arrivals.polled) == polls, "each poll's message")
    await asyncio.sleep(1.0)
    rows.append((f"{len(arrivals.polled)} of {polls} polls woken", shown(arrivals.of_polls())))
    per_queue = -(-polls // queues)
    feeds = (waiters - polls) * per_queue
    rows.append((f"{len(arrivals.of_feeds())} of {feeds} events of feeds", shown(arrivals.of_feeds())))
    rows.append(("connections that broke, calls refused for a while", f"{waiting.broken}, {waiting.refused}"))
    await waiting.end()
    return rows


async def alone(waits_at: Gateway, posts_at: Gateway, name: str, wait: int) -> list[tuple[str, str]]:
    """One poll and one feed of a queue, and a post now and then."""
    arrivals = Arrivals()
    target = Target("127.0.0.1", waits_at.port, "alone", wait)
    through_it = Target("127.0.0.1", posts_at.port, "alone", wait)
    Api(waits_at.url, "alone").put(f"/v2/queues/{name}").raise_for_status()
    waiting = Crowd(target, arrivals.polled.setdefault, arrivals.feed)
    waiting.poll(name)
    waiting.feed(name)
    await until(lambda: waiting.waiting == 2, "both to wait")
    await asyncio.sleep(1.5)
    posts: asyncio.Queue[str] = asyncio.Queue()
    for _ in range(ALONE):
        posts.put_nowait(name)
    await post(through_it, posts, arrivals.answered.setdefault, 0.12)
    await until(lambda: len(arrivals.polled) == ALONE, "each message")
    await asyncio.sleep(0.5)
    await waiting.end()
    return [("poll", shown(arrivals.of_polls())), ("feed", shown(arrivals.of_feeds()))]


def memory(service: Service) -> int:
    """Bytes of resident memory of a service with its children."""
    process = psutil.Process(service.pid)
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)])


def measure(options: Options, behind: Sequence[Service], waiters: int, queues: int, wait: int) -> None:
    """Measure a gateway with these options, and print what came of it."""
    with contextlib.ExitStack() as stack:
        gateway = started(stack, Gateway(options), print)
        print(table(("of the crowd", "measured"), asyncio.run(crowd(gateway, behind, waiters, queues, wait))))
    with contextlib.ExitStack() as stack:
        first, second = started(stack, Gateway(options), print), started(stack, Gateway(options), print)
        rows = [(f"{kind}, the same gateway", text) for kind, text in asyncio.run(alone(first, first, "same", wait))]
        rows += [(f"{kind}, another gateway", text) for kind, text in asyncio.run(alone(first, second, "other", wait))]
        print(table(("from the 201 to the answer", "measured"), rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser("python -m functional.waiters", description=description, epilog=epilog)
    parser.add_argument("--waiters", type=int, default=5000, help="half of them polls, half feeds (5000)")
    parser.add_argument("--queues", type=int, default=500, help="queues that they wait for (500)")
    parser.add_argument("--wait", type=int, default=20, help="seconds that a poll waits, and then begins again (20)")
    parser.add_argument("--on", choices=("embedded", "hybrid"), action="append", help="may be repeated (both)")
    chosen = parser.parse_args(arguments)
    try:
        for kind in chosen.on or ("embedded", "hybrid"):
            print(f"{kind}, {chosen.waiters} who wait for {chosen.queues} queues")
            with contextlib.ExitStack() as stack:
                behind: list[Service] = []
                if kind == "hybrid":
                    rabbitmq, mongodb = started(stack, RabbitMQ(), print), started(stack, MongoDB(), print)
                    behind = [rabbitmq, mongodb]
                    options = merge(through(rabbitmq), beside(mongodb, "marconi"))
                else:
                    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="marconi-")))
                    options = merge(loopback(), sqlite(folder))
                options = merge(options, {"transport": {"max_wait": chosen.wait}})
                measure(options, behind, chosen.waiters, chosen.queues, chosen.wait)
    except (Missing, StartFailed) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
