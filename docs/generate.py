"""Writes docs/configuration.md, lists in docs/api.md and docs/websocket.md, and samples in etc/.

Run `python docs/generate.py`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oslo_policy.policy import DocumentedRuleDefault

from gateway.api.endpoints import ENDPOINTS
from gateway.api.v2.operations import OPERATIONS
from gateway.app import list_rules
from gateway.config.options import list_opts
from gateway.stream.websocket.actions import ACTIONS
from gateway.stream.websocket.actions.fields import Field

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


#: The list of endpoints and operations stands between these two lines of docs/api.md.
BEGIN, END = "<!-- operations: written by `make docs` -->\n", "<!-- end of operations -->\n"


def api() -> str:
    """docs/api.md: what is written by hand, with the list of operations as it is now."""
    return _with_list("docs/api.md", BEGIN, END, _api_lines())


def _with_list(path: str, begin: str, end: str, lines: Iterator[str]) -> str:
    """A page with these lines between two others."""
    before, _, rest = (ROOT / path).read_text(encoding="utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{path} has no place for the list")
    return "".join((before, begin, "\n", *lines, "\n", end, after))


def _api_lines() -> Iterator[str]:
    yield "| method | path | |\n| --- | --- | --- |\n"
    for call in (*ENDPOINTS, *OPERATIONS):
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


#: The function that writes each file.
FILES = {
    "docs/api.md": api, "docs/configuration.md": page, "docs/websocket.md": websocket,
    "etc/marconi.conf.sample": sample, "etc/policy.yaml.sample": policy,
}


def main() -> None:
    """Write the files."""
    for path, make in FILES.items():
        (ROOT / path).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
