"""Reading from exchanges and queues that are there already, as they are."""

import json
import re
import threading
from pathlib import Path

import pytest

from functional.api.helpers import (
    assert_error,
    bodies,
    claim,
    claims_path,
    create,
    delete_message,
    get_message,
    id_of,
    ids,
    listed,
    messages_path,
    next_link,
    page,
    patch_metadata,
    post,
    queue_path,
    release,
    stats,
    walk,
)
from functional.bridged.helpers import (
    QUORUM,
    SOON,
    bridge,
    claimed,
    from_exchange,
    from_queue,
    new_name,
    own_queue,
    post_raw,
    to_exchange,
)
from functional.http import Api
from functional.services.gateway import merge
from functional.wait import wait_until

#: Messages that one listing of a bridged queue looks at.
PEEK_DEPTH = 100

COMPETED_FOR = 200


def numbers(native, count, **where):
    """Publish 0, 1, 2, …"""
    for number in range(count):
        native.publish(str(number), **where)


def assert_missing(api, queue, source):
    """Claims and listings are a 404 that names the source."""
    for answer in (api.post(claims_path(queue)), api.get(messages_path(queue))):
        assert_error(answer, 404)
        assert source in answer.json()["description"]


# -- exchanges ------------------------------------------------------------------------------------------------------

#: Type, the rest of `source`, and what is published: routing key, headers, and whether it gets through.
EXCHANGES = [
    pytest.param(
        "direct", {"binding_keys": ["new", "changed"]},
        [("new", {}, True), ("gone", {}, False), ("changed", {}, True), ("new.er", {}, False)],
        id="direct",
    ),
    pytest.param(
        "topic", {"binding_keys": ["notifications.*", "audit.#"]},
        [("notifications.info", {}, True), ("notifications", {}, False), ("audit.a.b", {}, True), ("x", {}, False)],
        id="topic",
    ),
    pytest.param("fanout", {}, [("", {}, True), ("anything", {}, True)], id="fanout"),
    pytest.param(
        "headers", {"arguments": {"x-match": "all", "colour": "red", "size": 3}},
        [("", {"colour": "red", "size": 3}, True), ("", {"colour": "red"}, False), ("k", {"size": 3}, False)],
        id="headers",
    ),
    pytest.param(
        "headers", {"arguments": {"x-match": "any", "colour": "red", "size": 3}},
        [("", {"colour": "red"}, True), ("", {"size": 3, "other": 1}, True), ("", {"other": 1}, False)],
        id="headers-any",
    ),
]


@pytest.mark.parametrize(("kind", "binding", "published"), EXCHANGES)
def test_what_an_exchange_routes_is_claimed(api, native, queue, kind, binding, published):
    exchange = native.exchange(kind)
    bridge(api, queue, source=from_exchange(exchange, kind, **binding))

    for number, (key, headers, _) in enumerate(published):
        native.publish_unheard(str(number).encode(), exchange, key, headers=headers)

    expected = [number for number, (_, _, through) in enumerate(published) if through]
    assert bodies(claimed(api, queue, len(expected))) == expected


def test_queue_of_an_exchange_is_listed_read_deleted_and_popped(api, native, queue):
    exchange = native.exchange("fanout")
    bridge(api, queue, source=from_exchange(exchange))
    numbers(native, 3, exchange=exchange)

    messages = wait_until(lambda: (found := listed(api, queue)) and len(found) == 3 and found, SOON, "all three")
    assert bodies(messages) == [0, 1, 2]
    assert get_message(api, queue, messages[0]["id"]).json()["body"] == 0
    assert delete_message(api, queue, messages[0]["id"]).status_code == 204
    popped = api.delete(messages_path(queue), params={"pop": 5}).json()["messages"]

    assert bodies(popped) == [1, 2]
    assert stats(api, queue) == {"claimed": 0, "free": 0, "total": 0}


def test_each_queue_bound_to_an_exchange_gets_its_copy(api, native, queue):
    exchange = native.exchange("topic")
    theirs = native.bound(exchange, "#")
    for name in ("first", "second"):
        bridge(api, f"{queue}-{name}", source=from_exchange(exchange, "topic", binding_keys=["#"]))

    native.publish(b"1", exchange=exchange, key="a.b")

    assert bodies(claimed(api, f"{queue}-first", 1)) == [1]
    assert bodies(claimed(api, f"{queue}-second", 1)) == [1]
    assert native.bodies(theirs) == [b"1"]


