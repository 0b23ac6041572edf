"""Rule 7: every limit on memory and time is finite. A dependency that hangs is a 503 within the configured timeout."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from functional.api.helpers import assert_error, create, post
from functional.brokers import make_broker
from functional.deployments import beside, through
from functional.http import Api
from functional.services.gateway import merge
from functional.services.mongodb import MongoDB

#: Seconds of [bridge] and [side_store] timeout.
TIMEOUT = 1.0

#: Seconds within which a call is answered that waits for a hanging dependency: the timeout, once for a connection and
#: once for the work on it, and what the machine takes.
PATIENCE = 2 * TIMEOUT + 1.5

#: Calls at the same time: more than the gateway has threads.
CALLS = 24


@pytest.fixture(scope="module")
def own_broker():
    """A broker that the tests may freeze."""
    with make_broker() as service:
        yield service


@pytest.fixture(scope="module")
def own_mongodb():
    """A side-store that the test may freeze."""
    with MongoDB() as service:
        yield service


@pytest.fixture
def frozen_api(own_broker, own_mongodb, start_gateway, queue):
    """A client of a gateway with short timeouts, and a queue in use."""
    timeout = {"bridge": {"timeout": TIMEOUT}, "side_store": {"timeout": TIMEOUT}}
    api = Api(start_gateway(**merge(through(own_broker), beside(own_mongodb, queue.replace("-", "_")), timeout)).url)
    create(api, queue)
    post(api, queue, 1, 2, 3)
    return api


def calls(queue):
    """One call of each kind that needs a dependency: name, method, path, body."""
    path = f"/v2/queues/{queue}"
    return [
        ("ping", "GET", "/v2/ping", None),
        ("make a queue", "PUT", f"{path}-other", None),
        ("stats", "GET", f"{path}/stats", None),
        ("post", "POST", f"{path}/messages", {"messages": [{"body": 1}]}),
        ("list", "GET", f"{path}/messages", None),
        ("claim", "POST", f"{path}/claims", None),
        ("delete the queue", "DELETE", f"{path}-other", None),
    ]


@pytest.mark.parametrize("dependency", ["own_broker", "own_mongodb"])
def test_call_to_a_frozen_dependency_is_503_within_the_timeout(request, frozen_api, queue, dependency):
    service = request.getfixturevalue(dependency)
    late, not_503 = [], []

    service.pause()
    try:
        for name, method, path, body in calls(queue):
            start = time.monotonic()
            answer = frozen_api.request(method, path, json=body)
            took = time.monotonic() - start
            if answer.status_code != 503 or "Retry-After" not in answer.headers:
                not_503.append((name, answer.status_code))
            else:
                assert_error(answer, 503)
            if took > PATIENCE:
                late.append((name, took))
    finally:
        service.resume()

    # With the broker frozen a claim is still served from what has landed: nothing here.
    assert not_503 == []
    assert late == []


@pytest.mark.parametrize("dependency", ["own_broker", "own_mongodb"])
def test_more_calls_than_threads_are_all_answered(request, frozen_api, queue, dependency):
    service = request.getfixturevalue(dependency)
    body = {"messages": [{"body": 1}]}

    service.pause()
    start = time.monotonic()
    try:
        with ThreadPoolExecutor(CALLS) as pool:
            answers = list(pool.map(
                lambda _: frozen_api.post(f"/v2/queues/{queue}/claims" if dependency == "own_mongodb"
                                          else f"/v2/queues/{queue}/messages", json=body),
                range(CALLS),
            ))
    finally:
        service.resume()
    took = time.monotonic() - start

    assert {answer.status_code for answer in answers} == {503}
    # Eight threads work through them, each call within its time.
    assert took < PATIENCE * CALLS / 8


def test_body_beyond_the_limit_is_refused_before_it_is_read(frozen_api, queue):
    huge = b"[" + b"1," * 5_000_000 + b"1]"

    answer = frozen_api.post(f"/v2/queues/{queue}/messages", data=huge)

    assert_error(answer, 400)


def test_page_beyond_the_limit_is_refused(frozen_api, queue):
    assert_error(frozen_api.get(f"/v2/queues/{queue}/messages?limit=21"), 400)
    assert_error(frozen_api.post(f"/v2/queues/{queue}/claims?limit=21"), 400)
