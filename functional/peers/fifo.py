"""FIFO queues of 1, 10 and 1,000 groups beside ordinary queues of the same gateway, and beside those of ElasticMQ.

Each kind of queue is a server of its own in the tables: those of one gateway are in projects, those of ElasticMQ have
names of their own. The messages that are left at the end are counted by the servers, and have to be those that were
posted and not deleted: a status alone does not show that a message was enqueued and handed out once.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import requests

from functional.deployments import beside, loopback, sqlite, through
from functional.http import TIMEOUT, Api
from functional.peers import elasticmq
from functional.peers.elasticmq import ElasticMQ
from functional.services.gateway import Gateway, merge
from functional.services.mongodb import MongoDB
from functional.services.process import started
from functional.services.rabbitmq import RabbitMQ
from gateway.bench import workloads
from gateway.bench.client import Client, Job, Steps
from gateway.bench.cpu import CPUMeter
from gateway.bench.report import table
from gateway.bench.rounds import Result, Server

GATEWAY, EMBEDDED, ELASTICMQ = "gateway", "embedded", "elasticmq"

#: What is measured.
WORKS = ("cycle-1", "cycle-20")

#: Numbers of groups.
GROUPS = (1, 10, 1000)

#: Messages in a page of a list.
PAGE = 20

#: Counts the messages in a queue, claimed ones included.
Count = Callable[[str], int]


def ordinary(owner: str) -> str:
    """Name of the ordinary queues."""
    return f"{owner}, ordinary"


def grouped(owner: str, groups: int, dedup_ids: bool = False) -> str:
    """Name of the FIFO queues with so many groups."""
    return f"{owner}, {groups:,} group{'' if groups == 1 else 's'}{', dedup ids' if dedup_ids else ''}"


#: FIFO beside ordinary queues, and beside ElasticMQ, whose messages all have a dedup id.
PAIRS = (
    *((grouped(owner, groups), ordinary(owner)) for owner in (GATEWAY, EMBEDDED) for groups in GROUPS),
    *(
        (grouped(owner, groups, True), grouped(ELASTICMQ, groups))
        for owner in (GATEWAY, EMBEDDED) for groups in GROUPS
    ),
)


@dataclass(frozen=True)
class Measured:
    """Servers to measure in turns, the meters of what is behind them, and how to count messages, by name."""

    servers: list[Server]
    watched: dict[str, CPUMeter]
    counts: dict[str, Count]


def serve(stack: contextlib.ExitStack, cache: Path, say: Callable[[str], None]) -> Measured:
    """Start all of them; the stack ends them. Raises Missing or StartFailed."""
    peer = started(stack, ElasticMQ(cache), say)
    rabbitmq, mongodb = started(stack, RabbitMQ(), say), started(stack, MongoDB(), say)
    hybrid = started(stack, Gateway(merge(through(rabbitmq), beside(mongodb, "marconi"))), say)
    embedded = Gateway({})
    embedded.configure(merge(loopback(), sqlite(embedded.folder)))
    started(stack, embedded, say)
    kinds = [*kinds_of(GATEWAY, hybrid), *kinds_of(EMBEDDED, embedded), *kinds_of_elasticmq(peer)]
    return Measured(
        [server for server, _ in kinds],
        {"RabbitMQ": CPUMeter([rabbitmq.pid]), "MongoDB": CPUMeter([mongodb.pid])},
        {server.name: count for server, count in kinds},
    )


def kinds_of(owner: str, gateway: Gateway) -> Iterator[tuple[Server, Count]]:
    """The kinds of queues of a gateway."""
    jobs: Mapping[Job, Job] = {job: job for job in (workloads.cycle, workloads.make_queues, workloads.delete_queues)}
    dialects: dict[str, Mapping[Job, Job] | None] = {ordinary(owner): None}
    for dedup_ids in (False, True):
        dialects |= {grouped(owner, groups, dedup_ids): in_groups(jobs, groups, dedup_ids) for groups in GROUPS}
    for number, (name, dialect) in enumerate(dialects.items()):
        project = f"kind-{number}"
        server = Server(name, gateway.url, {"X-Project-ID": project}, CPUMeter([gateway.pid]), dialect)
        yield server, partial(count_landed, Api(gateway.url, project))


def kinds_of_elasticmq(peer: ElasticMQ) -> Iterator[tuple[Server, Count]]:
    """The kinds of queues of ElasticMQ."""
    for groups in GROUPS:
        dialect = in_groups(elasticmq.DIALECT, groups, True)
        server = Server(grouped(ELASTICMQ, groups), peer.url, elasticmq.HEADERS, CPUMeter([peer.pid]), dialect)
        yield server, partial(count_in_elasticmq, peer.url, groups)


def in_groups(jobs: Mapping[Job, Job], groups: int, dedup_ids: bool) -> Mapping[Job, Job]:
    """The jobs, for queues with so many groups."""
    return {job: partial(_in_groups, own, groups, dedup_ids) for job, own in jobs.items()}


def _in_groups(job: Job, groups: int, dedup_ids: bool, client: Client) -> Steps:
    return job(replace(client, groups=groups, dedup_ids=dedup_ids))


def count_landed(api: Api, queue: str) -> int:
    """How many messages a queue of a gateway holds. Lists all of them."""
    path, count = f"/v2/queues/{queue}/messages?echo=true&include_claimed=true&limit={PAGE}", 0
    while True:
        answer = api.get(path)
        answer.raise_for_status()
        document = answer.json()
        if not document["messages"]:
            return count
        count += len(document["messages"])
        path = next(link["href"] for link in document["links"] if link["rel"] == "next")


def count_in_elasticmq(url: str, groups: int, queue: str) -> int:
    """How many messages a queue of ElasticMQ holds."""
    wanted = {"QueueUrl": elasticmq.address(queue, groups), "AttributeNames": list(elasticmq.COUNTS)}
    headers = elasticmq.HEADERS | {"X-Amz-Target": "AmazonSQS.GetQueueAttributes"}
    answer = requests.post(url, json=wanted, headers=headers, timeout=TIMEOUT)
    answer.raise_for_status()
    return sum(int(answer.json()["Attributes"][name]) for name in elasticmq.COUNTS)


def flow_table(results: Sequence[Result], counts: Mapping[str, Count]) -> str:
    """What was posted, deleted and left in all turns of each, warm-up included, and whether that adds up."""
    rows = []
    for result in results:
        for name, turns in result.turns.items():
            posted, deleted = (
                sum(turn.operations[kind].all_messages for turn in turns if kind in turn.operations)
                for kind in ("post", "delete")
            )
            left = sum(counts[name](queue) for queue in result.queues)
            agreed = "yes" if left == posted - deleted else "no"
            rows.append((result.workload.name, name, f"{posted:,}", f"{deleted:,}", f"{left:,}", agreed))
    return table(("work", "server", "posted", "deleted", "left", "adds up"), rows)
