"""Writes docs/configuration.md, docs/openapi.md, lists in docs/api.md, docs/api-v1.md, docs/websocket.md, and etc/.

Run `python docs/generate.py`.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from oslo_policy.policy import DocumentedRuleDefault

from gateway.api.endpoints import CLIENTS_ENDPOINTS, ENDPOINTS
from gateway.api.openapi.document import document
from gateway.api.v2.operations import OPERATIONS
from gateway.api.versions import OLDER
from gateway.app import list_rules
from gateway.config.options import list_opts
from gateway.stream.websocket.actions import ACTIONS
from gateway.stream.websocket.actions.fields import Field
from gateway.web.facts import Facts
from gateway.web.operations import Endpoint, Operation

ROOT = Path(__file__).parents[1]

HEAD = """\
# Configuration

`make docs` writes this page and `etc/marconi.conf.sample` from the options in the code.

## How options are read

* `marconi serve` and `marconi check` take `--config-file FILE`. You can repeat it; later files win. Without it, they
  look for `marconi.conf` in `~/.marconi`, `~`, `/etc/marconi` and `/etc`.
* Environment variables win over files. Their names are `OS_<SECTION>__<OPTION>` in capitals, like `OS_BRIDGE__URI` or
  `OS_DEFAULT__DEBUG`.
* In a value, `$name` stands for the value of another option, and `$$` for a dollar sign. Secrets (`uri`, `key`,
  `secret_key`, passwords) are different: they can't refer to other options, and both `$` and `$$` are a dollar sign.