def test_deleting_the_queue_of_an_exchange_deletes_only_the_gateways_own_queue(api, native, queue):
    exchange = native.exchange("fanout")
    theirs = native.bound(exchange)
    bridge(api, queue, source=from_exchange(exchange))
    native.publish(b"1", exchange=exchange)
    assert native.depth(own_queue(api, queue)) is not None

    assert api.delete(queue_path(queue)).status_code == 204

    assert native.depth(own_queue(api, queue)) is None
    assert native.has_exchange(exchange)
    assert native.bodies(theirs) == [b"1"]


def test_missing_exchange_is_404_and_the_queue_works_once_it_is_there(api, native, queue):
    exchange = new_name()

    bridge(api, queue, source=from_exchange(exchange))

    assert_missing(api, queue, exchange)
    assert not native.has_exchange(exchange)
    native.exchange("fanout", exchange)
    wait_until(lambda: api.post(claims_path(queue)).status_code == 204, SOON, "the binding")
    native.publish(b"1", exchange=exchange)
    assert bodies(claimed(api, queue, 1)) == [1]


def test_objects_of_another_virtual_host_are_bridged(api, native_elsewhere, queue):
    native = native_elsewhere
    exchange, theirs, made = native.exchange("fanout"), native.queue(), native.queue()
    bridge(api, f"{queue}-exchange", source=from_exchange(exchange, vhost="other"))
    bridge(api, f"{queue}-queue", source=from_queue(theirs, vhost="other"))
    bridge(api, f"{queue}-target", target=to_exchange("", made, vhost="other"))

    native.publish(b'"by exchange"', exchange=exchange)
    native.publish(b'"by queue"', queue=theirs)
    post_raw(api, f"{queue}-target", {"body": "by HTTP"})

    assert bodies(claimed(api, f"{queue}-exchange", 1)) == ["by exchange"]
    assert bodies(claimed(api, f"{queue}-queue", 1)) == ["by queue"]
    assert native.bodies(made) == [b'"by HTTP"']
    assert api.delete(queue_path(f"{queue}-exchange")).status_code == 204
    assert native.depth(own_queue(api, f"{queue}-exchange")) is None


# -- existing queues ------------------------------------------------------------------------------------------------

#: How the queue was declared, by somebody who does not know of the gateway.
QUEUES = {
    "classic": ({}, {}),
    "transient": ({}, {"durable": False}),
    "auto-delete": ({}, {"auto_delete": True}),
    "lazy": ({"x-queue-mode": "lazy"}, {}),
    "max-length": ({"x-max-length": 10, "x-overflow": "reject-publish"}, {}),
    "dead-letter exchange": ({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "b-nowhere"}, {}),
    "priority": ({"x-max-priority": 5}, {}),
    "expires": ({"x-message-ttl": 600_000, "x-expires": 600_000}, {}),
    "single active consumer": ({"x-single-active-consumer": True}, {}),
    "quorum": (QUORUM, {}),
    "quorum, max-length": (QUORUM | {"x-max-length": 10, "x-overflow": "reject-publish"}, {}),
    "quorum, dead-letter exchange": (QUORUM | {"x-dead-letter-exchange": "amq.fanout", "x-delivery-limit": 20}, {}),
    "quorum, single active consumer": (QUORUM | {"x-single-active-consumer": True}, {}),
}


@pytest.mark.parametrize(("arguments", "flags"), QUEUES.values(), ids=QUEUES)
def test_existing_queue_is_used_as_it_is(api, native, queue, arguments, flags):
    theirs = native.queue(arguments=arguments, **flags)
    bridge(api, queue, source=from_queue(theirs))
    numbers(native, 6, queue=theirs)
    native.until_depth(theirs, 6)

    shown = bodies(listed(api, queue))
    few = bodies(claim(api, queue, limit=1)[1] + claim(api, queue, limit=2)[1])
    left = native.depth(theirs)
    rest = bodies(claimed(api, queue, 3))
    deleted = api.delete(queue_path(queue)).status_code

    assert shown == [0, 1, 2, 3, 4, 5]
    assert few == [0, 1, 2]
    assert left is not None, "the queue was deleted by a claim"
    assert rest == [3, 4, 5]
    assert deleted == 204
    native.queue(theirs, arguments=arguments, **flags)  # 406 if it were another
    numbers(native, 1, queue=theirs)
    native.until_depth(theirs, 1)


