"""The table of operations is the one declaration of each: what it says is what is served."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from flask.testing import FlaskClient

import gateway.app
from gateway.api.v2 import parse
from gateway.api.v2.operations import OPERATIONS
from gateway.app import make_app
from gateway.core.core import Core
from gateway.web.context import Context
from gateway.web.operations import BOOLEAN, CLIENT, INTEGER, LIST, PROJECT, Operation, by_route

HEADERS = {"Client-ID": str(uuid4()), "X-Project-ID": "project", "X-Roles": "admin"}

#: Not of this type.
WRONG = {INTEGER: "x", BOOLEAN: "x", LIST: ""}

PARAMETERS = [
    (operation, parameter)
    for operation in OPERATIONS for parameter in operation.parameters if parameter.type in WRONG
]


@pytest.fixture
def client(configured: Callable[..., Any], core: Core) -> FlaskClient:
    return make_app(configured(signed_url={"secret_key": "k"}, DEFAULT={"admin_mode": True}), core).test_client()


def path_of(operation: Operation) -> str:
    return operation.path.format(
        queue_name="q", topic_name="t", message_id="m", claim_id="c", pool_name="p", flavor_name="f",
        subscription_id="s",
    )


def name_of(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def test_each_operation_is_there_once() -> None:
    assert len({(operation.method, operation.route) for operation in OPERATIONS}) == len(OPERATIONS)
    assert sum(len(operations) for operations in by_route(OPERATIONS).values()) == len(OPERATIONS)


@pytest.mark.parametrize(("operation", "parameter"), PARAMETERS, ids=lambda value: getattr(value, "path", None))
def test_parameter_is_read_as_the_type_that_is_declared(
    client: FlaskClient, operation: Operation, parameter: Any
) -> None:
    path = f"{path_of(operation)}?{parameter.name}={WRONG[parameter.type]}"
    if parameter.name == "claim_ids":
        path += "&ids="  # which it goes with
    assert client.open(path, method=operation.method, headers=HEADERS).status_code == 400


def test_filters_of_the_list_of_queues_are_what_is_no_parameter() -> None:
    (operation,) = (operation for operation in OPERATIONS if operation.name == "queues:get_all")
    assert {parameter.name for parameter in operation.parameters} == parse.LIST_KEYS


@pytest.mark.parametrize("operation", OPERATIONS, ids=name_of)
def test_body_is_read_where_it_is_declared(client: FlaskClient, operation: Operation) -> None:
    broken = client.open(path_of(operation), method=operation.method, headers=HEADERS, data=b"{")
    empty = client.open(path_of(operation), method=operation.method, headers=HEADERS)
    if operation.body:
        assert broken.status_code in (400, 415)
    else:
        assert broken.status_code == empty.status_code


@pytest.mark.parametrize("needs", [[], [PROJECT], [CLIENT], [PROJECT, CLIENT]], ids=str)
def test_operation_needs_what_it_declares_and_no_more(
    configured: Callable[..., Any], core: Core, monkeypatch: pytest.MonkeyPatch, needs: list[str]
) -> None:
    def handler(context: Context) -> list[str]:
        return [context.project, context.client]

    (ping,) = (operation for operation in OPERATIONS if operation.name == "ping:get")
    render = lambda call, value: (200, value, {})  # noqa: E731
    monkeypatch.setattr(
        gateway.app, "OPERATIONS", (replace(ping, needs=frozenset(needs), handler=handler, render=render),)
    )
    client = make_app(configured(), core).test_client()
    headers = {PROJECT: {"X-Project-ID": "p"}, CLIENT: {"Client-ID": HEADERS["Client-ID"]}}
    all_headers = {**headers[PROJECT], **headers[CLIENT]}
    for missing in headers:
        sent = {name: value for name, value in all_headers.items() if name not in headers[missing]}
        assert client.get("/v2/ping", headers=sent).status_code == (400 if missing in needs else 200)
    answer = client.get("/v2/ping", headers=all_headers)
    assert answer.get_json() == ["p" if PROJECT in needs else "", HEADERS["Client-ID"] if CLIENT in needs else ""]


def test_home_document_has_every_operation_but_itself(client: FlaskClient) -> None:
    resources = orjson.loads(client.get("/v2/", headers=HEADERS).data)["resources"]
    shown = {
        (method, resource["href-template"].partition("{?")[0])
        for resource in resources.values() for method in resource["hints"]["allow"]
    }
    assert shown == {(operation.method, operation.path) for operation in OPERATIONS} - {("GET", "/v2/")} | {
        ("HEAD", "/v2/ping"),
    }


def test_home_document_has_the_variables_of_path_and_query(client: FlaskClient) -> None:
    resource = orjson.loads(client.get("/v2/", headers=HEADERS).data)["resources"]["rel/message_delete"]
    assert resource == {
        "href-template": "/v2/queues/{queue_name}/messages/{message_id}{?claim_id}",
        "href-vars": {
            "queue_name": "param/queue_name", "message_id": "param/message_id", "claim_id": "param/claim_id",
        },
        "hints": {"allow": ["DELETE"], "formats": {"application/json": {}}},
    }


def test_audit_log_names_the_rule_or_the_call(configured: Callable[..., Any], core: Core, tmp_path: Path) -> None:
    file = tmp_path / "audit"
    client = make_app(configured(audit={"file": file, "reads": True}), core).test_client()
    for method, path in (
        ("PUT", "/v2/queues/q"), ("GET", "/v2/queues"), ("HEAD", "/v2/queues"), ("HEAD", "/v2/queues/q"),
        ("GET", "/v2/"), ("GET", "/healthcheck"), ("GET", "/nothing"), ("POST", "/v2/queues"),
    ):
        client.open(path, method=method, headers=HEADERS)
    assert [orjson.loads(line)["action"] for line in file.read_text().splitlines()] == [
        "queues:create", "queues:get_all", "HEAD /v2/queues", "queues:get", "GET /v2/",
    ]
