"""Gateways from before subscriptions came, and those of today, beside each other on one RabbitMQ and one MongoDB."""

import threading
import uuid
from collections.abc import Callable, Iterator

import pytest
import requests

from functional.deployments import COMMON, beside, through
from functional.earlier import EarlierGateway, commit_before
from functional.http import Api
from functional.notify.receivers import fast, receiving
from functional.notify.subscribers import Subscriber
from functional.services.gateway import Gateway, Options, merge
from functional.services.mongodb import MongoDB
from functional.services.process import Missing
from functional.services.rabbitmq import RabbitMQ
from functional.wait import wait_until

#: Messages that each producer posts one by one.
COUNT = 60


@pytest.fixture
def options(rabbitmq: RabbitMQ, mongodb: MongoDB) -> Options:
    return merge(COMMON, through(rabbitmq), beside(mongodb, f"marconi_upgrade_{uuid.uuid4().hex[:8]}"))


@pytest.fixture
def earlier(options: Options) -> Iterator[EarlierGateway]:
    try:
        commit = commit_before("gateway/core/subscriptions")
    except Missing as missing:
        pytest.skip(str(missing))
    with EarlierGateway(options, commit) as gateway:
        assert Api(gateway.url).get("/v2/queues/q/subscriptions").status_code == 404, "it is not that old"
        yield gateway


@pytest.fixture
def now(earlier: EarlierGateway, options: Options) -> Iterator[Gateway]:
    notification = {"notification": {"allowed_networks": ["127.0.0.1/32"]}}
    with Gateway(merge(options, notification)) as gateway:
        yield gateway


def side_by_side(*works: Callable[[], None]) -> None:
    """Do all of it at once; raises what one of them has raised."""
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def post(api: Api, queue: str, body: str) -> str:
    """The id of a message that was answered 201."""
    answer = api.post(f"/v2/queues/{queue}/messages", json={"messages": [{"body": body, "ttl": 600}]})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["resources"][0]).rpartition("/")[2]


def posting(api: Api, queue: str, who: str, posted: set[str]) -> Callable[[], None]:
    def work() -> None:
        for number in range(COUNT):
            post(api, queue, f"{who}-{number}")
            posted.add(f"{who}-{number}")

    return work


def working_off(api: Api, queue: str, wanted: int, got: list[str]) -> Callable[[], None]:
    """Claim and delete until so many have been taken out, by all together."""
    def some() -> bool:
        answer = api.post(f"/v2/queues/{queue}/claims?limit=5", json={"ttl": 300, "grace": 60})
        assert answer.status_code in (201, 204), answer.text
        for message in answer.json()["messages"] if answer.status_code == 201 else ():
            assert api.delete(message["href"]).status_code == 204
            got.append(message["body"])
        return len(got) >= wanted

    return lambda: wait_until(some, 60, "all messages") and None


def rest(api: Api, queue: str) -> list[str]:
    """Take out what is left."""
    found: list[str] = []
    while messages := api.delete(f"/v2/queues/{queue}/messages?pop=10").json()["messages"]:
        found += [message["body"] for message in messages]
    return found


@pytest.mark.thorough
def test_old_and_new_gateways_share_queues_and_lose_nothing(earlier: EarlierGateway, now: Gateway):
    old = Api(earlier.url)
    new = old.at(now.url)
    for maker, queue in ((old, "made-by-old"), (new, "made-by-new")):
        assert maker.put(f"/v2/queues/{queue}", json={"_default_message_ttl": 900}).status_code == 201
        for reader in old, new:
            assert reader.get(f"/v2/queues/{queue}").json()["_default_message_ttl"] == 900
        posted: set[str] = set()
        got: list[str] = []
        side_by_side(
            posting(old, queue, "old", posted), posting(new, queue, "new", posted),
            working_off(old, queue, 2 * COUNT, got), working_off(new, queue, 2 * COUNT, got),
        )
        assert len(posted) == 2 * COUNT and sorted(got) == sorted(posted)
        assert rest(new, queue) == rest(old, queue) == []


@pytest.mark.thorough
def test_upgrade_under_load_loses_nothing_and_subscriptions_made_afterwards_get_all(
    earlier: EarlierGateway, now: Gateway, options: Options
):
    old = Api(earlier.url)
    new = old.at(now.url)
    for maker, queue in ((old, "made-by-old"), (new, "made-by-new")):
        assert maker.put(f"/v2/queues/{queue}", json={}).status_code == 201
    ended = threading.Event()
    posted: dict[str, set[str]] = {"made-by-old": set(), "made-by-new": set()}

    def produce(queue: str) -> None:
        """Through the old one while it is there: what it has not answered may have been posted or not."""
        number = 0
        while not ended.is_set():
            number += 1
            for api, who in ((old, "old"), (new, "new")):
                try:
                    post(api, queue, f"{who}-{number}")
                except requests.ConnectionError:
                    continue
                posted[queue].add(f"{who}-{number}")

    def upgrade() -> None:
        try:
            wait_until(lambda: all(len(bodies) > 20 for bodies in posted.values()), 30)
            assert earlier.stop() == 0
            before = {queue: len(bodies) for queue, bodies in posted.items()}
            wait_until(lambda: all(len(bodies) > before[queue] + 20 for queue, bodies in posted.items()), 30)
        finally:
            ended.set()

    side_by_side(upgrade, lambda: produce("made-by-old"), lambda: produce("made-by-new"))
    with receiving(fast) as receiver:
        for queue in posted:
            subscriber = Subscriber(new, queue)
            subscriber.subscribe(f"{receiver.url}/{queue}")
            later = {f"later-{number}" for number in range(20)}
            subscriber.post(*later)
            posted[queue] |= later
        expected = {(f"/hook/{queue}", f"later-{number}") for queue in posted for number in range(20)}
        wait_until(lambda: {(seen.path, seen.message) for seen in receiver.requests} >= expected, 30)
    for queue, bodies in posted.items():
        assert set(rest(new, queue)) >= bodies
