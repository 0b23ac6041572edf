"""RabbitMQ's own HTTP interface, the management plugin, as a server that `marconi bench` can measure.

Publishing there waits for no confirm, and what is fetched is gone: it promises less than the gateway. See "HTTP API" in
the plugin's documentation; it posts one message with each request.
"""

import base64
from collections.abc import Mapping

import orjson

from functional.services.ports import free_port
from functional.services.rabbitmq import RabbitMQ
from gateway.bench import workloads
from gateway.bench.client import ERROR_PAUSE, Client, Job, Pause, Request, Steps
from gateway.bench.cpu import CPUMeter
from gateway.bench.rounds import Server

CREDENTIALS = "Basic " + base64.b64encode(b"guest:guest").decode()

#: As the gateway's queues are.
QUEUE = orjson.dumps({"durable": True, "arguments": {"x-queue-type": "quorum"}})

#: The default virtual host.
VHOST = "%2F"


class ManagedRabbitMQ(RabbitMQ):
    """A node with the management plugin."""

    def __init__(self) -> None:
        super().__init__()
        self.management_port = free_port()
        (self.folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
        with (self.folder / "rabbitmq.conf").open("a") as config:
            config.write(f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {self.management_port}\n")

    @property
    def management(self) -> Server:
        """What to measure. Its CPU time is the whole broker's: there is nothing in front of it."""
        url = f"http://127.0.0.1:{self.management_port}"
        return Server("management", url, {"Authorization": CREDENTIALS}, CPUMeter([self.pid]), DIALECT)


def _publish(client: Client, queue: str) -> Request:
    message = orjson.dumps({
        "properties": {"delivery_mode": 2, "content_type": "application/json"},
        "routing_key": queue,
        "payload": client.body.decode(),
        "payload_encoding": "string",
    })
    data = client.request("POST", f"/api/exchanges/{VHOST}/amq.default/publish", message)
    return Request("post", data, (200,), routed)


def routed(body: bytes) -> list[object]:
    """The message, if it went to a queue: the status is 200 too if it did not. KeyError then."""
    if not orjson.loads(body)["routed"]:
        raise KeyError("routed")
    return [body]


def publish(client: Client) -> Steps:
    """Post messages, one with each request."""
    for queue in client.turns():
        reply = yield _publish(client, queue)
        if not reply.ok:
            yield Pause(ERROR_PAUSE)


def fetch(client: Client) -> Steps:
    """Post a batch, and take as many out in one step."""
    wanted = orjson.dumps({"count": client.batch, "ackmode": "ack_requeue_false", "encoding": "auto"})
    for queue in client.turns():
        for _ in range(client.batch):
            yield _publish(client, queue)
        data = client.request("POST", f"/api/queues/{VHOST}/{queue}/get", wanted)
        reply = yield Request("pop", data, (200,), orjson.loads)
        if not reply.ok:
            yield Pause(ERROR_PAUSE)


def declare(client: Client) -> Steps:
    """Make its part of the queues."""
    for queue in client.queues[client.index::client.count]:
        yield Request("make", client.request("PUT", f"/api/queues/{VHOST}/{queue}", QUEUE), (201, 204))


def delete(client: Client) -> Steps:
    """Delete its part of the queues."""
    for queue in client.queues[client.index::client.count]:
        yield Request("remove", client.request("DELETE", f"/api/queues/{VHOST}/{queue}"), (204,))


DIALECT: Mapping[Job, Job] = {
    workloads.post: publish,
    workloads.pop: fetch,
    workloads.make_queues: declare,
    workloads.delete_queues: delete,
}
