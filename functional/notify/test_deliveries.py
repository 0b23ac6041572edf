"""Deliveries end to end: REST, broker and side-store, and real HTTP servers."""

import base64
import hashlib
import hmac
import time

import pytest

from functional.notify.receivers import (
    Habit,
    answers,
    fast,
    gone,
    hangs,
    never_ends,
    receiving,
    redirects,
    resets,
    slow,
)
from functional.notify.subscribers import Subscriber
from functional.services.ports import free_port
from functional.wait import wait_until


@pytest.fixture
def receiver():
    with receiving(fast) as receiver:
        yield receiver


def dead(subscriber: Subscriber, subscription: str) -> list[dict]:
    return subscriber.of(subscription, "dead_letters")["dead_letters"]


def test_each_message_is_delivered_once_to_each_subscriber(subscriber, receiver):
    with receiving(slow) as second:
        subscriber.subscribe(receiver.url)
        subscriber.subscribe(second.url)
        subscriber.post_many(40)
        wait_until(lambda: len(second.requests) >= 40 and len(receiver.requests) >= 40, 30, "all messages")
        time.sleep(1)
        assert sorted(receiver.messages) == sorted(second.messages) == list(range(40))


def test_more_than_a_page_of_subscribers_is_notified(subscriber, receiver):
    for n in range(25):
        subscriber.subscribe(f"{receiver.url}/{n}")
    subscriber.post("x")
    wait_until(lambda: len({request.path for request in receiver.requests}) == 25, 30, "25 subscribers")


def test_a_delivery_is_signed(subscriber, receiver):
    subscription = subscriber.subscribe(receiver.url)
    secret = subscriber.of(subscription, "secret")["secret"]
    (id_,) = subscriber.post({"a": 1})
    wait_until(lambda: receiver.requests, 10)
    request = receiver.requests[0]
    signed = f"{id_}.{request.headers['webhook-timestamp']}.".encode() + request.body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{digest}"


def test_healthy_receivers_are_not_delayed_by_others(subscriber, receiver):
    with receiving(hangs) as hanging, receiving(resets) as resetting:
        for url in (hanging.url, resetting.url, f"http://127.0.0.1:{free_port()}/dead"):
            for n in range(4):
                subscriber.subscribe(f"{url}/{n}")
        subscriber.subscribe(receiver.url)
        subscriber.post("first")
        wait_until(lambda: len(hanging.requests) == 4 and receiver.requests, 20)
        for n in range(30):
            posted = time.monotonic()
            subscriber.post(n)
            wait_until(lambda n=n: n in receiver.messages, 5, "a message while others hang")
            assert receiver.requests[-1].at - posted < 2.0


@pytest.mark.parametrize(("habit", "reason", "status"), [
    (hangs, "timeout", None), (resets, "connection", None), (redirects, "redirect", 302),
    (never_ends, "server-error", 500),
])
def test_failing_receivers_get_their_retries_and_then_a_dead_letter(
    subscriber: Subscriber, habit: Habit, reason: str, status: int | None
):
    with receiving(habit) as receiver:
        policy = {"retries_with_no_delay": 1, "minimum_delay_retries": 0, "minimum_delay": 1, "maximum_delay": 11,
                  "maximum_delay_retries": 0, "retry_backoff_function": "geometric"}
        subscription = subscriber.subscribe(receiver.url, _retry_policy=policy, _retry_budget=9)
        (id_,) = subscriber.post("x")
        wait_until(lambda: dead(subscriber, subscription), 60, "a dead letter")
        assert {request.id for request in receiver.requests} == {id_}
        assert len(receiver.requests) >= 2
        assert [request.attempt for request in receiver.requests] == list(range(1, len(receiver.requests) + 1))
        last = wait_until(lambda: subscriber.of(subscription, "status")["last_failure"], 10)
        # What answers on an address that is allowed as an exception is not told, nor whether a port is open.
        assert last["reason"] == ("connection" if reason == "timeout" else reason) and last["status"] == status


@pytest.mark.parametrize("status", [429, 500, 503])
def test_real_statuses_are_retried(subscriber, status):
    with receiving(answers(status)) as receiver:
        subscriber.subscribe(receiver.url)
        subscriber.post("x")
        wait_until(lambda: len(receiver.requests) == 2, 15, "a retry")
        first, second = receiver.requests
        assert first.id == second.id and second.at - first.at >= 1.0
        assert int(second.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"]) - 1


def test_retry_after_is_heeded_by_the_whole_subscription(subscriber):
    with receiving(answers(429, headers={"Retry-After": "3"})) as receiver:
        subscriber.subscribe(receiver.url)
        subscriber.post(*range(5))
        wait_until(lambda: len(receiver.requests) == 6, 20)
        first, *others = receiver.requests
        assert min(request.at for request in others) - first.at >= 3.0
        assert {request.attempt for request in receiver.requests} == {1}


def test_gone_disables_and_active_delivers_what_waited(subscriber):
    with receiving(gone) as receiver:
        subscription = subscriber.subscribe(receiver.url)
        subscriber.post("a")
        wait_until(lambda: subscriber.of(subscription, "status")["state"] == "disabled", 10)
        assert subscriber.of(subscription, "status")["reason"] == "gone"
        subscriber.post("b")
        time.sleep(1)
        assert receiver.messages == ["a"]
        receiver.habit = fast
        path = f"/v2/queues/{subscriber.queue}/subscriptions/{subscription}/state"
        assert subscriber.api.put(path, json={"state": "active"}).status_code == 204
        wait_until(lambda: sorted(receiver.messages) == ["a", "a", "b"], 10)


def test_nothing_comes_after_the_answer_to_a_delete(subscriber):
    with receiving(slow) as receiver:
        subscription = subscriber.subscribe(receiver.url)
        subscriber.post_many(60)
        wait_until(lambda: receiver.requests, 10)
        subscriber.delete(subscription)
        deleted = time.monotonic()
        time.sleep(2)
        assert [request for request in receiver.requests if request.at > deleted] == []
        assert len(receiver.requests) < 60


def test_a_certificate_of_another_name_or_issuer_is_refused(subscriber, tmp_path, wrong_certificate):
    with receiving(fast, wrong_certificate) as receiver:
        subscription = subscriber.subscribe(receiver.url)
        subscriber.post("x")
        wait_until(lambda: subscriber.of(subscription, "status")["last_failure"], 15)
        assert receiver.requests == []


def test_order_is_kept_through_failures(subscriber):
    with receiving(answers(204, 500, 204, 503, 500)) as receiver:
        subscriber.subscribe(receiver.url, _max_in_flight=1)
        subscriber.post(*range(8))
        wait_until(lambda: 7 in receiver.messages, 40)
        assert receiver.messages == sorted(receiver.messages)
        assert list(dict.fromkeys(receiver.messages)) == list(range(8))
