"""Limits for each project, against worker processes and both side-stores."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from functional.api.helpers import post
from functional.deployments import beside
from functional.http import Api
from functional.services.gateway import Gateway, merge

WORKERS = 2
QUOTA = 5

Start = Callable[..., Gateway]


@pytest.fixture(params=["sqlite", "mongodb"])
def gateways(request: pytest.FixtureRequest, start_gateway: Start) -> list[Gateway]:
    """Two gateways with one side-store."""
    options = {"wsgi": {"workers": WORKERS}, "quota": {"queues": QUOTA}}
    if request.param == "mongodb":
        options = merge(options, beside(request.getfixturevalue("mongodb"), "quotas"))
    return [start_gateway(**options) for _ in range(2)]


def test_queue_quota_is_exact_over_gateways_and_workers(gateways: list[Gateway]) -> None:
    project = uuid.uuid4().hex

    def make(number: int) -> int:
        api = Api(gateways[number % len(gateways)].url, project)  # a connection of its own: any worker
        if number % 3:
            return api.put(f"/v2/queues/q{number}").status_code
        return api.post(f"/v2/queues/q{number}/messages", json={"messages": [{"body": 1}]}).status_code

    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(make, range(36)))

    assert sorted(statuses) == [201] * QUOTA + [403] * (36 - QUOTA)
    api = Api(gateways[0].url, project)
    listed = api.get("/v2/queues?with_count=true&limit=20").json()
    assert listed["count"] == len(listed["queues"]) == QUOTA
    assert api.delete(listed["queues"][0]["href"]).status_code == 204
    assert Api(gateways[1].url, project).put("/v2/queues/another").status_code == 201


def test_too_fast_is_429_and_over_when_retry_after_says(start_gateway: Start, queue: str) -> None:
    gateway = start_gateway(quota={"requests_per_second": 20, "bytes_per_second": 100_000})
    api, other = Api(gateway.url, "fast"), Api(gateway.url, "slow")

    statuses = [api.get("/v2/queues") for _ in range(100)]

    refused = [answer for answer in statuses if answer.status_code == 429]
    assert len(refused) > 30
    assert all(answer.headers["Retry-After"] == "1" for answer in refused)
    assert set(refused[0].json()) == {"title", "description"}
    assert other.post(f"/v2/queues/{queue}/messages", json={"messages": [{"body": "x" * 150_000}]}).status_code == 201
    answer = other.post(f"/v2/queues/{queue}/messages", json={"messages": [{"body": 1}]})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    metrics = other.get("/metrics").text
    assert f'marconi_over_quota_total{{limit="requests"}} {len(refused)}.0' in metrics
    assert 'marconi_over_quota_total{limit="bytes"} 1.0' in metrics
    post(Api(gateway.url, "third"), queue, 1)
