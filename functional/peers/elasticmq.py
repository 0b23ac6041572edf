"""ElasticMQ, a server of the SQS API that keeps messages in memory and in a file, as a peer of FIFO queues.

It is fetched from Maven Central into a folder of its own, which is kept for the next time. It is driven by the JSON
protocol of SQS; see the API reference of Amazon SQS for the actions.
"""

import itertools
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from functional.services.ports import accepts, free_port
from functional.services.process import Missing, Service
from gateway.bench import workloads
from gateway.bench.client import Client, Job, Request, Steps
from gateway.bench.cycles import countdown, cycle_in_groups, each
from gateway.bench.messages import group_numbers, unique_ids

VERSION = "1.7.1"

FETCH = Path(__file__).parents[1] / "fetch-elasticmq.sh"

#: Java's usual compiler, as in production, and enough memory for some hundred thousand messages.
JAVA_OPTIONS = ("-Xmx1g", "-XX:-UsePerfData")

#: Each change is written to the file before it is answered (`WRITE_DELAY=0`; by default up to half a second later), so
#: that the death of the process loses nothing. There is no fsync, and no option for one: a power failure may lose
#: messages. The limits of SQS are off, as batches of 20 are over them.
CONFIG = """\
include classpath("application.conf")
pekko.loglevel = "INFO"
node-address {{ protocol = http, host = "127.0.0.1", port = {port}, context-path = "" }}
rest-sqs {{ enabled = true, bind-port = {port}, bind-hostname = "127.0.0.1", sqs-limits = relaxed }}
messages-storage {{ enabled = true, uri = "jdbc:h2:file:{folder}/messages;WRITE_DELAY=0" }}
"""

#: Headers of each request.
HEADERS = {"Content-Type": "application/x-amz-json-1.0"}

#: Addresses of queues; only the name at the end counts.
QUEUES = "http://elasticmq/000000000000"

#: Seconds that a received message is hidden, as our claims last in the load.
VISIBILITY = "300"

#: Counts of a queue's messages: free, received and not deleted, and delayed.
COUNTS = (
    "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed",
)


def fetch(cache: Path) -> Path:
    """The folder of the server's classes, below `cache`. Raises Missing."""
    if shutil.which("java") is None:
        raise Missing("java is not installed; install it: `apt-get install default-jre-headless`")
    folder = cache / f"elasticmq-{VERSION}"
    try:
        subprocess.run([FETCH, folder], check=True)
    except subprocess.CalledProcessError:
        raise Missing(f"ElasticMQ can't be fetched: `functional/{FETCH.name} {folder}` says why") from None
    return folder / "lib"


class ElasticMQ(Service):
    """ElasticMQ on 127.0.0.1, its messages in a file, ready when it answers."""

    def __init__(self, cache: Path) -> None:
        self._classes = fetch(cache)
        super().__init__("elasticmq")
        self.port = free_port()
        self._config = self.folder / "elasticmq.conf"
        self._config.write_text(CONFIG.format(port=self.port, folder=self.folder))

    @property
    def url(self) -> str:
        """Root of the service, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [
            "java", *JAVA_OPTIONS, f"-Dconfig.file={self._config}", "-cp", f"{self._classes}/*",
            "org.elasticmq.server.Main",
        ]

    def is_ready(self) -> bool:
        return accepts(self.port)


def address(queue: str, groups: int) -> str:
    """The address of a queue; one for each number of groups, as projects separate ours."""
    return f"{QUEUES}/{queue}-{groups}.fifo"


def action(name: str, document: bytes, head: bytes) -> bytes:
    """The bytes of a request for an action of SQS."""
    return b"POST / HTTP/1.1\r\n%bX-Amz-Target: AmazonSQS.%b\r\nContent-Length: %d\r\n\r\n%b" % (
        head, name.encode(), len(document), document,
    )


def _request(
    client: Client, kind: str, name: str, document: Mapping[str, Any],
    messages: int | Callable[[bytes], Sequence[object]] = 0, more: bool = False,
) -> Request:
    return Request(kind, action(name, orjson.dumps(document), client.head), (200,), messages, more)


def entries(client: Client) -> Iterator[bytes]:
    """Messages to post, endlessly: what is in one, without the brackets. The body is as long as ours."""
    for group, dedup_id in zip(group_numbers(client), unique_ids(), strict=True):
        yield b'"MessageBody":%b,"MessageGroupId":"%d","MessageDeduplicationId":"%b"' % (client.body, group, dedup_id)


def send(client: Client, queue: str, made: Iterator[bytes]) -> Request:
    """Post a batch, or a message alone by the action for that."""
    batch = list(itertools.islice(made, client.batch))
    to = b'{"QueueUrl":"%b",' % address(queue, client.groups).encode()
    if client.batch == 1:
        return Request("post", action("SendMessage", b"%b%b}" % (to, batch[0]), client.head), (200,), 1)
    listed = b",".join(b'{"Id":"%d",%b}' % (number, entry) for number, entry in enumerate(batch))
    return Request("post", action("SendMessageBatch", b'%b"Entries":[%b]}' % (to, listed), client.head), (200,), sent)


def sent(body: bytes) -> Sequence[object]:
    """What was posted of a batch. KeyError if a message was not, as the status is 200 all the same."""
    document = orjson.loads(body)
    if document.get("Failed"):
        raise KeyError("Failed")
    found: Sequence[object] = document["Successful"]
    return found


def received(body: bytes) -> Sequence[object]:
    """The messages in an answer; it may leave out an empty list."""
    found: Sequence[object] = orjson.loads(body).get("Messages", ())
    return found


def receive(client: Client, queue: str) -> Request:
    """Claim up to a batch."""
    wanted = {"QueueUrl": address(queue, client.groups), "MaxNumberOfMessages": client.batch}
    return _request(client, "claim", "ReceiveMessage", wanted, received, more=True)


def delete(client: Client, queue: str, items: Sequence[Any]) -> Steps:
    """Delete what was received, one by one."""
    return each(
        _request(client, "delete", "DeleteMessage", {
            "QueueUrl": address(queue, client.groups), "ReceiptHandle": item["ReceiptHandle"],
        }, 1, more=left > 0)
        for left, item in countdown(items)
    )


def cycle(client: Client) -> Steps:
    """Post a batch, claim as many, delete what was claimed."""
    made = entries(client)
    yield from cycle_in_groups(
        client, lambda queue: send(client, queue, made), lambda queue: receive(client, queue),
        lambda queue, items: delete(client, queue, items),
    )


def create_queues(client: Client) -> Steps:
    """Create this connection's part of the queues."""
    for queue in client.queues[client.index::client.count]:
        name = address(queue, client.groups).removeprefix(f"{QUEUES}/")
        attributes = {"FifoQueue": "true", "VisibilityTimeout": VISIBILITY}
        yield _request(client, "make", "CreateQueue", {"QueueName": name, "Attributes": attributes})


def delete_queues(client: Client) -> Steps:
    """Delete this connection's part of the queues."""
    for queue in client.queues[client.index::client.count]:
        yield _request(client, "remove", "DeleteQueue", {"QueueUrl": address(queue, client.groups)})


DIALECT: Mapping[Job, Job] = {
    workloads.cycle: cycle, workloads.make_queues: create_queues, workloads.delete_queues: delete_queues,
}
