"""Rates of projects."""

import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from gateway.access import rate_limit
from gateway.access.rate_limit import RateLimit
from gateway.app import make_app
from gateway.core.core import Core
from gateway.core.errors import TooFast

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
    monkeypatch.setattr(rate_limit, "PROJECTS_AT_MOST", 10)
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
