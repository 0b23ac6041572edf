"""The listener of `[metrics]`, and `/healthcheck`, of services with one process and with several."""

import os
import signal
import threading

import pytest
import requests

from functional.api.helpers import post
from functional.http import Api
from functional.services.ports import free_port
from functional.test_metrics import value_of
from functional.wait import wait_until

#: Seconds for one answer, and for a worker to be replaced.
TIMEOUT = 10


@pytest.fixture(params=[1, 2])
def monitored(request, start_gateway):
    """A gateway, and the URL of its listener of metrics."""
    port = free_port()
    gateway = start_gateway(wsgi={"workers": request.param}, metrics={"bind": "127.0.0.1", "port": port})
    return gateway, f"http://127.0.0.1:{port}"


def status(url):
    """Of a request without headers; 0 if nobody answers."""
    try:
        return requests.get(url, timeout=TIMEOUT).status_code
    except requests.ConnectionError:
        return 0


def test_metrics_are_on_their_listener_alone(monitored, queue):
    gateway, url = monitored
    api = Api(gateway.url)
    for _ in range(10):
        post(api.other_client(), queue, 1, 2)

    text = requests.get(f"{url}/metrics", timeout=TIMEOUT).text

    assert value_of(text, 'marconi_messages_total{event="posted"}') == 20
    assert api.get("/metrics").status_code == 404
    assert [status(f"{url}{path}") for path in ("/", "/healthcheck", "/v2/queues", "/metrics/")] == [300, 200, 404, 404]


def test_metrics_go_on_when_a_worker_dies(start_gateway, queue):
    port = free_port()
    gateway = start_gateway(wsgi={"workers": 2}, metrics={"bind": "127.0.0.1", "port": port})
    url = f"http://127.0.0.1:{port}/metrics"
    for _ in range(2):
        assert status(url) == 200
        before = set(gateway.worker_pids)
        os.kill(gateway.worker_pids[0], signal.SIGKILL)
        wait_until(lambda before=before: len(set(gateway.worker_pids) - before) == 1, TIMEOUT, "another worker")
        wait_until(lambda: status(url) == 200, TIMEOUT, "metrics")
    assert status(f"{gateway.url}/") == 300


def test_service_starts_without_its_metrics(start_gateway):
    """They serve beside the main job."""
    other = start_gateway()
    gateway = start_gateway(metrics={"bind": "127.0.0.1", "port": other.port})
    assert status(f"{gateway.url}/healthcheck") == 200
    assert "no metrics: can't listen on 127.0.0.1" in gateway.log


def test_healthcheck_is_503_while_the_gateway_ends(start_gateway):
    gateway = start_gateway(wsgi={"drain_timeout": 5})
    with requests.Session() as session:
        assert session.get(f"{gateway.url}/healthcheck", timeout=TIMEOUT).status_code == 200
        stopping = threading.Thread(target=gateway.stop)
        stopping.start()
        wait_until(lambda: "stopping" in gateway.log, TIMEOUT, "the signal")
        answer = session.get(f"{gateway.url}/healthcheck", timeout=TIMEOUT)
        stopping.join()
    assert answer.status_code == 503
    assert answer.headers["Connection"] == "close"


def test_healthcheck_says_what_does_not_answer(start_gateway):
    gateway = start_gateway(bridge={"uri": f"amqp://user:secret@127.0.0.1:{free_port()}/"})
    answer = requests.get(f"{gateway.url}/healthcheck", timeout=TIMEOUT)
    assert answer.status_code == 503
    assert "message broker" in answer.json()["description"]
    assert "side-store" not in answer.json()["description"]
    assert status(f"{gateway.url}/") == 300
