"""The HTTP application: every route answers every error in one shape."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, RequestTimeout

import gateway.app
from bridges.errors import (
    BridgeError,
    BridgeMisconfigured,
    BridgeUnavailable,
    OutcomeUnknown,
    QueueMissing,
    SourceUnreadable,
)
from gateway.access.auth.base import IdentityUnavailable, Unauthenticated
from gateway.api.v2.operations import OPERATIONS
from gateway.app import make_app
from gateway.core.core import Core
from gateway.core.errors import CoreError
from gateway.observe import metrics
from gateway.web.errors import REFUSED_RETRY_AFTER, RETRY_AFTER, STATUSES, answer
from gateway.web.operations import by_route
from storage.errors import StoreError, StoreMisconfigured, StoreUnavailable

#: In the text of an exception that clients must not see.
INSIDE = "internal detail 10.0.0.1"

#: What clients see of the exceptions that are meant for them.
OUTSIDE = "meant for the client"

HEADERS = {"Client-ID": str(uuid4()), "X-Project-ID": "project", "X-Roles": "admin", "Accept": "application/json"}

#: Every route and method, with names in place of the variables.
CALLS = [
    (route, method, re.sub("<(.)[a-z_]*>", r"\1", route))
    for route, operations in by_route(OPERATIONS).items()
    for method in operations
]
IDS = [f"{method} {route}" for route, method, _ in CALLS]

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}


def subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from subclasses(sub)


#: Exceptions and the status that each becomes.
ERRORS: list[tuple[Exception, int]] = [
    *((kind(OUTSIDE), status) for kind, status in STATUSES.items()),
    *(
        (kind(INSIDE), 503) for kind in (BridgeError, *subclasses(BridgeError), StoreError, *subclasses(StoreError))
        if kind is not SourceUnreadable
    ),
    (SourceUnreadable(OUTSIDE), 409),
    (Unauthenticated(OUTSIDE, "Basic"), 401),
    (IdentityUnavailable(INSIDE), 503),
    (RequestEntityTooLarge(), 400),
    (BadRequest(OUTSIDE), 400),
    (RequestTimeout(), 408),
    *((kind(INSIDE), 500) for kind in (RuntimeError, KeyError, AssertionError, MemoryError, TimeoutError)),
]


@pytest.fixture
def client(configured: Callable[..., Any], core: Core) -> FlaskClient:
    return make_app(configured(DEFAULT={"admin_mode": True}), core).test_client()


#: A client of an application in which the operation of a route and method raises an error.
Failing = Callable[[str, str, Exception], FlaskClient]


@pytest.fixture
def failing(configured: Callable[..., Any], core: Core, monkeypatch: pytest.MonkeyPatch) -> Failing:
    raised: list[Exception] = []

    def fail(*_: Any, **__: Any) -> Any:
        raise raised[-1]

    def client(route: str, method: str, error: Exception) -> FlaskClient:
        if not raised:
            monkeypatch.setattr(gateway.app, "OPERATIONS", tuple(
                replace(operation, parse=None, handler=fail)
                if (operation.route, operation.method) == (route, method) else operation
                for operation in OPERATIONS
            ))
            made.append(make_app(configured(DEFAULT={"admin_mode": True}), core).test_client())
        raised.append(error)
        return made[0]

    made: list[FlaskClient] = []
    return client


def is_canonical(data: bytes, title: str | None = None) -> bool:
    """Is it the JSON that every error has?"""
    document = json.loads(data)
    return (
        set(document) == {"title", "description"}
        and all(isinstance(text, str) and text for text in document.values())
        and title in (None, document["title"])
    )


def test_every_class_of_errors_has_a_status() -> None:
    for kind in subclasses(CoreError):
        assert any(issubclass(kind, named) for named in STATUSES), kind
    assert {type(error) for error, _ in ERRORS} >= {
        BridgeMisconfigured, BridgeUnavailable, OutcomeUnknown, QueueMissing, StoreMisconfigured, StoreUnavailable,
    }


@pytest.mark.parametrize(("route", "method", "path"), CALLS, ids=IDS)
def test_every_error_has_one_shape(failing: Failing, route: str, method: str, path: str) -> None:
    for error, status in ERRORS:
        client = failing(route, method, error)
        response = client.open(path, method=method, headers=HEADERS)
        assert response.status_code == status, repr(error)
        assert response.content_type == "application/json"
        assert method == "HEAD" or is_canonical(response.data), repr(error)
        assert b"internal" not in response.data and b"10.0.0.1" not in response.data
        assert response.headers["X-Openstack-Request-Id"].startswith("req-")
        waits = {str(RETRY_AFTER), str(REFUSED_RETRY_AFTER)}
        assert (response.headers.get("Retry-After") in waits) == (status == 503)


@pytest.mark.parametrize(("route", "method", "path"), CALLS, ids=IDS)
def test_every_call_answers_when_all_is_well(client: FlaskClient, route: str, method: str, path: str) -> None:
    response = client.open(path, method=method, headers=HEADERS)
    assert response.status_code < 500
    if response.status_code >= 400 and method != "HEAD":
        assert is_canonical(response.data)
    assert UUID(response.headers["X-Openstack-Request-Id"].removeprefix("req-"))


@pytest.mark.parametrize(("route", "path"), sorted({(route, path) for route, _, path in CALLS}))
def test_other_methods_are_refused_with_those_there_are(client: FlaskClient, route: str, path: str) -> None:
    there = set(by_route(OPERATIONS)[route])
    there |= {"HEAD"} if "GET" in there else set()
    for method in METHODS - there:
        response = client.open(path, method=method, headers=HEADERS)
        assert response.status_code == 405, method
        assert method == "HEAD" or is_canonical(response.data, "Method not allowed")
        assert set(response.headers["Allow"].split(", ")) == there


@pytest.mark.parametrize(
    "path", ["/v1/queues", "/v2/nothing", "/v2/queues/q/nothing", "/v3", "/favicon.ico", "/v2//queues"]
)
def test_unknown_paths_are_not_found(client: FlaskClient, path: str) -> None:
    response = client.get(path, headers=HEADERS)
    assert response.status_code == 404
    assert is_canonical(response.data)


@pytest.mark.parametrize("path", ["/v2/ping", "/v2/queues/q", "/v2/queues", "/"])
def test_head_is_get_without_the_body(client: FlaskClient, path: str) -> None:
    client.put("/v2/queues/q", headers=HEADERS)
    head, get = client.head(path, headers=HEADERS), client.get(path, headers=HEADERS)
    assert head.data == b""
    if path != "/v2/queues/q":  # which has a HEAD of its own
        assert head.status_code == get.status_code
        assert head.headers.get("Content-Type") == get.headers.get("Content-Type")
    assert head.status_code in (204, 200, 300)


@pytest.mark.parametrize(("path", "twin"), [("/v2", "/v2/"), ("/v2/queues/", "/v2/queues")])
def test_last_slash_does_not_matter(client: FlaskClient, path: str, twin: str) -> None:
    assert client.get(path, headers=HEADERS).data == client.get(twin, headers=HEADERS).data


def test_answer_without_a_body_has_no_content_type(client: FlaskClient) -> None:
    response = client.put("/v2/queues/q", headers=HEADERS)
    assert (response.status_code, response.data) == (201, b"")
    assert "Content-Type" not in response.headers


def test_body_beyond_the_limit_is_a_bad_request(client: FlaskClient) -> None:
    response = client.post("/v2/queues/q/messages", headers=HEADERS, data=b"x" * (262144 + 1))
    assert response.status_code == 400
    assert is_canonical(response.data)


def test_accept_is_looked_at_before_anything_else(client: FlaskClient) -> None:
    response = client.get("/v2/queues", headers={"Accept": "text/html"})
    assert response.status_code == 406
    assert is_canonical(response.data)


@pytest.mark.parametrize("missing", ["Client-ID", "X-Project-ID"])
def test_headers_are_required_everywhere_below_v2(client: FlaskClient, missing: str) -> None:
    headers = {name: value for name, value in HEADERS.items() if name != missing}
    for _, method, path in CALLS:
        assert client.open(path, method=method, headers=headers).status_code == 400, f"{method} {path}"


def test_unexpected_error_is_logged_with_its_trace(failing: Failing, caplog: pytest.LogCaptureFixture) -> None:
    client = failing("/v2/queues", "GET", RuntimeError(INSIDE))
    assert client.get("/v2/queues", headers=HEADERS).status_code == 500
    assert INSIDE in caplog.text and "Traceback" in caplog.text


def test_unknown_publish_outcome_is_told_apart() -> None:
    """A client that retries at once must know that the message may be there twice."""
    _, unknown, _ = answer(OutcomeUnknown("x"))
    _, refused, _ = answer(BridgeUnavailable("x"))
    assert "may have been enqueued" in unknown["description"]
    assert "may have been enqueued" not in refused["description"]


def test_metrics_are_served(client: FlaskClient) -> None:
    client.get("/v2/queues", headers=HEADERS)
    response = client.get("/metrics")
    assert response.status_code == 200
    assert b'marconi_request_seconds_count{method="GET",route="/v2/queues",status="200"}' in response.data


def test_strange_methods_do_not_fill_the_memory(client: FlaskClient) -> None:
    """A time series for each method that somebody thinks of would be kept for ever."""
    def series() -> int:
        return sum(len(metric.samples) for metric in metrics.REQUESTS.collect())

    client.open("/v2/queues", method="STRANGE", headers=HEADERS)
    before = series()
    for number in range(20):
        assert client.open("/v2/queues", method=f"STRANGE{number}", headers=HEADERS).status_code == 405
    assert series() == before


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip", "unknown"])
@pytest.mark.parametrize(("method", "path"), [
    (method, path) for route, method, path in CALLS if by_route(OPERATIONS)[route][method].body
])
def test_compressed_body_is_refused(
    configured: Callable[..., Any], core: Core, method: str, path: str, coding: str
) -> None:
    client = make_app(configured(signed_url={"secret_key": "k"}, DEFAULT={"admin_mode": True}), core).test_client()
    response = client.open(path, method=method, headers=HEADERS | {"Content-Encoding": coding}, data=b"\x1f\x8b...")
    assert response.status_code == 415
    assert is_canonical(response.data, "Unsupported content coding")
    assert response.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("coding", ["identity", "Identity", "", "identity, identity"])
def test_body_that_says_it_is_not_compressed_is_fine(client: FlaskClient, coding: str) -> None:
    headers = HEADERS | {"Content-Encoding": coding}
    assert client.post("/v2/queues/q/messages", headers=headers, json={"messages": [{"body": 1}]}).status_code == 201
    assert client.put("/v2/queues/p", headers=HEADERS | {"Content-Encoding": "gzip"}).status_code == 201


# What is said about the bytes that were sent


def test_metadata_limit_is_about_the_bytes_sent(client: FlaskClient) -> None:
    spaced = b'{"a":' + b" " * 65530 + b"1}"
    assert len(spaced) == 65537
    answer = client.put("/v2/queues/q", headers=HEADERS, data=spaced)
    assert answer.status_code == 400 and "65537 bytes were sent" in json.loads(answer.data)["description"]
    assert client.put("/v2/queues/q", headers=HEADERS, data=spaced.replace(b"  ", b" ", 1)).status_code == 201
    patch = {**HEADERS, "Content-Type": "application/openstack-messaging-v2.0-json-patch"}
    change = b'[{"op":"add","path":"/metadata/b","value":' + b" " * 65536 + b"1}]"
    assert client.patch("/v2/queues/q", headers=patch, data=change).status_code == 400
    assert client.patch("/v2/queues/q", headers=patch, data=change.replace(b"  ", b" ")).status_code == 200


def test_patches_can_not_make_metadata_grow_past_the_limit(client: FlaskClient) -> None:
    patch = {**HEADERS, "Content-Type": "application/openstack-messaging-v2.0-json-patch"}
    client.put("/v2/queues/q", headers=HEADERS)
    statuses = [
        client.patch("/v2/queues/q", headers=patch, json=[
            {"op": "add", "path": f"/metadata/{key}", "value": "x" * 30_000}
        ]).status_code for key in "abc"
    ]
    assert statuses == [200, 200, 400]


@pytest.mark.parametrize("document", [{"resource_type": ["messages"]}, {"resource_types": ["messages"], "x": 1}])
def test_purge_with_an_unknown_key_is_refused_and_purges_nothing(client: FlaskClient, document: Any) -> None:
    client.post("/v2/queues/q/messages", headers=HEADERS, json={"messages": [{"body": 1}]})
    assert client.post("/v2/queues/q/purge", headers=HEADERS, json=document).status_code == 400
    assert json.loads(client.get("/v2/queues/q/stats", headers=HEADERS).data)["messages"]["total"] == 1


def test_location_of_a_post_names_no_more_messages_than_one_get_takes(client: FlaskClient) -> None:
    posted = {"messages": [{"body": n} for n in range(1800)]}
    answer = client.post("/v2/queues/q/messages", headers=HEADERS, json=posted)
    resources = json.loads(answer.data)["resources"]
    assert (answer.status_code, len(resources)) == (201, 1800)
    path, _, ids = answer.headers["Location"].partition("?ids=")
    assert [f"{path}/{id_}" for id_ in ids.split(",")] == resources[:20]
    assert len(json.loads(client.get(answer.headers["Location"], headers=HEADERS).data)["messages"]) == 20


def test_location_is_short_whatever_the_page_size(configured: Callable[..., Any], core: Core) -> None:
    core.limits = replace(core.limits, max_messages_per_page=1000)
    client = make_app(configured(DEFAULT={"admin_mode": True}), core).test_client()
    answer = client.post("/v2/queues/q/messages", headers=HEADERS, json={"messages": [{"body": 1}] * 1000})
    assert len(answer.headers["Location"]) < 4096


def test_health_has_the_only_pool_at_the_top_level_too(configured: Callable[..., Any], core: Core) -> None:
    client = make_app(configured(DEFAULT={"admin_mode": True}), core).test_client()
    client.post("/v2/queues/q/messages", headers=HEADERS, json={"messages": [{"body": 1}] * 3})
    client.post("/v2/queues/q/claims?limit=1", headers=HEADERS)
    report = json.loads(client.get("/v2/health", headers=HEADERS).data)
    pool = report.pop("default")
    assert report == {"catalog_reachable": True, **pool}
    assert set(pool) == {"storage_reachable", "message_volume", "operation_status"}
    assert pool["message_volume"] == {"free": 2, "claimed": 1, "total": 3}


def test_health_says_when_the_volume_is_unknown(configured: Callable[..., Any], core: Core) -> None:
    core.pool.store.landed.volume = raising(StoreUnavailable(INSIDE))
    client = make_app(configured(DEFAULT={"admin_mode": True}), core).test_client()
    report = json.loads(client.get("/v2/health", headers=HEADERS).data)
    assert report["storage_reachable"] is True
    assert report["message_volume"] == {"free": None, "claimed": None, "total": None}


def raising(error: Exception) -> Callable[..., Any]:
    def call(*_: Any) -> Any:
        raise error

    return call
