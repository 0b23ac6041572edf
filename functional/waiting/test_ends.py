"""Requests that wait when something ends: the client, the gateway, its configuration, the broker or the side-store."""

from __future__ import annotations

import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from functional.api.helpers import bodies, create, messages_path, post, queue_path
from functional.brokers import Broker, make_broker
from functional.deployments import beside, through
from functional.http import Api
from functional.services.gateway import Gateway, Options, merge
from functional.services.mongodb import MongoDB
from functional.services.process import start_together
from functional.wait import wait_until
from functional.waiting.waiters import CALLS, SOON, WAIT, Waiter, until_waiting
from gateway.core.queues.names import broker_name

Start = Callable[..., Gateway]

NUMBER = 20


def test_client_that_goes_away_frees_its_place(start_gateway: Start, queue: str) -> None:
    gateway = start_gateway()
    api = Api(gateway.url)
    create(api, queue)
    request = (
        f"DELETE /v2/queues/{queue}/messages?pop=1&wait={WAIT} HTTP/1.1\r\nHost: gateway\r\n"
        f"Client-ID: {api.client_id}\r\nX-Project-ID: {api.project}\r\n\r\n"
    ).encode()
    address = urlsplit(gateway.url)
    clients = [socket.create_connection((address.hostname, address.port), 30) for _ in range(NUMBER)]
    for client in clients:
        client.sendall(request)
    until_waiting(gateway.url, NUMBER)
    for client in clients:
        client.close()
    until_waiting(gateway.url, 0)
    post(api, queue, 1)
    assert bodies(Waiter(api, queue, "pop").messages) == [1]  # nobody who has gone has got it


@pytest.mark.parametrize("workers", [1, 2])
def test_those_who_wait_are_answered_at_once_when_the_gateway_ends(
    start_gateway: Start, queue: str, workers: int
) -> None:
    gateway = start_gateway(wsgi={"workers": workers})
    api = Api(gateway.url)
    create(api, queue)
    waiting = [Waiter(api, queue, kind) for kind in CALLS for _ in range(3)]
    until_waiting(gateway.url, len(waiting))
    ended = time.monotonic()
    os.kill(gateway.pid, signal.SIGTERM)
    for each in waiting:
        assert each.is_nothing()
        assert each.answer.headers["Connection"] == "close"
        assert each.ended_after(ended) < SOON
    wait_until(lambda: not gateway.alive, 20, "the end")


def test_those_who_wait_are_answered_when_the_configuration_is_read_again(start_gateway: Start, queue: str) -> None:
    gateway = start_gateway()
    api = Api(gateway.url)
    create(api, queue)
    waiting = [Waiter(api, queue, "claim") for _ in range(NUMBER)]
    until_waiting(gateway.url, NUMBER)
    changed = time.monotonic()
    os.kill(gateway.pid, signal.SIGHUP)
    for each in waiting:
        assert each.is_nothing()
        assert each.ended_after(changed) < SOON
    again = Waiter(api, queue, "pop")
    until_waiting(gateway.url, 1)
    post(api, queue, 1)
    assert bodies(again.messages) == [1]


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[Broker, MongoDB]]:
    broker, mongodb = make_broker(), MongoDB()
    try:
        start_together([broker, mongodb])
        yield broker, mongodb
    finally:
        broker.close()
        mongodb.close()


@pytest.fixture
def options(services: tuple[Broker, MongoDB]) -> Options:
    broker, mongodb = services
    for service in services:
        if not service.alive:
            service.start()
    timeouts = {"bridge": {"timeout": 3.0}, "side_store": {"timeout": 3.0}}
    return merge(through(broker), beside(mongodb, f"ends_{uuid.uuid4().hex[:8]}"), timeouts)


@pytest.mark.parametrize("way", ["kill", "pause"])
@pytest.mark.parametrize("number", [0, 1], ids=["broker", "mongodb"])
def test_dependency_that_goes_away_is_503_for_all_who_wait(
    services: tuple[Broker, MongoDB], options: Options, start_gateway: Start, queue: str, number: int, way: str
) -> None:
    gateway = start_gateway(**options)
    api = Api(gateway.url)
    wait_until(lambda: api.put(queue_path(queue)).status_code in (201, 204), 60, "the first calls of a busy machine")
    services[0].until_saved(broker_name(api.project, queue))
    waiting = [Waiter(api, queue, CALLS[each % 3]) for each in range(NUMBER)]
    until_waiting(gateway.url, NUMBER)
    service = services[number]
    ended = time.monotonic()
    if way == "kill":
        service.kill()
    else:
        service.pause()
    try:
        for each in waiting:
            assert each.answer.status_code == 503, each.answer.text
            assert int(each.answer.headers["Retry-After"]) > 0
            assert set(each.answer.json()) == {"title", "description"}
            assert each.ended_after(ended) < WAIT - 2
    finally:
        if way == "pause":
            service.resume()
    until_waiting(gateway.url, 0)
    if way == "kill":
        service.start()
    wait_until(lambda: api.get("/v2/ping").status_code == 204, 30, "the service to be back")
    message = {"messages": [{"body": 1}]}
    wait_until(
        lambda: api.post(messages_path(queue), json=message).status_code == 201, 60, "the queue to have a leader"
    )
    assert bodies(Waiter(api, queue, "pop").messages) == [1]
