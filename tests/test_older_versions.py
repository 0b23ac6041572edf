"""Versions 1 and 1.1: what their tables say, what requests are read as, and what answers look like."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import orjson
import pytest
from flask.testing import FlaskClient
from oslo_config import cfg
from werkzeug.test import EnvironBuilder

from bridges.memory import MemoryBridge
from gateway.api.v1 import parse as parse_v1
from gateway.api.v1 import render as render_v1
from gateway.api.v1.version import V1
from gateway.api.v1_1 import parse as parse_v1_1
from gateway.api.v1_1 import parse_pools
from gateway.api.v1_1.located import path_alone, path_and_query
from gateway.api.v1_1.version import V1_1
from gateway.api.v2.operations import OPERATIONS
from gateway.api.versions import OLDER, switched_on
from gateway.app import make_app, make_service
from gateway.config.options.access import DeprecatedVersions
from gateway.core.core import Core
from gateway.core.errors import InvalidInput
from gateway.core.queues.names import NAMELESS_PROJECT
from gateway.web.admission import admit
from gateway.web.call import Call
from gateway.web.operations import BOOLEAN, CLIENT, INTEGER, LIST, PROJECT, Operation, by_route
from storage.model import Message
from storage.sqlite import SQLiteStore
from tests.test_operations import WRONG, name_of, path_of
from tests.test_paths import call

HEADERS = {"Client-ID": str(uuid4()), "X-Project-ID": "project"}

OLD = tuple(itertools.chain(*OLDER.values()))

EVERY = pytest.mark.parametrize("operation", OLD, ids=name_of)


@pytest.fixture
def client(configured: Callable[..., Any], core: Core) -> FlaskClient:
    on = {"admin_mode": True, "enable_deprecated_api_versions": "1,1.1"}
    return make_app(configured(DEFAULT=on), core).test_client()


@pytest.fixture
def called(configured: Callable[..., Any], core: Core) -> Iterator[Callable[..., Call]]:
    """Make an admitted Call of an older version."""
    service = make_service(configured(DEFAULT={"enable_deprecated_api_versions": "1,1.1"}), core)

    def make(version: Any, document: Any = None, query: str = "", **headers: str) -> Call:
        data = document if isinstance(document, bytes) else b"" if document is None else orjson.dumps(document)
        builder = EnvironBuilder(
            path=f"{version.root}/queues/q", query_string=query, data=data, method="POST",
            headers=headers or HEADERS, content_type="application/json",
        )
        operation = next(each for each in OLDER[version] if each.method == "PUT")
        return admit(service, builder.get_request(), operation)

    yield make


# -- tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", OLDER, ids=lambda version: version.id)
def test_each_operation_is_there_once_and_below_the_root_of_its_version(version: Any) -> None:
    operations = OLDER[version]
    assert sum(len(methods) for methods in by_route(operations).values()) == len(operations)
    assert all(operation.path.startswith(f"{version.root}/") for operation in operations)
    assert {operation.version for operation in operations} == {version}


def test_option_names_the_versions_that_there_are() -> None:
    assert DeprecatedVersions()(",".join(version.id for version in OLDER)) == [version.id for version in OLDER]
    assert {version.id for version in OLDER} == set(DeprecatedVersions().item_type.choices)


@pytest.mark.parametrize(("written", "read"), [
    ("", []), ("1", ["1"]), ("1.1", ["1.1"]), (" 1 , 1.1 ", ["1", "1.1"]), ("[[1],[1.1]]", ["1", "1.1"]),
    ("[[1], [1.1]]", ["1", "1.1"]), ("['1']", ["1"]), ('["1", "1.1"]', ["1", "1.1"]), ("[]", []),
])
def test_forms_of_the_option(configured: Callable[..., Any], written: str, read: list[str]) -> None:
    assert configured(DEFAULT={"enable_deprecated_api_versions": written}).enable_deprecated_api_versions == read


@pytest.mark.parametrize("written", ["2", "v1", "1.0", "1,2", "one", "1;1.1", "1 1.1"])
def test_other_versions_stop_the_start(configured: Callable[..., Any], written: str) -> None:
    with pytest.raises((cfg.Error, ValueError), match="enable_deprecated_api_versions"):
        configured(DEFAULT={"enable_deprecated_api_versions": written})


def test_older_versions_are_in_order_and_have_rules_for_administrators_alone() -> None:
    assert [version.id for version in switched_on(["1.1", "1"], admin_mode=True)] == ["1", "1.1"]
    assert switched_on([], admin_mode=True) == {}
    assert [operation.path for operation in OLD if operation.shareable] == []
    assert {operation.path for operation in OLD if operation.rule is not None} == {
        operation.path for operation in OLD if operation.admin_mode
    }


def test_admin_mode_has_pools_flavors_and_health() -> None:
    plain, all_ = switched_on(["1", "1.1"], admin_mode=False), switched_on(["1", "1.1"], admin_mode=True)
    hidden = {operation.route for version in OLDER for operation in set(all_[version]) - set(plain[version])}
    assert hidden == {
        "/v1/pools", "/v1/pools/<pool_name>", "/v1.1/pools", "/v1.1/pools/<pool_name>", "/v1.1/flavors",
        "/v1.1/flavors/<flavor_name>", "/v1.1/health",
    }


@EVERY
def test_parameters_are_read_as_the_types_that_are_declared(client: FlaskClient, operation: Operation) -> None:
    for parameter in operation.parameters:
        if parameter.type in (INTEGER, BOOLEAN, LIST):
            path = f"{path_of(operation)}?{parameter.name}={WRONG[parameter.type]}"
            assert client.open(path, method=operation.method, headers=HEADERS).status_code == 400, path


@EVERY
def test_body_is_read_where_it_is_declared(client: FlaskClient, operation: Operation) -> None:
    broken = client.open(path_of(operation), method=operation.method, headers=HEADERS, data=b"{")
    empty = client.open(path_of(operation), method=operation.method, headers=HEADERS)
    if operation.body:
        assert broken.status_code == 400
    elif operation.method != "PUT":
        assert broken.status_code == empty.status_code


@EVERY
def test_headers_that_are_needed(client: FlaskClient, operation: Operation) -> None:
    """A project may be absent in version 1, where that is one of its own."""
    for header, need in (("Client-ID", CLIENT), ("X-Project-ID", PROJECT)):
        others = {name: value for name, value in HEADERS.items() if name != header}
        refused = client.open(path_of(operation), method=operation.method, headers=others)
        if need in operation.needs and (operation.version is V1_1 or need == CLIENT):
            assert refused.status_code == 400
            assert header.lower() in refused.get_data(as_text=True).lower() or operation.method == "HEAD"


@EVERY
def test_nothing_waits_or_is_filtered(client: FlaskClient, operation: Operation) -> None:
    """Parameters that came later are no parameters here."""
    names = {parameter.name for parameter in operation.parameters}
    assert not names & {"wait", "with_count", "name", "include_delayed", "claim_ids"}
    assert "wait=" not in operation.description


def test_every_operation_of_v1_1_but_one_is_one_of_v2() -> None:
    v2 = {(operation.method, operation.path) for operation in OPERATIONS}
    own = [
        (operation.method, operation.path) for operation in OLDER[V1_1]
        if (operation.method, operation.path.replace("/v1.1/", "/v2/", 1)) not in v2
    ]
    assert own == [("OPTIONS", "/v1.1/queues/{queue_name}")]


@pytest.mark.parametrize("root", ["/v1", "/v1.1"])
def test_paths_are_as_strict_as_those_of_v2(configured: Callable[..., Any], core: Core, root: str) -> None:
    app = make_app(configured(DEFAULT={"enable_deprecated_api_versions": "1,1.1"}), core)
    core.queues.create("project", "q", None)
    for name in (".", ".."):
        refused = call(app, f"{root}/queues/{name}")
        assert (refused.status_code, refused.json["title"]) == (400, "Invalid queue identification")
    for path in ("//queues", "/./queues", "/x/../queues", "/queues/q/messages/..", "/queues/%71", "/queues/q%2Fstats"):
        assert call(app, root + path, "DELETE").status_code == 404
    assert call(app, f"/v%31{root[3:]}/queues").status_code == 404
    assert call(app, f"{root}/queues/").status_code in (200, 204)
    assert core.queues.exists("project", "q")


# -- requests -------------------------------------------------------------------------------------------------------


def test_project_and_client_of_v1(called: Callable[..., Call]) -> None:
    assert called(V1, **{"Client-ID": "0" * 32}).project == NAMELESS_PROJECT
    assert called(V1, **{"X-Project-ID": "p"}).client == ""
    assert called(V1, **{"X-Project-ID": "p"}).project == "p"
    for headers in ({"X-Project-ID": ""}, {"X-Project-ID": " "}, {"Client-ID": ""}, {"Client-ID": "x"}):
        with pytest.raises(InvalidInput):
            called(V1, **headers)


def test_posts(called: Callable[..., Call]) -> None:
    message = {"body": {"a": 1}, "ttl": 100, "delay": 5, "group": 1, "dedup_id": 2, "properties": 3}
    for found in (
        parse_v1.posts(called(V1, [message])), parse_v1_1.posts(called(V1_1, {"messages": [message], "x": 1})),
    ):
        (post,) = found["posts"]
        assert (post.body, post.ttl, post.delay) == (b'{"a":1}', 100, 0)
        assert (post.group, post.dedup_id, post.properties) == (None, None, None)
        assert "key" not in found
    (post,) = parse_v1_1.posts(called(V1_1, {"messages": [{"body": None}]}))["posts"]
    assert (post.body, post.ttl) == (b"null", 3600)


def test_claims(called: Callable[..., Call]) -> None:
    assert parse_v1.claim(called(V1, {"ttl": 60, "grace": 70, "limit": 3})) == {"ttl": 60, "grace": 70, "limit": 10}
    assert parse_v1_1.claim(called(V1_1)) == {"ttl": None, "grace": None, "limit": 10}
    assert parse_v1.renewal(called(V1, {"ttl": 60})) == {"ttl": 60, "grace": 0}
    assert parse_v1_1.renewal(called(V1_1, {})) == {"ttl": None, "grace": None}
    for document in (None, {}, {"ttl": 60}, {"grace": 60}, {"ttl": None, "grace": 60}, []):
        with pytest.raises(InvalidInput):
            parse_v1.claim(called(V1, document))
    with pytest.raises(InvalidInput):
        parse_v1_1.renewal(called(V1_1))


def test_list_of_messages_wants_a_client_in_v1(called: Callable[..., Call]) -> None:
    assert parse_v1.messages_or_page(called(V1, query="ids=a,b", **{"X-Project-ID": "p"})) == {"ids": ["a", "b"]}
    with pytest.raises(InvalidInput, match="Client-ID"):
        parse_v1.messages_or_page(called(V1, **{"X-Project-ID": "p"}))
    page = parse_v1.messages_or_page(called(V1, query="echo=1&include_delayed=x"))
    assert page == {"limit": 10, "marker": None, "echo": True, "claimed": False}


@pytest.mark.parametrize(("document", "pools"), [
    ({"pool": "a"}, ["a"]), ({"pool_group": "a"}, ["a"]), ({"pool_list": ["a", "b"]}, ["a", "b"]),
])
def test_flavor_of_one_pool(called: Callable[..., Call], document: Any, pools: list[str]) -> None:
    found = parse_pools.flavor(called(V1_1, {**document, "capabilities": {"x": True, "y": False}}))
    assert found == {"pools": pools, "capabilities": ["x"]}
    assert parse_pools.flavor_changes(called(V1_1, document)) == {"pools": pools, "capabilities": None}


def test_limit_of_pools_is_let_through(called: Callable[..., Call]) -> None:
    assert parse_pools.pool_page(called(V1_1, query="limit=1000")) == {"limit": 20, "marker": ""}


# -- answers --------------------------------------------------------------------------------------------------------


def test_messages_of_v1_have_four_keys(called: Callable[..., Call]) -> None:
    admitted = called(V1)
    now = admitted.now()
    item = Message("id", now, now + 60_000, b"1", "client", properties=b"{}", group="g", dedup_id="d")
    item.claim, item.hidden_until = "c", now + 60_000
    status, shown, headers = render_v1.claimed(admitted, [item], queue="q")
    assert (status, headers) == (201, {"Location": "/v1/queues/q/claims/c"})
    assert [set(message) for message in shown] == [{"href", "ttl", "age", "body"}]
    assert shown[0]["href"] == "/v1/queues/q/messages/id?claim_id=c"
    _, single, _ = render_v1.one_message(admitted, item, queue="q", message_id="id")
    assert single["href"] == "/v1/queues/q/messages/id"
    assert render_v1.message_list(admitted, [], queue="q") == (204, None, {})
    assert render_v1.queue_list(admitted, ([], None)) == (204, None, {})


@pytest.mark.parametrize(("sent", "path", "whole"), [
    ({"REQUEST_URI": "/v1/queues/q?a=%2F"}, "/v1/queues/q", "/v1/queues/q?a=%2F"),
    ({"REQUEST_URI": "http://h/v1/queues/q?a=%2F"}, "/v1/queues/q", "/v1/queues/q?a=%2F"),
    ({"PATH_INFO": "/v1/queues/\r\nX: y"}, "/v1/queues/%0D%0AX%3A%20y", "/v1/queues/%0D%0AX%3A%20y?a=%2F"),
])
def test_content_location_is_what_was_sent(sent: dict[str, str], path: str, whole: str) -> None:
    environ = {**sent, "QUERY_STRING": "a=%2F"}
    assert path_alone(204)(environ, 204) == path
    assert path_alone(204)(environ, 200) is None
    assert path_and_query()(environ, 404) == whole
    assert path_and_query(200)(environ, 204) is None


# -- queues ---------------------------------------------------------------------------------------------------------


def test_queue_that_another_gateway_deleted_is_not_created_by_a_post_of_v1(
    client: FlaskClient, core: Core, bridge: MemoryBridge, store: SQLiteStore
) -> None:
    message = [{"ttl": 60, "body": 1}]
    assert client.put("/v1/queues/q", headers=HEADERS).status_code == 201
    assert client.post("/v1/queues/q/messages", json=message, headers=HEADERS).status_code == 201
    bridge.delete(core.directory.ensure("project", "q").broker)
    store.catalogue.delete_queue("project/q")
    assert client.post("/v1/queues/q/messages", json=message, headers=HEADERS).status_code == 404
    assert not core.queues.exists("project", "q")


def test_queue_that_the_broker_lost_is_there_again(client: FlaskClient, core: Core, bridge: MemoryBridge) -> None:
    message = [{"ttl": 60, "body": 1}]
    client.put("/v1/queues/q", headers=HEADERS)
    bridge.delete(core.directory.ensure("project", "q").broker)
    assert client.post("/v1/queues/q/messages", json=message, headers=HEADERS).status_code == 201


def test_metadata_is_kept_by_a_second_creation(core: Core) -> None:
    assert core.queues.create("p", "q", {"a": 1}, keep=True)
    assert not core.queues.create("p", "q", {"b": 2, "_fifo": True}, keep=True)
    assert core.queues.stored_metadata("p", "q") == {"a": 1}
    with pytest.raises(InvalidInput):
        core.queues.create("p", "q", {"_default_message_ttl": 1}, keep=True)
    core.queues.replace("p", "q", {"c": 3})
    assert core.queues.stored_metadata("p", "q") == {"c": 3}