def test_priority_goes_first(api, native, queue):
    theirs = native.queue(arguments={"x-max-priority": 5})
    bridge(api, queue, source=from_queue(theirs))
    for body, priority in (("low", 1), ("high", 5), ("middle", 3)):
        native.publish(body, queue=theirs, priority=priority)

    assert bodies(claimed(api, queue, 3)) == ["high", "middle", "low"]


def test_claimed_messages_are_not_dead_lettered_on_the_broker(api, native, queue):
    dead = native.queue()
    theirs = native.queue(arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    bridge(api, queue, source=from_queue(theirs))
    numbers(native, 5, queue=theirs)

    listed(api, queue)
    claimed(api, queue, 5)

    assert native.depth(dead) == 0


@pytest.mark.parametrize("kind", [{}, QUORUM], ids=["classic", "quorum"])
def test_native_single_active_consumer_and_claims_lose_nothing(api, native, queue, pika_connection, kind):
    """Whether the gateway has to wait its turn is the broker's business."""
    theirs = native.queue(arguments=kind | {"x-single-active-consumer": True})
    active = pika_connection()
    channel = active.channel()
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(theirs, lambda *_: None)
    bridge(api, queue, source=from_queue(theirs))
    numbers(native, 5, queue=theirs)
    active.process_data_events(0.2)

    first = claim(api, queue)[1]
    active.close()  # and what it has not acknowledged is free again
    rest = claimed(api, queue, 5 - len(first))

    assert sorted(bodies(first + rest)) == list(range(5))


def test_missing_queue_is_404_and_is_never_declared(api, native, queue):
    theirs = new_name()

    bridge(api, queue, source=from_queue(theirs))

    assert_missing(api, queue, theirs)
    assert native.depth(theirs) is None
    native.queue(theirs)
    native.publish(b"1", queue=theirs)
    assert bodies(claimed(api, queue, 1)) == [1]


def test_missing_queue_can_be_deleted(api, native, queue):
    theirs = new_name()
    bridge(api, queue, source=from_queue(theirs))

    assert api.delete(queue_path(queue)).status_code == 204

    assert api.head(queue_path(queue)).status_code == 404
    assert native.depth(theirs) is None


def test_deleting_leaves_the_queue_and_its_messages(api, native, queue):
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs))
    numbers(native, 3, queue=theirs)

    assert api.delete(queue_path(queue)).status_code == 204

    assert native.bodies(theirs, 3) == [b"0", b"1", b"2"]


def test_only_an_explicit_purge_empties_the_queue(api, native, queue):
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs))
    numbers(native, 3, queue=theirs)
    native.until_depth(theirs, 3)
    assert stats(api, queue)["free"] == 3

    assert api.post(f"{queue_path(queue)}/purge").status_code == 204

    assert native.depth(theirs) == 0
    assert stats(api, queue) == {"claimed": 0, "free": 0, "total": 0}


def test_equal_messages_without_an_id_are_all_delivered(api, native, queue):
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs))
    for _ in range(3):
        native.publish(b'"same"', queue=theirs)

    messages = claimed(api, queue, 3)

    assert bodies(messages) == ["same"] * 3
    assert len(set(ids(messages))) == 3


@pytest.mark.parametrize("look", [False, True])
def test_equal_messages_with_one_id_are_all_delivered(api, native, queue, look):
    """Having been looked at makes them redelivered, which does not make them the same message."""
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs))
    for _ in range(3):
        native.publish(b'"same"', queue=theirs, message_id="the-id")
    if look:
        listed(api, queue)
        native.until_depth(theirs, 3)

    assert bodies(claimed(api, queue, 3)) == ["same"] * 3


def test_dead_letters_of_a_bridged_queue_are_moved_to_a_queue_of_the_gateway(api, native, queue):
    theirs = native.queue()
    source = {"source": from_queue(theirs)}
    create(api, queue, _bridge=source, _max_claim_count=1, _dead_letter_queue=f"{queue}-dead")
    native.publish(b"1", queue=theirs)

    release(api, queue, claim(api, queue)[0])

    assert claim(api, queue) == (None, [])
    assert bodies(claimed(api, f"{queue}-dead", 1)) == [1]


