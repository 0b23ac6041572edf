"""Rates and quotas of projects."""

import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from gateway.app import make_app
from gateway.config.limits import Limits
from gateway.core import quotas
from gateway.core.core import Core
from gateway.core.errors import QuotaExceeded, TooFast
from gateway.core.quotas import RateLimit
from storage.sqlite import SQLiteStore
from tests.memory_bridge import MemoryBridge

SECOND = 1_000_000_000


class Clock:
    """Time that stands still, in nanoseconds."""

    def __init__(self) -> None:
        self.now = 5 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def refused(limit: str) -> float:
    return REGISTRY.get_sample_value("marconi_over_quota_total", {"limit": limit}) or 0.0


def taken(rate: RateLimit, project: str, tries: int = 100) -> int:
    """How many of so many requests are let through."""
    count = 0
    for _ in range(tries):
        try:
            rate.take(project)
            count += 1
        except TooFast:
            pass
    return count


# -- rates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 7, 50])
def test_one_seconds_worth_may_come_at_once(clock: Clock, limit: int) -> None:
    assert taken(RateLimit(limit, "requests", clock), "p") == limit


def test_rate_is_kept_over_time(clock: Clock) -> None:
    rate = RateLimit(10, "requests", clock)
    taken(rate, "p")
    total = 0
    for _ in range(100):
        clock.now += SECOND // 20
        total += taken(rate, "p", 5)
    assert total == 50


def test_refused_requests_do_not_count(clock: Clock) -> None:
    rate = RateLimit(1, "requests", clock)
    assert taken(rate, "p", 1000) == 1
    clock.now += SECOND
    assert taken(rate, "p") == 1


def test_projects_have_a_rate_each(clock: Clock) -> None:
    rate = RateLimit(2, "requests", clock)
    assert [taken(rate, project) for project in ("a", "b")] == [2, 2]


def test_refusal_names_the_limit_and_the_time_to_wait(clock: Clock) -> None:
    before = refused("bytes")
    rate = RateLimit(100, "bytes", clock)
    rate.take("p", 450)  # more than the rate: taken, and paid for later
    with pytest.raises(TooFast) as caught:
        rate.take("p", 1)
    assert caught.value.retry_after == 4
    assert "100 bytes per second" in caught.value.description
    assert refused("bytes") == before + 1
    clock.now += 4 * SECOND
    rate.take("p", 1)


def test_wait_is_at_least_a_second(clock: Clock) -> None:
    rate = RateLimit(1000, "requests", clock)
    with pytest.raises(TooFast) as caught:
        for _ in range(1001):
            rate.take("p")
    assert caught.value.retry_after == 1


def test_invented_projects_do_not_fill_the_memory(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "PROJECTS_AT_MOST", 10)
    rate = RateLimit(1, "requests", clock)
    for number in range(100):
        rate.take(f"project-{number}")
    assert len(rate._full_at) == 10
    assert taken(rate, "project-99") == 0


