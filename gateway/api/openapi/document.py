"""Puts the document together."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import orjson

from gateway import __version__
from gateway.api.openapi import errors
from gateway.api.openapi.about import ABOUT, TAGS
from gateway.api.openapi.parameters import parameters
from gateway.api.openapi.schema import resolve
from gateway.api.openapi.security import requirements, schemes
from gateway.web.call import JSON, PLACES
from gateway.web.facts import Facts
from gateway.web.operations import Body, Endpoint, Operation, Reply

VERSION = "3.1.0"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


@lru_cache(PLACES)
def encoded(operations: tuple[Operation, ...], endpoints: tuple[Endpoint, ...], facts: Facts, base: str) -> bytes:
    """The document in JSON."""
    return orjson.dumps(document(operations, endpoints, facts, base))


def document(
    operations: Iterable[Operation], endpoints: Iterable[Endpoint], facts: Facts, base: str = ""
) -> dict[str, Any]:
    """The OpenAPI document of these operations and endpoints. ``base``: where the paths of the service begin."""
    named: dict[str, Any] = {}
    resolve(errors.ERROR, facts, named)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        shown = paths.setdefault(endpoint.route, {})
        shown[endpoint.method.lower()] = _endpoint(endpoint, facts, named)
        if endpoint.exact and base:
            shown["servers"] = [{"url": "/"}]
    described = [operation for operation in operations if operation.id]
    for operation in described:
        for method in (operation.method, *operation.more_methods):
            paths.setdefault(operation.path, {})[method.lower()] = _operation(operation, method, facts, named)
    used = dict.fromkeys(call["tags"][0] for methods in paths.values() for call in methods.values() if "tags" in call)
    return {
        "openapi": VERSION,
        "jsonSchemaDialect": DIALECT,
        "info": {
            "title": "Marconi",
            "summary": "Message queues and notifications over HTTP.",
            "description": ABOUT,
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": base or "/"}],
        "tags": [{"name": tag, "description": TAGS[tag]} for tag in used],
        "paths": paths,
        "components": {
            "schemas": named,
            "responses": errors.responses(),
            "headers": errors.HEADERS,
            "securitySchemes": schemes(facts),
        },
    }


def _operation(operation: Operation, method: str, facts: Facts, named: dict[str, Any]) -> dict[str, Any]:
    has_body = method != "HEAD"
    shown: dict[str, Any] = {
        "operationId": operation.id if method == operation.method else f"{operation.id}_{method.lower()}",
        "tags": [operation.tag],
        "summary": operation.summary.rstrip("."),
        "description": f"{operation.description[:1].upper()}{operation.description[1:]}.",
        "parameters": parameters(operation, facts),
    }
    if operation.body is not None:
        shown["requestBody"] = _body(operation.body, facts, named)
    answers = {str(status): _reply(reply, facts, named) for status, reply in operation.replies.items()}
    if operation.waits is not None:
        for each in answers.values():
            each["headers"] |= {errors.APPLIED: errors.header(errors.APPLIED)}
    for status, description in errors.statuses(operation, facts):
        answers[str(status)] = (
            errors.response(status, description, has_body) if description or not has_body
            else {"$ref": f"#/components/responses/{errors.ERRORS[status].name}"}
        )
    return shown | {"responses": answers, "security": requirements(operation, facts)}


def _endpoint(endpoint: Endpoint, facts: Facts, named: dict[str, Any]) -> dict[str, Any]:
    answers = {str(status): _reply(reply, facts, named) for status, reply in endpoint.replies.items()}
    if endpoint.exact:  # it tells whether the service works
        answers["503"] = {"$ref": "#/components/responses/ServiceUnavailable"}
    return {
        "operationId": endpoint.id, "tags": ["Service"], "summary": endpoint.summary.rstrip("."),
        "responses": answers, "security": [],
    }


def _body(body: Body, facts: Facts, named: dict[str, Any]) -> dict[str, Any]:
    return {
        "required": body.required, "content": {body.media_type: {"schema": resolve(body.schema, facts, named)}},
    }


def _reply(reply: Reply, facts: Facts, named: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"description": reply.description, "headers": errors.headers(*reply.headers)}
    content: dict[str, Any] = dict(reply.others) if reply.schema is None else {JSON: reply.schema, **reply.others}
    if content:
        shown["content"] = {kind: {"schema": resolve(schema, facts, named)} for kind, schema in content.items()}
    return shown
