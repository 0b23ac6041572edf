"""Pools, flavors and moves: on each deployment, and with RabbitMQ 4 as a pool beside the installed RabbitMQ."""

import subprocess
import time
import uuid

import pytest

from functional.api.helpers import assert_error, bodies, claim, listed, pop, post, queue_path
from functional.deployments import COMMON, beside, through
from functional.http import Api
from functional.installed import require
from functional.services.gateway import Gateway, find_command, merge
from functional.services.rabbitmq import LATER, UNPACKED, RabbitMQ
from functional.wait import wait_until

ADMIN = {"X-Roles": "admin"}

#: Seconds in which what was changed through one gateway counts for all.
EVERYWHERE = 2.0

#: Seconds for a small move: most of it is spent waiting until no gateway remembers what was before, and until nobody
#: can give a message back to the old broker.
MOVE = 110

#: RabbitMQ: so that the old queue need not be kept for long. What a dead client held comes back after two heartbeats.
HASTY = {"heartbeat": 2, "timeout": 2}


def admin(api, method, path, status, document=None):
    """A call of an administrator; its answer."""
    answer = api.request(method, path, json=document, headers=ADMIN)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def place(api, queue):
    return admin(api, "GET", f"{queue_path(queue)}/migration", 200)


def await_pool(api, queue, pool):
    wait_until(lambda: place(api, queue) == {"pool": pool, "migration": None}, MOVE, f"{queue} to be in {pool}")


# On each deployment


@pytest.fixture
def gold(api, tmp_path):
    """A flavor with a pool of its own, a file; nothing of others gets there."""
    name = f"gold-{uuid.uuid4().hex[:8]}"
    pool = {"weight": 1, "uri": f"sqlite:///{tmp_path}/gold.db", "flavor": name}
    admin(api, "PUT", f"/v2/pools/{name}", 201, pool)
    admin(api, "PUT", f"/v2/flavors/{name}", 201, {"pool_list": [name]})
    yield name
    for path in paths_of_queues(api):
        api.delete(path)
    admin(api, "DELETE", f"/v2/flavors/{name}", 204)
    admin(api, "DELETE", f"/v2/pools/{name}", 204)


def test_queue_of_a_flavor_works_in_its_pool(api, queue, gold):
    assert api.put(queue_path(queue), json={"_flavor": gold}).status_code == 201
    assert place(api, queue) == {"pool": gold, "migration": None}
    post(api, queue, 1, 2, 3)
    assert bodies(listed(api, queue)) == [1, 2, 3]
    _, held = claim(api, queue, limit=1)
    assert bodies(held) == [1]
    assert bodies(pop(api, queue, 5)) == [2, 3]


def test_queue_moves_and_comes_back_with_claims_and_order(api, deployment, queue, gold):
    if deployment.needs_rabbitmq:
        pytest.skip("leaving RabbitMQ takes more than two heartbeats: see the tests with short ones below")
    post(api, queue, *range(6))
    claim_id, _ = claim(api, queue, limit=2)
    for pool in (gold, "default"):
        admin(api, "POST", f"{queue_path(queue)}/migrate", 202, {"pool": pool})
        post(api, queue, pool)
        await_pool(api, queue, pool)
        assert bodies(api.get(f"{queue_path(queue)}/claims/{claim_id}").json()["messages"]) == [0, 1]
    assert bodies(pop(api, queue, 20)) == [2, 3, 4, 5, gold, "default"]


def test_health_names_each_pool(api, gold):
    report = api.get("/v2/health", headers=ADMIN).json()
    assert {"catalog_reachable", "default", gold} <= set(report) and "storage_reachable" not in report
    for name in ("default", gold):
        assert all(operation["succeeded"] for operation in report[name]["operation_status"].values())


def test_pool_of_a_flavor_or_with_queues_stays(api, queue, gold):
    assert_error(api.delete(f"/v2/pools/{gold}", headers=ADMIN), 403)
    api.put(queue_path(queue), json={"_flavor": gold})
    assert_error(api.delete(f"/v2/pools/{gold}", headers=ADMIN), 403)


# With a second broker


