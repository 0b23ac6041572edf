"""Documentation that is true: nothing served is missing from it, its examples work, its links lead somewhere."""

import configparser
import importlib.util
import itertools
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from prometheus_client.metrics import MetricWrapperBase

from bridges.base import Bridge
from bridges.errors import BridgeMisconfigured
from bridges.suite import BridgeSuite
from gateway.access.trusts import create_trusts
from gateway.api.endpoints import ENDPOINTS
from gateway.api.v2.operations import OPERATIONS
from gateway.api.versions import OLDER
from gateway.config import drivers
from gateway.config.machine import unknown_options
from gateway.config.options import all_opts, list_opts
from gateway.config.reader import load
from gateway.notify.settings import DeliverySettings
from gateway.observe import metrics
from gateway.observe.fast_paths import FAST_PATHS
from gateway.web.operations import Endpoint, Operation

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

#: Folders of other people's Markdown.
FOREIGN = {".git", ".venv", ".tox", ".pytest_cache", "node_modules", "build", "var"}

PAGES = sorted(page for page in ROOT.rglob("*.md") if not FOREIGN & set(page.relative_to(ROOT).parts))


def module_from(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def table_rows(page: Path) -> Iterator[list[str]]:
    """The cells of every table row."""
    for line in page.read_text().splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


# -- completeness ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [
    "docs/api.md", "docs/api-v1.md", "docs/configuration.md", "docs/openapi.md", "docs/websocket.md",
    "etc/marconi.conf.sample", "etc/policy.yaml.sample",
])
def test_generated_file_is_up_to_date(path: str) -> None:
    generate = module_from(DOCS / "generate.py")
    assert (ROOT / path).read_text() == generate.FILES[path](), "run `make docs`"


def test_every_option_has_help() -> None:
    assert [option.name for _, options in list_opts() for option in options if not option.help] == []


@pytest.mark.parametrize(("page", "calls"), [
    ("api.md", (*ENDPOINTS, *OPERATIONS)), ("api-v1.md", tuple(itertools.chain(*OLDER.values()))),
])
def test_routes_in_the_documentation_are_those_served(page: str, calls: tuple[Endpoint | Operation, ...]) -> None:
    served = {(call.method, call.route) for call in calls}
    documented = {
        (row[0].strip("`"), row[1].strip("`"))
        for row in table_rows(DOCS / page)
        if len(row) == 3 and row[1].startswith("`/")
    }
    assert documented == served


def test_metrics_in_the_documentation_are_those_served() -> None:
    served = {
        metric.name
        for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)
        for metric in value.describe()
    }
    documented = {row[0].strip("`") for row in table_rows(DOCS / "operations.md") if row[0].startswith("`marconi_")}
    assert documented == served


def test_fast_paths_in_the_documentation_are_as_it_says() -> None:
    rows = [row for row in table_rows(DOCS / "performance.md") if len(row) == 5 and row[4].startswith("`tests/")]
    assert len(rows) >= 4
    options = {f"[{section}] {option.name}" for section, options in list_opts() for option in options}
    required = set(re.findall(r'^ +"([^"]+)",', (ROOT / "setup.py").read_text(), re.MULTILINE))
    for path, switch, seen, library, tests in rows:
        assert set(re.findall(r"`(\[.*?)`", switch)) <= options, path
        assert set(re.findall(r"`(.*?)`", library)) <= required, path
        for name in re.findall(r"`([^`]+\.py)`", path + tests):
            assert (ROOT / name).exists(), name
        assert set(re.findall(r'option="(.*?)"', seen)) == set(re.findall(r"`(\[.*?)`", switch)) & set(FAST_PATHS), path
    assert {option for row in rows for option in re.findall(r"`(\[.*?)`", row[1])} >= set(FAST_PATHS)


