"""Rule 1: a 201 means that the broker has confirmed every message; what it has not is a 503 without an id."""

import uuid

import pika

from functional.api.helpers import assert_error, claim, create, messages_path, post
from functional.deployments import beside, through
from functional.http import Api
from functional.services.gateway import merge
from gateway.core.queues.names import broker_name

#: Arguments of a queue that takes one message and refuses others.
OF_ONE_MESSAGE = {
    "rabbitmq": {"x-max-length": 1, "x-overflow": "reject-publish"},
    "qpid": {"maximumQueueDepthMessages": 1, "overflowPolicy": "REJECT"},
}

LETTERS = {"messages": [{"body": number} for number in range(5)]}


def test_posted_messages_survive_the_death_of_the_broker(own_broker, mongodb, start_gateway, queue):
    options = merge(through(own_broker), beside(mongodb, f"rule1_{uuid.uuid4().hex[:8]}"))
    api = Api(start_gateway(**options).url)
    create(api, queue)
    own_broker.until_saved(broker_name(api.project, queue))

    posted = [message for _ in range(5) for message in post(api, queue, *range(4))]
    own_broker.kill()
    own_broker.start()

    claimed = []
    while messages := claim(api, queue)[1]:
        claimed += [message["id"] for message in messages]
    assert claimed == posted


def test_post_that_the_broker_refuses_is_503_and_names_no_id(api, shared_broker, pika_connection, queue):
    """A full queue nacks."""
    channel = pika_connection().channel()
    channel.queue_declare(
        broker_name(api.project, queue), durable=True, arguments=OF_ONE_MESSAGE[shared_broker.name]
    )

    answers = [api.post(messages_path(queue), json=LETTERS) for _ in range(3)]

    assert_error(answers[-1], 503)
    assert "Retry-After" in answers[-1].headers
    assert "Location" not in answers[-1].headers


def test_post_that_can_not_be_routed_is_503_and_names_no_id(rabbitmq, hybrid, start_gateway, queue):
    """The queue is gone, and the gateway's user may not declare it again."""
    user = f"user-{uuid.uuid4().hex[:8]}"
    rabbitmq.ctl("add_user", user, "secret")
    rabbitmq.ctl("set_permissions", user, ".*", ".*", ".*")
    options = merge(hybrid, {"bridge": {"uri": rabbitmq.uri.replace("guest:guest", f"{user}:secret")}})
    api = Api(start_gateway(**options).url)
    post(api, queue, "there is a queue")
    rabbitmq.ctl("set_permissions", user, "^$", ".*", ".*")
    with rabbitmq.connect() as connection:
        connection.channel().queue_delete(broker_name(api.project, queue))

    answer = api.post(messages_path(queue), json=LETTERS)

    assert_error(answer, 503)
    assert "Location" not in answer.headers


def test_deleted_broker_queue_is_made_anew_by_the_next_post(api, pika_connection, queue):
    post(api, queue, "old")
    pika_connection().channel().queue_delete(broker_name(api.project, queue))

    posted = post(api, queue, "new")

    assert [message["id"] for message in claim(api, queue)[1]] == posted


def test_posted_messages_are_persistent(api, pika_connection, queue):
    post(api, queue, "letter")

    _, properties, _ = pika_connection().channel().basic_get(broker_name(api.project, queue), auto_ack=True)

    assert properties.delivery_mode == pika.DeliveryMode.Persistent.value
