"""What a move must survive, one by one."""

import uuid
from collections.abc import Iterator

import pytest

from functional.http import Api
from functional.installed import require
from functional.migration.pools import ADMIN, DEFAULT, STORED, Pools
from functional.services.mongodb import find_mongod
from functional.services.rabbitmq import find_scripts
from functional.wait import wait_until

#: Pools of brokers: RabbitMQ as it is installed, and RabbitMQ 4.
NAMES = (DEFAULT, "rabbitmq-4")

#: Seconds for a move, with the ten after which a dead mover's work is taken over.
MOVE = 60.0

#: Says in a gateway's log that it moves a queue.
MOVES = "queue {}: this process does the work of its move"


@pytest.fixture(scope="module")
def pools() -> Iterator[Pools]:
    require(find_scripts)
    require(find_mongod)
    with Pools(print, NAMES) as started:
        yield started


class Queue:
    """A queue with a backlog, as its users and an administrator see it."""

    def __init__(self, pools: Pools) -> None:
        self.pools = pools
        self.name = f"queue-{uuid.uuid4().hex[:8]}"
        self.api = Api(pools.gateways[0].url, f"project-{uuid.uuid4().hex[:8]}")
        self.path = f"/v2/queues/{self.name}"

    def post(self, count: int) -> None:
        for start in range(0, count, 100):
            messages = [{"body": number} for number in range(start, min(count, start + 100))]
            answer = self.api.post(f"{self.path}/messages", json={"messages": messages})
            assert answer.status_code == 201, answer.text

    def migrate(self, target: str) -> None:
        answer = self.api.post(f"{self.path}/migrate", json={"pool": target}, headers=ADMIN)
        assert answer.status_code == 202, answer.text

    def phase(self) -> str | None:
        answer = self.api.get(f"{self.path}/migration", headers=ADMIN)
        move = answer.json()["migration"] if answer.status_code == 200 else None
        return move["phase"] if move else None

    def until_phase(self, *phases: str) -> None:
        wait_until(lambda: self.phase() in phases, MOVE, f"phase {phases}")

    def until_in(self, pool: str) -> None:
        there = {"pool": pool, "migration": None}
        wait_until(
            lambda: self.api.get(f"{self.path}/migration", headers=ADMIN).json() == there, MOVE, f"to be in {pool}"
        )

    def popped(self) -> list[int]:
        found: list[int] = []
        while page := self.api.delete(f"{self.path}/messages?pop=20").json()["messages"]:
            found += [message["body"] for message in page]
        return found

    def holders(self) -> list[str]:
        return self.pools.holders(self.api.project, self.name)


@pytest.fixture
def queue(pools: Pools) -> Iterator[Queue]:
    made = Queue(pools)
    yield made
    made.api.delete(made.path)
    made.api.close()


def test_another_gateway_takes_over_when_the_one_that_moves_is_killed(pools: Pools) -> None:
    queues = {target: Queue(pools) for target in ("rabbitmq-4", STORED)}
    logs = {target: MOVES.format(f"{queue.api.project}/{queue.name}") for target, queue in queues.items()}
    movers = {}
    for target, queue in queues.items():
        queue.post(1000)
        queue.migrate(target)
        movers[target] = wait_until(
            lambda log=logs[target]: next((gateway for gateway in pools.gateways if log in gateway.log), None), MOVE,
            "one to move it",
        )
        queue.until_phase("landed", "draining", "switching", "settling")
    killed = movers[STORED]
    killed.kill()
    other = next(gateway for gateway in pools.gateways if gateway is not killed)
    for target, queue in queues.items():
        queue.api = queue.api.at(other.url)
        queue.until_in(target)
        assert logs[target] in other.log
    pools.until_up()
    for target, queue in queues.items():
        assert queue.popped() == list(range(1000))
        assert queue.holders() == [target]


def test_move_that_is_cancelled_leaves_the_queue_where_it_is(queue: Queue) -> None:
    queue.post(500)
    queue.migrate("rabbitmq-4")
    answer = queue.api.delete(f"{queue.path}/migration", headers=ADMIN)
    if answer.status_code == 204:  # before its switch
        assert queue.phase() is None
        assert queue.holders() == [DEFAULT]
    else:
        assert answer.status_code == 409, answer.text
        queue.until_in("rabbitmq-4")
    assert queue.popped() == list(range(500))


@pytest.mark.parametrize(
    ("target", "phase"), [("rabbitmq-4", "switching"), ("rabbitmq-4", "settling"), (STORED, "landed")]
)
def test_queue_deleted_on_its_way_leaves_nothing_behind(queue: Queue, target: str, phase: str) -> None:
    queue.post(500)
    queue.migrate(target)
    queue.until_phase(phase)
    assert queue.api.delete(queue.path).status_code == 204
    wait_until(lambda: queue.holders() == [], 10, "nothing to be left")
    assert queue.api.get(f"{queue.path}/migration", headers=ADMIN).status_code == 404
    queue.post(1)
    assert queue.popped() == [0]
