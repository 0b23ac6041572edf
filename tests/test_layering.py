"""Who may import whom: HTTP knows the core, the core knows bridges and side-stores, and those know nobody."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: What each folder must not import.
FORBIDDEN = {
    "bridges": {"storage", "gateway", "flask", "werkzeug", "functional", "tests"},
    "storage": {"bridges", "gateway", "flask", "werkzeug", "functional", "tests"},
    "gateway/core": {"flask", "werkzeug", "gateway.api", "gateway.app", "gateway.auth", "functional", "tests"},
    "gateway/bench": {
        "bridges", "storage", "gateway.api", "gateway.app", "gateway.auth", "gateway.conf", "gateway.core",
        "gateway.drivers", "gateway.serve", "gateway.server", "functional", "tests",
    },
    "gateway": {"functional", "tests", "bridges.amqp", "bridges.loopback", "storage.mongodb", "storage.sqlite"},
}


def imports(file: Path) -> Iterator[str]:
    """Modules that a file imports, at whatever depth."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_folder_imports_nothing_from_above(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    wrong = {
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in imports(file)
        for forbidden in FORBIDDEN[folder]
        if name == forbidden or name.startswith(f"{forbidden}.")
    }
    assert wrong == set()
