"""What a request costs in side-store calls: the commands that are sent to MongoDB.

A claim that was slow looks once more: after a fetch that took longer than SLOW_FETCH or a first look longer than
SETTLING (gateway/core/taking.py), and for a queue that it has seen longer ago than SEEN_FOR (storage/landed.py). On
Qpid Broker-J that is not rare: a fetch takes 3 to 30 ms, longer the more the broker has to write at that time, where
RabbitMQ takes 1 to 3 ms. So no call counts as slow here, nor is a queue looked for again that was known a second ago.
"""

import threading
import uuid

import pytest

from functional.commands import recorded
from gateway.core import publishing, taking
from gateway.core.queues import remembering
from storage.mongodb import landing

#: Seconds that no test of this module takes.
UNHURRIED = 60.0


@pytest.fixture
def counter():
    with recorded(threading.get_ident()) as counter:
        yield counter


@pytest.fixture(autouse=True)
def unhurried(monkeypatch, counter, core):
    """No call counts as slow."""
    monkeypatch.setattr(remembering, "KNOWN_FOR", UNHURRIED)
    monkeypatch.setattr(publishing, "ON_TIME", UNHURRIED)
    monkeypatch.setattr(core.pool.taking, "_slow_fetch", UNHURRIED)
    monkeypatch.setattr(taking, "SETTLING", UNHURRIED)
    monkeypatch.setattr(landing, "SEEN_FOR", UNHURRIED)


@pytest.fixture
def client(counter, app):
    client = app.test_client()
    client.environ_base.update(HTTP_CLIENT_ID=str(uuid.uuid4()), HTTP_X_PROJECT_ID=uuid.uuid4().hex)
    return client


@pytest.fixture
def path(client, queue):
    """Path of a queue that the gateway knows, since it has just been used."""
    path = f"/v2/queues/{queue}"
    assert client.put(path).status_code == 201
    assert client.get(f"{path}/messages").status_code == 200
    return path


def post(client, path, count):
    answer = client.post(f"{path}/messages", json={"messages": [{"body": n} for n in range(count)]})
    assert answer.status_code == 201, answer.text


def test_counter_counts(client, counter, path):
    assert counter.names


@pytest.mark.parametrize("count", [1, 20])
def test_post_needs_no_call(client, counter, path, count):
    counter.commands.clear()

    post(client, path, count)

    assert counter.names == []


@pytest.mark.parametrize("count", [1, 20])
def test_claim_from_the_backlog_needs_two_calls(client, counter, path, count):
    post(client, path, count)
    counter.commands.clear()

    answer = client.post(f"{path}/claims?limit={count}")

    assert len(answer.json["messages"]) == count
    assert counter.names == ["find", "insert"]


def test_claim_of_landed_messages_needs_two_calls(client, counter, path):
    post(client, path, 5)
    client.get(f"{path}/messages?echo=true&limit=5")
    counter.commands.clear()

    answer = client.post(f"{path}/claims?limit=5")

    assert len(answer.json["messages"]) == 5
    assert counter.names == ["find", "update"]


def test_delete_with_claim_needs_one_call(client, counter, path):
    post(client, path, 1)
    message = client.post(f"{path}/claims").json["messages"][0]
    counter.commands.clear()

    assert client.delete(message["href"]).status_code == 204

    assert counter.names == ["delete"]


@pytest.mark.parametrize("count", [1, 20])
def test_pop_from_the_backlog_writes_nothing(client, counter, path, count):
    post(client, path, count)
    counter.commands.clear()

    answer = client.delete(f"{path}/messages?pop={count}")

    assert len(answer.json["messages"]) == count
    assert counter.names == ["find", "find"]


def test_list_of_landed_messages_needs_one_call(client, counter, path):
    post(client, path, 5)
    client.get(f"{path}/messages?echo=true&limit=5")
    counter.commands.clear()

    answer = client.get(f"{path}/messages?echo=true&limit=5")

    assert len(answer.json["messages"]) == 5
    assert counter.names == ["find"]
