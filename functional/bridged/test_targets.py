"""Posting to exchanges and queues that are there already."""

import base64
import json
import threading
import time

import pytest

from functional.api.helpers import (
    assert_error,
    bodies,
    claim,
    claims_path,
    create,
    id_of,
    listed,
    messages_path,
    patch_metadata,
    post,
    post_documents,
    queue_path,
    stats,
)
from functional.bridged.helpers import QUORUM, bridge, claimed, from_queue, new_name, post_raw, to_exchange

BINARY = b"\x89PNG\r\n\x00\xff"

#: One of each.
PROPERTIES = {
    "headers": {"colour": "red", "count": 3, "ok": True, "nested": {"list": [1, "two"]}},
    "content_type": "application/vnd.shop+json",
    "content_encoding": "utf-8",
    "priority": 7,
    "correlation_id": "c-1",
    "reply_to": "answers",
    "type": "order.new",
    "app_id": "shop",
}


@pytest.fixture
def target(api, native, queue):
    """A queue on the broker that gets what is posted to `queue`."""
    exchange = native.exchange("direct")
    bridge(api, queue, target=to_exchange(exchange, "new"))
    return native.bound(exchange, "new")


@pytest.mark.parametrize(("kind", "key", "headers"), [
    ("direct", "new", {}), ("topic", "orders.new", {}), ("fanout", "", {}), ("headers", "", {"colour": "red"}),
])
def test_post_is_routed_by_the_exchange(api, native, queue, kind, key, headers):
    exchange = native.exchange(kind)
    theirs = native.bound(exchange, key, headers)
    bridge(api, queue, target=to_exchange(exchange, key))

    post(api, queue, {"item": "lamp"}, properties={"headers": headers})

    ((method, _, body),) = native.take(theirs)
    assert json.loads(body) == {"item": "lamp"}
    assert (method.exchange, method.routing_key) == (exchange, key)


def test_post_as_a_native_consumer_sees_it(api, native, queue, target):
    before = int(time.time()) - 1

    (id_,) = post(api, queue, {"item": "lamp"})

    ((_, properties, body),) = native.take(target)
    assert json.loads(body) == {"item": "lamp"}
    assert properties.message_id == id_
    assert properties.content_type == "application/json"
    assert properties.delivery_mode == 2
    assert before <= properties.timestamp <= time.time() + 1
    assert properties.expiration is None
    assert not properties.headers


def test_properties_are_those_of_the_post(api, native, queue, target):
    post(api, queue, {"item": "lamp"}, properties=PROPERTIES)

    ((_, properties, body),) = native.take(target)
    assert {name: getattr(properties, name) for name in PROPERTIES} == PROPERTIES
    assert json.loads(body) == {"item": "lamp"}


def test_each_message_has_its_own_properties(api, native, queue, target):
    post_documents(
        api, queue,
        {"body": 1, "properties": {"type": "first"}}, {"body": 2}, {"body": 3, "properties": {"priority": 0}},
    )

    first, second, third = (properties for _, properties, _ in native.take(target, 3))
    assert (first.type, second.type, third.type) == ("first", None, None)
    assert third.priority == 0


def test_ttl_of_the_message_is_its_expiration(api, native, queue, shared_broker, target):
    before = int(shared_broker.expiration(120_000))
    post(api, queue, 1, ttl=120)

    ((_, properties, _),) = native.take(target)
    assert before <= int(properties.expiration) <= int(shared_broker.expiration(120_000))


def test_batch_arrives_in_order(api, native, queue, target):
    ids = post(api, queue, *range(50))

    messages = native.take(target, 50)
    assert [json.loads(body) for _, _, body in messages] == list(range(50))
    assert [properties.message_id for _, properties, _ in messages] == ids


