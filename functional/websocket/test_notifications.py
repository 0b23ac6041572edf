"""Messages come over the connections that are subscribed to their queues."""

import time

import msgpack
import pytest

from functional.http import Api
from functional.wait import wait_until

#: Seconds for what others do on a busy machine.
PATIENCE = 60.0


@pytest.fixture
def gateway(start):
    return start()


@pytest.fixture
def client(gateway, connect):
    return connect(gateway)


def subscriptions(api, queue):
    return api.get(f"/v2/queues/{queue}/subscriptions").json()["subscriptions"]


@pytest.mark.parametrize("is_binary", [False, True], ids=["text", "binary"])
def test_each_message_comes_once_in_order(gateway, connect, queue, is_binary):
    client = connect(gateway, is_binary=is_binary)
    client.subscribe(queue)
    for first in range(0, 100, 20):
        client.post(queue, *range(first, first + 20))
    assert client.notification() == {
        "body": 0, "ttl": 600, "queue_name": queue, "Message_Type": "Notification",
    }
    assert client.bodies(99) == list(range(1, 100))
    with pytest.raises(TimeoutError):
        client.notification(timeout=2.0)


def test_answer_to_a_post_comes_before_its_notifications(client, queue):
    client.subscribe(queue)
    for number in range(20):
        client.send("message_post", queue_name=queue, messages=[{"body": number, "ttl": 600}])
    frames = [client.receive() for _ in range(20)]
    assert all("request" in frame for frame in frames), "a notification came between a request and its answer"
    assert client.bodies(20) == list(range(20))


def test_what_others_post_comes_over_all_connections(gateway, connect, queue):
    first = connect(gateway)
    second = connect(gateway, first.project)
    stranger = connect(gateway)
    for client in (first, second, stranger):
        client.subscribe(queue)
    api = Api(gateway.url, first.project)
    api.post(f"/v2/queues/{queue}/messages", json={"messages": [{"body": n, "ttl": 100} for n in range(10)]})
    assert first.bodies(10) == second.bodies(10) == list(range(10))
    assert len(subscriptions(api, queue)) == 2
    assert len(subscriptions(Api(gateway.url, stranger.project), queue)) == 1
    with pytest.raises(TimeoutError):
        stranger.notification(timeout=1.0)


def test_several_queues_one_subscription_each(client, queue):
    other = f"{queue}-other"
    client.subscribe(queue)
    client.subscribe(other)
    assert client.ask("subscription_create", queue_name=queue)[0] == 409
    client.post(queue, "one")
    client.post(other, "two")
    assert {client.notification()["queue_name"] for _ in range(2)} == {queue, other}


def test_options_say_what_comes(gateway, connect, queue):
    project = None
    frames = []
    for is_binary, options in (
        (False, {"post_data": '{"wrapped": "$zaqar_message$"}'}), (False, {"_format": "raw"}),
        (False, {"_format": "cloudevents"}), (True, {"_format": "raw"}), (True, {"post_data": "no JSON"}),
        (False, {"_filter": {"kind": ["other"]}}),
    ):
        client = connect(gateway, project, is_binary)
        project = client.project
        client.subscribe(queue, **options)
        frames.append(client)
    assert frames[0].ask("subscription_create", queue_name="q", options={"_format": "cloudevents-binary"})[0] == 400
    frames[0].post(queue, {"kind": "lamp"}, {"kind": "other"})
    assert frames[0].notification()["wrapped"]["body"] == {"kind": "lamp"}
    assert frames[1].notification() == {"kind": "lamp"}
    event = frames[2].notification()
    assert (event["specversion"], event["data"]) == ("1.0", {"kind": "lamp"})
    assert isinstance(frame := frames[3].socket.recv(), bytes) and msgpack.unpackb(frame) == {"kind": "lamp"}
    assert frames[4].notification() == "no JSON"
    assert frames[5].notification()["body"] == {"kind": "other"}


