"""Pools, flavors and moves over HTTP, with pools that are SQLite files."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from functional.wait import wait_until
from gateway.app import make_app, make_core
from gateway.core.core import Core
from gateway.core.migration import workers
from gateway.core.pools.record import PoolRecord
from gateway.core.queues.names import HEALTH_PROJECT, queue_key
from storage.errors import StoreUnavailable

HEADERS = {"Client-ID": str(uuid4()), "X-Project-ID": "project", "X-Roles": "admin"}

#: In the URI of a pool that can't be reached, and nowhere else.
SECRET = "hush4711"

#: Nobody listens there.
UNREACHABLE = f"amqp://user:{SECRET}@127.0.0.1:9/"


class Api:
    """A client of the application, which reads and writes JSON."""

    def __init__(self, client: FlaskClient):
        self._client = client

    def call(self, method: str, path: str, document: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and document."""
        data = None if document is None else json.dumps(document)
        answer = self._client.open(path, method=method, headers={**HEADERS, **headers}, data=data)
        return answer.status_code, json.loads(answer.data) if answer.data else None


@pytest.fixture
def conf(configured: Callable[..., Any]) -> Any:
    return configured(DEFAULT={"admin_mode": True})


@pytest.fixture
def real_core(conf: Any) -> Iterator[Core]:
    core = make_core(conf)
    yield core
    core.close()


@pytest.fixture
def api(conf: Any, real_core: Core) -> Api:
    return Api(make_app(conf, real_core).test_client())


@pytest.fixture
def uri(tmp_path: Path) -> Callable[[str], str]:
    """The URI of a pool's own file."""
    return lambda name: f"sqlite:///{tmp_path}/{name}.db"


Uri = Callable[[str], str]


def create(api: Api, name: str, uri: Uri, **more: Any) -> None:
    assert api.call("PUT", f"/v2/pools/{name}", {"weight": 1, "uri": uri(name), **more}) == (201, None)


def move_to(api: Api, queue: str, pool: str) -> None:
    """Move a queue, and wait until it is there."""
    assert api.call("POST", f"/v2/queues/{queue}/migrate", {"pool": pool}) == (202, None)
    wait_until(
        lambda: api.call("GET", f"/v2/queues/{queue}/migration")[1] == {"pool": pool, "migration": None}, 30, "the move"
    )


# -- pools ----------------------------------------------------------------------------------------------------------


def test_pool_is_created_shown_changed_and_deleted(api: Api, uri: Uri) -> None:
    create(api, "a", uri, options={"color": "red"})
    shown = {
        "href": "/v2/pools/a", "name": "a", "weight": 1, "uri": uri("a"), "flavor": "", "options": {"color": "red"},
    }
    assert api.call("GET", "/v2/pools/a") == (200, shown)
    assert api.call("PATCH", "/v2/pools/a", {"weight": 7, "more": 1}) == (200, {**shown, "weight": 7})
    create(api, "a", uri)
    assert api.call("GET", "/v2/pools/a") == (200, {**shown, "options": {}})
    assert api.call("DELETE", "/v2/pools/a") == (204, None)
    assert api.call("GET", "/v2/pools/a")[0] == 404
    assert api.call("DELETE", "/v2/pools/a") == (204, None)


