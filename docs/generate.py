"""Writes docs/configuration.md, the list in docs/api.md and the samples in etc/: `python docs/generate.py`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oslo_policy.policy import DocumentedRuleDefault

from gateway.api.v2.operations import OPERATIONS
from gateway.app import list_rules
from gateway.config.options import list_opts

ROOT = Path(__file__).parents[1]

HEAD = """\
# Configuration

This page is made from the options in the code by `make docs`; `etc/marconi.conf.sample` is the same as a file.

`marconi serve` and `marconi check` take `--config-file FILE`, repeatable, later files win. Without it, `marconi.conf`
is looked for in `~/.marconi`, `~`, `/etc/marconi` and `/etc`. An option in the environment, `OS_<SECTION>__<OPTION>`
in capitals (`OS_BRIDGE__URI`, `OS_DEFAULT__DEBUG`), wins over the files. In values of either kind, `$name` refers to
another option, and `$$` is a dollar sign. Secrets (`uri`, `key`, `secret_key`, passwords) refer to nothing: `$` and
`$$` are both a dollar sign there. In URIs, `: / ? # @ %` of user and password are written `%3A %2F %3F %23 %40 %25`.

A value that can't be used stops the start with one line, which `marconi check` shows too. An option or section that
nobody reads, most likely misspelled, is a warning in `marconi check` and in the log.

Options are read at the start, and again on [SIGHUP](operations.md#change-the-configuration); `htpasswd_file` and the
policy's files are read again when they change.

These sections take the options of libraries too, or only those, and their documentation has them all:

| section | library | options that matter |
| --- | --- | --- |
| `[DEFAULT]` | oslo.log | `debug`, `log_file`, `use_journal`, `default_log_levels` |
| `[cors]` | oslo.middleware | see [security.md](security.md#browsers) |
| `[keystone_authtoken]` | keystonemiddleware | see [operations.md](operations.md#keystone) |
| `[oslo_policy]` | oslo.policy | `policy_file`, `policy_dirs`: see [security.md](security.md#who-may-do-what) |
"""

SAMPLE_HEAD = "# Every option with its default, made by `make docs`. See docs/configuration.md.\n"

#: Width of the sample's comments.
WIDTH = 118


def sections() -> list[tuple[str, list[Any]]]:
    """The options of all installed drivers and of the gateway itself, by section."""
    return [(name or "DEFAULT", list(options)) for name, options in list_opts()]


def default(option: Any) -> str:
    """The default as it would stand in a file; empty when there is none."""
    value = option.default
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, list) else "" if value is None else str(value)


def form(option: Any) -> str:
    """What a value looks like: its type, and its bounds or choices."""
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
# Every rule with its default, made by `make docs`. Copy what you change to policy.yaml beside marconi.conf.
# docs/security.md says how the rules are used.
"""


def policy() -> str:
    """etc/policy.yaml.sample"""
    return "\n".join((POLICY_HEAD, *_policy_lines()))


def _policy_lines() -> Iterator[str]:
    for rule in list_rules():
        operations = rule.operations if isinstance(rule, DocumentedRuleDefault) else []
        lines = [rule.description, *(f"{operation['method']}  {operation['path']}" for operation in operations)]
        yield "".join(f"# {line}\n" for line in lines) + f'#"{rule.name}": "{rule.check_str}"\n'


#: Lines of docs/api.md between which the list of operations is.
BEGIN, END = "<!-- operations: written by `make docs` -->\n", "<!-- end of operations -->\n"


def api() -> str:
    """docs/api.md: what is written by hand, with the list of operations as it is now."""
    before, _, rest = (ROOT / "docs/api.md").read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError("docs/api.md has no place for the operations")
    return "".join((before, BEGIN, "\n", *_api_lines(), "\n", END, after))


def _api_lines() -> Iterator[str]:
    yield "| method | path | |\n| --- | --- | --- |\n"
    for operation in OPERATIONS:
        yield f"| `{operation.method}` | `{operation.route}` | {operation.description} |\n"


#: What is written where.
FILES = {
    "docs/api.md": api, "docs/configuration.md": page, "etc/marconi.conf.sample": sample,
    "etc/policy.yaml.sample": policy,
}


def main() -> None:
    """Write the files."""
    for path, make in FILES.items():
        (ROOT / path).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