def test_dead_letters_do_not_go_to_a_bridged_queue(api, native, queue):
    """They stay where they are, and go on being claimed."""
    bridge(api, f"{queue}-dead", source=from_queue(native.queue()))
    create(api, queue, _max_claim_count=1, _dead_letter_queue=f"{queue}-dead")
    post(api, queue, 1)

    release(api, queue, claim(api, queue)[0])

    assert bodies(claimed(api, queue, 1)) == [1]


def test_claimed_message_can_be_released_and_deleted(api, native, queue):
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs))
    native.publish(b"1", queue=theirs)

    claim_id, _ = claim(api, queue)
    release(api, queue, claim_id)
    _, (message,) = claim(api, queue)

    assert message["body"] == 1
    assert api.delete(message["href"]).status_code == 204
    assert stats(api, queue)["total"] == 0


def test_post_to_a_queue_that_is_only_read_is_403(api, native, queue):
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs))

    assert_error(post_raw(api, queue, {"body": 1}), 403)

    assert native.depth(theirs) == 0


# -- beside native consumers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{}, QUORUM], ids=["classic", "quorum"])
def test_native_consumer_and_claimers_share_a_queue(api, native, queue, pika_connection, arguments):
    theirs = native.queue(arguments=arguments)
    bridge(api, queue, source=from_queue(theirs))
    numbers(native, COMPETED_FOR, queue=theirs)
    consumed, taken = [], []
    connection = pika_connection()

    def consume():
        channel = connection.channel()
        channel.basic_qos(prefetch_count=10)
        for method, _, body in channel.consume(theirs, inactivity_timeout=1):
            if method is None:
                break
            consumed.append(json.loads(body))
            channel.basic_ack(method.delivery_tag)
        channel.cancel()

    consumer = threading.Thread(target=consume)
    while not taken:  # the claimer has some before the consumer begins, so that both have a share
        taken += bodies(claim(api, queue, limit=10)[1])
    consumer.start()
    while consumer.is_alive():
        taken += bodies(claim(api, queue, limit=10)[1])
    consumer.join()
    while more := claim(api, queue)[1]:
        taken += bodies(more)

    assert taken and consumed
    assert sorted(taken + consumed) == list(range(COMPETED_FOR))
    assert taken == sorted(taken)


# -- listing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{}, QUORUM], ids=["classic", "quorum"])
def test_listing_peeks(api, native, queue, arguments):
    """What it has shown waits on the broker as before, in order."""
    theirs = native.queue(arguments=arguments)
    bridge(api, queue, source=from_queue(theirs))
    numbers(native, 12, queue=theirs)
    native.until_depth(theirs, 12)

    first, second = listed(api, queue, limit=10), listed(api, queue, limit=10)

    assert bodies(first) == bodies(second) == list(range(10))
    assert ids(first) == ids(second)
    native.until_depth(theirs, 12)
    assert stats(api, queue)["free"] == 12
    native.until_depth(theirs, 12)
    messages = native.take(theirs, 12)
    assert [body for _, _, body in messages] == [str(number).encode() for number in range(12)]
    assert messages[0][0].redelivered


@pytest.mark.parametrize("arguments", [{}, QUORUM], ids=["classic", "quorum"])
def test_listing_by_pages_sees_each_message_once_and_ends(api, native, queue, arguments):
    theirs = native.queue(arguments=arguments)
    bridge(api, queue, source=from_queue(theirs))
    numbers(native, 25, queue=theirs)
    native.until_depth(theirs, 25)

    first = page(api, queue, limit=10)
    pages = walk(api, f"{messages_path(queue)}?echo=true&limit=10", "messages")

    assert "marker=peek-" in next_link(first)
    assert [bodies(messages) for messages in pages] == [
        list(range(10)), list(range(10, 20)), list(range(20, 25)),
    ]
    assert len({id_ for messages in pages for id_ in ids(messages)}) == 25