* In URIs, write the characters `: / ? # @ %` of a user or password as `%3A %2F %3F %23 %40 %25`.
* If a value is not valid, the gateway does not start and says why in one line. `marconi check` shows the same line.
* If an option or section does not exist, which usually means a typo, `marconi check` and the log have a warning.
* Options are read at the start, and again on [SIGHUP](operations.md#change-the-configuration). `htpasswd_file` and the
  policy files are read again whenever they change.

## Options of libraries

These sections hold options of libraries, too, or only those. The documentation of the libraries lists all of them:

| section | library | options that matter |
| --- | --- | --- |
| `[DEFAULT]` | oslo.log | `debug`, `log_file`, `use_journal`, `default_log_levels` |
| `[cors]` | oslo.middleware | see [security.md](security.md#browsers) |
| `[keystone_authtoken]` | keystonemiddleware | see [operations.md](operations.md#keystone) |
| `[trustee]` | keystoneauth1 | see [notifications.md](notifications.md#keystone-trusts) |
| `[oslo_policy]` | oslo.policy | `policy_file`, `policy_dirs`: see [security.md](security.md#who-may-do-what) |
"""

SAMPLE_HEAD = "# All options with their defaults. `make docs` writes this file. See docs/configuration.md.\n"

#: Width of the sample's comments, in characters.
WIDTH = 118


def sections() -> list[tuple[str, list[Any]]]:
    """The options of all installed drivers and of the gateway itself, by section."""
    return [(name or "DEFAULT", list(options)) for name, options in list_opts()]


def default(option: Any) -> str:
    """The default as written in a file; empty if there is none."""
    value = option.default
    if isinstance(value, dict):
        return ",".join(f"{key}:{part}" for key, part in value.items())
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def form(option: Any) -> str:
    """The form of a value: its type, and its bounds or choices."""
    kind = option.type
    text = kind.type_name.removesuffix(" value")
    if choices := getattr(kind, "choices", None):
        return f"{text}: {' or '.join(choices)}"
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    return text if low is None and high is None else f"{text} from {low} to {high}"


def page() -> str:
    """docs/configuration.md"""
    return "\n".join((HEAD, *_page_lines())) + "\n"


def _page_lines() -> Iterator[str]:
    for name, options in sections():
        yield f"## [{name}]\n\n| option | value | default | |\n| --- | --- | --- | --- |"
        for option in options:
            shown = f"`{default(option)}`" if default(option) else ""
            yield f"| `{option.name}` | {form(option)} | {shown} | {_cell(option.help)} |"
        yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def sample() -> str:
    """etc/marconi.conf.sample"""
    return "\n".join((SAMPLE_HEAD, *_sample_lines()))


def _sample_lines() -> Iterator[str]:
    for name, options in sections():
        yield f"[{name}]\n"
        for option in options:
            yield textwrap.fill(
                f"{option.help} ({form(option)})",
                WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False, break_long_words=False,
            )
            yield f"#{option.name} = {default(option)}".rstrip() + "\n"


POLICY_HEAD = """\
# All rules with their defaults. `make docs` writes this file. To change rules, copy them to policy.yaml in the folder
# of marconi.conf. docs/security.md explains how the rules are used.
"""


def policy() -> str:
    """etc/policy.yaml.sample"""
    return "\n".join((POLICY_HEAD, *_policy_lines()))


def _policy_lines() -> Iterator[str]:
    for rule in list_rules():
        operations = rule.operations if isinstance(rule, DocumentedRuleDefault) else []
        lines = [rule.description, *(f"{operation['method']}  {operation['path']}" for operation in operations)]
        yield "".join(f"# {line}\n" for line in lines) + f'#"{rule.name}": "{rule.check_str}"\n'


#: The list of calls stands between these two lines of a page.
BEGIN, END = "<!-- operations: written by `make docs` -->\n", "<!-- end of operations -->\n"


def api() -> str:
    """docs/api.md"""
    return _with_calls("docs/api.md", (*ENDPOINTS, *OPERATIONS))


def older_api() -> str:
    """docs/api-v1.md"""
    return _with_calls("docs/api-v1.md", itertools.chain(*OLDER.values()))


def _with_calls(path: str, calls: Iterable[Endpoint | Operation]) -> str:
    """A page: what is written by hand, with the list of calls as it is now."""
    return _with_list(path, BEGIN, END, _call_lines(calls))


def _with_list(path: str, begin: str, end: str, lines: Iterator[str]) -> str:
    """A page with these lines between two others."""
    before, _, rest = (ROOT / path).read_text(encoding="utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{path} has no place for the list")
    return "".join((before, begin, "\n", *lines, "\n", end, after))


def _call_lines(calls: Iterable[Endpoint | Operation]) -> Iterator[str]:
    yield "| method | path | |\n| --- | --- | --- |\n"
    for call in calls:
        yield f"| `{call.method}` | `{call.route}` | {call.description} |\n"


#: The list of actions stands between these two lines of docs/websocket.md.
BEGIN_ACTIONS, END_ACTIONS = "<!-- actions: written by `make docs` -->\n", "<!-- end of actions -->\n"


def websocket() -> str:
    """docs/websocket.md: what is written by hand, with the list of actions as it is now."""
    return _with_list("docs/websocket.md", BEGIN_ACTIONS, END_ACTIONS, _action_lines())


def _action_lines() -> Iterator[str]:
    yield "| action | body | | rule |\n| --- | --- | --- | --- |\n"
    for action in ACTIONS.values():
        rule = f"`{action.operation.rule}`" if action.operation.rule else ""
        yield f"| `{action.name}` | {', '.join(map(_field, action.fields))} | {action.summary} | {rule} |\n"


def _field(field: Field) -> str:
    return f"**`{field.name}`**" if field.required else f"`{field.name}`"


#: The reference follows this line of docs/openapi.md.
REFERENCE = "<!-- reference: written by `make docs` -->\n"


def openapi() -> str:
    """docs/openapi.md: what is written by hand, and the OpenAPI document as text."""
    before, mark, _ = (ROOT / "docs/openapi.md").read_text(encoding="utf-8").partition(REFERENCE)
    if not mark:
        raise ValueError("docs/openapi.md has no place for the reference")
    shown = document(OPERATIONS, CLIENTS_ENDPOINTS, Facts(can_share=True))
    return before + mark + "\n" + "\n".join(_document_lines(shown))


def _document_lines(document: dict[str, Any]) -> Iterator[str]:
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
        (f"`{status}`", _one_line(components["responses"][name]["description"]))
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
        (f"`{status}`", _one_line(answer["description"]), ", ".join(_contents(answer)))
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
                _value(each["schema"]), _one_line(each.get("description", "")),
            ) for each in parameters
        ))


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"### {name}\n\n{schema['description']}\n"
    yield from _table("key", "value", "", rows=(
        (
            f"`{key}`" + (" (required)" if key in schema.get("required", ()) else ""), _value(value),
            _one_line(value.get("description", "")),
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


def _one_line(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


#: The function that writes each file.
FILES = {
    "docs/api.md": api, "docs/api-v1.md": older_api, "docs/configuration.md": page, "docs/openapi.md": openapi,
    "docs/websocket.md": websocket, "etc/marconi.conf.sample": sample,
    "etc/policy.yaml.sample": policy,
}


def main() -> None:
    """Write the files."""
    for path, make in FILES.items():
        (ROOT / path).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
