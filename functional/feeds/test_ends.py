"""How feeds end, when gateways, brokers and side-stores do; and that nothing is missed or repeated over it."""

import os
import signal
import threading
import time
import uuid

import pytest

from functional.api.helpers import claim, create, eventually, messages_path, post
from functional.brokers import make_broker
from functional.deployments import COMMON, beside, embedded, loopback, through
from functional.feed_client import FeedClient
from functional.http import Api
from functional.installed import require
from functional.services.gateway import Gateway, merge
from functional.services.mongodb import MongoDB
from functional.wait import wait_until

#: Seconds after which a feed ends that can't be read, with the timeout of a call: see TRYING in gateway/stream.
UNREADABLE = 30.0

WORKERS = pytest.mark.parametrize("workers", [1, 2])


def follow(gateway, api, queue, last=None, timeout=UNREADABLE):
    """A feed of a queue by a client of its own."""
    headers = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": api.project, "Accept": "text/event-stream"}
    headers |= {"Last-Event-ID": last} if last else {}
    return FeedClient(gateway.port, messages_path(queue), headers, timeout=timeout)


def ended(feed, reason):
    """Check the last event of a feed; give it back."""
    event = feed.next()
    assert event.name == "end" and event.value["reason"] == reason
    assert event.retry
    with pytest.raises(EOFError):
        feed.next()
    return event


@WORKERS
def test_feeds_end_with_an_event_when_the_gateway_stops(start_gateway, queue, workers):
    gateway = start_gateway(wsgi={"workers": workers})
    api = Api(gateway.url)
    post(api, queue, 1)
    feeds = [follow(gateway, api, queue) for _ in range(10)]
    assert [feed.bodies(1) for feed in feeds] == [[1]] * 10

    start = time.monotonic()
    os.kill(gateway.pid, signal.SIGTERM)
    for feed in feeds:
        ended(feed, "draining")
    assert gateway.wait(20) == 0
    assert time.monotonic() - start < 15
    assert "Traceback" not in gateway.log


@WORKERS
def test_feeds_end_with_an_event_when_the_configuration_changes(start_gateway, queue, workers):
    gateway = start_gateway(wsgi={"workers": workers})
    api = Api(gateway.url)
    post(api, queue, 1)
    feed = follow(gateway, api, queue)
    (seen,) = feed.messages(1)

    os.kill(gateway.pid, signal.SIGHUP)
    ended(feed, "draining")

    again = follow(gateway, api, queue, seen.id)
    post(api, queue, 2)
    assert again.bodies(1) == [2]
    wait_until(lambda: gateway.log.count("as it is now") == workers, 20, "the new configuration")
    assert "Traceback" not in gateway.log


def test_nothing_is_missed_or_repeated_while_gateways_die(tmp_path, queue):
    """Two gateways on one file: messages are posted at one, and read at the other, which is killed again and again."""
    with require(lambda: Gateway(embedded(tmp_path))) as first, Gateway(embedded(tmp_path)) as second:
        api = Api(first.url)
        posted, stop = [], threading.Event()

        def produce():
            while not stop.is_set():
                posted.extend(post(api, queue, len(posted)) and [len(posted)])
                stop.wait(0.02)

        producer = threading.Thread(target=produce, daemon=True)
        producer.start()
        seen, last = [], None
        for turn in range(4):
            feed = follow(second, api, queue, last)
            events = feed.messages(10 + turn)
            seen, last = seen + events, events[-1].id
            second.kill()
            with pytest.raises((EOFError, OSError)):
                while True:
                    event = feed.next()
                    seen, last = [*seen, event], event.id
            second.start()
        stop.set()
        producer.join()
        feed = follow(second, api, queue, last)
        seen += feed.messages(len(posted) - len(seen))
        assert [event.value["body"] for event in seen] == list(range(len(posted)))
        assert feed.is_silent(1.0)


def test_message_posted_at_another_gateway_is_seen_soon(mongodb, queue):
    options = merge(COMMON, loopback(), beside(mongodb, f"feeds_{uuid.uuid4().hex[:8]}"))
    with require(lambda: Gateway(options)) as first, Gateway(options) as second:
        api = Api(first.url)
        feed = follow(second, api, queue)
        assert feed.is_silent(0.5)
        post(api, queue, 1)
        assert feed.bodies(1) == [1]
        claim_id, _ = claim(api, queue, 1)
        assert claim_id


def test_feeds_end_when_the_broker_is_down_and_go_on_when_it_is_back(mongodb, own_broker, queue):
    options = merge(
        COMMON, through(own_broker), beside(mongodb, f"feeds_{uuid.uuid4().hex[:8]}"), {"bridge": {"timeout": 4}}
    )
    with require(lambda: Gateway(options)) as gateway:
        api = Api(gateway.url)
        eventually(lambda: post(api, queue, 1), 30)
        feed = follow(gateway, api, queue)
        (seen,) = feed.messages(1)
        own_broker.kill()
        assert ended(feed, "unavailable").value["description"]
        own_broker.start()
        wait_until(lambda: api.post(messages_path(queue), json={"messages": [{"body": 2}]}).status_code == 201, 60)
        again = follow(gateway, api, queue, seen.id)
        assert 2 in again.bodies(1)
        assert "Traceback" not in gateway.log


def test_feeds_end_when_the_side_store_is_down(queue):
    with require(MongoDB) as mongodb:
        options = merge(COMMON, loopback(), beside(mongodb, "feeds"), {"side_store": {"timeout": 2}})
        with require(lambda: Gateway(options)) as gateway:
            api = Api(gateway.url)
            post(api, queue, 1)
            feeds = [follow(gateway, api, queue) for _ in range(5)]
            seen = [feed.messages(1)[0].id for feed in feeds]
            mongodb.kill()
            for feed in feeds:
                ended(feed, "unavailable")
            refused = follow(gateway, api, queue, seen[0])
            assert refused.status == 503 and refused.answered["retry-after"]
            mongodb.start()
            wait_until(lambda: api.post(messages_path(queue), json={"messages": [{"body": 2}]}).status_code == 201, 60)
            assert follow(gateway, api, queue, seen[0]).bodies(1) == [2]


def test_native_message_is_seen_soon(mongodb, queue):
    with make_broker() as broker:
        if not hasattr(broker, "connect"):
            pytest.skip("it is about brokers that speak AMQP")
        options = merge(COMMON, through(broker), beside(mongodb, f"feeds_{uuid.uuid4().hex[:8]}"))
        with require(lambda: Gateway(options)) as gateway:
            api = Api(gateway.url)
            create(api, queue)
            feed = follow(gateway, api, queue)
            assert feed.is_silent(0.5)
            connection = broker.connect()
            connection.channel().basic_publish(
                "", f"marconi.{api.project}.{queue}", b'{"native":\n[1,\r\n2]}',
            )
            assert feed.bodies(1) == [{"native": [1, 2]}]
            connection.close()
