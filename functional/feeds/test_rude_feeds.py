"""Feeds that are not read, connections that vanish, and ten thousand reconnects; others are served meanwhile."""

import contextlib
import resource
import socket
import struct
import threading
import time
import uuid

import psutil
import pytest

from functional.api.helpers import create, messages_path, post
from functional.feed_client import FeedClient
from functional.http import Api
from functional.overload.clients import Memory, Producer, running
from functional.test_metrics import value_of
from functional.wait import wait_until

#: Seconds of [wsgi] client_timeout.
CLIENT_TIMEOUT = 2.0

#: Seconds until all that is to happen has happened, on a machine that is busy with the rude ones.
PATIENCE = 60.0

#: Seconds for an answer to a polite client: see functional/overload.
POLITE = 10.0

#: How many connect, and how many of them at a time.
RECONNECTS, AT_ONCE = 10_000, 8

#: Idle feeds, and the bytes that each of them may cost.
IDLE, EACH = 2_500, 16 * 1024

RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def gateway(start_gateway):
    return start_gateway(wsgi={"threads": 2, "client_timeout": CLIENT_TIMEOUT}, stream={"keep_alive": 2})


@pytest.fixture
def api(gateway, queue):
    client = Api(gateway.url)
    create(client, queue)
    return client


@pytest.fixture
def polite(gateway, api, queue):
    """A client that posts during the test, and one that follows; both must be served."""
    producer = Producer([gateway.port], api.project, queue, True, pause=0.05)
    with contextlib.closing(FeedClient(gateway.port, f"{messages_path(queue)}?echo=true", headers(api))) as feed:
        with running([producer]):
            yield
        assert producer.failures == []
        assert set(producer.statuses) == {201}
        assert max(producer.seconds) < POLITE
        ids = [event.value["id"] for event in feed.messages(len(producer.statuses))]
        assert len(set(ids)) == len(ids)


def headers(api):
    return {"Client-ID": str(uuid.uuid4()), "X-Project-ID": api.project, "Accept": "text/event-stream"}


def open_feeds(api):
    """How many feeds the gateway has now, by its metrics."""
    return value_of(api.get("/metrics").text, "marconi_feeds")


def ends(api, reason):
    """How many feeds have ended so."""
    return value_of(api.get("/metrics").text, f'marconi_feed_ends_total{{reason="{reason}"}}')


@pytest.mark.usefixtures("polite")
def test_feeds_that_are_not_read_are_closed_and_cost_little(gateway, api):
    for _ in range(40):
        post(api, "large", "x" * 250_000)
    before = open_feeds(api)
    memory = Memory(gateway)
    path = f"{messages_path('large')}?echo=true&limit=20"
    unread = [FeedClient(gateway.port, path, headers(api), buffer=16_384, timeout=PATIENCE) for _ in range(30)]

    wait_until(lambda: memory.look() and ends(api, "slow") >= len(unread), PATIENCE, "all to be closed")

    assert open_feeds(api) == before
    assert memory.growth < 250  # a page is 5 MB, which feeds at the same place share
    for feed in unread:
        feed.close()


@pytest.mark.usefixtures("polite")
def test_clients_that_vanish_leave_nothing_behind(gateway, api, queue):
    before, memory = open_feeds(api), Memory(gateway)
    process = psutil.Process(gateway.pid)
    for number in range(300):
        connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE)
        lines = [f"GET {messages_path(queue)} HTTP/1.1", "Host: gateway"]
        lines += [f"{name}: {value}" for name, value in headers(api).items()]
        request = "\r\n".join([*lines, "", ""]).encode()
        connection.sendall(request if number % 3 else request[:-3])
        if number % 4 == 1:
            connection.recv(100)
        if number % 2:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        elif number % 4:
            connection.shutdown(socket.SHUT_WR)
        connection.close()
        memory.look()
    wait_until(lambda: open_feeds(api) == before, PATIENCE, "the feeds to be gone")
    wait_until(lambda: len(process.net_connections()) < 15, PATIENCE, "the connections to be gone")
    assert memory.growth < 50


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("polite")
def test_ten_thousand_reconnects_leave_nothing_behind(gateway, api, queue):
    """Each reads what is new, and comes again with its place, as browsers do when a gateway restarts."""
    before, memory = open_feeds(api), Memory(gateway)
    left, failures, lock = [RECONNECTS], [], threading.Lock()
    post(api, queue, 0)

    def come_again():
        own, last = headers(api), None
        while True:
            with lock:
                if not left[0]:
                    return
                left[0] -= 1
            try:
                feed = FeedClient(
                    gateway.port, f"{messages_path(queue)}?limit=1",
                    own | ({"Last-Event-ID": last} if last else {}), timeout=PATIENCE,
                )
                with contextlib.closing(feed):
                    assert feed.status == 200
                    if last is None:
                        last = feed.messages(1)[0].id
            except Exception as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=come_again) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        memory.look()
        time.sleep(0.5)
    assert failures == []
    wait_until(lambda: open_feeds(api) == before, PATIENCE, "the feeds to be gone")
    assert memory.growth < 60


@pytest.fixture
def many_files():
    """Let this process open as many connections as there are feeds, and more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = IDLE + 500
    if soft < wanted:
        if hard < wanted:
            pytest.skip(f"a process may open only {hard} files here; raise that: `ulimit -Hn {wanted}`")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("many_files")
def test_idle_feeds_cost_little_and_a_message_for_each_of_many_queues_reaches_all(start_gateway):
    gateway = start_gateway()
    api = Api(gateway.url)
    queues = [f"queue-{number}" for number in range(IDLE // 5)]
    for name in queues:
        create(api, name)
    wait_until(lambda: Memory(gateway).look(), PATIENCE)
    memory = Memory(gateway)
    feeds = [
        (name, FeedClient(gateway.port, f"{messages_path(name)}?echo=true", headers(api), timeout=PATIENCE))
        for name in queues for _ in range(5)
    ]
    memory.look()
    print(f"{memory.growth * 1024 * 1024 / IDLE:.0f} bytes for each feed")
    assert memory.growth * 1024 * 1024 < IDLE * EACH

    before = reads(api)
    for number, name in enumerate(queues):
        post(api, name, number)
    for name, feed in feeds:
        assert feed.bodies(1) == [int(name.rpartition("-")[2])]
    made = reads(api) - before
    print(f"{made} reads for {len(queues)} messages that {len(feeds)} feeds have shown")
    assert made < 4 * len(queues)
    for _, feed in feeds:
        feed.close()


def reads(api):
    """How many times pages were read from the side-store."""
    text = api.get("/metrics").text
    return value_of(
        text, 'marconi_side_store_call_seconds_count{call="list_messages",outcome="ok",pool="default"}'
    )