def test_encrypted_and_delayed_messages_come_open_and_in_time(client, queue):
    assert client.ask("queue_create", queue_name=queue, metadata={"_enable_encrypt_messages": True})[0] == 201
    client.subscribe(queue)
    client.post(queue, {"secret": 1})
    assert client.bodies(1) == [{"secret": 1}]
    posted = time.monotonic()
    client.post(queue, "later", delay=3)
    client.post(queue, "sooner")
    assert client.bodies(2) == ["sooner", "later"]
    assert time.monotonic() - posted >= 2.9


def test_messages_of_a_fifo_queue_come_in_order(client, queue):
    assert client.ask("queue_create", queue_name=queue, metadata={"_fifo": True})[0] == 201
    client.subscribe(queue)
    for number in range(10):
        client.post(queue, number, group="a")
    client.post(queue, "later", group="a", delay=2)
    assert client.bodies(11) == [*range(10), "later"]


def test_subscription_ends_with_its_connection(gateway, connect, client, queue):
    leaver = connect(gateway, client.project)
    leaver.subscribe(queue)
    client.subscribe(queue)
    api = Api(gateway.url, client.project)
    assert [each["confirmed"] for each in subscriptions(api, queue)] == [True, True]
    assert all(each["subscriber"].startswith("websocket:") for each in subscriptions(api, queue))
    leaver.close()
    wait_until(lambda: len(subscriptions(api, queue)) == 1, PATIENCE, "the end of the subscription")
    client.post(queue, "still")
    assert client.bodies(1) == ["still"]
    client.socket.socket.close()  # without a word
    wait_until(lambda: not subscriptions(api, queue), PATIENCE, "the end of the other subscription")


def test_deleted_and_paused_subscriptions_get_nothing(gateway, client, queue):
    api = Api(gateway.url, client.project)
    id_ = client.subscribe(queue)
    path = f"/v2/queues/{queue}/subscriptions/{id_}"
    assert api.put(f"{path}/state", json={"state": "paused"}).status_code == 204
    client.post(queue, "while paused")
    with pytest.raises(TimeoutError):
        client.notification(timeout=1.5)
    assert api.put(f"{path}/state", json={"state": "active"}).status_code == 204
    assert client.bodies(1) == ["while paused"]
    assert api.patch(path, json={"options": {"post_data": '["$zaqar_message$"]'}}).status_code == 204
    time.sleep(1.5)
    client.post(queue, "patched")
    assert client.notification()[0]["body"] == "patched"
    assert api.patch(path, json={"subscriber": "http://subscriber.invalid"}).status_code == 400
    assert api.delete(path).status_code == 204
    client.post(queue, "deleted")
    with pytest.raises(TimeoutError):
        client.notification(timeout=1.5)
    client.subscribe(queue)
    client.post(queue, "again")
    assert client.bodies(1) == ["again"]


def test_nobody_creates_a_subscriber_of_a_connection(gateway, client, queue):
    client.subscribe(queue)
    api = Api(gateway.url, client.project)
    (found,) = subscriptions(api, queue)
    for subscriber in (found["subscriber"], "websocket:0196f0a0-0000-7000-8000-000000000000"):
        answer = api.post(f"/v2/queues/{queue}/subscriptions", json={"subscriber": subscriber, "ttl": 600})
        assert answer.status_code == 400
    assert api.post(f"/v2/queues/{queue}/subscriptions/{found['id']}/test").status_code == 409


def test_old_messages_can_be_delivered_again(gateway, client, queue):
    api = Api(gateway.url, client.project)
    id_ = client.subscribe(queue)
    client.post(queue, "once")
    assert client.bodies(1) == ["once"]
    answer = api.post(
        f"/v2/queues/{queue}/subscriptions/{id_}/replay", json={"all": True, "only": "delivered"}
    )
    assert answer.status_code == 202 and answer.json()["accepted"] == 1
    assert client.bodies(1) == ["once"]