@pytest.mark.parametrize("arguments", [{}, QUORUM], ids=["classic", "quorum"])
def test_default_exchange_reaches_a_queue_by_its_name(api, native, queue, arguments):
    theirs = native.queue(arguments=arguments)
    bridge(api, queue, target=to_exchange("", theirs))

    post(api, queue, "letter")

    assert native.bodies(theirs) == [b'"letter"']


# -- bodies that are not JSON ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream"])
def test_base64_goes_out_as_bytes(api, native, queue, target, content_type):
    post(api, queue, {"base64": base64.b64encode(BINARY).decode(), "content_type": content_type})

    ((_, properties, body),) = native.take(target)
    assert body == BINARY
    assert properties.content_type == content_type


@pytest.mark.parametrize("body", [
    {"base64": "AAAA"}, {"base64": "AAAA", "content_type": "image/png", "name": "a.png"}, {"base64": 1},
])
def test_object_that_only_looks_like_base64_goes_out_as_json(api, native, queue, target, body):
    post(api, queue, body)

    ((_, properties, got),) = native.take(target)
    assert json.loads(got) == body
    assert properties.content_type == "application/json"


@pytest.mark.parametrize(("content_type", "expected"), [
    ("text/plain", "früh ☕".encode()),
    ("text/plain; charset=utf-8", "früh ☕".encode()),
    ("application/xml", "früh ☕".encode()),
])
def test_string_with_a_content_type_goes_out_as_text(api, native, queue, target, content_type, expected):
    post(api, queue, "früh ☕", properties={"content_type": content_type})

    ((_, properties, body),) = native.take(target)
    assert body == expected
    assert properties.content_type == content_type


@pytest.mark.parametrize("content_type", ["application/json", "application/vnd.shop+json"])
def test_string_with_a_json_content_type_stays_json(api, native, queue, target, content_type):
    post(api, queue, "letter", properties={"content_type": content_type})

    assert native.bodies(target) == [b'"letter"']


@pytest.mark.parametrize(("body", "content_type"), [
    (BINARY, "image/png"), (BINARY, None), (b'{"a":1}', "application/json"), (b"text", "text/plain"),
])
def test_what_comes_in_goes_out_again_unchanged(api, native, queue, body, content_type):
    theirs, others = native.queue(), native.queue()
    bridge(api, queue, source=from_queue(theirs), target=to_exchange("", others), properties=True)
    native.publish(body, queue=theirs, content_type=content_type)
    (message,) = claimed(api, queue, 1)

    kept = {name: value for name, value in message["properties"].items() if name == "content_type"}
    post_documents(api, queue, {"body": message["body"], "properties": kept})

    ((_, properties, sent),) = native.take(others)
    assert sent == body
    if content_type:
        assert properties.content_type == content_type


# -- refusals -------------------------------------------------------------------------------------------------------

REFUSED = {
    "message_id": {"message_id": "mine"},
    "unknown key": {"colour": "red"},
    "user_id": {"user_id": "guest"},
    "delivery_mode": {"delivery_mode": 1},
    "expiration": {"expiration": "1000"},
    "no object": "red",
    "headers are a list": {"headers": []},
    "header without a name in range": {"headers": {"x" * 256: 1}},
    "priority is negative": {"priority": -1},
    "priority is too large": {"priority": 256},
    "priority is a string": {"priority": "1"},
    "priority is true": {"priority": True},
    "content_type is a number": {"content_type": 1},
    "type is an object": {"type": {}},
    "correlation_id is too long": {"correlation_id": "x" * 256},
    "correlation_id is too long in UTF-8": {"correlation_id": "ü" * 128},
}


@pytest.mark.parametrize("properties", REFUSED.values(), ids=REFUSED)
def test_properties_that_can_not_be_set_are_400(api, native, queue, target, properties):
    answer = post_raw(api, queue, {"body": 1}, {"body": 2, "properties": properties})

    assert_error(answer, 400)
    assert native.depth(target) == 0


