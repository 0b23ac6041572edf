"""Tests that owners make of their subscriptions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
import pytest

from gateway.app import Gateway
from gateway.core.subscriptions import testing
from gateway.notify import signing
from tests.notify_receiver import Receiver

PATH = "/v2/queues/queue/subscriptions"
HEADERS = {"Client-ID": str(uuid4()), "X-Project-ID": "project"}

def port_of(receiver: Receiver) -> int:
    return int(urlsplit(receiver.url).port or 0)


@pytest.fixture
def gateway(configured: Callable[..., Any], receiver: Receiver) -> Iterator[Gateway]:
    """A gateway that delivers nothing by itself, and may reach the receiver."""
    gateway = Gateway(configured(notification={
        "deliver": False, "allowed_networks": f"127.0.0.1/32:{port_of(receiver)}", "connect_timeout": 1,
    }))
    yield gateway
    gateway.close()


@pytest.fixture
def tried(gateway: Gateway) -> Callable[..., Any]:
    """Subscribe a URI, and test the subscription; what the test answers."""
    client = gateway.app.test_client()

    def tried(uri: str, document: Any = None) -> Any:
        id_ = client.post(PATH, json={"subscriber": uri}, headers=HEADERS).json["subscription_id"]
        data = None if document is None else orjson.dumps(document)
        return client.post(f"{PATH}/{id_}/test", data=data, headers=HEADERS)

    return tried


def test_test_is_sent_now_and_signed(tried: Callable[..., Any], receiver: Receiver, gateway: Gateway) -> None:
    answer = tried(receiver.url, {"body": {"n": 1}})
    assert answer.status_code == 200
    assert {**answer.json, "seconds": 0} == {"status": 200, "seconds": 0, "reason": "", "response": ""}
    (request,) = receiver.requests
    headers, body, document = request.headers, request.body, request.json
    assert (document["Message_Type"], document["body"]) == ("Test", {"n": 1})
    assert headers["marconi-message-type"] == "Test" and headers["webhook-id"].startswith("test-")
    (found,) = gateway._core.subscription_records.all()
    expected = dict(signing.headers(
        headers["webhook-id"], int(headers["webhook-timestamp"]), body, [found.secrets[0].text]
    ))
    assert headers["webhook-signature"] == expected["webhook-signature"]
    assert gateway._core.subscription_waiting.count(found).pending == 0


def test_failure_is_told_and_not_repeated(tried: Callable[..., Any], receiver: Receiver) -> None:
    receiver.answer = lambda request: (503, {})
    answer = tried(receiver.url)
    assert (answer.status_code, answer.json["status"]) == (200, 503) and answer.json["reason"]
    assert receiver.bodies == ["test"]


def test_refused_address_gets_nothing(tried: Callable[..., Any], receiver: Receiver) -> None:
    answer = tried("http://localhost:1024/")
    assert answer.status_code == 200
    assert (answer.json["status"], answer.json["reason"], answer.json["response"]) == (None, "address", "")
    assert receiver.requests == []


@pytest.mark.parametrize("document", [{"more": 1}, [], "x"])
def test_bad_test_is_refused(tried: Callable[..., Any], document: Any) -> None:
    assert tried("http://example.org", document).status_code == 400


def test_tests_are_few(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, receiver: Receiver, tried: Callable[..., Any]
) -> None:
    monkeypatch.setattr(testing, "MOST", 2)
    uri = receiver.url
    answers = [tried(uri) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert "Retry-After" in answers[-1].headers and len(receiver.requests) == 2


def test_unconfirmed_subscriber_is_not_tried(configured: Callable[..., Any]) -> None:
    gateway = Gateway(configured(
        notification={"deliver": False, "require_confirmation": True}, signed_url={"secret_key": "k"}
    ))
    client = gateway.app.test_client()
    id_ = client.post(PATH, json={"subscriber": "http://example.org"}, headers=HEADERS).json["subscription_id"]
    refused = client.post(f"{PATH}/{id_}/test", headers=HEADERS)
    assert refused.status_code == 409 and "unconfirmed" in refused.json["description"]
    gateway.close()


def test_threads_that_answer_requests_are_not_all_held(
    gateway: Gateway, tried: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway._core.subscription_tests, "_running", threading.Semaphore(0))
    assert tried("http://example.org").status_code == 503
