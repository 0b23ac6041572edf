"""Gateways that are replaced under load: no request fails, no confirmed message is lost."""

import threading
import uuid
from collections import Counter

import pytest

from functional.api.helpers import claim, create, ids
from functional.deployments import beside, embedded, through
from functional.http import Api
from functional.installed import require
from functional.overload.clients import Producer, running
from functional.services.gateway import Gateway, merge
from functional.wait import wait_until

CLIENTS = 8

#: Messages from all clients that make a gateway's turn: enough that each client has met it.
TURN = 100

#: Seconds for a turn.
PATIENCE = 20


def confirmed(producers):
    """The ids of all messages that clients have a 201 for."""
    return [message for producer in producers for message in producer.confirmed]


def work_on(producers):
    """Wait until another turn's messages are posted."""
    wanted = len(confirmed(producers)) + TURN
    wait_until(lambda: len(confirmed(producers)) >= wanted, PATIENCE, f"{TURN} more messages")


def assert_nothing_lost(producers, api, queue):
    """Every request was answered, and every confirmed message can be claimed, once."""
    assert [producer.failures for producer in producers if producer.failures] == []
    assert set(sum((producer.statuses for producer in producers), Counter())) <= {201, 503}
    assert sum(producer.without_retry_after for producer in producers) == 0
    posted, claimed = confirmed(producers), []
    while page := ids(claim(api, queue, limit=20)[1]):
        claimed += page
    assert sorted(claimed) == sorted(posted)


def clients(gateways, project, queue):
    """Half of them keep their connection, the others connect for each request."""
    ports = [gateway.port for gateway in gateways]
    return [
        Producer(ports if number % 4 < 2 else ports[::-1], project, queue, keep=bool(number % 2))
        for number in range(CLIENTS)
    ]


def test_gateways_restarted_one_after_the_other_fail_no_request(rabbitmq, mongodb, start_gateway, queue):
    options = merge(through(rabbitmq), beside(mongodb, f"rolling_{uuid.uuid4().hex[:12]}"))
    pair = [start_gateway(**merge(options, {"wsgi": {"workers": workers}})) for workers in (1, 2)]
    api = Api(pair[0].url)
    create(api, queue)

    with running(clients(pair, api.project, queue)) as producers:
        work_on(producers)
        for gateway in pair:
            assert gateway.stop() == 0
            work_on(producers)
            gateway.start()
            work_on(producers)

    assert sum(producer.refused for producer in producers) > 0
    assert_nothing_lost(producers, api, queue)


@pytest.mark.parametrize("workers", [1, 2])
def test_new_gateway_takes_over_the_port_of_the_old_one(tmp_path, queue, workers):
    options = merge(embedded(tmp_path), {"wsgi": {"workers": workers, "reuse_port": True}})
    with require(lambda: Gateway(options)) as old, Gateway(options, port=old.port) as new:
        wait_until(lambda: "serving on" in new.log, PATIENCE, "the new one to listen")
        api = Api(new.url)
        create(api, queue)

        with running(clients([old], api.project, queue)) as producers:
            work_on(producers)
            assert old.stop() == 0
            work_on(producers)

        assert sum(producer.refused for producer in producers) == 0
        assert_nothing_lost(producers, api, queue)


def test_idle_connection_gets_its_next_request_answered(start_gateway):
    gateway = start_gateway(wsgi={"drain_timeout": 5})
    api = Api(gateway.url)
    assert api.get("/").status_code == 300  # from here on its connection is idle

    stopping = threading.Thread(target=gateway.stop)
    stopping.start()
    wait_until(lambda: "stopping" in gateway.log, PATIENCE, "the gateway to notice the signal")
    answer = api.get("/")
    stopping.join()

    assert answer.status_code == 300
    assert answer.headers["Connection"] == "close"
    assert gateway.returncode == 0