def test_each_module_of_the_server_has_its_paragraph() -> None:
    paragraphs = re.findall(r"^\*\*`(.*?)`\*\*", (ROOT / "gateway/server/README.md").read_text(), re.MULTILINE)
    modules = {file.name for file in (ROOT / "gateway/server").glob("*.py")} - {"__init__.py"}
    assert paragraphs == sorted(modules)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    """The changelog tells of files that have gone."""
    named = set(re.findall(r"`((?:gateway|bridges|storage|tests|functional|docs)/[\w/]+\.\w+)`", page.read_text()))
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_functions_that_a_call_goes_through_exist() -> None:
    text = (DOCS / "architecture.md").read_text()
    named = re.findall(r"^((?:gateway|bridges|storage)(?:\.\w+){2,})", text, re.MULTILINE)
    assert len(named) > 30
    for name in named:
        path, *rest = name.split(".")
        found: Any = import_module(path)
        for part in rest:
            path += f".{part}"
            found = getattr(found, part) if hasattr(found, part) else import_module(path)
        assert callable(found), name


# -- links ----------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, by GitHub's rule."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / unquote(path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


# -- examples -------------------------------------------------------------------------------------------------------


def test_production_configuration_has_only_options_that_exist(tmp_path: Path) -> None:
    (example,) = blocks(ROOT / "README.md", "ini")
    file = tmp_path / "marconi.conf"
    file.write_text(example)
    conf = load(config_files=[str(file)])
    parsed = configparser.RawConfigParser(default_section="")
    parsed.read(file)
    for section in parsed.sections():
        group = conf if section == "DEFAULT" else conf[section]
        for option, text in parsed[section].items():
            value = getattr(group, option)  # raises for an unknown option and for a bad value
            assert str(value).lower() == text.lower(), f"[{section}] {option}"


def test_examples_of_notifications_have_only_options_that_exist(tmp_path: Path) -> None:
    for number, example in enumerate(blocks(DOCS / "notifications.md", "ini")):
        file = tmp_path / f"{number}.conf"
        file.write_text(f"[DEFAULT]\nauth_strategy = keystone\n{example}")
        conf = load(config_files=[str(file)])
        create_trusts(conf)  # raises for a [trustee] that it does not understand
        assert DeliverySettings.from_options(conf)
        assert list(unknown_options(conf, all_opts())) == []


@pytest.fixture
def example_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/drivers.md's bridge, installed: a module, and the metadata that pip would write."""
    code, setup, *_ = blocks(DOCS / "drivers.md", "python")
    (tmp_path / "marconi_memory.py").write_text(code)
    metadata = tmp_path / "marconi_memory-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: marconi-memory\nVersion: 1.0\n")
    found = re.search(r'"(marconi\.bridges)": \["(.*)"\]', setup)
    assert found
    (metadata / "entry_points.txt").write_text(f"[{found[1]}]\n{found[2]}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "marconi_memory", raising=False)


@pytest.mark.usefixtures("example_driver")
class TestExampleDriver(BridgeSuite):
    """The bridge of docs/drivers.md does what every bridge does."""

    @pytest.fixture
    def bridge(self, example_driver: None) -> Bridge:
        bridge = drivers.create_driver(drivers.BRIDGES, "memory://", SimpleNamespace(max_depth=1000))
        assert isinstance(bridge, Bridge)
        return bridge

    @pytest.fixture
    def queue(self, bridge: Bridge) -> str:
        bridge.create("queue")
        return "queue"

    def test_its_options_can_be_configured(self, tmp_path: Path) -> None:
        file = tmp_path / "marconi.conf"
        file.write_text("[bridge]\nuri = memory://\nmax_depth = 5\n")
        conf = load(config_files=[str(file)])
        assert conf.bridge.max_depth == 5

    def test_it_refuses_other_uris(self) -> None:
        with pytest.raises(BridgeMisconfigured):
            drivers.create_driver(drivers.BRIDGES, "memory://host", SimpleNamespace(max_depth=1))
