"""Queues with subscribers move between RabbitMQ and a pool without a broker, while posts go on."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import count, cycle

import pytest

from functional.deployments import COMMON, beside, through
from functional.http import Api
from functional.notify.conftest import NOTIFYING
from functional.notify.receivers import Handler, Receiver, Request, receiving
from functional.notify.subscribers import Subscriber
from functional.services.gateway import Gateway, Options, merge
from functional.services.mongodb import MongoDB
from functional.services.rabbitmq import RabbitMQ
from functional.wait import wait_until

ADMIN = {"X-Roles": "admin"}

#: So that RabbitMQ gives back soon what a dead client held, and its old queues need not be kept for long.
HASTY: Options = {"bridge": {"heartbeat": 2, "timeout": 2}, "side_store": {"timeout": 2}}

#: Seconds in which a queue has moved, and for which a post may wait: two are the promise, and the machine is busy.
MOVED, PATIENCE = 60, 4.0


def is_refused(request: Request) -> bool:
    """Those that want it so get each fifth message at the second attempt."""
    return request.path.endswith("flaky") and request.message % 5 == 0 and request.attempt == 1


def flaky(handler: Handler, request: Request) -> None:
    handler.answer(500 if is_refused(request) else 204)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(flaky) as receiver:
        yield receiver


@pytest.fixture
def apis(start_gateway: Callable[..., Gateway], rabbitmq: RabbitMQ, mongodb: MongoDB) -> Iterator[list[Api]]:
    """A client of each of two gateways, with the pool `archive`, which is of the flavor of its name."""
    name = f"marconi_moves_{uuid.uuid4().hex[:8]}"
    options = merge(COMMON, NOTIFYING, through(rabbitmq), beside(mongodb, name), HASTY)
    first = Api(start_gateway(**options).url)
    apis = [first, Api(start_gateway(**options).url, first.project)]
    pool = {"weight": 1, "uri": mongodb.database_uri(f"{name}_archive"), "flavor": "archive"}
    assert first.put("/v2/pools/archive", json=pool, headers=ADMIN).status_code == 201
    assert first.put("/v2/flavors/archive", json={"pool_list": ["archive"]}, headers=ADMIN).status_code == 201
    yield apis
    for api in apis:
        api.close()


def phase(api: Api, queue: str) -> str | None:
    move = api.get(f"/v2/queues/{queue}/migration", headers=ADMIN).json()["migration"]
    return move and str(move["phase"])


class Traffic:
    """Posts numbers to a queue through one gateway and the other, for two subscribers, until it is stopped."""

    def __init__(self, apis: list[Api], queue: str, receiver: Receiver):
        self._subscribers = [Subscriber(api, queue) for api in apis]
        self._path = f"/{queue}"
        self._receiver = receiver
        for kind, most in ("strict", 1), ("flaky", 8):
            self._subscribers[0].subscribe(f"{receiver.url}{self._path}/{kind}", _max_in_flight=most)
        self.ids: list[str] = []
        self.longest = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for number, subscriber in zip(count(), cycle(self._subscribers), strict=False):
            if self._is_over.is_set():
                return
            begun = time.monotonic()
            self.ids += subscriber.post(number)
            self.longest = max(self.longest, time.monotonic() - begun)
            time.sleep(0.02)

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join(30)

    def got(self, kind: str) -> list[str]:
        """Ids of the messages that one of the subscribers has got."""
        found = [each for each in self._receiver.requests if each.path.endswith(f"{self._path}/{kind}")]
        return [each.id for each in found if not is_refused(each)]

    @property
    def has_all(self) -> bool:
        return all(set(self.got(kind)) == set(self.ids) for kind in ("strict", "flaky"))


def test_subscribers_get_all_in_order_while_queues_move_to_and_fro(apis: list[Api], receiver: Receiver) -> None:
    api, _ = apis
    assert api.put("/v2/queues/back", json={"_flavor": "archive"}).status_code == 201
    both = {"forth": "archive", "back": "default"}
    traffic = [Traffic(apis, queue, receiver) for queue in both]
    try:
        time.sleep(1)
        for queue, pool in both.items():
            answer = api.post(f"/v2/queues/{queue}/migrate", json={"pool": pool}, headers=ADMIN)
            assert answer.status_code == 202, answer.text
        # The old queue of one has to be kept for a while; nothing else is left to be done then.
        wait_until(lambda: (phase(api, "forth"), phase(api, "back")) == ("settling", None), MOVED, "both to move")
        time.sleep(1)
    finally:
        for each in traffic:
            each.stop()
    for each in traffic:
        assert len(each.ids) > 100 and each.longest < PATIENCE
    wait_until(lambda: all(each.has_all for each in traffic), 30, "all messages to come")
    assert [each.got("strict") for each in traffic] == [each.ids for each in traffic], "each once, in order"
