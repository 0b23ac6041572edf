"""More requests than the threads get done: a bounded number waits, for a bounded time, the rest is 503 at once."""

import contextlib
import http.client
import json
import sqlite3
import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from urllib.parse import urlsplit

import pytest

from functional.api.helpers import JSON, assert_error, create, listed, post
from functional.http import Api
from functional.overload.clients import Memory, Producer, running
from functional.test_metrics import value_of

#: Seconds of [side_store] timeout, for which a request hangs while somebody else holds the lock of SQLite.
TIMEOUT = 8.0

#: Requests at the same time.
CALLS = 24

MESSAGE = {"messages": [{"body": 1}]}


@contextlib.contextmanager
def locked(folder):
    """Nobody else can write to the side-store: each request holds its thread."""
    with contextlib.closing(sqlite3.connect(folder / "marconi.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@pytest.fixture
def start_api(start_gateway):
    """Start a gateway with few threads, and return a client of it: `start_api(max_queued_requests=4)`."""

    def start(**wsgi):
        options = {"wsgi": {"threads": 2, "max_queue_time": 60} | wsgi, "side_store": {"timeout": TIMEOUT}}
        return Api(start_gateway(**options).url)

    return start


def counted(api, reason):
    """How many requests the metrics say were refused for a reason."""
    return value_of(api.get("/metrics").text, f'marconi_refused_requests_total{{reason="{reason}"}}')


def test_request_beyond_threads_and_queue_is_503_at_once(start_api, queue, tmp_path):
    api = start_api(threads=2, max_queued_requests=4)
    path = f"/v2/queues/{queue}/messages"
    create(api, queue)

    with ThreadPoolExecutor(CALLS) as pool:
        with locked(tmp_path):
            calls = [pool.submit(api.post, path, json=MESSAGE) for _ in range(CALLS)]
            refused = [call.result() for call in islice(as_completed(calls), CALLS - 6)]
        answers = [call.result() for call in calls]

    for answer in refused:
        assert_error(answer, 503)
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["X-Openstack-Request-Id"].startswith("req-")
    assert Counter(answer.status_code for answer in answers) == {503: CALLS - 6, 201: 6}
    assert counted(api, "full") == CALLS - 6
    assert len(listed(api, queue, limit=20)) == 6


def test_refused_client_goes_on_with_its_connection(start_api, queue, tmp_path):
    api = start_api(threads=1, max_queued_requests=1)
    path = f"/v2/queues/{queue}/messages"
    create(api, queue)
    connection = http.client.HTTPConnection(urlsplit(api.url).netloc, timeout=10)
    connection.connect()
    sock = connection.sock

    def call(method):
        connection.request(method, path, json.dumps(MESSAGE), JSON | {"Client-ID": api.client_id, "X-Project-ID": "p"})
        answer = connection.getresponse()
        answer.read()
        assert connection.sock is sock
        return answer.status

    with ThreadPoolExecutor(2) as pool, locked(tmp_path):
        for _ in range(2):
            pool.submit(api.post, path, json=MESSAGE)
        time.sleep(0.5)  # both are there; there is no way to see that from outside
        refused = [call(method) for method in ("POST", "HEAD", "GET")]

    assert refused == [503, 503, 503]
    assert call("POST") == 201
    connection.close()


def test_request_that_waits_too_long_is_503_and_not_done(start_api, queue, tmp_path):
    api = start_api(threads=1, max_queue_time=0.5)
    path = f"/v2/queues/{queue}/messages"
    create(api, queue)

    with ThreadPoolExecutor(4) as pool:
        with locked(tmp_path):
            calls = [pool.submit(api.post, path, json=MESSAGE) for _ in range(4)]
            late = [call.result() for call in islice(as_completed(calls), 3)]
        answers = [call.result() for call in calls]

    for answer in late:
        assert_error(answer, 503)
        assert int(answer.headers["Retry-After"]) > 0
    assert Counter(answer.status_code for answer in answers) == {503: 3, 201: 1}
    assert counted(api, "late") == 3
    assert len(listed(api, queue)) == 1


def test_overload_is_served_at_capacity_and_leaves_nothing_behind(start_gateway, queue):
    gateway = start_gateway(wsgi={"threads": 4, "max_queued_requests": 32})
    api = Api(gateway.url)
    create(api, queue)
    memory = Memory(gateway)

    producers = [Producer([gateway.port], api.project, queue, pause=0) for _ in range(150)]
    with running(producers):
        for _ in range(10):
            time.sleep(0.5)
            memory.look()
    start = time.monotonic()
    post(api, queue, "afterwards")
    recovery = time.monotonic() - start

    statuses = sum((producer.statuses for producer in producers), Counter())
    assert [producer.failures for producer in producers if producer.failures] == []
    assert set(statuses) == {201, 503}
    assert sum(producer.without_retry_after for producer in producers) == 0
    # 32 wait in front of 4 threads: without a limit each would wait for all 150.
    seconds = sorted(second for producer in producers for second in producer.seconds)
    assert statistics.quantiles(seconds, n=100)[-1] < 5
    assert memory.growth < 100
    assert recovery < 5
