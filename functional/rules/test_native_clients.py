"""Native AMQP clients on the gateway's queues: pika on one side, HTTP on the other."""

import json
import time

import pika
import pytest

from functional.api.helpers import bodies, claim, create, listed, post, post_documents
from functional.wait import wait_until
from gateway.core.queues.names import broker_name


@pytest.fixture
def channel(pika_connection):
    channel = pika_connection().channel()
    channel.confirm_delivery()
    return channel


def publish(channel, api, queue, body, **properties):
    channel.basic_publish(
        "", broker_name(api.project, queue), body, pika.BasicProperties(**properties), mandatory=True
    )


def consume(channel, api, queue):
    """The next message as a native consumer gets it."""
    for method, properties, body in channel.consume(broker_name(api.project, queue), inactivity_timeout=10):
        channel.basic_ack(method.delivery_tag)
        channel.cancel()
        return properties, body


def test_native_message_is_listed_and_claimed(api, channel, queue):
    create(api, queue)
    publish(channel, api, queue, b'{"from": "pika"}', content_type="application/json")

    (shown,) = wait_until(lambda: listed(api, queue), 5, "the message")
    _, claimed = claim(api, queue)

    assert shown["body"] == {"from": "pika"}
    assert [message["id"] for message in claimed] == [shown["id"]]


def test_native_message_keeps_its_message_id(api, channel, queue):
    create(api, queue)
    publish(channel, api, queue, b"1", message_id="order-4711")

    _, (message,) = claim(api, queue)

    assert message["id"] == "order-4711"
    assert api.delete(message["href"]).status_code == 204


@pytest.mark.parametrize("message_id", ["a/b?c,d", "x" * 200, "naïve ☃"])
def test_native_message_id_that_does_not_fit_a_path_is_replaced(api, channel, queue, message_id):
    create(api, queue)
    publish(channel, api, queue, b"1", message_id=message_id)

    _, (message,) = claim(api, queue)

    assert api.get(message["href"]).status_code == 200
    assert api.delete(message["href"]).status_code == 204


def test_native_messages_with_one_id_are_all_delivered(api, channel, queue):
    """Some producers give every message the same id."""
    create(api, queue)
    for number in range(3):
        publish(channel, api, queue, str(number).encode(), message_id="the-id")

    assert bodies(claim(api, queue)[1]) == [0, 1, 2]


@pytest.mark.parametrize(("body", "content_type", "shown"), [
    (b'{"a": [1, 2.5, null]}', None, {"a": [1, 2.5, None]}),
    (b"plain text", "text/plain", "plain text"),
    ("früh".encode(), "text/plain", "früh"),
    (b"\x89PNG\xff", "image/png", {"base64": "iVBOR/8=", "content_type": "image/png"}),
    (b"", None, ""),
])
def test_native_bodies_come_out_as_json(api, channel, queue, body, content_type, shown):
    create(api, queue)
    publish(channel, api, queue, body, content_type=content_type)

    assert bodies(claim(api, queue)[1]) == [shown]


def test_native_expiration_is_the_ttl(api, shared_broker, channel, queue):
    create(api, queue)
    publish(channel, api, queue, b"1", timestamp=int(time.time()), expiration=shared_broker.expiration(90_000))

    (message,) = listed(api, queue)

    assert 90 <= message["ttl"] <= 91


def test_native_message_without_expiration_has_the_queues_default_ttl(api, channel, queue):
    create(api, queue, _default_message_ttl=120)
    publish(channel, api, queue, b"1")

    (message,) = listed(api, queue)

    assert message["ttl"] == 120


def test_posted_message_reaches_a_native_consumer_as_documented(api, shared_broker, channel, queue):
    before = int(time.time()) - 1
    (id_,) = post_documents(api, queue, {"body": {"to": "pika", "n": 1}, "ttl": 120})

    properties, body = consume(channel, api, queue)

    assert json.loads(body) == {"to": "pika", "n": 1}
    assert properties.content_type == "application/json"
    assert properties.delivery_mode == 2
    assert properties.message_id == id_
    assert before <= properties.timestamp <= time.time() + 1
    if shared_broker.name == "qpid":
        assert 1000 * before + 120_000 <= int(properties.expiration) <= 1000 * time.time() + 120_000
        assert properties.headers == {"marconi-client": api.client_id, "marconi-ttl": "120000"}
    else:
        assert properties.expiration == "120000"
        assert properties.headers == {"marconi-client": api.client_id}


def test_native_consumer_gets_posts_in_order(api, channel, queue):
    post(api, queue, *range(20))

    got = [json.loads(channel.basic_get(broker_name(api.project, queue), auto_ack=True)[2]) for _ in range(20)]

    assert got == list(range(20))


def test_queue_made_by_a_native_client_is_used_as_it_is(api, shared_broker, channel, queue):
    """It is adopted, whatever its arguments, and never declared differently."""
    arguments = {"x-qpid-priorities": 5} if shared_broker.name == "qpid" else {"x-max-priority": 5}
    channel.queue_declare(broker_name(api.project, queue), durable=True, arguments=arguments)

    post(api, queue, "letter")

    assert bodies(claim(api, queue)[1]) == ["letter"]
