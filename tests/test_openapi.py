"""The OpenAPI document: valid, complete, true to the configuration. functional/openapi/ compares it with answers."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from gateway.access.auth import STRATEGIES
from gateway.access.policy import ADMINISTRATOR
from gateway.api.endpoints import CLIENTS_ENDPOINTS, ENDPOINTS
from gateway.api.openapi import security
from gateway.api.openapi.document import document
from gateway.api.openapi.errors import ERRORS
from gateway.api.openapi.parameters import is_described
from gateway.api.openapi.schema import Named
from gateway.api.v2.operations import OPERATIONS
from gateway.app import make_app
from gateway.config.limits import Limits
from gateway.core.core import Core
from gateway.core.errors import Conflict, Forbidden, KeyReused, QuotaExceeded, StillRunning, TooFast
from gateway.web.errors import STATUSES, UnsupportedCoding, UnsupportedMediaType
from gateway.web.facts import Facts
from gateway.web.operations import Operation

PATH = "/v2/openapi.json"

HEADERS = {"Client-ID": "3381af92-2b9e-11e3-b191-71861300734c", "X-Project-ID": "project", "X-Roles": "admin"}

#: A service of which clients notice every option.
EVERYTHING = Facts(auth_strategy="basic", can_share=True, counts_requests=True, counts_bytes=True)


def described(operations: tuple[Operation, ...] = OPERATIONS, facts: Facts = EVERYTHING, base: str = "") -> Any:
    return document(operations, CLIENTS_ENDPOINTS, facts, base)


def calls(shown: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for path, methods in shown["paths"].items():
        for method, call in methods.items():
            if method != "servers":
                yield path, method.upper(), call


def name_of(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


@pytest.fixture
def served(configured: Callable[..., Any], core: Core) -> Callable[..., Any]:
    """The document that an application of a configuration serves to somebody without any header."""

    def get(path: str = PATH, **sections: Any) -> Any:
        return orjson.loads(make_app(configured(**sections), core).test_client().get(path).data)

    return get


# -- valid and complete ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("can_share", [False, True])
@pytest.mark.parametrize("base", ["", "/messaging"])
def test_document_is_valid(strategy: str, can_share: bool, base: str) -> None:
    shown = described(facts=Facts(auth_strategy=strategy, can_share=can_share), base=base)
    validate(orjson.loads(orjson.dumps(shown)), cls=OpenAPIV31SpecValidator)
    assert shown["servers"] == [{"url": base or "/"}]
    assert (shown["paths"]["/healthcheck"].get("servers") == [{"url": "/"}]) == bool(base)


@pytest.mark.parametrize("operation", OPERATIONS, ids=name_of)
def test_operation_is_described(operation: Operation) -> None:
    assert operation.id and operation.tag and operation.replies
    assert all(is_described(parameter) for parameter in (*operation.parameters, *operation.headers))
    call = described()["paths"][operation.path][operation.method.lower()]
    assert call["operationId"] == operation.id and call["tags"] == [operation.tag]
    assert call["summary"] and call["description"] and call["responses"]
    assert ("requestBody" in call) == (operation.body is not None)
    assert {f"{{{each['name']}}}" for each in call["parameters"] if each["in"] == "path"} == {
        part for part in operation.path.split("/") if part.startswith("{")
    }
    assert set(operation.errors) <= set(ERRORS)


def test_document_has_each_call_once_and_no_other() -> None:
    shown = list(calls(described()))
    assert {(method, path) for path, method, _ in shown} == {
        *((operation.method, operation.path) for operation in OPERATIONS), ("HEAD", "/v2/ping"),
        *((endpoint.method, endpoint.route) for endpoint in ENDPOINTS if not endpoint.private),
    }
    ids = [call["operationId"] for _, _, call in shown]
    assert len(set(ids)) == len(ids)


def test_tags_are_those_that_are_used() -> None:
    shown = described()
    assert {tag["name"] for tag in shown["tags"]} == {call["tags"][0] for _, _, call in calls(shown)}
    # They are headings of docs/openapi.md.
    headings = [*(tag["name"] for tag in shown["tags"]), *shown["components"]["schemas"]]
    assert len({heading.lower() for heading in headings}) == len(headings)


def test_each_name_is_that_of_one_schema() -> None:
    seen: dict[str, Named] = {}

    def look(value: Any) -> None:
        if isinstance(value, Named):
            assert seen.setdefault(value.name, value) is value
            look(value.schema)
        elif isinstance(value, Mapping):
            for inner in value.values():
                look(inner)
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    for each in (*OPERATIONS, *CLIENTS_ENDPOINTS):
        for reply in each.replies.values():
            look([reply.schema, *reply.others.values()])
    for operation in OPERATIONS:
        look(operation.body.schema if operation.body else None)
    assert len(seen) > 50


# -- errors ---------------------------------------------------------------------------------------------------------

def takes_keys(operation: Operation) -> bool:
    return any(header.name == "Idempotency-Key" for header in operation.headers)


#: Errors of gateway/web/errors.py that not every operation has, and which ones do. All others are those of all.
SOME: dict[type[Exception], Callable[[Operation], bool]] = {
    Forbidden: lambda operation: True,  # somebody else's project
    QuotaExceeded: lambda operation: operation.body is not None,
    Conflict: lambda operation: "{" in operation.path,
    StillRunning: takes_keys,
    KeyReused: takes_keys,
    UnsupportedMediaType: lambda operation: operation.body is not None,
    UnsupportedCoding: lambda operation: operation.body is not None,
    TooFast: lambda operation: True,
}


@pytest.mark.parametrize("operation", OPERATIONS, ids=name_of)
def test_operation_has_every_error_that_it_can_give(operation: Operation) -> None:
    responses = described()["paths"][operation.path][operation.method.lower()]["responses"]
    possible = {
        status for kind, status in STATUSES.items() if kind not in SOME or SOME[kind](operation)
    } | {401, 503}
    assert {int(status) for status in responses} - set(operation.replies) == possible


@pytest.mark.parametrize("operation", OPERATIONS, ids=name_of)
def test_errors_of_what_is_not_configured_are_left_out(operation: Operation) -> None:
    shown = described(facts=Facts())["paths"][operation.path][operation.method.lower()]
    assert "401" not in shown["responses"]
    assert ("429" in shown["responses"]) == (429 in operation.errors)
    assert ("403" in shown["responses"]) == (operation.rule is not None)


def test_errors_have_one_form() -> None:
    shown = described()
    for path, method, call in calls(shown):
        for status, answer in call["responses"].items():
            if int(status) < 400:
                continue
            answer = shown["components"]["responses"][answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
            schemas = [media["schema"] for media in answer.get("content", {}).values()]
            assert schemas == ([] if method == "HEAD" else [{"$ref": "#/components/schemas/Error"}]), path
            assert ("Retry-After" in answer["headers"]) == (status in ("409", "429", "503"))


# -- credentials ----------------------------------------------------------------------------------------------------


def test_each_strategy_has_its_schemes() -> None:
    assert set(security.STRATEGIES) == set(STRATEGIES)


@pytest.mark.parametrize(("strategy", "usual", "administrators"), [
    ("noauth", [], [{"roles": []}]), ("basic", [{"basic": []}], [{"basic": []}]),
    ("keystone", [{"token": []}], [{"token": []}]),
])
def test_credentials_are_those_of_the_strategy(strategy: str, usual: Any, administrators: Any) -> None:
    signed = {"signature": [], "paths": [], "methods": [], "expires": []}
    for operation in OPERATIONS:
        own = administrators if operation.default_rule == ADMINISTRATOR else usual
        for can_share in (False, True):
            shown = described(facts=Facts(auth_strategy=strategy, can_share=can_share))
            call = shown["paths"][operation.path][operation.method.lower()]
            if can_share and call["operationId"] in (
                "list_messages", "claim_messages", "create_subscription", "confirm_subscription",
                "confirm_subscription_of_topic",
            ):
                assert call["security"] == [*(own or [{}]), signed]
            if not can_share or call["operationId"] in ("get_queue", "get_subscription_secret", "post_topic_messages"):
                assert call["security"] == own
            assert {name for way in call["security"] for name in way} <= set(shown["components"]["securitySchemes"])


# -- as it is served ------------------------------------------------------------------------------------------------


def test_it_takes_no_headers(configured: Callable[..., Any], core: Core) -> None:
    client = make_app(configured(), core).test_client()
    for path in (PATH, f"{PATH}/"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
        assert answer.headers["Cache-Control"] == client.get("/v2/", headers=HEADERS).headers["Cache-Control"]
    assert client.head(PATH).status_code == 200
    assert client.post(PATH).headers["Allow"] == "GET, HEAD"


def test_home_document_says_where_it_is(configured: Callable[..., Any], core: Core) -> None:
    client = make_app(configured(), core).test_client()
    link = client.get("/v2/", headers=HEADERS).headers["Link"]
    assert link == f'<{PATH}>; rel="service-desc"; type="application/json"'


def test_administrators_calls_are_there_in_admin_mode(served: Callable[..., Any]) -> None:
    assert not any(path.startswith("/v2/pools") for path in served()["paths"])
    assert "/v2/pools" in served(DEFAULT={"admin_mode": True})["paths"]


def test_limits_are_those_of_the_configuration(served: Callable[..., Any]) -> None:
    shown = served(
        transport={
            "max_messages_per_page": 7, "max_messages_per_claim_or_pop": 5, "max_message_ttl": 7200,
            "default_claim_ttl": 90, "default_subscription_ttl": 999,
        },
        DEFAULT={"client_id_uuid_safe": False, "min_length_client_id": 3, "max_length_client_id": 9},
        notification={"max_in_flight": 4},
    )
    messages = shown["paths"]["/v2/queues/{queue_name}/messages"]
    limits = {
        (method, each["name"]): each["schema"]
        for method in ("get", "delete") for each in messages[method]["parameters"]
    }
    assert limits["get", "limit"] == {"type": "integer", "minimum": 1, "maximum": 7, "default": 7}
    assert limits["get", "ids"]["maxItems"] == limits["delete", "ids"]["maxItems"] == 7
    assert limits["delete", "pop"] == {"type": "integer", "minimum": 1, "maximum": 5}
    assert limits["get", "Client-ID"] == {"type": "string", "minLength": 3, "maxLength": 9}
    schemas = {name: schema["properties"] for name, schema in shown["components"]["schemas"].items()}
    assert (schemas["NewMessage"]["ttl"]["minimum"], schemas["NewMessage"]["ttl"]["maximum"]) == (60, 7200)
    assert schemas["NewClaim"]["ttl"]["default"] == 90
    assert schemas["NewSubscription"]["ttl"]["default"] == 999
    assert schemas["DeliveryOptions"]["_max_in_flight"]["maximum"] == 4


def test_default_page_is_no_larger_than_the_largest() -> None:
    shown = described(facts=Facts(limits=Limits(max_queues_per_page=4)))
    limit = next(each for each in shown["paths"]["/v2/queues"]["get"]["parameters"] if each["name"] == "limit")
    assert limit["schema"]["default"] == 4


@pytest.mark.parametrize("path", [PATH, f"/messaging{PATH}"])
def test_servers_are_behind_the_prefix(served: Callable[..., Any], path: str) -> None:
    assert served(path, wsgi={"prefix": "/messaging"})["servers"] == [{"url": "/messaging"}]
    assert served()["servers"] == [{"url": "/"}]


def test_monitoring_has_no_use_for_it(configured: Callable[..., Any], core: Core) -> None:
    app = make_app(configured(metrics={"bind": "127.0.0.1"}), core)
    assert app.monitor.test_client().get(PATH).status_code == 404
    assert app.test_client().get(PATH).status_code == 200


# -- bodies ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(configured: Callable[..., Any], core: Core) -> FlaskClient:
    return make_app(configured(signed_url={"secret_key": "k"}, DEFAULT={"admin_mode": True}), core).test_client()


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.body], ids=name_of)
def test_body_is_required_where_it_is_said(client: FlaskClient, operation: Operation) -> None:
    assert operation.body
    path = operation.path.format(
        queue_name="q", topic_name="t", claim_id="c", pool_name="p", flavor_name="f", subscription_id="s",
    )
    answer = client.open(path, method=operation.method, headers=HEADERS, content_type=operation.body.media_type)
    assert (answer.status_code == 400) == operation.body.required, answer.data


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.body], ids=name_of)
@pytest.mark.parametrize("body", [b"null", b"1", b'"text"', b"true"])
def test_body_is_of_the_type_that_is_said(client: FlaskClient, operation: Operation, body: bytes) -> None:
    assert operation.body
    path = operation.path.format(
        queue_name="q", topic_name="t", claim_id="c", pool_name="p", flavor_name="f", subscription_id="s",
    )
    kind = operation.body.media_type
    answer = client.open(path, method=operation.method, headers=HEADERS, content_type=kind, data=body)
    assert answer.status_code in (400, 404), answer.data


def test_limit_of_a_claim_counts_in_query_and_body(client: FlaskClient) -> None:
    path = "/v2/queues/q/claims"
    client.post("/v2/queues/q/messages", headers=HEADERS, json={"messages": [{"body": 1}] * 4})
    assert client.post(f"{path}?limit=10", headers=HEADERS, json={"limit": 21}).status_code == 400
    assert client.post(f"{path}?limit=21", headers=HEADERS, json={"limit": 10}).status_code == 400
    assert len(client.post(f"{path}?limit=1", headers=HEADERS, json={"limit": 2}).get_json()["messages"]) == 1
    assert len(client.post(path, headers=HEADERS, json={"limit": 2}).get_json()["messages"]) == 2
