"""A thousand messages each way between pika and HTTP clients: none lost, none twice, each producer's in order."""

import json
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import pika
import pytest

from functional.api.helpers import claim, delete_message, id_of, messages_path, post
from functional.bridged.helpers import QUORUM, bridge, from_exchange, from_queue, to_exchange

PRODUCERS = 4
EACH = 250

#: Messages that an HTTP client posts, claims or deletes at once.
BATCH = 50

#: Seconds without a message after which a consumer has had all.
IDLE = 3.0

#: Type, `source` of the bridge, routing key and headers that get through to it.
KINDS = {
    "direct": ({"binding_keys": ["orders"]}, "orders", {}),
    "topic": ({"binding_keys": ["orders.*"]}, "orders.new", {}),
    "fanout": ({}, "", {}),
    "headers": ({"arguments": {"x-match": "all", "colour": "red"}}, "", {"colour": "red"}),
}


def produce_natively(connection, producer, exchange, key, headers):
    channel = connection.channel()
    channel.confirm_delivery()
    for number in range(EACH):
        properties = pika.BasicProperties(delivery_mode=2, headers=headers)
        channel.basic_publish(exchange, key, json.dumps([producer, number]), properties, mandatory=True)


def produce_by_http(api, queue, producer, headers):
    client = api.other_client()
    for start in range(0, EACH, BATCH):
        numbers = range(start, start + BATCH)
        post(client, queue, *([producer, number] for number in numbers), properties={"headers": headers})


def consume_natively(connection, queue, expected):
    """Bodies in the order in which they were delivered."""
    channel = connection.channel()
    channel.basic_qos(prefetch_count=100)
    got = []
    for method, _, body in channel.consume(queue, inactivity_timeout=IDLE):
        if method is None:
            break
        got.append(json.loads(body))
        channel.basic_ack(method.delivery_tag)
        if len(got) == expected:
            break
    channel.cancel()
    return got


def consume_by_http(api, queue, expected, count, lock):
    """Bodies in the order in which this claimer got them; ends when all claimers together have them all."""
    client = api.other_client()
    got = []
    idle = threading.Event()
    for _ in range(1000):
        claim_id, messages = claim(client, queue, limit=BATCH)
        if messages:
            got += [message["body"] for message in messages]
            ids = ",".join(id_of(message["href"]) for message in messages)
            answer = client.delete(messages_path(queue), params={"ids": ids, "claim_ids": claim_id})
            assert answer.status_code == 204, answer.text
        else:
            idle.wait(0.02)
        with lock:
            count[0] += len(messages)
            if count[0] >= expected:
                return got
    raise AssertionError(f"{count[0]} of {expected} messages")


def assert_in_order(got):
    """Those of each producer in the order in which it made them."""
    by_producer = defaultdict(list)
    for producer, number in got:
        by_producer[producer].append(number)
    for numbers in by_producer.values():
        assert numbers == sorted(numbers)


def assert_all_once(got):
    assert sorted(got) == [[producer, number] for producer in range(PRODUCERS) for number in range(EACH)]


@pytest.mark.parametrize("claimers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_messages_each_way_through_an_exchange(api, native, queue, pika_connection, kind, claimers):
    binding, key, headers = KINDS[kind]
    inwards, outwards = native.exchange(kind), native.exchange(kind)
    bridge(api, queue, source=from_exchange(inwards, kind, **binding), target=to_exchange(outwards, key))
    theirs = native.bound(outwards, key, headers)
    connections = [pika_connection() for _ in range(PRODUCERS)]
    consumer = pika_connection()
    total, count, lock = PRODUCERS * EACH, [0], threading.Lock()

    with ThreadPoolExecutor(2 * PRODUCERS + claimers + 1) as pool:
        producers = [
            pool.submit(produce_natively, connection, number, inwards, key, headers)
            for number, connection in enumerate(connections)
        ]
        producers += [pool.submit(produce_by_http, api, queue, number, headers) for number in range(PRODUCERS)]
        claimers = [pool.submit(consume_by_http, api, queue, total, count, lock) for _ in range(claimers)]
        natively = pool.submit(consume_natively, consumer, theirs, total)
        for producer in producers:
            producer.result()
        by_claimer = [claimer.result() for claimer in claimers]

    assert_all_once(natively.result())
    assert_in_order(natively.result())
    assert_all_once(sum(by_claimer, []))
    if claimers == 1:  # several at once may overtake each other
        assert_in_order(by_claimer[0])


@pytest.mark.parametrize("arguments", [{}, QUORUM], ids=["classic", "quorum"])
def test_a_thousand_messages_through_an_existing_queue_that_is_listed_meanwhile(
    api, native, queue, pika_connection, arguments
):
    """Peeking removes nothing, shows nothing twice, and does not change the order for claims."""
    theirs = native.queue(arguments=arguments)
    bridge(api, queue, source=from_queue(theirs))
    connections = [pika_connection() for _ in range(PRODUCERS)]
    total, count, lock, done = PRODUCERS * EACH, [0], threading.Lock(), threading.Event()

    def look():
        looks = 0
        while not done.wait(0.05):
            answer = api.get(messages_path(queue), params={"echo": "true", "limit": 20})
            assert answer.status_code == 200, answer.text
            looks += 1
        return looks

    with ThreadPoolExecutor(PRODUCERS + 2) as pool:
        producers = [
            pool.submit(produce_natively, connection, number, "", theirs, {})
            for number, connection in enumerate(connections)
        ]
        looker = pool.submit(look)
        claimer = pool.submit(consume_by_http, api, queue, total, count, lock)
        try:
            for producer in producers:
                producer.result()
            got = claimer.result()
        finally:
            done.set()

    assert looker.result() > 0
    assert_all_once(got)


def test_deleted_while_peeked_at_stays_deleted(api, native, queue):
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs))
    for number in range(10):
        native.publish(str(number), queue=theirs)

    seen = []
    while messages := claim(api, queue, limit=1)[1]:
        api.get(messages_path(queue), params={"echo": "true"})
        claim_id = messages[0]["href"].rpartition("claim_id=")[2]
        assert delete_message(api, queue, messages[0]["id"], claim_id=claim_id).status_code == 204
        seen.append(messages[0]["body"])

    assert seen == list(range(10))
