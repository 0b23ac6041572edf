"""How many queues a project may have."""

import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from bridges.memory import MemoryBridge
from gateway.app import make_app
from gateway.config.limits import Limits
from gateway.core.core import Core
from gateway.core.errors import QuotaExceeded
from storage.sqlite import SQLiteStore


def refused(limit: str) -> float:
    return REGISTRY.get_sample_value("marconi_over_quota_total", {"limit": limit}) or 0.0


def headers(project: str = "project") -> dict[str, str]:
    return {"Client-ID": str(uuid4()), "X-Project-ID": project}


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
    assert len(bridge._queues) == small.pool.store.catalogue.count_queues("project") == 2


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
            small.directory.ensure("project", "last")
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
    assert small.pool.store.catalogue.get_queue("project/dead") is None


def test_health_needs_no_room(client) -> None:
    for _ in range(3):
        document = client.get("/v2/health", headers=headers() | {"X-Roles": "admin"}).get_json()
        assert document["default"]["operation_status"]["create_queue"]["succeeded"]