@pytest.mark.parametrize("properties", [
    {"headers": {"CC": ["elsewhere"]}}, {"headers": {"BCC": ["elsewhere"]}}, {"headers": {"CC": "elsewhere"}},
])
def test_headers_by_which_rabbitmq_routes_elsewhere_are_refused(api, native, queue, properties):
    """Sender-selected distribution would reach every queue from the default exchange, past the access rules."""
    theirs, victim = native.queue(), native.queue()
    bridge(api, queue, target=to_exchange("", theirs))
    headers = {
        name: [victim] if isinstance(value, list) else value for name, value in properties["headers"].items()
    }

    answer = post_raw(api, queue, {"body": 1, "properties": {"headers": headers}})

    assert answer.status_code in (400, 403), answer.text
    assert native.depth(victim) == 0


def test_direct_reply_to_is_refused(api, queue, target):
    """The broker would close the channel: the gateway has no consumer for the answer."""
    answer = post_raw(api, queue, {"body": 1, "properties": {"reply_to": "amq.rabbitmq.reply-to"}})

    assert answer.status_code in (400, 403), answer.text


@pytest.mark.parametrize("header", [2**63, -(2**63) - 1, 1e308, None, [], {}, [[{"a": None}]], "x" * 10_000])
def test_any_json_is_a_header_or_is_refused(api, native, queue, target, header):
    answer = post_raw(api, queue, {"body": 1, "properties": {"headers": {"h": header}}})

    assert answer.status_code in (201, 400), answer.text
    if answer.status_code == 201:
        ((_, properties, _),) = native.take(target)
        assert properties.headers == {"h": header}


def test_properties_on_a_queue_without_a_target_are_400(api, native, queue):
    create(api, queue)

    assert_error(post_raw(api, queue, {"body": 1, "properties": {"type": "order"}}), 400)


def test_delay_is_400(api, native, queue, target):
    assert_error(post_raw(api, queue, {"body": 1, "delay": 10}), 400)
    assert native.depth(target) == 0
    post(api, queue, 1, delay=0)
    assert native.bodies(target) == [b"1"]


@pytest.mark.parametrize("metadata", [{"_enable_encrypt_messages": True}, {"_default_message_delay": 10}])
def test_target_goes_neither_with_encryption_nor_with_a_default_delay(api, queue, metadata):
    bridged = {"_bridge": {"target": to_exchange(new_name())}}

    assert_error(api.put(queue_path(queue), json=metadata | bridged), 400)
    create(api, queue, **bridged)
    ((name, value),) = metadata.items()
    assert_error(patch_metadata(api, queue, {"op": "add", "path": f"/metadata/{name}", "value": value}), 400)


# -- nobody gets it -------------------------------------------------------------------------------------------------


def test_unroutable_post_is_503_and_names_no_id(api, native, queue):
    bridge(api, queue, target=to_exchange(native.exchange("direct"), "nobody"))

    answer = post_raw(api, queue, {"body": 1})

    assert_error(answer, 503)
    assert "Location" not in answer.headers


def test_unroutable_post_is_accepted_if_the_bridge_says_so(api, native, queue):
    exchange = native.exchange("direct")
    bridge(api, queue, target=to_exchange(exchange, "new", unroutable="accept"))

    post(api, queue, "lost")
    theirs = native.bound(exchange, "new")
    post(api, queue, "found")

    assert native.bodies(theirs) == [b'"found"']


@pytest.mark.parametrize("unroutable", ["reject", "accept"])
def test_missing_exchange_is_503_with_its_name_and_is_never_declared(api, native, queue, unroutable):
    exchange = new_name()
    bridge(api, queue, target=to_exchange(exchange, "new", unroutable=unroutable))

    answer = post_raw(api, queue, {"body": 1})

    assert_error(answer, 503)
    assert exchange in answer.json()["description"]
    assert not native.has_exchange(exchange)
    native.exchange("direct", exchange)
    theirs = native.bound(exchange, "new")
    post(api, queue, "now")
    assert native.bodies(theirs) == [b'"now"']


