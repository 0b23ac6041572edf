"""Publishing once over HTTP: the header Idempotency-Key, group and dedup_id, and the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import orjson
import pytest
from flask.testing import FlaskClient

from gateway.app import make_app
from gateway.core.core import Core

HEADERS = {"Client-ID": str(uuid4()), "X-Project-ID": "project", "Content-Type": "application/json"}
MESSAGES = "/v2/queues/queue/messages"
ONE = {"messages": [{"body": 1}]}


@pytest.fixture
def client(core: Core, configured: Callable[..., Any]) -> FlaskClient:
    return make_app(configured(), core).test_client()


def post(client: FlaskClient, document: Any, path: str = MESSAGES, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, data=orjson.dumps(document), headers={**HEADERS, **named})


@pytest.mark.parametrize("first", ["8e03978e-40d5-43dd", '"8e03978e-40d5-43dd"'])
def test_answer_is_the_same_with_and_without_quotes(client: FlaskClient, first: str) -> None:
    one = post(client, ONE, Idempotency_Key=first)
    other = post(client, ONE, Idempotency_Key='"8e03978e-40d5-43dd"')
    assert (one.status_code, one.data, one.headers["Location"]) == (201, other.data, other.headers["Location"])
    assert len(client.get(f"{MESSAGES}?echo=true", headers=HEADERS).json["messages"]) == 1


@pytest.mark.parametrize(("one", "other"), [
    (r'"a\"b"', 'a"b'), (r'"a\\b"', "a\\b"), ("x" * 255, '"' + "x" * 255 + '"'), ("~ !", '"~ !"'),
])
def test_key_may_have_any_printable_character(client: FlaskClient, one: str, other: str) -> None:
    assert post(client, ONE, Idempotency_Key=one).data == post(client, ONE, Idempotency_Key=other).data


@pytest.mark.parametrize(("key", "reason"), [
    ("", "is empty"), ('""', "is empty"), ("x" * 256, "has 256 characters"), ('"' + "x" * 256 + '"', "has 256"),
    ("a\tb", "not printable"), ("a\x7fb", "not printable"), ("schl\u00fcssel", "not printable"), ('"a', "in quotes"),
    ('"a"b', "in quotes"), (r'"a\b"', "in quotes"), ('"a", "b"', "in quotes"), ('"\u00fc"', "in quotes"),
])
def test_wrong_key_is_refused(client: FlaskClient, core: Core, key: str, reason: str) -> None:
    answer = post(client, ONE, Idempotency_Key=key)
    assert (answer.status_code, answer.json["title"]) == (400, "Invalid Idempotency-Key")
    assert reason in answer.json["description"]
    assert not core.queues.exists("project", "queue")


def test_other_body_is_unprocessable(client: FlaskClient) -> None:
    post(client, ONE, Idempotency_Key="k")
    answer = post(client, {"messages": [{"body": 2}]}, Idempotency_Key="k")
    assert (answer.status_code, answer.json["title"]) == (422, "Unprocessable content")
    assert post(client, {"messages": [{"body": 2}]}, Idempotency_Key="k2").status_code == 201


def test_request_that_is_still_running_is_a_conflict_for_a_while(
    client: FlaskClient, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, answers = core.pool.bridge.publish, []

    def publish(*args: Any, **kwargs: Any) -> None:
        answers.append(post(client, ONE, Idempotency_Key="k"))
        real(*args, **kwargs)

    monkeypatch.setattr(core.pool.bridge, "publish", publish)
    assert post(client, ONE, Idempotency_Key="k").status_code == 201
    assert [(answer.status_code, answer.headers["Retry-After"]) for answer in answers] == [(409, "1")]


def test_topics_take_keys_too(client: FlaskClient) -> None:
    path = "/v2/topics/topic/messages"
    assert post(client, ONE, path, Idempotency_Key="k").data == post(client, ONE, path, Idempotency_Key="k").data
    assert post(client, {"messages": [{"body": 2}]}, path, Idempotency_Key="k").status_code == 422


def test_group_and_dedup_id_are_shown_where_there_are_any(client: FlaskClient) -> None:
    client.put("/v2/queues/queue", data=b'{"_fifo": true}', headers=HEADERS)
    documents = [
        {"body": 1, "group": "g", "dedup_id": "d"}, {"body": 2}, {"body": 3, "group": None, "dedup_id": None},
    ]
    assert post(client, {"messages": documents}).status_code == 201
    listed = client.get(f"{MESSAGES}?echo=true", headers=HEADERS).json["messages"]
    claimed = client.post("/v2/queues/queue/claims", data=b"{}", headers=HEADERS).json["messages"]
    for shown in (listed, claimed):
        assert [(message.get("group"), message.get("dedup_id")) for message in shown] == [
            ("g", "d"), (None, None), (None, None),
        ]
        assert not {"group", "dedup_id"} & set(shown[1])


@pytest.mark.parametrize("key", ["group", "dedup_id"])
@pytest.mark.parametrize("value", ["", "x" * 129, "a\nb", "a\x00", "\u200b", "\u2028", 1, True, ["g"], {}])
def test_wrong_group_or_dedup_id_is_refused(client: FlaskClient, key: str, value: Any) -> None:
    client.put("/v2/queues/queue", data=b'{"_fifo": true}', headers=HEADERS)
    answer = post(client, {"messages": [{"body": 1, key: value}]})
    assert (answer.status_code, answer.json["title"]) == (400, "Invalid request body")
    assert "1 to 128 printable characters" in answer.json["description"]


@pytest.mark.parametrize("key", ["group", "dedup_id"])
@pytest.mark.parametrize("value", ["x", "x" * 128, "a b", "\u00fc\u4e2d\U0001f600"])
def test_any_printable_characters_will_do(client: FlaskClient, key: str, value: str) -> None:
    client.put("/v2/queues/queue", data=b'{"_fifo": true}', headers=HEADERS)
    assert post(client, {"messages": [{"body": 1, key: value}]}).status_code == 201
    (message,) = client.get(f"{MESSAGES}?echo=true", headers=HEADERS).json["messages"]
    assert message[key] == value


@pytest.mark.parametrize("key", ["group", "dedup_id"])
def test_ordinary_queue_takes_neither(client: FlaskClient, core: Core, key: str) -> None:
    answer = post(client, {"messages": [{"body": 1, key: "x"}]})
    assert answer.status_code == 400
    assert "_fifo" in answer.json["description"]
    assert not core.queues.exists("project", "queue")
