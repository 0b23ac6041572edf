"""Several gateways: whoever has the connection delivers, and what a gateway leaves behind goes away."""

import os
import signal
import time

import pytest
from websockets.exceptions import ConnectionClosed

from functional.http import Api
from functional.services.notifier import Notifier
from functional.wait import wait_until
from functional.websocket.conftest import LEASE

#: Seconds for what others do on a busy machine.
PATIENCE = 60.0


def subscriptions(api, queue):
    return api.get(f"/v2/queues/{queue}/subscriptions").json()["subscriptions"]


def close_code(client):
    """The code that the gateway closes the connection with."""
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            client.receive(PATIENCE)
    return caught.value.rcvd.code if caught.value.rcvd else 1006


def test_posts_through_another_gateway_come_over_the_connection(start, connect, queue):
    first, second = start(), start()
    client = connect(first)
    client.subscribe(queue)
    other = connect(second, client.project)
    other.subscribe(queue)
    api = Api(second.url, client.project)
    for number in range(30):
        answer = api.post(f"/v2/queues/{queue}/messages", json={"messages": [{"body": number, "ttl": 100}]})
        assert answer.status_code == 201
    assert client.bodies(30) == other.bodies(30) == list(range(30))
    assert api.delete(f"/v2/queues/{queue}/subscriptions/{subscriptions(api, queue)[0]['id']}").status_code == 204
    client.post(queue, "last")
    assert other.bodies(1) == ["last"]


def test_notifiers_leave_connections_alone(start, connect, options, queue):
    gateway = start(notification={"deliver": False})
    text = gateway.config_file.read_text()
    notifier = Notifier({})
    notifier.config_file.write_text(text)
    with notifier:
        client = connect(gateway)
        client.subscribe(queue)
        time.sleep(3.0)  # it has seen the subscription
        client.post(queue, *range(20))
        assert client.bodies(20) == list(range(20))
        with pytest.raises(TimeoutError):
            client.notification(timeout=2.0)


def test_subscriptions_of_a_killed_gateway_go_with_its_lease(start, connect, queue):
    first, second = start(), start()
    killed, left = connect(first), None
    killed.subscribe(queue)
    left = connect(second, killed.project)
    left.subscribe(queue)
    api = Api(second.url, killed.project)
    assert len(subscriptions(api, queue)) == 2
    first.kill()
    began = time.monotonic()
    left.post(queue, "posted while nobody knows")
    assert left.bodies(1) == ["posted while nobody knows"]
    wait_until(lambda: len(subscriptions(api, queue)) == 1, PATIENCE, "the end of the lease")
    assert time.monotonic() - began > LEASE / 2
    left.post(queue, "after it")
    assert left.bodies(1) == ["after it"]


def test_gateway_that_was_stopped_for_long_closes_connections(start, connect, options, queue):
    if "bridge" not in options:
        pytest.skip("a process that is stopped while it writes holds SQLite's lock")
    first, second = start(), start()
    client = connect(first)
    client.subscribe(queue)
    api = Api(second.url, client.project)
    first.pause()
    try:
        wait_until(lambda: not subscriptions(api, queue), PATIENCE, "the end of the lease")
    finally:
        first.resume()
    assert close_code(client) == 1012
    again = connect(first, client.project)
    again.subscribe(queue)
    again.post(queue, "again")
    assert again.bodies(1) == ["again"]


def test_stopped_gateway_says_goodbye_after_the_answer(start, connect, queue):
    gateway, other = start(), start()
    client, idle = connect(gateway), connect(gateway)
    client.subscribe(queue)
    for number in range(10):
        client.send("message_post", queue_name=queue, messages=[{"body": number, "ttl": 100}])
    client.answer()
    api = Api(other.url, client.project)
    gateway.stop()
    assert close_code(client) == 1012
    assert close_code(idle) == 1012
    assert subscriptions(api, queue) == []


def test_reload_closes_connections_and_takes_new_ones(start, connect, queue):
    gateway = start()
    client = connect(gateway)
    client.subscribe(queue)
    os.kill(gateway.pid, signal.SIGHUP)
    assert close_code(client) == 1012
    again = connect(gateway, client.project)
    again.subscribe(queue)
    again.post(queue, "again")
    assert again.bodies(1) == ["again"]
    api = Api(gateway.url, client.project)
    wait_until(lambda: len(subscriptions(api, queue)) == 1, PATIENCE, "the end of the first subscription")


def test_workers_share_a_port_of_their_own(start, connect, queue):
    gateway = start(wsgi={"workers": 2})
    clients = [connect(gateway)]
    clients += [connect(gateway, clients[0].project) for _ in range(5)]
    for client in clients:
        client.subscribe(queue)
    clients[0].post(queue, "for all")
    assert [client.bodies(1) for client in clients] == [["for all"]] * 6
    gateway.stop()
    assert {close_code(client) for client in clients} == {1012}