def test_threads_get_no_more_than_the_rate(clock: Clock) -> None:
    rate = RateLimit(100, "requests", clock)
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(taken(rate, "p"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 100


# -- over HTTP ------------------------------------------------------------------------------------------------------


def headers(project: str = "project") -> dict[str, str]:
    return {"Client-ID": str(uuid4()), "X-Project-ID": project}


def test_too_many_requests_are_429(configured: Callable[..., Any], core: Core) -> None:
    client = make_app(configured(quota={"requests_per_second": 2}), core).test_client()

    answers = [client.get("/v2/queues", headers=headers()) for _ in range(20)]

    late = next(answer for answer in answers if answer.status_code == 429)
    assert int(late.headers["Retry-After"]) == 1
    assert late.get_json()["title"] == "Too many requests"
    assert "2 requests per second" in late.get_json()["description"]
    assert client.get("/v2/queues", headers=headers("another")).status_code == 200
    assert client.get("/").status_code == 300
    assert client.get("/metrics").status_code == 200


def test_too_many_bytes_are_429_and_nothing_is_posted(configured: Callable[..., Any], core: Core) -> None:
    client = make_app(configured(quota={"bytes_per_second": 1000}), core).test_client()
    large = {"messages": [{"body": "x" * 2000}]}

    first, second = (client.post("/v2/queues/q/messages", json=large, headers=headers()) for _ in range(2))

    assert (first.status_code, second.status_code) == (201, 429)
    assert int(second.headers["Retry-After"]) >= 1
    assert client.get("/v2/queues/q/stats", headers=headers()).get_json()["messages"]["total"] == 1


def test_nothing_is_limited_by_default(configured: Callable[..., Any], core: Core) -> None:
    client = make_app(configured(), core).test_client()
    assert {client.get("/v2/queues", headers=headers()).status_code for _ in range(50)} == {200}


# -- queues ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(bridge: MemoryBridge, store: SQLiteStore):
    """A core whose projects may have two queues."""
    core = Core(bridge, store, Limits(), max_queues=2)
    yield core
    core.close()


@pytest.fixture
def client(configured: Callable[..., Any], small: Core):
    return make_app(configured(DEFAULT={"admin_mode": True}), small).test_client()


def test_queue_over_the_quota_is_403_and_leaves_nothing_behind(client, bridge: MemoryBridge, small: Core) -> None:
    before = refused("queues")
    assert [client.put(f"/v2/queues/{name}", headers=headers()).status_code for name in "ab"] == [201, 201]

    made = client.put("/v2/queues/c", headers=headers())
    posted = client.post("/v2/queues/c/messages", json={"messages": [{"body": 1}]}, headers=headers())
    claimed = client.post("/v2/queues/c/claims", headers=headers())

    assert (made.status_code, posted.status_code, claimed.status_code) == (403, 403, 204)
    assert "2 queues" in made.get_json()["description"]
    assert refused("queues") == before + 2
    assert len(bridge._queues) == small.store.catalogue.count_queues("project") == 2


def test_queues_that_exist_are_not_in_the_way(client) -> None:
    for name in "ab":
        client.put(f"/v2/queues/{name}", headers=headers())
    assert client.put("/v2/queues/a", json={"x": 1}, headers=headers()).status_code == 204
    posted = client.post("/v2/queues/b/messages", json={"messages": [{"body": 1}]}, headers=headers())
    assert posted.status_code == 201
    assert client.put("/v2/queues/a", headers=headers("another")).status_code == 201


def test_deleting_a_queue_makes_room(client) -> None:
    for name in "ab":
        client.put(f"/v2/queues/{name}", headers=headers())
    client.delete("/v2/queues/a", headers=headers())
    assert client.put("/v2/queues/c", headers=headers()).status_code == 201


def test_quota_is_exact_however_many_create_at_once(small: Core) -> None:
    outcomes: list[str] = []

    def create(name: str) -> None:
        try:
            small.queues.create("project", name, None)
            outcomes.append("made")
        except QuotaExceeded:
            outcomes.append("refused")

    threads = [threading.Thread(target=create, args=(f"q{number}",)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (outcomes.count("made"), outcomes.count("refused")) == (2, 10)


def test_first_posts_to_the_last_queue_all_succeed(small: Core) -> None:
    small.queues.create("project", "first", None)
    failures: list[Exception] = []

    def ensure() -> None:
        try:
            small.queues.ensure("project", "last")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=ensure) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


def test_dead_letters_without_room_for_their_queue_stay(client, small: Core) -> None:
    client.put("/v2/queues/a", headers=headers(), json={"_max_claim_count": 1, "_dead_letter_queue": "dead"})
    client.put("/v2/queues/b", headers=headers())
    client.post("/v2/queues/a/messages", json={"messages": [{"body": 1}]}, headers=headers())
    claimed = client.post("/v2/queues/a/claims", headers=headers())
    client.delete(claimed.headers["Location"], headers=headers())

    assert client.post("/v2/queues/a/claims", headers=headers()).status_code == 201
    assert small.store.catalogue.get_queue("project/dead") is None


def test_health_needs_no_room(client) -> None:
    for _ in range(3):
        document = client.get("/v2/health", headers=headers() | {"X-Roles": "admin"}).get_json()
        assert document["default"]["operation_status"]["create_queue"]["succeeded"]
