"""Tokens of Keystone over a WebSocket."""

import time

import pytest
from websockets.exceptions import ConnectionClosed

from functional.identity.test_tokens import credential
from functional.websocket.client import WebSocketClient


@pytest.fixture
def client(cloud):
    with WebSocketClient(cloud.gateway.url, cloud.shop) as made:
        yield made


def test_token_opens_what_its_roles_allow(cloud, client, queue):
    assert client.ask("queue_list")[0] == 403
    assert client.ask("authenticate", {"X-Auth-Token": "wrong"})[0] == 401
    assert client.ask("authenticate", {"X-Auth-Token": cloud.token("reader")})[0] == 200
    assert client.ask("queue_list")[0] == 200
    status, body = client.ask("queue_create", queue_name=queue)
    assert status == 403 and "queues:create" in body["exception"]
    assert client.ask("authenticate", {"X-Auth-Token": cloud.token("member")})[0] == 200
    assert client.ask("queue_create", queue_name=queue)[0] == 201
    client.subscribe(queue)
    client.post(queue, "x")
    assert client.bodies(1) == ["x"]
    status, body = client.ask("queue_list", {"X-Project-ID": cloud.bank})
    assert status == 403 and set(body) == {"error"}
    token = cloud.token("admin")
    assert client.ask("authenticate", {"X-Auth-Token": token})[0] == 200
    assert client.ask("queue_list", {"X-Project-ID": cloud.bank})[0] == 200
    assert token not in cloud.gateway.log


def test_connection_ends_with_the_token(cloud, client, queue):
    soon = credential(cloud, lifetime=15)
    assert client.ask("authenticate", {"X-Auth-Token": soon})[0] == 200
    assert client.ask("queue_list")[0] == 200
    began = time.monotonic()
    with pytest.raises(ConnectionClosed) as caught:
        client.receive(60)
    assert caught.value.rcvd.code == 4003
    assert time.monotonic() - began < 40