@pytest.mark.parametrize("arguments", [{}, QUORUM], ids=["classic", "quorum"])
def test_listing_looks_at_a_hundred_messages_and_leaves_the_order(api, native, queue, arguments):
    theirs = native.queue(arguments=arguments)
    bridge(api, queue, source=from_queue(theirs))
    numbers(native, PEEK_DEPTH + 20, queue=theirs)
    native.until_depth(theirs, PEEK_DEPTH + 20)

    pages = walk(api, f"{messages_path(queue)}?echo=true&limit=40", "messages")

    assert sum((bodies(messages) for messages in pages), []) == list(range(PEEK_DEPTH))
    native.until_depth(theirs, PEEK_DEPTH + 20)
    assert list(map(int, native.bodies(theirs, PEEK_DEPTH + 20))) == list(range(PEEK_DEPTH + 20))


@pytest.mark.parametrize("arguments", [{}, QUORUM], ids=["classic", "quorum"])
def test_listings_of_any_length_and_statistics_keep_the_order(api, native, queue, arguments):
    """A quorum queue puts a returned message after those that were returned before and are still there."""
    theirs = native.queue(arguments=arguments)
    bridge(api, queue, source=from_queue(theirs))
    numbers(native, 12, queue=theirs)
    native.until_depth(theirs, 12)

    for limit in (10, 3, 12, 1):
        assert bodies(listed(api, queue, limit=limit)) == list(range(limit))
        native.until_depth(theirs, 12)
        assert stats(api, queue)["free"] == 12
        native.until_depth(theirs, 12)

    assert [int(body) for body in native.bodies(theirs, 12)] == list(range(12))


@pytest.mark.parametrize("limit", [{}, {"x-delivery-limit": 20}], ids=["the broker's own limit", "20"])
def test_looking_more_often_than_rabbitmq_4_delivers_by_default_loses_nothing(api, native, queue, limit):
    """A quorum queue counts what comes back as a failed delivery, and gives a message up after so many."""
    theirs = native.queue(arguments=QUORUM | limit)
    bridge(api, queue, source=from_queue(theirs))
    numbers(native, 3, queue=theirs)
    native.until_depth(theirs, 3)

    for _ in range(25):
        assert bodies(listed(api, queue)) == [0, 1, 2]
        assert stats(api, queue)["free"] == 3

    assert bodies(claimed(api, queue, 3)) == [0, 1, 2]


@pytest.mark.parametrize("arguments", [{}, QUORUM], ids=["classic", "quorum"])
def test_claim_right_after_a_listing_gets_the_first_message(api, native, queue, arguments):
    """By the time of the answer all that was peeked at is back in its place."""
    theirs = native.queue(arguments=arguments)
    bridge(api, queue, source=from_queue(theirs))
    numbers(native, 40, queue=theirs)
    native.until_depth(theirs, 40)

    claims = []
    for _ in range(40):
        listed(api, queue)
        claims.append(bodies(claim(api, queue, limit=1)[1]))

    assert claims == [[number] for number in range(40)]


@pytest.mark.parametrize("arguments", [{}, QUORUM], ids=["classic", "quorum"])
def test_listing_large_messages_takes_little_memory_and_reaches_them_all(
    bridged_options, start_gateway, native, queue, arguments
):
    size, count = 4 * 2**20, 24
    gateway = start_gateway(**merge(bridged_options, {"bridging": {"max_body": size}, "wsgi": {"threads": 1}}))
    api = Api(gateway.url)
    theirs = native.queue(arguments=arguments)
    bridge(api, queue, source=from_queue(theirs))
    listed(api, queue)
    before = peak_memory(gateway)
    for number in range(count):
        native.publish(b"%0*d" % (size, number), queue=theirs)
    native.until_depth(theirs, count)

    pages = walk(api, f"{messages_path(queue)}?echo=true&limit=40", "messages")

    shown = [int(body[-4:]) for messages in pages for body in bodies(messages)]
    assert shown == list(range(count))
    assert peak_memory(gateway) - before < size * count
    native.until_depth(theirs, count)
    assert [int(body[-4:]) for body in native.bodies(theirs, count)] == list(range(count))