def test_pools_are_listed_by_name_in_pages(api: Api, uri: Uri) -> None:
    assert api.call("GET", "/v2/pools") == (200, {"pools": [], "links": []})
    for name in "cab":
        create(api, name, uri, options={"n": 1})
    _, first = api.call("GET", "/v2/pools?limit=2")
    assert [pool["name"] for pool in first["pools"]] == ["a", "b"] and "options" not in first["pools"][0]
    assert first["links"] == [{"rel": "next", "href": "/v2/pools?limit=2&marker=b"}]
    _, second = api.call("GET", f"{first['links'][0]['href']}&detailed=true")
    assert [(pool["name"], pool["options"]) for pool in second["pools"]] == [("c", {"n": 1})]
    assert api.call("GET", second["links"][0]["href"]) == (200, {"pools": [], "links": []})
    assert api.call("GET", "/v2/pools?limit=21")[0] == 400


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (None, "not JSON"), ([], "must be a JSON object"), ({}, "Missing parameter weight"),
        ({"weight": 1}, "Missing parameter uri"),
        *(({"weight": bad, "uri": "sqlite:///x"}, "'weight' must be") for bad in (-1, 2**32, "1", 1.5, True, None)),
        *(({"weight": 1, "uri": value}, "'uri' must be") for value in (1, None, "", "x" * 3000)),
        ({"weight": 1, "uri": "sqlite:///x", "flavor": 1}, "'flavor' must be"),
        ({"weight": 1, "uri": "sqlite:///x", "options": []}, "'options' must be"),
        ({"weight": 1, "uri": "sqlite:///x", "group": "g"}, "Unknown keys: group"),
        ({"weight": 1, "uri": "gopher://x/"}, "no driver for 'gopher' URIs"),
        ({"weight": 1, "uri": "nothing"}, "the URI has no scheme"),
        ({"weight": 1, "uri": "sqlite:////dev/null/x.db"}, "/dev/null"),
        ({"weight": 1, "uri": UNREACHABLE, "options": {"timeout": 0.2}}, "can't be reached"),
        ({"weight": 1, "uri": UNREACHABLE, "options": {"timeout": "soon"}}, "timeout"),
        ({"weight": 1, "uri": "loopback://", "options": {"side_store": 1}}, "side_store must be the URI"),
    ],
)
def test_pool_that_can_not_be_is_refused_with_the_reason(api: Api, document: Any, complaint: str) -> None:
    status, answer = api.call("PUT", "/v2/pools/a", document)
    assert (status, set(answer)) == (400, {"title", "description"})
    assert complaint in answer["description"] and SECRET not in str(answer)
    assert api.call("GET", "/v2/pools") == (200, {"pools": [], "links": []})


@pytest.mark.parametrize("document", [{}, {"color": 1}, {"weight": -1}, {"uri": "gopher://x/"}, {"options": 1}, []])
def test_change_that_can_not_be_leaves_the_pool_as_it_is(api: Api, uri: Uri, document: Any) -> None:
    create(api, "a", uri)
    before = api.call("GET", "/v2/pools/a")
    assert api.call("PATCH", "/v2/pools/a", document)[0] == 400
    assert api.call("GET", "/v2/pools/a") == before
    assert api.call("PATCH", "/v2/pools/b", {"weight": 1})[0] == 404


def test_place_of_another_pool_is_a_conflict(api: Api, uri: Uri, conf: Any) -> None:
    create(api, "a", uri)
    for taken, holder in ((uri("a"), "Pool a"), (conf.side_store.uri, "Pool default")):
        status, answer = api.call("PUT", "/v2/pools/b", {"weight": 1, "uri": taken})
        assert status == 409 and holder in answer["description"]
    assert api.call("PUT", "/v2/pools/default", {"weight": 1, "uri": uri("b")})[0] == 409
    assert api.call("GET", "/v2/pools/b")[0] == 404


@pytest.mark.parametrize("name", ["a" * 65, "a b", "%C3%A9", "catalog_reachable"])
def test_names_that_mean_something_else_are_refused(api: Api, uri: Uri, name: str) -> None:
    assert api.call("PUT", f"/v2/pools/{name}", {"weight": 1, "uri": uri("a")})[0] == 400


def test_pool_with_queues_is_not_deleted_nor_led_elsewhere(api: Api, uri: Uri) -> None:
    create(api, "a", uri)
    api.call("PUT", "/v2/queues/q")
    assert api.call("GET", "/v2/queues/q/migration") == (200, {"pool": "a", "migration": None})
    status, answer = api.call("DELETE", "/v2/pools/a")
    assert status == 403 and "has queues" in answer["description"]
    assert api.call("PATCH", "/v2/pools/a", {"uri": uri("b")})[0] == 409
    api.call("DELETE", "/v2/queues/q")
    assert api.call("DELETE", "/v2/pools/a") == (204, None)


def test_without_admin_mode_there_is_nothing(configured: Callable[..., Any], core: Core) -> None:
    api = Api(make_app(configured(), core).test_client())
    for path in ("/v2/pools", "/v2/pools/a", "/v2/flavors", "/v2/queues/q/migration", "/v2/pools/a/evacuation"):
        assert api.call("GET", path)[0] == 404
    _, home = api.call("GET", "/v2/")
    assert not any("pool" in relation or "flavor" in relation for relation in home["resources"])


