"""setup.py declares all that is imported, with upper versions for what is used inside; the names used there exist."""

import ast
import hashlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import pytest

from gateway.config.reader import Configuration
from gateway.server.connection import ApplicationErrorTask, ClientConnection, Task
from gateway.server.loop import Listener
from gateway.web.router import App

ROOT = Path(__file__).parents[1]
OURS = ("gateway", "bridges", "storage", "tests", "functional")

#: Names of libraries that no documentation promises, by distribution and by where they are: of what is overridden, set
#: or read by bridges/amqp, bridges/redis, gateway/server, gateway/web/router.py, gateway/config/reader.py and
#: storage/mongodb.
INSIDE: dict[str, dict[str, str]] = {
    "amqp": {
        "amqp.transport:TCPTransport": "_quick_recv _read_buffer _write write sock read_frame having_timeout connected",
        "amqp.transport:SSLTransport": "_quick_recv _read_buffer write sock read_frame having_timeout",
        "amqp.connection:Connection": "transport blocking_read drain_events on_inbound_frame on_blocked on_unblocked"
        " bytes_sent bytes_recv frame_max heartbeat_tick server_properties channel",
        "amqp.channel:Channel": "_callbacks _setup_listeners callbacks cancel_callbacks events auto_decode channel_id"
        " confirm_select basic_get basic_consume"
        " basic_cancel basic_ack basic_qos queue_declare queue_bind queue_delete queue_purge"
        " exchange_declare",
        "amqp.serialization": "dumps decode_properties_basic",
        "amqp.basic_message:Message": "properties delivery_info delivery_tag body channel",
        "amqp.spec:Basic": "Ack",
    },
    "kombu": {"kombu:Connection": "ensure_connection collect connection connect_timeout"},
    "waitress": {
        "waitress.channel:HTTPChannel": "add_channel del_channel recv readable writable handle_write received service"
        " write_soon handle_close send_continue sent_continue request requests requests_lock outbuf_lock outbufs"
        " total_outbufs_len will_close close_when_flushed connected adj parser_class task_class error_task_class",
        "waitress.task:WSGITask": "execute start service set_close_on_finish close_on_finish has_body version",
        "waitress.task:ErrorTask": "execute response_headers content_length status",
        "waitress.parser:HTTPRequestParser": "received completed empty error expect_continue headers_finished"
        " header_plus body_rcv close command",
        "waitress.server:TcpWSGIServer": "active_channels channel_class task_dispatcher trigger pull_trigger accepting"
        " handle_accept readable",
        "waitress.wasyncore": "read write",
        "waitress.buffers:ReadOnlyFileBasedBuffer": "prepare get skip close",
        "waitress.adjustments": "Adjustments",
        "waitress.utilities": "Error InternalServerError",
    },
    "pymongo": {
        "pymongo.synchronous.mongo_client:MongoClient": "_topology get_default_database",
        "pymongo.synchronous.topology:Topology": "_servers",
        "pymongo.synchronous.server:Server": "pool",
        "pymongo.synchronous.pool:Pool": "active_sockets conns",
        "pymongo.saslprep": "saslprep",
        "pymongo.uri_parser": "parse_uri",
        "pymongo.common": "VALIDATORS",
    },
    "redis": {
        "redis.connection:Connection": "_connect _sock connect disconnect send_packed_command read_response",
        "redis.connection:SSLConnection": "_connect",
        "redis.connection:UnixDomainSocketConnection": "_connect",
    },
    "scramp": {"scramp:ScramClient": "iterations"},
    "oslo.config": {"oslo_config.cfg:ConfigOpts": "_do_get _substitute _get_opt_info _groups GroupAttr"},
    "prometheus-client": {"prometheus_client.metrics:MetricWrapperBase": "_labelnames _metric_init labels"},
    "flask": {"flask:Flask": "wsgi_app url_map add_url_rule"},
    "werkzeug": {
        "werkzeug.wrappers:Request": "get_data max_content_length environ args mimetype path",
        "werkzeug.http": "HTTP_STATUS_CODES",
        "werkzeug.routing:Map": "strict_slashes merge_slashes bind",
    },
}

#: Methods of libraries that the project's short ways do not call, and digests of their code, docstrings left out:
#: gateway/web/router.py answers without this one.
REPLACED = {"flask:Flask.wsgi_app": "55a6e1569a4d171d"}

#: Private names of the standard library, which are as good as public: named tuples' and the type that argparse shows.
STANDARD = {"_exit", "_replace", "_ArgumentGroup"}