def peak_memory(gateway):
    """Most bytes that the gateway has ever held."""
    status = Path(f"/proc/{gateway.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


@pytest.mark.parametrize("arguments", [{}, QUORUM], ids=["classic", "quorum"])
def test_listing_an_empty_queue_changes_no_order_later(api, native, queue, arguments):
    """This gateway's user may not declare, so only a message tells what kind of queue it is."""
    theirs = native.queue(arguments=arguments)
    bridge(api, queue, source=from_queue(theirs))

    assert page(api, queue)["messages"] == []

    numbers(native, 40, queue=theirs)
    native.until_depth(theirs, 40)
    for _ in range(2):
        assert bodies(listed(api, queue, limit=20)) == list(range(20))
    native.until_depth(theirs, 40)
    assert [int(body) for body in native.bodies(theirs, 40)] == list(range(40))


def test_released_messages_are_listed_before_those_on_the_broker(api, native, queue):
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs))
    numbers(native, 3, queue=theirs)

    claim_id, _ = claim(api, queue, limit=1)
    hidden = bodies(listed(api, queue))
    release(api, queue, claim_id)

    assert hidden == [1, 2]
    assert bodies(listed(api, queue)) == [0, 1, 2]
    pages = walk(api, f"{messages_path(queue)}?echo=true&limit=2", "messages")
    assert [bodies(messages) for messages in pages] == [[0, 1], [2]]


@pytest.mark.parametrize("message_id", [None, "order-4711"])
def test_message_that_was_only_peeked_at_can_not_be_reached_by_its_id(api, native, queue, message_id):
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs))
    native.publish(b"1", queue=theirs, message_id=message_id)
    (message,) = wait_until(lambda: listed(api, queue), SOON, "the message")

    assert get_message(api, queue, message["id"]).status_code == 404
    assert delete_message(api, queue, message["id"]).status_code == 204

    assert bodies(claimed(api, queue, 1)) == [1]


def test_claimed_message_is_reached_by_its_id(api, native, queue):
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs))
    native.publish(b"1", queue=theirs)

    _, (message,) = claim(api, queue)

    assert id_of(message["href"]) == message["id"]
    assert get_message(api, queue, message["id"]).json()["body"] == 1


def test_with_landing_a_listing_takes_messages_from_the_broker(api, native, queue):
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs), landing=True)
    numbers(native, 3, queue=theirs)
    native.until_depth(theirs, 3)

    messages = listed(api, queue)

    assert bodies(messages) == [0, 1, 2]
    assert native.depth(theirs) == 0
    assert get_message(api, queue, messages[1]["id"]).json()["body"] == 1
    assert bodies(claimed(api, queue, 3)) == [0, 1, 2]


# -- changes of `_bridge` -------------------------------------------------------------------------------------------


def test_source_is_fixed_when_the_queue_is_made(api, native, queue):
    theirs, others = native.queue(), native.queue()
    bridge(api, queue, source=from_queue(theirs))
    path = queue_path(queue)

    for metadata in ({}, {"_bridge": {"source": from_queue(others)}}, {"_bridge": {"target": to_exchange("", others)}}):
        assert_error(api.put(path, json=metadata), 409)
    assert_error(patch_metadata(api, queue, {"op": "remove", "path": "/metadata/_bridge"}), 409)
    other = {"op": "replace", "path": "/metadata/_bridge", "value": {"source": from_queue(others)}}
    assert_error(patch_metadata(api, queue, other), 409)

    assert api.get(path).json()["_bridge"]["source"]["queue"] == theirs


def test_plain_queue_can_not_get_a_source(api, native, queue):
    assert api.put(queue_path(queue)).status_code == 201
    source = {"source": from_queue(native.queue())}

    assert_error(api.put(queue_path(queue), json={"_bridge": source}), 409)
    assert_error(patch_metadata(api, queue, {"op": "add", "path": "/metadata/_bridge", "value": source}), 409)


def test_all_but_the_source_can_be_changed(api, native, queue):
    theirs, others = native.queue(), native.queue()
    bridge(api, queue, source=from_queue(theirs))
    numbers(native, 2, queue=theirs)

    changed = {"source": from_queue(theirs), "target": to_exchange("", others), "properties": True}
    assert api.put(queue_path(queue), json={"team": "shop", "_bridge": changed}).status_code == 204

    wait_until(lambda: post_raw(api, queue, {"body": "out"}).status_code == 201, SOON, "the target")
    assert native.bodies(others) == [b'"out"']
    assert [message["properties"]["routing_key"] for message in claimed(api, queue, 2)] == [theirs, theirs]