def test_pools_are_for_admins(api: Api) -> None:
    for path in ("/v2/pools", "/v2/pools/a", "/v2/flavors", "/v2/queues/q/migration", "/v2/pools/a/evacuation"):
        assert api.call("GET", path, **{"X-Roles": "member,reader"})[0] == 403


def test_passwords_are_shown_to_admins_and_in_no_log(
    api: Api, uri: Uri, real_core: Core, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    options = {"password": SECRET}
    create(api, "a", uri, options=options)
    assert api.call("GET", "/v2/pools/a")[1]["options"] == options
    assert api.call("PATCH", "/v2/pools/a", {"uri": UNREACHABLE, "options": {"timeout": 0.2}})[0] == 400
    real_core.all_pools.get("a")
    api.call("GET", "/v2/health")
    assert SECRET not in caplog.text


# -- flavors --------------------------------------------------------------------------------------------------------


def test_flavor_is_created_shown_changed_and_deleted(api: Api, uri: Uri) -> None:
    for name in "ab":
        create(api, name, uri)
    assert api.call("PUT", "/v2/flavors/gold", {"pool_list": ["a"], "capabilities": {"FIFO": True}}) == (201, None)
    shown = {"href": "/v2/flavors/gold", "name": "gold", "pool_list": ["a"], "capabilities": ["FIFO"]}
    assert api.call("GET", "/v2/flavors/gold") == (200, shown)
    assert api.call("GET", "/v2/pools/a")[1]["flavor"] == "gold"
    assert api.call("PATCH", "/v2/flavors/gold", {"pool_list": ["b"]}) == (200, {**shown, "pool_list": ["b"]})
    assert api.call("GET", "/v2/pools/a")[1]["flavor"] == ""
    assert api.call("GET", "/v2/flavors")[1]["flavors"] == [{**shown, "pool_list": ["b"]}]
    assert api.call("DELETE", "/v2/flavors/gold") == (204, None)
    assert api.call("GET", "/v2/flavors/gold")[0] == 404
    assert api.call("GET", "/v2/pools/b")[1]["flavor"] == ""


@pytest.mark.parametrize("document", [
    {}, {"pool_list": None}, {"pool_list": []}, {"pool_list": "a"}, {"pool_list": [1]}, {"pool_list": ["a", "none"]},
    {"pool_list": ["a"], "capabilities": 1}, {"pool_list": ["a"], "capabilities": [""]},
    {"pool_list": ["a"], "pool": 1},
])
def test_flavor_that_can_not_be_is_refused(api: Api, uri: Uri, document: Any) -> None:
    create(api, "a", uri)
    assert api.call("PUT", "/v2/flavors/gold", document)[0] == 400
    assert api.call("GET", "/v2/flavors") == (200, {"flavors": [], "links": []})
    assert api.call("GET", "/v2/pools/a")[1]["flavor"] == ""


def test_flavor_decides_which_pool_a_queue_is_put_into(api: Api, uri: Uri) -> None:
    for name in "ab":
        create(api, name, uri)
    api.call("PUT", "/v2/flavors/gold", {"pool_list": ["b"]})
    for n in range(5):
        assert api.call("PUT", f"/v2/queues/gold{n}", {"_flavor": "gold"})[0] == 201
        assert api.call("GET", f"/v2/queues/gold{n}/migration")[1]["pool"] == "b"
        assert api.call("PUT", f"/v2/queues/plain{n}")[0] == 201
        assert api.call("GET", f"/v2/queues/plain{n}/migration")[1]["pool"] == "a"
    assert api.call("PUT", "/v2/queues/q", {"_flavor": "silver"})[0] == 400


def test_pool_of_a_flavor_is_freed_before_it_is_deleted(api: Api, uri: Uri) -> None:
    create(api, "a", uri)
    api.call("PUT", "/v2/flavors/gold", {"pool_list": ["a"]})
    status, answer = api.call("DELETE", "/v2/pools/a")
    assert status == 403 and "gold" in answer["description"]
    assert api.call("PATCH", "/v2/pools/a", {"flavor": ""})[1]["flavor"] == ""
    assert api.call("DELETE", "/v2/pools/a") == (204, None)


def test_bridge_in_a_pool_without_a_broker_is_refused(api: Api, uri: Uri) -> None:
    create(api, "a", uri)
    api.call("PUT", "/v2/flavors/gold", {"pool_list": ["a"]})
    metadata = {"_flavor": "gold", "_bridge": {"source": {"queue": "x"}}}
    status, answer = api.call("PUT", "/v2/queues/q", metadata)
    assert status == 400 and "in pool a, " in answer["description"] and "without a broker" in answer["description"]
    assert api.call("HEAD", "/v2/queues/q")[0] == 404


# -- moves ----------------------------------------------------------------------------------------------------------


def post(api: Api, queue: str, *bodies: Any) -> None:
    messages = [{"body": body} for body in bodies]
    assert api.call("POST", f"/v2/queues/{queue}/messages", {"messages": messages})[0] == 201


def test_queue_moves_with_its_messages(api: Api, uri: Uri) -> None:
    post(api, "q", 1, 2, 3)
    create(api, "a", uri)
    assert api.call("GET", "/v2/queues/q/migration") == (200, {"pool": "default", "migration": None})
    move_to(api, "q", "a")
    _, answer = api.call("DELETE", "/v2/queues/q/messages?pop=5")
    assert [message["body"] for message in answer["messages"]] == [1, 2, 3]


def test_move_is_shown_and_cancelled_while_it_waits(
    api: Api, uri: Uri, real_core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.Workers, "wake", lambda self: None)
    monkeypatch.setattr(workers.Workers, "_look", lambda self: None)
    api.call("PUT", "/v2/queues/q")
    create(api, "a", uri)
    assert api.call("POST", "/v2/queues/q/migrate", {"pool": "a"}) == (202, None)
    _, shown = api.call("GET", "/v2/queues/q/migration")
    assert shown["migration"].pop("started").endswith("Z")
    assert shown == {"pool": "default", "migration": {
        "from": "default", "to": "a", "phase": "waiting", "moved": 0, "waiting": 0, "error": None,
    }}
    status, answer = api.call("POST", "/v2/queues/q/migrate", {"pool": "a"})
    assert status == 409 and "on its way from pool default to pool a" in answer["description"]
    assert api.call("DELETE", "/v2/queues/q/migration") == (204, None)
    assert api.call("GET", "/v2/queues/q/migration") == (200, {"pool": "default", "migration": None})


@pytest.mark.parametrize(
    ("document", "status", "complaint"),
    [
        (None, 400, "not JSON"), ({}, 400, "Missing parameter pool"), ({"pool": 1}, 400, "'pool' must be"),
        ({"pool": ""}, 400, "'pool' must be"), ({"pool": "a", "to": "b"}, 400, "Unknown keys: to"),
        ({"pool": "none"}, 400, "There is no pool 'none'"), ({"pool": "default"}, 409, "in pool default already"),
    ],
)
def test_move_that_can_not_be_is_refused(api: Api, document: Any, status: int, complaint: str) -> None:
    api.call("PUT", "/v2/queues/q")
    answer = api.call("POST", "/v2/queues/q/migrate", document)
    assert answer[0] == status and complaint in answer[1]["description"]
    assert api.call("GET", "/v2/queues/q/migration") == (200, {"pool": "default", "migration": None})


def test_queue_that_does_not_exist_does_not_move(api: Api, uri: Uri) -> None:
    create(api, "a", uri)
    assert api.call("POST", "/v2/queues/none/migrate", {"pool": "a"})[0] == 404
    assert api.call("GET", "/v2/queues/none/migration")[0] == 404
    assert api.call("DELETE", "/v2/queues/none/migration")[0] == 404


def test_pool_is_evacuated(api: Api, uri: Uri) -> None:
    create(api, "a", uri)
    for n in range(3):
        post(api, f"q{n}", n)
    create(api, "b", uri)
    assert api.call("GET", "/v2/pools/a/evacuation") == (200, {"pool": "a", "evacuation": None})
    assert api.call("POST", "/v2/pools/a/evacuate", {"pool": "b"}) == (202, None)

    def is_empty() -> bool:
        _, shown = api.call("GET", "/v2/pools/a/evacuation")
        assert shown["evacuation"]["to"] == "b" and shown["evacuation"]["bridged"] == 0
        return bool(shown["evacuation"]["queues"] == 0)

    wait_until(is_empty, 60, "the evacuation")
    for n in range(3):
        assert api.call("GET", f"/v2/queues/q{n}/migration") == (200, {"pool": "b", "migration": None})
    assert api.call("PUT", "/v2/queues/new")[0] == 201
    assert api.call("GET", "/v2/queues/new/migration")[1]["pool"] == "b"
    assert api.call("DELETE", "/v2/pools/a/evacuation") == (204, None)
    assert api.call("GET", "/v2/pools/a/evacuation") == (200, {"pool": "a", "evacuation": None})


def test_pool_that_is_created_again_is_not_being_emptied(api: Api, uri: Uri) -> None:
    create(api, "a", uri)
    assert api.call("POST", "/v2/pools/a/evacuate")[0] == 202
    assert api.call("DELETE", "/v2/pools/a") == (204, None)
    create(api, "a", uri)
    assert api.call("GET", "/v2/pools/a/evacuation") == (200, {"pool": "a", "evacuation": None})


@pytest.mark.parametrize(
    ("pool", "document", "status"),
    [
        ("none", None, 404), ("a", {"pool": "none"}, 400), ("a", {"pool": "a"}, 409), ("a", {"to": "b"}, 400),
        ("a", {"pool": 1}, 400),
    ],
)
def test_evacuation_that_can_not_be_is_refused(api: Api, uri: Uri, pool: str, document: Any, status: int) -> None:
    create(api, "a", uri)
    assert api.call("POST", f"/v2/pools/{pool}/evacuate", document)[0] == status
    assert api.call("GET", "/v2/pools/a/evacuation") == (200, {"pool": "a", "evacuation": None})


def test_default_pool_is_not_evacuated_to_nowhere(api: Api) -> None:
    status, answer = api.call("POST", "/v2/pools/default/evacuate")
    assert status == 409 and "no other pool" in answer["description"]


# -- health ---------------------------------------------------------------------------------------------------------


def test_health_shows_each_pool(api: Api, uri: Uri, real_core: Core) -> None:
    post(api, "before", 1)
    create(api, "a", uri)
    post(api, "q", 1, 2)
    status, report = api.call("GET", "/v2/health")
    assert status == 200 and set(report) == {"catalog_reachable", "default", "a"}
    assert report["a"]["message_volume"] == {"free": 2, "claimed": 0, "total": 2}
    assert report["default"]["message_volume"] == {"free": 1, "claimed": 0, "total": 1}
    for name in ("default", "a"):
        assert report[name]["storage_reachable"] is True
        assert all(operation["succeeded"] for operation in report[name]["operation_status"].values())
        assert "delete_queue" in report[name]["operation_status"]


def test_health_of_a_pool_that_does_not_work_leaves_nothing_behind(
    api: Api, uri: Uri, real_core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any, **options: Any) -> None:
        raise StoreUnavailable("down")

    create(api, "a", uri)
    pool = real_core.all_pools.get("a")
    monkeypatch.setattr(pool.store.landed, "open_queue", down)
    monkeypatch.setattr(pool.store, "ping", down)
    _, report = api.call("GET", "/v2/health")
    assert report["a"]["storage_reachable"] is False and report["default"]["storage_reachable"] is True
    assert report["a"]["message_volume"] == {"free": None, "claimed": None, "total": None}
    listed = real_core.pool.store.catalogue.list_in_pool("a", queue_key(HEALTH_PROJECT, ""), 10)
    assert list(listed) == []


def test_pools_at_one_place_are_not_moved_between(api: Api, uri: Uri, real_core: Core) -> None:
    """Somebody has led the configuration, or another gateway, to where a pool is."""
    create(api, "a", uri)
    post(api, "q", 1)
    records = real_core.pools._records
    assert records.put(PoolRecord("b", 1, uri("a")))
    real_core.all_pools.forget()
    status, answer = api.call("POST", "/v2/queues/q/migrate", {"pool": "b"})
    assert status == 409 and "at the same place" in answer["description"]
    assert api.call("POST", "/v2/pools/a/evacuate", {"pool": "b"})[0] == 409
    assert api.call("GET", "/v2/queues/q/stats")[1]["messages"]["total"] == 1
