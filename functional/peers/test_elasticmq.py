"""ElasticMQ as it is compared with: messages really flow, and are in its file when it has answered."""

import io
import uuid
from collections.abc import Iterator

import pytest
import requests

from functional.http import TIMEOUT
from functional.installed import require
from functional.peers import elasticmq
from functional.peers.elasticmq import ElasticMQ
from functional.peers.fifo import GROUPS, count_in_elasticmq, flow_table, kinds_of_elasticmq
from functional.peers.zaqar import DEFAULT_CACHE
from gateway.bench.progress import Progress
from gateway.bench.rounds import run
from gateway.bench.settings import Settings
from gateway.bench.workloads import named

MESSAGES = 100


@pytest.fixture(scope="module")
def peer() -> Iterator[ElasticMQ]:
    with require(lambda: ElasticMQ(DEFAULT_CACHE)) as service:
        yield service


def call(peer: ElasticMQ, action: str, document: dict[str, object]) -> requests.Response:
    headers = elasticmq.HEADERS | {"X-Amz-Target": f"AmazonSQS.{action}"}
    return requests.post(peer.url, json=document, headers=headers, timeout=TIMEOUT)


def test_messages_flow_and_add_up(peer: ElasticMQ) -> None:
    kinds = list(kinds_of_elasticmq(peer))
    settings = Settings(duration=0.5, warm_up=0.2, rounds=2, processes=1)
    results = run([server for server, _ in kinds], [named("cycle-3")], settings, Progress(io.StringIO()), keep=True)
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in flow_table(results, {server.name: count for server, count in kinds}).splitlines()[2:]
    ]
    assert len(rows) == len(GROUPS)
    for _, _, posted, deleted, _, agreed in rows:
        assert int(posted.replace(",", "")) >= int(deleted.replace(",", "")) > 0
        assert agreed == "yes"
    for turns in results[0].turns.values():
        assert not any(operation.all_errors for turn in turns for operation in turn.operations.values())


def test_death_loses_nothing_that_was_answered(peer: ElasticMQ) -> None:
    name = uuid.uuid4().hex
    queue = elasticmq.address(name, 1)
    attributes = {"FifoQueue": "true", "VisibilityTimeout": elasticmq.VISIBILITY}
    call(peer, "CreateQueue", {"QueueName": queue.rpartition("/")[2], "Attributes": attributes}).raise_for_status()
    for number in range(MESSAGES):
        call(peer, "SendMessage", {
            "QueueUrl": queue, "MessageBody": "body", "MessageGroupId": "0", "MessageDeduplicationId": str(number),
        }).raise_for_status()

    peer.kill()
    peer.start()

    assert count_in_elasticmq(peer.url, 1, name) == MESSAGES
