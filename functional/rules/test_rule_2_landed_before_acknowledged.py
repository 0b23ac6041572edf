"""Rule 2: a message is acknowledged to the broker only once the side-store has it; no crash in between loses one."""

import random
import threading
import time
import uuid
from functools import partial

import pytest
import requests

from functional.api.helpers import create, id_of, listed, messages_path, post
from functional.brokers import broker_kind, gives_back_after
from functional.http import Api
from functional.services.redis import Redis
from functional.wait import wait_until
from gateway.core.messages.post import Post
from storage.errors import StoreUnavailable

MESSAGES = 400
CLAIMERS = 4
KILLS = 8

#: Seconds between the start of a gateway and its death, at random.
LIFE = (0.05, 0.4)


def test_killed_gateway_loses_no_message(pair, hybrid, queue):
    victim, survivor = pair
    api = Api(victim.url)
    create(api, queue)
    posted = {id_ for start in range(0, MESSAGES, 20) for id_ in post(api, queue, *range(start, start + 20))}
    delivered: set[str] = set()
    stop = threading.Event()

    def work() -> None:
        client = Api(victim.url, api.project)
        while not stop.is_set():
            try:
                answer = client.post(f"/v2/queues/{queue}/claims?limit=3", json={"ttl": 60, "grace": 60})
                for message in answer.json()["messages"] if answer.status_code == 201 else []:
                    delivered.add(message["id"])  # known before it is deleted: that answer may get lost
                    client.delete(message["href"])
            except (requests.RequestException, ValueError):
                stop.wait(0.01)  # the gateway is dead just now

    claimers = [threading.Thread(target=work) for _ in range(CLAIMERS)]
    for claimer in claimers:
        claimer.start()
    chance = random.Random(2)
    for _ in range(KILLS):
        time.sleep(chance.uniform(*LIFE))
        victim.kill()
        victim.start()
    stop.set()
    for claimer in claimers:
        claimer.join()

    time.sleep(gives_back_after())
    left = everything(api.at(survivor.url), queue)
    assert delivered, "the claimers have done nothing"
    assert posted - delivered - left == set()


def everything(api, queue):
    """The ids of all messages that are there, claimed or not."""
    found: set[str] = set()
    path = f"{messages_path(queue)}?echo=true&include_claimed=true&limit=20"
    while True:
        page = wait_until(lambda path=path: answer_of(api, path), 30, "a page of messages").json()
        found |= {id_of(message["href"].partition("?")[0]) for message in page["messages"]}
        if not page["links"]:
            return found
        path = page["links"][0]["href"]


def answer_of(api, path):
    """The answer, or None while the gateway asks to try again (the dead one's lease has to end)."""
    answer = api.get(path)
    return answer if answer.status_code == 200 else None


def test_landing_again_after_a_crash_before_the_acknowledgement_is_a_no_op(make_hybrid_core, queue):
    """The connection ends between landing and acknowledgement, so the broker delivers the same messages again."""
    first, second = make_hybrid_core(), make_hybrid_core()
    project = uuid.uuid4().hex
    posted = first.messages.post(project, queue, "client", [Post(b"1"), Post(b"2")], 0)
    info = first.directory.ensure(project, queue)

    first.pool.bridge.settle = partial(lose, first.pool.bridge)
    first_claim = first.claims.create(info, None, None, 10)
    wait_until(lambda: second.pool.bridge.depth(info.broker) == 2, 10, "the broker to take the messages back")
    second_claim = second.claims.create(second.directory.ensure(project, queue), None, None, 10)

    assert [message.id for message in first_claim] == posted
    assert second_claim == []
    assert second.pool.bridge.depth(info.broker) == 0, "what has landed before is acknowledged"


def lose(bridge, batch):
    """What the broker does when the client that has a batch dies; Redis waits for a lease before."""
    if broker_kind() is Redis:
        bridge.requeue(batch)
    else:
        batch.fetcher.close()


def test_message_that_did_not_land_goes_back_to_the_broker(make_hybrid_core, queue):
    first, second = make_hybrid_core(), make_hybrid_core()
    project = uuid.uuid4().hex
    posted = first.messages.post(project, queue, "client", [Post(b"1"), Post(b"2")], 0)
    info = first.directory.ensure(project, queue)

    def fail(*_, **__):
        raise StoreUnavailable("just now")

    first.pool.store.landed.land = fail
    with pytest.raises(StoreUnavailable):
        first.claims.create(info, None, None, 10)

    elsewhere = second.directory.ensure(project, queue)
    assert [message.id for message in second.claims.create(elsewhere, None, None, 10)] == posted


def test_acknowledged_messages_are_gone_from_the_broker(api, pika_connection, queue):
    post(api, queue, 1, 2, 3)

    listed(api, queue, echo="true", limit=3)

    channel = pika_connection().channel()
    assert channel.basic_get(f"marconi.{api.project}.{queue}") == (None, None, None)