@pytest.fixture(scope="module")
def rabbitmq_4():
    """RabbitMQ 4 beside the one that the tests share."""
    if not (LATER / "version").exists():
        pytest.skip("there is no later RabbitMQ: functional/unpack-rabbitmq.sh var/rabbitmq-4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(UNPACKED, str(LATER))
        service = RabbitMQ()
    with require(lambda: service) as started:
        yield started


@pytest.fixture(scope="module")
def pair(rabbitmq, mongodb):
    """Two gateways of one service, with RabbitMQ 3 and MongoDB."""
    database = f"marconi_pools_{uuid.uuid4().hex[:8]}"
    hasty = {"bridge": HASTY, "side_store": {"timeout": 2}}
    options = merge(COMMON, through(rabbitmq), hasty, beside(mongodb, database))
    with require(lambda: Gateway(options)) as one, require(lambda: Gateway(options)) as other:
        yield one, other


@pytest.fixture
def apis(pair):
    """A client of each gateway, of the same project."""
    one, other = pair
    first = Api(one.url)
    return first, Api(other.url, first.project)


def is_on(broker, project, queue):
    return f"marconi.{project}.{queue}" in broker.ctl("list_queues", "name").split()


def marconi(gateway, *arguments):
    """Run a command with the gateway's configuration."""
    done = subprocess.run(
        [find_command(), *arguments, "--config-file", str(gateway.config_file)], text=True, capture_output=True,
        timeout=MOVE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def paths_of_queues(api):
    return [queue_path(found["name"]) for found in api.get("/v2/queues").json()["queues"]]


@pytest.fixture
def new(apis, rabbitmq_4):
    """The pool `new` on RabbitMQ 4, which takes all new queues without a flavor."""
    api, _ = apis
    admin(api, "PUT", "/v2/pools/new", 201, {"weight": 100, "uri": rabbitmq_4.uri, "options": HASTY})
    yield "new"
    wait_until(
        lambda: all(api.delete(path).status_code == 204 for path in paths_of_queues(api)), 30, "the pool to answer"
    )
    admin(api, "DELETE", "/v2/pools/new", 204)


def test_pool_made_on_one_gateway_is_used_by_another(apis, new, rabbitmq_4, queue):
    _, other = apis
    time.sleep(EVERYWHERE)
    post(other, queue, 1)
    assert place(other, queue)["pool"] == new
    assert is_on(rabbitmq_4, other.project, queue)


def test_migrate_moves_a_queue_to_the_new_broker(pair, apis, rabbitmq, rabbitmq_4, queue):
    gateway, _ = pair
    api, other = apis
    post(api, queue, *range(10))
    admin(api, "PUT", "/v2/pools/new", 201, {"weight": 1, "uri": rabbitmq_4.uri, "options": HASTY})
    try:
        out = marconi(gateway, "migrate", queue, "new", "--project", api.project)
        assert out.endswith(f"Queue {queue} is in pool new.\n")
        post(other, queue, "after")
        assert is_on(rabbitmq_4, api.project, queue) and not is_on(rabbitmq, api.project, queue)
        assert bodies(pop(other, queue, 20)) == [*range(10), "after"]
        shown = [line.split()[:3] for line in marconi(gateway, "check").splitlines()]
        assert ["pool", "new", "ok"] in shown
    finally:
        api.delete(queue_path(queue))
        admin(api, "DELETE", "/v2/pools/new", 204)


@pytest.mark.slow
def test_evacuate_empties_the_default_pool_and_fills_it_again(pair, apis, rabbitmq, rabbitmq_4, queue):
    gateway, _ = pair
    api, other = apis
    queues = [f"{queue}-{n}" for n in range(5)]
    for n, name in enumerate(queues):
        post(api, name, n)
    admin(api, "PUT", "/v2/pools/new", 201, {"weight": 1, "uri": rabbitmq_4.uri, "options": HASTY})
    try:
        assert "Pool default is empty" in marconi(gateway, "evacuate", "default", "--to", "new")
        assert [place(other, name)["pool"] for name in queues] == ["new"] * 5
        marconi(gateway, "evacuate", "default", "--cancel")
        assert "Pool new is empty" in marconi(gateway, "evacuate", "new", "--to", "default")
        assert [bodies(pop(other, name, 5)) for name in queues] == [[n] for n in range(5)]
    finally:
        for name in queues:
            api.delete(queue_path(name))
        admin(api, "DELETE", "/v2/pools/new", 204)


def test_paused_pool_delays_neither_health_nor_queues_of_others(apis, new, rabbitmq_4, queue, rabbitmq):
    api, other = apis
    post(api, queue, 1)
    elsewhere = f"{queue}-elsewhere"
    admin(api, "PATCH", "/v2/pools/new", 200, {"weight": 0})
    time.sleep(EVERYWHERE)
    post(api, elsewhere, 1)
    assert place(api, elsewhere)["pool"] == "default"
    rabbitmq_4.pause()
    try:
        start = time.monotonic()
        report = api.get("/v2/health", headers=ADMIN).json()
        assert time.monotonic() - start < 20
        assert report["new"]["storage_reachable"] is False and report["default"]["storage_reachable"] is True
        assert_error(other.post(f"{queue_path(queue)}/messages", json={"messages": [{"body": 2}]}), 503)
        start = time.monotonic()
        post(other, elsewhere, 2)
        assert time.monotonic() - start < 2
        assert api.get("/healthcheck").status_code == 200 and api.get("/v2/ping").status_code == 204
    finally:
        rabbitmq_4.resume()
    assert bodies(pop(api, elsewhere, 5)) == [1, 2]
