"""A post whose outcome nobody knows is sent again under its key, or with its dedup_id: each message comes once."""

import time
import uuid

import pytest

from functional.api.helpers import bodies, claim, create, delete_message, id_of, messages_path, pop
from functional.brokers import gives_back_after
from functional.deployments import beside, through
from functional.http import Api
from functional.services.gateway import merge
from functional.services.mongodb import MongoDB
from functional.wait import wait_until
from gateway.core.queues.names import broker_name

#: Seconds of [bridge] and [side_store] timeout.
TIMEOUT = 2.0

#: Seconds within which there is service again once the dependency answers, or another gateway in place of a dead one.
RECOVERY = 20

#: Seconds after which everything that a broker was sent is in its queue.
SETTLED = 1.0

LETTERS = {"messages": [{"body": number} for number in range(3)]}


@pytest.fixture
def options(own_broker, mongodb):
    timeout = {"bridge": {"timeout": TIMEOUT}, "side_store": {"timeout": TIMEOUT}}
    return merge(through(own_broker), beside(mongodb, f"again_{uuid.uuid4().hex[:12]}"), timeout)


def send(api, queue, key, document=LETTERS):
    return api.post(messages_path(queue), json=document, headers={"Idempotency-Key": key} if key else {})


def send_until_posted(api, queue, key, document=LETTERS):
    """As a client should: send the same again after a 503, and after a 409."""
    def attempt():
        answer = send(api, queue, key, document)
        assert answer.status_code in (201, 409, 503), answer.text
        return answer if answer.status_code == 201 else None

    answer = wait_until(attempt, RECOVERY, "a 201")
    return [id_of(href) for href in answer.json()["resources"]]


def claimed(api, queue):
    """Claim and delete one message after the other, so that second copies find no message; all of them."""
    taken = []
    while True:
        claim_id, messages = claim(api, queue, limit=1)
        if not messages:
            return taken
        taken += messages
        assert delete_message(api, queue, messages[0]["id"], claim_id=claim_id).status_code == 204


def popped(api, queue):
    """Pop one message after the other; all of them."""
    taken = []
    while messages := pop(api, queue, 1):
        taken += messages
    return taken


@pytest.mark.parametrize("take", [claimed, popped])
def test_messages_that_a_broker_may_have_come_once(own_broker, options, start_gateway, queue, take):
    """It is paused, so it gets what it was sent when it goes on, and then once more."""
    api = Api(start_gateway(**options).url)
    create(api, queue)
    assert len(send_until_posted(api, queue, "before")) == 3
    assert bodies(take(api, queue)) == [0, 1, 2]
    own_broker.until_saved(broker_name(api.project, queue))
    key = str(uuid.uuid4())

    own_broker.pause()
    try:
        first = send(api, queue, key)
    finally:
        own_broker.resume()
    assert first.status_code == 503, first.text
    assert "may have been enqueued" in first.json()["description"]
    wait_until(lambda: api.get("/v2/ping").status_code == 204, RECOVERY, "the broker")
    time.sleep(SETTLED)
    made = send_until_posted(api, queue, key)

    time.sleep(gives_back_after())
    assert [message["id"] for message in take(api, queue)] == made
    assert send_until_posted(api, queue, key) == made
    assert take(api, queue) == []


def test_messages_of_a_gateway_that_was_killed_come_once(own_broker, options, start_gateway, queue):
    """It dies while the broker is paused; its post is taken over by another one when it would have been over."""
    dying, api = start_gateway(**options), Api(start_gateway(**options).url)
    create(api, queue)
    there = api.at(dying.url)
    send_until_posted(there, queue, "before")
    assert len(claimed(api, queue)) == 3
    own_broker.until_saved(broker_name(api.project, queue))
    key = str(uuid.uuid4())

    own_broker.pause()
    try:
        with pytest.raises(OSError):
            there.post(messages_path(queue), json=LETTERS, headers={"Idempotency-Key": key}, timeout=TIMEOUT / 4)
        dying.kill()
    finally:
        own_broker.resume()
    assert send(api, queue, key).status_code == 409
    made = send_until_posted(api, queue, key)

    time.sleep(SETTLED + gives_back_after())
    assert [message["id"] for message in claimed(api, queue)] == made


def test_message_with_a_dedup_id_that_a_broker_may_have_comes_once(own_broker, options, start_gateway, queue):
    api = Api(start_gateway(**options).url)
    create(api, queue, _fifo=True)
    send_until_posted(api, queue, None, {"messages": [{"body": "before"}]})
    assert bodies(claimed(api, queue)) == ["before"]
    own_broker.until_saved(broker_name(api.project, queue))
    document = {"messages": [{"body": number, "dedup_id": str(number)} for number in range(3)]}

    own_broker.pause()
    try:
        first = send(api, queue, None, document)
    finally:
        own_broker.resume()
    assert first.status_code == 503, first.text
    wait_until(lambda: api.get("/v2/ping").status_code == 204, RECOVERY, "the broker")
    time.sleep(SETTLED)
    made = send_until_posted(api, queue, None, document)

    time.sleep(gives_back_after())
    assert [message["id"] for message in claimed(api, queue)] == made
    assert send_until_posted(api, queue, None, document) == made
    assert claimed(api, queue) == []


def test_nothing_is_published_while_keys_can_not_be_looked_up(own_broker, start_gateway, queue):
    with MongoDB() as own_mongodb:
        timeout = {"bridge": {"timeout": TIMEOUT}, "side_store": {"timeout": TIMEOUT}}
        api = Api(start_gateway(**merge(through(own_broker), beside(own_mongodb, "again"), timeout)).url)
        create(api, queue)
        key = str(uuid.uuid4())
        own_mongodb.pause()
        try:
            answer = send(api, queue, key)
        finally:
            own_mongodb.resume()

        assert answer.status_code == 503, answer.text
        assert "may have been enqueued" not in answer.json()["description"]
        wait_until(lambda: api.get("/v2/ping").status_code == 204, RECOVERY, "the side-store")
        assert claimed(api, queue) == []
        made = send_until_posted(api, queue, key)
        assert [message["id"] for message in claimed(api, queue)] == made
