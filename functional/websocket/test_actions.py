"""All actions against a gateway as it is run, in text and binary frames."""

import socket

import pytest
import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as connect_socket

from functional.http import Api
from functional.services.ports import free_port
from functional.websocket.client import WebSocketClient


@pytest.fixture(params=[False, True], ids=["text", "binary"])
def client(request, gateway, connect):
    return connect(gateway, is_binary=request.param)


def test_a_walk_through_all_actions(client, queue):
    assert client.ask("authenticate", {"X-Auth-Token": "any"})[0] == 200
    assert client.ask("queue_create", queue_name=queue, metadata={"team": "shop"})[0] == 201
    assert client.ask("queue_create", queue_name=queue)[0] == 204
    assert client.ask("queue_list", detailed=True)[1]["queues"][0]["metadata"]["team"] == "shop"
    assert client.ask("queue_get", queue_name=queue) == (200, {"team": "shop"})
    first, second, third = client.post(queue, {"n": 1}, "zwölf", [None, 1.5])
    assert client.ask("queue_get_stats", queue_name=queue)[1]["messages"]["total"] == 3
    status, page = client.ask("message_list", queue_name=queue, echo=True)
    assert [each["body"] for each in page["messages"]] == [{"n": 1}, "zwölf", [None, 1.5]]
    assert client.ask("message_get", queue_name=queue, message_id=second)[1]["messages"]["body"] == "zwölf"
    assert len(client.ask("message_get_many", queue_name=queue, message_ids=[first, third])[1]["messages"]) == 2
    status, claimed = client.ask("claim_create", queue_name=queue, ttl=60, grace=60, limit=1)
    assert status == 201
    claim = {"queue_name": queue, "claim_id": claimed["claim_id"]}
    assert [each["id"] for each in client.ask("claim_get", **claim)[1]["messages"]] == [first]
    assert client.ask("claim_update", ttl=100, grace=60, **claim)[0] == 204
    assert client.ask("message_delete", queue_name=queue, message_id=first)[0] == 403
    assert client.ask("message_delete", message_id=first, **claim)[0] == 204
    assert client.ask("claim_delete", **claim)[0] == 204
    assert client.ask("message_delete_many", queue_name=queue, message_ids=[second])[0] == 204
    status, popped = client.ask("message_delete_many", queue_name=queue, pop=5)
    assert (status, [each["id"] for each in popped["messages"]]) == (200, [third])
    assert client.ask("claim_create", queue_name=queue) == (204, {"claim_id": None})
    status, made = client.ask(
        "subscription_create", queue_name=queue, subscriber="http://subscriber.invalid", ttl=600, options={"a": 1}
    )
    assert status == 201
    one = {"queue_name": queue, "subscription_id": made["subscription_id"]}
    assert set(client.ask("subscription_get", **one)[1]) == {
        "id", "source", "subscriber", "ttl", "age", "options", "confirmed",
    }
    assert len(client.ask("subscription_list", queue_name=queue)[1]["subscriptions"]) == 1
    assert client.ask("subscription_delete", **one)[0] == 204
    assert client.ask("queue_purge", queue_name=queue)[0] == 204
    assert client.ask("get_home_doc")[0] == 200
    assert client.ask("ping_node")[0] == 204
    assert client.ask("check_node_health", {"X-Roles": "admin"})[1]["catalog_reachable"] is True
    assert client.ask("queue_delete", queue_name=queue)[0] == 204
    assert client.ask("pool_list") == (400, {"error": "pool_list is not a valid action"})


def test_answers_are_those_of_http(client, gateway, queue):
    api = Api(gateway.url, client.project)
    (id_,) = client.post(queue, "x")
    assert api.get(f"/v2/queues/{queue}/messages/{id_}").json()["body"] == "x"
    share = api.post(f"/v2/queues/{queue}/share", json={"paths": ["messages"], "methods": ["GET"]}).json()
    signed = {
        "URL-Signature": share["signature"], "URL-Expires": share["expires"], "URL-Methods": share["methods"],
        "URL-Paths": share["paths"],
    }
    assert client.ask("message_get", signed, queue_name=queue, message_id=id_)[0] == 200
    assert client.ask("message_delete", signed, queue_name=queue, message_id=id_)[0] == 403
    assert client.ask("message_get", signed, queue_name="other", message_id=id_)[0] == 403
    status, refused = client.ask("message_post", queue_name=queue, messages=[{"body": "x", "ttl": 1}])
    over_http = api.post(f"/v2/queues/{queue}/messages", json={"messages": [{"body": "x", "ttl": 1}]})
    assert (status, refused["exception"]) == (over_http.status_code, over_http.json()["description"])


def test_largest_post_fits_into_a_frame(gateway, connect, queue):
    client = connect(gateway)
    rest = len('{"messages":[{"body":"","ttl":600}]}')
    client.post(queue, "x" * (262144 - rest))
    too_large = [{"body": "x" * (262144 - rest + 1), "ttl": 600}]
    status, body = client.ask("message_post", queue_name=queue, messages=too_large)
    assert status == 400 and body["exception"]
    client.socket.send("x" * 300_000)
    with pytest.raises(ConnectionClosed) as caught:
        client.receive()
    assert caught.value.rcvd.code == 1009


def test_requests_ahead_are_answered_in_order(gateway, connect, queue):
    client = connect(gateway)
    for number in range(200):
        client.send("message_post", queue_name=queue, messages=[{"body": number}])
    assert [client.answer()[0] for _ in range(200)] == [201] * 200
    page = client.ask("message_list", queue_name=queue, echo=True, limit=20)[1]["messages"]
    assert [each["body"] for each in page] == list(range(20))


def test_plain_request_is_told_what_to_do(gateway):
    answer = requests.get(f"{gateway.url}/v2/websocket", timeout=30)
    assert (answer.status_code, answer.headers["Sec-WebSocket-Version"]) == (400, "13")
    assert set(answer.json()) == {"title", "description"} and "Upgrade" in answer.json()["description"]


def test_browser_of_another_origin_may_not_connect(gateway):
    with pytest.raises(InvalidStatus) as caught:
        connect_socket(gateway.url.replace("http", "ws") + "/v2/websocket", origin="https://evil.example", proxy=None)
    assert caught.value.response.status_code == 403


def test_port_of_its_own_takes_every_path(start_gateway, queue):
    port = free_port()
    gateway = start_gateway(**{"drivers:transport:websocket": {"bind": "127.0.0.1", "port": port}})
    for path in ("/", "", "/any/path"):
        with WebSocketClient(f"http://127.0.0.1:{port}", path=path) as client:
            client.post(queue, "x")
    assert requests.get(f"http://127.0.0.1:{port}/v2/queues", timeout=30).status_code == 400
    with WebSocketClient(gateway.url) as client:
        client.post(queue, "x")
    gateway.stop()
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", port)) != 0


def test_more_connections_than_allowed_are_refused_until_one_ends(start_gateway, connect, queue):
    gateway = start_gateway(websocket={"max_connections": 2})
    first, _ = connect(gateway), connect(gateway)
    with pytest.raises(InvalidStatus) as caught:
        WebSocketClient(gateway.url)
    assert caught.value.response.status_code == 503
    assert "Retry-After" in caught.value.response.headers
    first.close()
    for _ in range(100):
        try:
            connect(gateway).post(queue, "x")
            return
        except InvalidStatus:
            pass
    raise AssertionError("no place became free")