def modules(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            yield file, ast.parse(file.read_text())


def imported(*folders: str) -> dict[str, str]:
    """Modules of others that are imported, by a file that does it."""
    found = {}
    for file, tree in modules(*folders):
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in OURS:
                    found[top] = str(file.relative_to(ROOT))
    return found


def normal(name: str) -> str:
    """A distribution's name, as indexes compare them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> dict[str, dict[str, str]]:
    """Requirements of setup.py, by extra ("" for none) and distribution."""
    (call,) = (
        node for node in ast.walk(ast.parse((ROOT / "setup.py").read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setup"
    )
    arguments = {keyword.arg: keyword.value for keyword in call.keywords}
    lists = {"": ast.literal_eval(arguments["install_requires"]), **ast.literal_eval(arguments["extras_require"])}
    return {
        extra: {normal(re.split(r"[<>=!~]", text)[0]): text for text in texts} for extra, texts in lists.items()
    }


def undeclared(found: dict[str, str], *extras: str) -> dict[str, str]:
    distributions = packages_distributions()
    known = {name for extra in extras for name in declared()[extra]}
    return {
        module: file for module, file in found.items()
        if not known & {normal(name) for name in distributions.get(module, [module])}
    }


def test_packages_import_what_is_declared() -> None:
    found = imported("bridges", "storage", "gateway")
    assert undeclared(found, "", "bench", "test") == {}
    # Of the extras, psutil is for the bench alone, and pytest for the suites that drivers have to pass.
    assert set(undeclared(found, "")) == {"psutil", "pytest"}
    assert found["psutil"].startswith("gateway/bench/")
    assert "suite" in Path(found["pytest"]).with_suffix("").parts


def test_tests_import_what_is_declared() -> None:
    assert undeclared(imported("tests", "functional", "docs"), "", "test", "bench") == {}


@pytest.mark.parametrize("name", INSIDE)
def test_library_that_is_used_inside_has_an_upper_version(name: str) -> None:
    requirement = re.fullmatch(rf"{re.escape(name)}>=([\d.]+),<([\d.]+)", declared()[""][normal(name)])
    assert requirement, declared()[""][normal(name)]
    lowest, above = (tuple(map(int, bound.split("."))) for bound in requirement.groups())
    here = tuple(int(part) for part in re.findall(r"\d+", version(name))[:3])
    assert lowest <= here < above
    assert above <= (here[0], here[1] + 1), "a bound above what is tested here"


@pytest.mark.parametrize(
    ("where", "names"), [(where, names) for places in INSIDE.values() for where, names in places.items()]
)
def test_names_inside_are_there(where: str, names: str) -> None:
    module, _, kind = where.partition(":")
    thing: Any = import_module(module)
    thing = getattr(thing, kind) if kind else thing
    missing = [name for name in names.split() if not hasattr(thing, name) and not _sets(thing, name)]
    assert missing == []


def _sets(kind: Any, name: str) -> bool:
    """Does a class set an attribute of its instances?"""
    return any(
        re.search(rf"\bself\.{name}\b[^=\n]*=[^=]|\bself\.{name}:", inspect.getsource(base))
        for base in inspect.getmro(kind) if base.__module__ != "builtins"
    ) if inspect.isclass(kind) else False


@pytest.mark.parametrize("ours", [ClientConnection, ApplicationErrorTask, Task, Listener, App, Configuration])
def test_what_is_overridden_takes_the_same_arguments(ours: type) -> None:
    theirs = next(base for base in ours.__mro__ if not base.__module__.startswith(OURS))
    overridden = {
        name: function for name, function in vars(ours).items()
        if inspect.isfunction(function) and callable(getattr(theirs, name, None)) and name != "__init__"
    }
    assert overridden
    for name, function in overridden.items():
        assert list(inspect.signature(function).parameters) == list(
            inspect.signature(getattr(theirs, name)).parameters
        ), name


@pytest.mark.parametrize("where", REPLACED)
def test_what_is_done_without_is_as_it_was(where: str) -> None:
    """Look at what has changed, at what takes its place here, and then set the new digest."""
    module, _, name = where.partition(":")
    kind, _, method = name.partition(".")
    source = inspect.getsource(getattr(getattr(import_module(module), kind), method))
    (function,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(function, ast.FunctionDef)
    function.body = function.body[ast.get_docstring(function) is not None:]
    assert hashlib.sha256(ast.unparse(function).encode()).hexdigest()[:16] == REPLACED[where]


def test_no_other_private_names_of_libraries_are_used() -> None:
    ours: set[str] = set()
    used: dict[str, str] = {}
    for file, tree in modules("bridges", "storage", "gateway"):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                ours.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                ours.add(node.id)
            elif isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr):
                on_self = isinstance(node.value, ast.Name) and node.value.id == "self"
                if on_self and isinstance(node.ctx, ast.Store):
                    ours.add(node.attr)
                used[node.attr] = f"{file.relative_to(ROOT)}:{node.lineno}"
    known = {name for places in INSIDE.values() for names in places.values() for name in names.split()}
    assert {name: place for name, place in used.items() if name not in ours | known | STANDARD} == {}
