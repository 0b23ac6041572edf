"""The recipes of docs/pools.md, typed as they stand there: only addresses and the configuration file are others."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from functional.deployments import beside, loopback, sqlite, through
from functional.http import Api
from functional.installed import require
from functional.services.gateway import Gateway, find_command, merge
from functional.services.mongodb import MongoDB
from functional.services.rabbitmq import LATER, RabbitMQ
from functional.tours import blocks, replaced, section
from functional.wait import wait_until

#: Most of the time they wait until nobody can give a message back to the old broker.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DOCUMENT = Path(__file__).parents[2] / "docs/pools.md"

PROJECT = "demo"
ADMIN = {"X-Roles": "admin"}

#: So that an old queue need not be kept for long, and requests are taken from everybody.
OPTIONS = {"DEFAULT": {"admin_mode": True}, "bridge": {"heartbeat": 2, "timeout": 2}}

#: Seconds for the commands of one step: two moves wait for a heartbeat each.
STEP_TIMEOUT = 100.0

MESSAGES = 25


class Reader:
    """Somebody who follows a recipe on a gateway of his own. `addresses`: the document's, and what they are here."""

    def __init__(self, gateway: Gateway, addresses: dict[str, str]) -> None:
        self.gateway = gateway
        self.api = Api(gateway.url, PROJECT)
        self._addresses = addresses | {
            "http://127.0.0.1:8888": gateway.url,
            "/etc/marconi/marconi.conf": str(gateway.config_file),
        }
        self._api = next(block for block in blocks(DOCUMENT.read_text(), "sh") if "api() {" in block)

    def follow(self, title: str) -> None:
        """Type all of a recipe. Each line must succeed."""
        found = blocks(section(DOCUMENT.read_text(), title), "sh")
        assert found
        for block in found:
            self.type(block)

    def type(self, block: str) -> None:
        script = replaced(f"{self._api}\n{block}", self._addresses)
        script = re.sub(r"^marconi ", f"{find_command()} ", script, flags=re.M)
        done = subprocess.run(
            ["bash", "-e", "-c", script], capture_output=True, text=True, timeout=STEP_TIMEOUT, cwd=self.gateway.folder
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        assert set(re.findall(r"\[(\d+)\]$", done.stdout, re.M)) <= {"201", "202", "204"}, done.stdout

    def fill(self, *queues: str) -> None:
        for queue in queues:
            messages = [{"body": f"{queue} {number}"} for number in range(MESSAGES)]
            answer = self.api.post(f"/v2/queues/{queue}/messages", json={"messages": messages})
            assert answer.status_code == 201, answer.text

    def pool_of(self, queue: str) -> str:
        return self.api.get(f"/v2/queues/{queue}/migration", headers=ADMIN).json()["pool"]

    def assert_nothing_is_lost(self, queue: str) -> None:
        found: list[str] = []
        while page := self.api.delete(f"/v2/queues/{queue}/messages?pop=20").json()["messages"]:
            found += [message["body"] for message in page]
        assert found == [f"{queue} {number}" for number in range(MESSAGES)]


@pytest.fixture
def started() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_rabbitmq_3_to_rabbitmq_4(rabbitmq: RabbitMQ, started: ExitStack, tmp_path: Path) -> None:
    new = started.enter_context(require(lambda: RabbitMQ(unpacked=LATER)))
    old = merge(OPTIONS, through(rabbitmq), sqlite(tmp_path))
    gateway = started.enter_context(Gateway(old))
    reader = Reader(gateway, {"marconi:secret@new1,new2,new3:5672": f"guest:guest@127.0.0.1:{new.port}"})
    reader.fill("test", "orders")

    title = "RabbitMQ 3 to a RabbitMQ 4 cluster, without downtime"
    reader.follow(title)
    assert {reader.pool_of(queue) for queue in ("test", "orders")} == {"new"}

    assert "uri = loopback://" in section(DOCUMENT.read_text(), title)
    gateway.stop()
    gateway.configure(merge(OPTIONS, loopback(), sqlite(tmp_path)))
    gateway.start()
    for queue in ("test", "orders"):
        reader.assert_nothing_is_lost(queue)


def test_second_cluster_for_one_flavor(rabbitmq: RabbitMQ, started: ExitStack, tmp_path: Path) -> None:
    for vhost in ("bulk1", "bulk2"):
        rabbitmq.ctl("add_vhost", vhost)
        rabbitmq.ctl("set_permissions", "-p", vhost, "guest", ".*", ".*", ".*")
        started.callback(rabbitmq.ctl, "delete_vhost", vhost)
    gateway = started.enter_context(Gateway(merge(OPTIONS, through(rabbitmq), sqlite(tmp_path))))
    reader = Reader(gateway, {
        f"marconi:secret@{name}:5672/": f"guest:guest@127.0.0.1:{rabbitmq.port}/{name}" for name in ("bulk1", "bulk2")
    })
    reader.fill("clicks-old", "bills")
    reader.follow("A second cluster for one flavor")
    assert {queue: reader.pool_of(queue) for queue in ("clicks", "clicks-old", "bills")} == {
        "clicks": "bulk1", "clicks-old": "bulk1", "bills": "default"
    }
    reader.assert_nothing_is_lost("clicks-old")
    reader.assert_nothing_is_lost("bills")

    # Queues with the flavor are in one of its pools, and no other queue is.
    for number in range(20):
        reader.type(f"api -X PUT $v2/queues/clicks{number} -d '{{\"_flavor\": \"bulk\"}}'\n"
                    f"api -X PUT $v2/queues/bills{number}")
    assert {reader.pool_of(f"clicks{number}") for number in range(20)} == {"bulk1", "bulk2"}
    assert {reader.pool_of(f"bills{number}") for number in range(20)} == {"default"}


def test_from_zaqars_way_to_a_broker(
    rabbitmq: RabbitMQ, mongodb: MongoDB, started: ExitStack, tmp_path: Path
) -> None:
    gateway = started.enter_context(Gateway(merge(OPTIONS, loopback(), beside(mongodb, "recipes"))))
    reader = Reader(gateway, {"marconi:secret@rabbit1,rabbit2,rabbit3:5672": f"guest:guest@127.0.0.1:{rabbitmq.port}"})
    reader.fill("orders", "mail")
    reader.follow("From OpenStack Zaqar on MongoDB to a broker")
    for queue in ("orders", "mail"):
        assert reader.pool_of(queue) == "rabbit"
        reader.assert_nothing_is_lost(queue)
    wait_until(lambda: reader.api.get("/v2/health", headers=ADMIN).status_code == 200, 10, "all pools to be well")
