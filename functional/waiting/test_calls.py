"""Claims, pops and lists that wait: what is posted, released or due meanwhile is their answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from functional.api.helpers import bodies, claim, create, messages_path, page, post, release
from functional.http import Api
from functional.services.gateway import Gateway
from functional.waiting.waiters import CALLS, SOON, WAIT, Waiter, call, until_waiting, waiting_at

kinds = pytest.mark.parametrize("kind", CALLS)


@pytest.fixture
def api(fresh: Gateway) -> Iterator[Api]:
    client = Api(fresh.url)
    yield client
    client.close()


@pytest.fixture(scope="module")
def fresh(make_options) -> Iterator[Gateway]:
    """A gateway for these tests alone: they look at the number of those who wait there."""
    with Gateway(make_options("waiting")) as gateway:
        yield gateway


@kinds
def test_message_that_is_posted_is_the_answer(fresh: Gateway, api: Api, queue: str, kind: str) -> None:
    waiting = [Waiter(api, queue, kind) for _ in range(3)]  # for a queue that does not exist
    until_waiting(fresh.url, 3)
    sent = post(api, queue, 1, 2, 3)
    posted = time.monotonic()
    found = [message["id"] for each in waiting for message in each.messages[:1]]
    assert max(each.ended_after(posted) for each in waiting) < SOON
    if kind == "list":
        assert set(found) == {sent[0]}
    else:
        assert sorted(found) == sorted(sent)
    until_waiting(fresh.url, 0)


@kinds
def test_nothing_is_the_answer_in_the_end(api: Api, queue: str, kind: str) -> None:
    create(api, queue)
    start = time.monotonic()
    waiting = Waiter(api, queue, kind, 2, Prefer="wait=20")
    assert waiting.is_nothing()
    assert 2 <= waiting.ended_after(start) < 2 + SOON
    assert "Preference-Applied" not in waiting.answer.headers


def test_preference_is_answered(fresh: Gateway, api: Api, queue: str) -> None:
    waiting = Waiter(api, queue, "pop", 0, Prefer="wait=15")
    until_waiting(fresh.url, 1)
    post(api, queue, 1)
    assert bodies(waiting.messages) == [1]
    assert waiting.answer.headers["Preference-Applied"] == "wait=15"


def test_list_waits_for_what_comes_after_its_marker(fresh: Gateway, api: Api, queue: str) -> None:
    post(api, queue, 1, 2)
    found = page(api, queue, wait=WAIT)
    assert bodies(found["messages"]) == [1, 2]
    href = found["links"][0]["href"]
    start = time.monotonic()
    assert api.get(href.replace(f"wait={WAIT}", "wait=2")).json() == {"messages": [], "links": []}
    assert time.monotonic() - start >= 2
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.get, href)
        until_waiting(fresh.url, 1)
        post(api, queue, 3)
        posted = time.monotonic()
        assert bodies(waiting.result().json()["messages"]) == [3]
        assert time.monotonic() - posted < SOON


@kinds
def test_released_message_is_the_answer(fresh: Gateway, api: Api, queue: str, kind: str) -> None:
    post(api, queue, 1)
    claim_id, _ = claim(api, queue)
    waiting = Waiter(api, queue, kind)
    until_waiting(fresh.url, 1)
    released = time.monotonic()
    release(api, queue, claim_id)
    assert bodies(waiting.messages) == [1]
    assert waiting.ended_after(released) < SOON


@kinds
def test_delayed_message_is_the_answer_when_its_time_has_come(
    fresh: Gateway, api: Api, queue: str, kind: str
) -> None:
    posted = time.monotonic()
    post(api, queue, 1, delay=3)
    waiting = Waiter(api, queue, kind)
    assert bodies(waiting.messages) == [1]
    assert 2.5 <= waiting.ended_after(posted) < 3 + SOON
    until_waiting(fresh.url, 0)


def test_claim_that_expires_leaves_its_messages_to_those_who_wait(fresh: Gateway, api: Api, queue: str) -> None:
    post(api, queue, 1)
    claimed = time.monotonic()
    assert bodies(claim(api, queue, ttl=60, grace=60)[1]) == [1]
    while (answer := call(api, queue, "pop")).json()["messages"] == []:
        assert time.monotonic() - claimed < 60 + SOON
    assert bodies(answer.json()["messages"]) == [1]
    assert 59 <= time.monotonic() - claimed < 60 + SOON


def test_group_of_a_fifo_queue_goes_on_when_a_message_is_deleted(fresh: Gateway, api: Api, queue: str) -> None:
    if api.put(f"/v2/queues/{queue}", json={"_fifo": True}).status_code != 201:
        pytest.skip("no FIFO queues here")
    post(api, queue, 1, 2)
    _, (first,) = claim(api, queue, limit=1)
    waiting = Waiter(api, queue, "claim")
    until_waiting(fresh.url, 1)
    time.sleep(1)
    assert not waiting.is_answered
    deleted = time.monotonic()
    assert api.delete(first["href"]).status_code == 204
    assert bodies(waiting.messages) == [2]
    assert waiting.ended_after(deleted) < SOON


def test_what_is_posted_to_a_subscribed_queue_is_the_answer(fresh: Gateway, api: Api, queue: str) -> None:
    source = f"{queue}-source"
    create(api, source)
    create(api, queue)
    answer = api.post(f"/v2/queues/{source}/subscriptions", json={"subscriber": f"marconi:{queue}", "ttl": 3600})
    assert answer.status_code == 201, answer.text
    waiting = Waiter(api, queue, "pop")
    until_waiting(fresh.url, 1)
    post(api, source, 1)
    posted = time.monotonic()
    assert bodies(waiting.messages) == [1]
    assert waiting.ended_after(posted) < SOON


def test_many_wait_and_others_are_served(fresh: Gateway, api: Api, queue: str) -> None:
    number = 50  # more than there are threads
    waiting = [Waiter(api, queue, "claim") for _ in range(number)]
    until_waiting(fresh.url, number)
    start = time.monotonic()
    assert api.get(messages_path(queue)).status_code == 200
    assert time.monotonic() - start < SOON
    for first in range(0, number, 10):
        post(api, queue, *range(first, first + 10))
    found = [message["body"] for each in waiting for message in each.messages]
    assert sorted(found) == list(range(number))
    assert waiting_at(fresh.url) >= 0
    until_waiting(fresh.url, 0)


@pytest.mark.parametrize("wait", ["-1", "21", "x", "1.5"])
@kinds
def test_wait_that_is_wrong_is_refused(api: Api, queue: str, kind: str, wait: str) -> None:
    answer = call(api, queue, kind, wait)  # type: ignore[arg-type]
    assert answer.status_code == 400
    assert answer.json()["description"].startswith("wait must be")