def test_missing_queue_behind_the_default_exchange_is_503_and_is_never_declared(api, native, queue):
    theirs = new_name()
    bridge(api, queue, target=to_exchange("", theirs))

    assert_error(post_raw(api, queue, {"body": 1}), 503)

    assert native.depth(theirs) is None


def test_full_queue_is_503(api, native, queue):
    theirs = native.queue(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    bridge(api, queue, target=to_exchange("", theirs))

    answers = [post_raw(api, queue, {"body": number}) for number in range(3)]

    assert_error(answers[-1], 503)
    assert native.depth(theirs) == 1


def test_failed_post_does_no_harm_to_others(api, native, queue, target):
    """The broker closes the channel of a publish to an exchange that is missing."""
    bridge(api, f"{queue}-broken", target=to_exchange(new_name()))
    failures, done = [], threading.Event()

    def fail():
        while not done.is_set():
            failures.append(post_raw(api, f"{queue}-broken", {"body": 1}).status_code)

    thread = threading.Thread(target=fail)
    thread.start()
    try:
        for number in range(30):
            post(api, queue, number)
    finally:
        done.set()
        thread.join()

    assert [json.loads(body) for body in native.bodies(target, 30)] == list(range(30))
    assert set(failures) == {503}


# -- reading --------------------------------------------------------------------------------------------------------


def test_queue_without_a_source_is_always_empty(api, native, queue, target):
    post(api, queue, 1, 2)

    assert api.post(claims_path(queue)).status_code == 204
    assert listed(api, queue) == []
    assert api.delete(messages_path(queue), params={"pop": 1}).json()["messages"] == []
    assert stats(api, queue) == {"claimed": 0, "free": 0, "total": 0}
    assert native.bodies(target, 2) == [b"1", b"2"]


def test_deleting_or_purging_leaves_the_target_alone(api, native, queue, target):
    post(api, queue, 1)

    assert api.post(f"{queue_path(queue)}/purge").status_code == 204
    assert api.delete(queue_path(queue)).status_code == 204

    assert native.bodies(target) == [b"1"]


def test_two_ways_make_a_request_and_its_answer(api, native, queue, pika_connection):
    """A native service answers to `reply_to` with the request's `correlation_id`."""
    requests, answers = native.queue(), native.queue()
    bridge(api, queue, source=from_queue(answers), target=to_exchange("", requests), properties=True)

    (id_,) = post(api, queue, {"add": [1, 2]}, properties={"reply_to": answers, "correlation_id": "sum-1"})
    ((_, asked, body),) = native.take(requests)
    result = {"sum": sum(json.loads(body)["add"])}
    native.publish(json.dumps(result), queue=asked.reply_to, correlation_id=asked.correlation_id)
    (message,) = claimed(api, queue, 1)

    assert asked.message_id == id_
    assert message["body"] == {"sum": 3}
    assert message["properties"]["correlation_id"] == "sum-1"
    assert api.delete(message["href"]).status_code == 204


def test_bridge_to_itself_is_a_queue(api, native, queue):
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs), target=to_exchange("", theirs))

    posted = post(api, queue, *range(5))

    _, messages = claim(api, queue)
    assert bodies(messages) == list(range(5))
    assert [id_of(message["href"]) for message in messages] == posted


def test_properties_larger_than_a_frame_are_400(api, native, queue, rabbitmq):
    exchange = native.exchange("fanout")
    target = native.bound(exchange)
    bridge(api, queue, target=to_exchange(exchange))
    response = post_raw(api, queue, {"body": 1, "properties": {"headers": {"a": "x" * 140_000}}})
    assert_error(response, 400, "Invalid request body")
    assert post_raw(api, queue, {"body": 2}).status_code == 201
    assert native.bodies(target) == [b"2"]
