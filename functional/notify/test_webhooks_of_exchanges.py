"""The recipe of docs/notifications.md that makes a webhook of an exchange, typed as it stands there."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest

from functional.deployments import sqlite, through
from functional.http import Api
from functional.installed import require
from functional.notify.receivers import fast, receiving
from functional.services.gateway import Gateway, merge
from functional.services.rabbitmq import RabbitMQ
from functional.tours import blocks, replaced, section, steps
from functional.wait import wait_until

DOCUMENT = (Path(__file__).parents[2] / "docs/notifications.md").read_text()
RECIPE = section(DOCUMENT, "Every RabbitMQ exchange as a webhook")

PROJECT = "demo"


@pytest.fixture
def channel(rabbitmq: RabbitMQ) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    """A native client's; the exchanges of the recipe are there before the gateway hears of them."""
    with pika.BlockingConnection(pika.URLParameters(rabbitmq.uri)) as connection:
        channel = connection.channel()
        for exchange in ("orders", "nova"):
            channel.exchange_declare(exchange, "topic")
        yield channel
        for exchange in ("orders", "nova"):
            channel.exchange_delete(exchange)


def test_what_is_published_natively_comes_by_http(
    rabbitmq: RabbitMQ, channel: pika.adapters.blocking_connection.BlockingChannel, tmp_path: Path
) -> None:
    (configuration,) = blocks(RECIPE, "ini")
    allow, networks = (line.partition(" = ")[2] for line in configuration.splitlines() if " = " in line)
    options = merge(through(rabbitmq), sqlite(tmp_path), {
        "bridging": {"allow": allow}, "notification": {"allowed_networks": networks},
    })
    orders, nova, purge = blocks(RECIPE, "sh")
    (publisher,) = blocks(RECIPE, "python")
    with receiving(fast) as receiver, require(lambda: Gateway(options)) as gateway:
        here = {
            "http://127.0.0.1:8888": gateway.url, "http://127.0.0.1:8000": f"http://127.0.0.1:{receiver.port}",
            "amqp://guest:guest@127.0.0.1:5672/": rabbitmq.uri,
        }

        def type_(block: str) -> list[str]:
            """Type a block after what the tour defines; the statuses."""
            defined = [step.command for step in steps(section(DOCUMENT, "Tour"))[:2]]
            script = replaced("\n".join([*defined, block]), here)
            done = subprocess.run(["bash", "-e", "-c", script], capture_output=True, text=True, timeout=60)
            return [line.rpartition("[")[2].rstrip("]") for line in done.stdout.splitlines()]

        try:
            assert type_(orders) == type_(nova) == ["201", "201"]
            subprocess.run([sys.executable, "-c", replaced(publisher, here)], check=True, timeout=60)
            for event in ("compute.instance.create.end", "keypair.create.end"):
                message = {"event_type": event, "publisher_id": "compute.host1", "priority": "INFO", "payload": {}}
                envelope = {"oslo.version": "2.0", "oslo.message": json.dumps(message)}
                channel.basic_publish("nova", "notifications.info", json.dumps(envelope).encode())
            wait_until(lambda: len(receiver.requests) == 2, 30, "both")
            assert type_(purge) == ["204"]
            channel.basic_publish("orders", "us.paid", b"{}")
            channel.basic_publish("orders", "eu.sent", b'{"item": "desk"}')
            wait_until(lambda: len(receiver.requests) == 3, 30, "one after the purge")
            got = [(request.path, json.loads(request.body)) for request in receiver.requests]
            assert [body for path, body in got if path == "/"] == [{"item": "lamp"}, {"item": "desk"}]
            (body,) = [body for path, body in got if path == "/nova"]
            assert (body["event_type"], body["priority"]) == ("compute.instance.create.end", "INFO")
        finally:
            api = Api(gateway.url, PROJECT)
            for queue in ("events", "nova"):
                for found in api.get(f"/v2/queues/{queue}/subscriptions").json()["subscriptions"]:
                    api.delete(f"/v2/queues/{queue}/subscriptions/{found['id']}")
                api.delete(f"/v2/queues/{queue}")
            api.close()
