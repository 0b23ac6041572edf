"""What the broker and the side-store allow: bare publishers with confirms, and bare inserts and deletes.

Each is a process of its own with as many threads as the gateway has connections in the workload beside it, and does
nothing but that. So it tells how much of the possible the gateway makes of it.
"""

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import amqp
import pymongo
from bson import Binary
from kombu.utils.url import parse_url
from pymongo import WriteConcern

from functional.services.mongodb import MongoDB
from functional.services.rabbitmq import RabbitMQ
from gateway.bench.messages import random_body
from gateway.bench.progress import Progress
from gateway.bench.report import table
from gateway.bench.rounds import Result, Server, run
from gateway.bench.settings import Settings
from gateway.bench.workloads import named

#: The gateway's workload, what is bare beside it, and with how many threads.
BESIDE = (
    ("post-1", "publish", 8), ("post-20", "publish", 8),
    ("cycle-1", "insert and delete", 4), ("cycle-20", "insert and delete", 4), ("cycle-20x16", "insert and delete", 16),
)

HEAD = ("work", "bare", "threads", "bare msg/s", "gateway msg/s", "gateway / bare", "low–high", "wanted")

#: Of what is possible, the part that the project asks of itself.
WANTED = {"post-20": 0.85}

#: Seconds that all threads may take to connect.
CONNECTED_WITHIN = 30.0

#: Moves one batch of messages; made by each thread for itself.
Step = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """Messages per second of a workload, round by round."""

    work: str
    bare: str
    threads: int
    bare_rates: Sequence[float]
    gateway_rates: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """The gateway's rate by that of the bare one, round by round."""
        return [ours / bare for ours, bare in zip(self.gateway_rates, self.bare_rates, strict=True)]


def measure(
    server: Server, rabbitmq: RabbitMQ, mongodb: MongoDB, settings: Settings, progress: Progress
) -> list[Row]:
    """Each workload of BESIDE on the gateway and bare, in turns."""
    once = replace(settings, rounds=1)
    rows = []
    for work, bare, threads in BESIDE:
        batch = named(work).batch
        uri = rabbitmq.uri if bare == "publish" else mongodb.uri
        theirs, ours = [], []
        for number in range(settings.rounds):
            for turn in ("bare", "gateway") if number % 2 == 0 else ("gateway", "bare"):
                if turn == "gateway":
                    (result,) = run([server], [named(work)], once, progress)
                    ours.append(_rate(result))
                else:
                    progress.say(f"{work}: {bare}, bare, round {number + 1}/{settings.rounds}")
                    theirs.append(_bare_rate(bare, uri, threads, batch, settings))
        rows.append(Row(work, bare, threads, theirs, ours))
    return rows


def rows_table(rows: Sequence[Row]) -> str:
    """All rows."""
    return table(HEAD, [
        (
            row.work, row.bare, str(row.threads), f"{median(row.bare_rates):,.0f}", f"{median(row.gateway_rates):,.0f}",
            f"{median(row.ratios):.2f}×", f"{min(row.ratios):.2f}–{max(row.ratios):.2f}",
            f"≥ {WANTED[row.work]:g}×" if row.work in WANTED else "",
        )
        for row in rows
    ])


def _rate(result: Result) -> float:
    (turns,) = result.turns.values()
    return turns[0].messages(result.workload.counted) / turns[0].seconds


def _bare_rate(bare: str, uri: str, threads: int, batch: int, settings: Settings) -> float:
    numbers = threads, batch, settings.body_size, settings.warm_up, settings.duration
    ran = subprocess.run(
        [sys.executable, "-m", "functional.peers.physical", bare, uri, *map(str, numbers)],
        stdout=subprocess.PIPE, text=True, check=True,
    )
    return float(ran.stdout)


# -- the process that is measured -------------------------------------------------------------------------------------


def _publisher(uri: str, queue: str, batch: int, body: bytes) -> Step:
    """Publishes a batch to a quorum queue, and waits until all of it is confirmed."""
    connection = _connected(uri)
    channel = connection.channel()
    channel.queue_declare(queue, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})
    channel.confirm_select()
    confirmed = 0

    def acknowledged(tag: int, multiple: bool) -> None:
        nonlocal confirmed
        confirmed = max(confirmed, tag) if multiple else confirmed + 1

    channel.events["basic_ack"].add(acknowledged)
    published = 0

    def step() -> None:
        nonlocal published
        published += batch
        for _ in range(batch):
            channel.basic_publish(amqp.Message(body, delivery_mode=2), routing_key=queue)
        while confirmed < published:
            connection.drain_events()

    return step


def _connected(uri: str) -> amqp.Connection:
    """A connection to an amqp:// URI with a port."""
    parts = parse_url(uri)
    connection = amqp.Connection(
        f"{parts['hostname']}:{parts['port']}", parts["userid"], parts["password"], virtual_host=parts["virtual_host"]
    )
    connection.connect()
    return connection


def _writer(uri: str, batch: int, body: bytes) -> Step:
    """Inserts a batch of documents and deletes each of them, all with a majority and the journal."""
    collection = pymongo.MongoClient[dict[str, Any]](uri).get_database("bare").get_collection(
        "messages", write_concern=WriteConcern("majority", j=True)
    )

    def step() -> None:
        ids = [uuid.uuid4().hex for _ in range(batch)]
        collection.insert_many([{"_id": id_, "body": Binary(body)} for id_ in ids], ordered=False)
        for id_ in ids:
            collection.delete_one({"_id": id_})

    return step


def work(bare: str, uri: str, threads: int, batch: int, body_size: int, warm_up: float, duration: float) -> float:
    """Messages per second of so many threads."""
    body = random_body(body_size)
    queue = f"bare-{uuid.uuid4().hex[:8]}"
    begin = threading.Barrier(threads + 1)
    counts = [0] * threads
    ended = threading.Event()

    def repeat(number: int) -> None:
        step = _publisher(uri, queue, batch, body) if bare == "publish" else _writer(uri, batch, body)
        begin.wait(CONNECTED_WITHIN)
        while not ended.is_set():
            step()
            counts[number] += batch

    workers = [threading.Thread(target=repeat, args=(number,), daemon=True) for number in range(threads)]
    for worker in workers:
        worker.start()
    begin.wait(CONNECTED_WITHIN)
    time.sleep(warm_up)
    before, start = sum(counts), time.monotonic()
    time.sleep(duration)
    after, end = sum(counts), time.monotonic()
    ended.set()
    for worker in workers:
        worker.join()
    if bare == "publish":
        _connected(uri).channel().queue_delete(queue)
    return (after - before) / (end - start)


if __name__ == "__main__":
    chosen, address, *numbers = sys.argv[1:]
    print(work(chosen, address, *map(int, numbers[:3]), *map(float, numbers[3:])))