def test_plain_queue_gets_a_target_and_loses_it(api, native, queue):
    theirs = native.queue()
    assert api.put(queue_path(queue)).status_code == 201
    path = "/metadata/_bridge"

    patch = {"op": "add", "path": path, "value": {"target": to_exchange("", theirs)}}
    assert patch_metadata(api, queue, patch).status_code == 200
    assert post_raw(api, queue, {"body": "out"}).status_code == 201
    assert native.bodies(theirs) == [b'"out"']
    assert patch_metadata(api, queue, {"op": "remove", "path": path}).status_code == 200
    assert post_raw(api, queue, {"body": "here"}).status_code == 201

    assert bodies(claimed(api, queue, 1)) == ["here"]


QUEUE, EXCHANGE = from_queue("b-q"), from_exchange("b-x")

#: What is wrong with each.
MALFORMED = {
    "no object": "orders",
    "a list": [],
    "empty": {},
    "unknown key": {"source": QUEUE, "colour": "red"},
    "source is no object": {"source": "orders"},
    "source without an object": {"source": {}},
    "queue and exchange": {"source": {**EXCHANGE, "queue": "b-q"}},
    "empty queue name": {"source": {"queue": ""}},
    "queue name is a number": {"source": {"queue": 1}},
    "queue name is too long": {"source": {"queue": "b-" + "q" * 254}},
    "queue with a type": {"source": {**QUEUE, "type": "topic"}},
    "queue with binding keys": {"source": {**QUEUE, "binding_keys": ["a"]}},
    "unknown key in source": {"source": {**QUEUE, "durable": True}},
    "exchange without a type": {"source": {"exchange": "b-x"}},
    "unknown type": {"source": {"exchange": "b-x", "type": "x-random"}},
    "direct without binding keys": {"source": from_exchange("b-x", "direct")},
    "topic with empty binding keys": {"source": from_exchange("b-x", "topic", binding_keys=[])},
    "binding key is a number": {"source": from_exchange("b-x", "topic", binding_keys=[1])},
    "binding key is too long": {"source": from_exchange("b-x", "topic", binding_keys=["a" * 256])},
    "topic with arguments": {"source": from_exchange("b-x", "topic", binding_keys=["#"], arguments={"a": 1})},
    "fanout with binding keys": {"source": {**EXCHANGE, "binding_keys": ["a"]}},
    "fanout with arguments": {"source": {**EXCHANGE, "arguments": {"a": 1}}},
    "headers without arguments": {"source": from_exchange("b-x", "headers")},
    "headers with binding keys": {"source": from_exchange("b-x", "headers", arguments={"a": 1}, binding_keys=["a"])},
    "arguments are a list": {"source": from_exchange("b-x", "headers", arguments=["a"])},
    "vhost is a number": {"source": {**QUEUE, "vhost": 1}},
    "target is no object": {"target": "b-x"},
    "target without an exchange": {"target": {"routing_key": "a"}},
    "routing key is a number": {"target": {"exchange": "b-x", "routing_key": 1}},
    "routing key is too long": {"target": to_exchange("b-x", "a" * 256)},
    "default exchange without a routing key": {"target": {"exchange": ""}},
    "unknown unroutable": {"target": to_exchange("b-x", unroutable="drop")},
    "unknown key in target": {"target": to_exchange("b-x", mandatory=False)},
    "properties is a string": {"source": QUEUE, "properties": "yes"},
    "unknown format": {"source": QUEUE, "format": "avro"},
    "landing is a number": {"source": QUEUE, "landing": 1},
    "landing of an exchange": {"source": EXCHANGE, "landing": True},
    "landing without a source": {"target": to_exchange("b-x"), "landing": True},
}


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED)
def test_malformed_bridge_is_400_with_the_reason(api, queue, malformed):
    answer = api.put(queue_path(queue), json={"_bridge": malformed})

    assert_error(answer, 400)
    assert "_bridge" in answer.json()["description"]
    assert api.head(queue_path(queue)).status_code == 404


def test_bridge_on_a_gateway_without_a_broker_is_400(start_gateway, api, queue):
    alone = api.at(start_gateway(bridging={"allow": "* * * *"}).url)

    answer = alone.put(queue_path(queue), json={"_bridge": {"source": QUEUE}})
    assert_error(answer, 400)
    assert "_bridge: this service has a loopback bridge" in answer.json()["description"]
