"""Renders an OpenAPI document as docs/openapi.md; see generate.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

HEAD = """\
# OpenAPI

A gateway describes itself at `/v2/openapi.json`, as an [OpenAPI 3.1](https://spec.openapis.org/oas/v3.1.0) document:
each call with its parameters, bodies, answers and errors. Limits are those of its configuration, credentials those of
its `auth_strategy`, and calls for administrators are there with `admin_mode`. Reading it takes no credentials.

```sh
curl http://127.0.0.1:8888/v2/openapi.json
```

The calls that every gateway answers outside the API are in [api.md](api.md#calls), and so is what they mean.

## Clients

Programs make clients, forms and tests of the document. This makes a package for Python, with
[openapi-python-client](https://pypi.org/project/openapi-python-client/):

```sh
cat > client.json <<'EOF'
{"content_type_overrides": {
  "application/openstack-messaging-v2.0-json-patch": "application/json",
  "application/json-home": "application/json"
}}
EOF
openapi-python-client generate --url http://127.0.0.1:8888/v2/openapi.json \\
  --config client.json --meta none --output-path messaging
```

Each call is a module, in a package for its section below; each body is a class:

```python
from messaging import Client
from messaging.api.claims import claim_messages
from messaging.api.messages import delete_message, post_messages
from messaging.models import NewClaim, NewMessage, NewMessages

client = Client("http://127.0.0.1:8888")
mine = {"client": client, "client_id": "3381af92-2b9e-11e3-b191-71861300734c", "x_project_id": "demo"}
post_messages.sync("orders", body=NewMessages([NewMessage({"item": "lamp"}, ttl=600)]), **mine)
claimed = claim_messages.sync("orders", body=NewClaim(ttl=300), limit=1, **mine)
for message in claimed.messages if claimed else []:
    claim_id = message.href.partition("claim_id=")[2]
    delete_message.sync_detailed("orders", message.id, claim_id=claim_id, **mine)
```

`sync` returns what is in the answer, which may be an `Error`, and `sync_detailed` its status and headers, too. With
`auth_strategy = basic` the client is `AuthenticatedClient(url, token, prefix="Basic")`, where `token` is
`user:password` in base64; with Keystone it is `AuthenticatedClient(url, token, auth_header_name="X-Auth-Token",
prefix="")`.

A test makes this client, runs this code, and tries the [tour](../README.md#tour) with it
([functional/openapi/test_client.py](../functional/openapi/test_client.py)). Another one sends a gateway whatever the
document allows and forbids, and compares the answers with it
([functional/openapi/test_conformance.py](../functional/openapi/test_conformance.py)).

The rest of this page is the document of a gateway with the default configuration, `admin_mode` and pre-signed requests.
`make docs` writes it.
"""


def page(document: dict[str, Any]) -> str:
    """The whole page."""
    return "\n".join((HEAD, *_lines(document)))


def _lines(document: dict[str, Any]) -> Iterator[str]:
    components = document["components"]
    calls: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, methods in document["paths"].items():
        for method, call in methods.items():
            calls.setdefault(call["tags"][0], []).append((method, path, call))
    common = _common(document)
    yield "## Every call\n"
    yield "Each call has these headers. Which of these errors it has stands below its answers, by their statuses.\n"
    yield from _parameters(common)
    yield from _table("status", "error", rows=(
        (f"`{status}`", _cell(components["responses"][name]["description"]))
        for status, name in _errors(document).items()
    ))
    for tag in document["tags"]:
        yield f"## {tag['name']}\n\n{tag['description']}\n"
        for method, path, call in calls[tag["name"]]:
            yield from _call(method, path, call, common)
    yield "## Schemas\n"
    for name, schema in sorted(components["schemas"].items()):
        yield from _schema(name, schema)


def _common(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The headers that all operations have."""
    calls = [call for methods in document["paths"].values() for call in methods.values() if "parameters" in call]
    return [each for each in calls[0]["parameters"] if all(each in call["parameters"] for call in calls)]


def _errors(document: dict[str, Any]) -> dict[str, str]:
    """Names of errors by status."""
    return {
        status: answer["$ref"].rpartition("/")[2]
        for status, answer in sorted(
            (status, answer) for methods in document["paths"].values() for call in methods.values()
            for status, answer in call["responses"].items() if "$ref" in answer
        )
    }


def _call(method: str, path: str, call: dict[str, Any], common: list[dict[str, Any]]) -> Iterator[str]:
    said = f"{call['summary']}. {call.get('description', '')}".strip()
    yield f"### {call['operationId']}\n\n`{method.upper()} {path}`\n\n{said}\n"
    yield from _parameters([each for each in call.get("parameters", []) if each not in common])
    if "requestBody" in call:
        ((kind, media),) = call["requestBody"]["content"].items()
        needed = "" if call["requestBody"]["required"] else ", which may be left out"
        named = "" if kind == "application/json" else f" (`{kind}`)"
        yield f"Body{needed}: {_value(media['schema'])}{named}\n"
    yield from _table("status", "answer", "body", rows=(
        (f"`{status}`", _cell(answer["description"]), ", ".join(_contents(answer)))
        for status, answer in call["responses"].items() if "$ref" not in answer
    ))
    if errors := [status for status, answer in call["responses"].items() if "$ref" in answer]:
        yield f"Errors: {', '.join(errors)}.\n"


def _contents(answer: dict[str, Any]) -> Iterator[str]:
    for kind, media in answer.get("content", {}).items():
        yield _value(media["schema"]) + ("" if kind == "application/json" else f" (`{kind}`)")
    for name in answer["headers"]:
        if not name.startswith("X-"):
            yield f"header `{name}`"


def _parameters(parameters: list[dict[str, Any]]) -> Iterator[str]:
    if parameters:
        yield from _table("parameter", "in", "value", "", rows=(
            (
                f"`{each['name']}`" + (" (required)" if each["required"] and each["in"] != "path" else ""), each["in"],
                _value(each["schema"]), _cell(each.get("description", "")),
            ) for each in parameters
        ))


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"### {name}\n\n{schema['description']}\n"
    yield from _table("key", "value", "", rows=(
        (
            f"`{key}`" + (" (required)" if key in schema.get("required", ()) else ""), _value(value),
            _cell(value.get("description", "")),
        )
        for key, value in schema["properties"].items()
    ))
    if more := schema.get("additionalProperties"):
        yield f"Other keys: {'any' if more is True else _value(more)}.\n"


def _value(schema: Any) -> str:
    """What a value may be, in a table's cell."""
    if schema in (True, {}):
        return "any JSON"
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_value(each) for each in schema["anyOf"]))
    if "const" in schema:
        return f"`{_json(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"]) + _default(schema)
    kinds = schema.get("type", "any JSON")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    return " or ".join(_kind(kind, schema) for kind in kinds) + _default(schema)


def _default(schema: dict[str, Any]) -> str:
    return f", default `{_json(schema['default'])}`" if "default" in schema else ""


def _kind(kind: str, schema: dict[str, Any]) -> str:
    if kind == "null":
        return "null"
    if kind == "array":
        return f"list of {_value(schema['items'])}{_range(schema, 'Items', ' items')}"
    if kind == "object":
        values = schema.get("additionalProperties", True)
        return "object" + ("" if values is True else f" of {_value(values)}") + _range(schema, "Properties", " keys")
    if kind == "string":
        kind = {"date-time": "time"}.get(schema.get("format", ""), "string")
        return kind + _range(schema, "Length", " characters")
    return kind + _range(schema, "imum", "")


def _range(schema: dict[str, Any], suffix: str, unit: str) -> str:
    low, high = schema.get(f"min{suffix}"), schema.get(f"max{suffix}")
    if high is None:
        return "" if low is None else f", at least {low}{unit}"
    return f", up to {high}{unit}" if low is None else f", {low} to {high}{unit}"


def _json(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(*titles: str, rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if lines:
        yield f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}\n" + "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
