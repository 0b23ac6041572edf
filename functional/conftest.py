"""Services, gateways and clients for the functional tests; they start when a test first needs them."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
from xdist.scheduler import LoadScopeScheduling

from functional.deployments import (
    COMMON,
    DEPLOYMENTS,
    Deployment,
    beside,
    embedded,
    loopback,
    sqlite,
    through,
)
from functional.http import Api
from functional.installed import require
from functional.services.gateway import Gateway, merge
from functional.services.mongodb import MongoDB
from functional.services.rabbitmq import UNPACKED, RabbitMQ

pytest.register_assert_rewrite("storage.suite")

#: Modules whose tests count seconds, load the machine, or share a Keystone: not side by side with others.
ALONE = (
    "faults/", "identity/", "outages/", "overload/", "peers/", "rules/test_rule_4", "rules/test_rule_7",
    "test_bench.py", "test_load_scripts.py", "test_process.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--deployment",
        action="append",
        choices=DEPLOYMENTS,
        metavar="NAME",
        help=f"run against this deployment only (repeatable): {', '.join(DEPLOYMENTS)}",
    )
    parser.addoption(
        "--rabbitmq",
        metavar="FOLDER",
        help="run with the RabbitMQ that functional/unpack-rabbitmq.sh has put there, not with the installed one",
    )


def pytest_configure(config: pytest.Config) -> None:
    if (folder := config.getoption("--rabbitmq")) is not None:
        os.environ[UNPACKED] = str(config.rootpath / folder)


@pytest.hookimpl(tryfirst=True)  # before items are selected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and str(item.path.relative_to(here)).startswith(ALONE):
            item.add_marker("alone")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # pytest groups the tests by a parameter of session scope, so each deployment is started once.
    if "deployment" in metafunc.fixturenames:
        names = metafunc.config.getoption("--deployment") or list(DEPLOYMENTS)
        metafunc.parametrize("deployment", names, indirect=True, scope="session")


class DeploymentScheduling(LoadScopeScheduling):
    """Side by side (pytest-xdist -n) each deployment is one worker's, so that it is started once there too.

    xdist's own groups (--dist loadgroup) are without effect in xdist 3.8 with pytest 9.2 (pytest-xdist, issue 1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        names = nodeid.rpartition("[")[2].rstrip("]").split("-")
        return next((name for name in names if name in DEPLOYMENTS), super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> DeploymentScheduling:
    return DeploymentScheduling(config, log)


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """The RabbitMQ node that the tests share: leave it running."""
    with require(RabbitMQ) as service:
        yield service


@pytest.fixture(scope="session")
def mongodb() -> Iterator[MongoDB]:
    """The MongoDB that the tests share: leave it running."""
    with require(MongoDB) as service:
        yield service


@pytest.fixture(scope="session")
def deployment(request: pytest.FixtureRequest) -> Deployment:
    """The deployment under test; a test that asks for it, or for `gateway`, runs once for each."""
    return DEPLOYMENTS[request.param]


@pytest.fixture(scope="session")
def gateway(
    deployment: Deployment, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """The running gateway of the deployment under test, shared by the tests: leave it running."""
    if deployment.needs_rabbitmq:
        bridge = through(request.getfixturevalue("rabbitmq"), deployment.bridge)
    else:
        bridge = loopback()
    if deployment.needs_mongodb:
        side_store = beside(request.getfixturevalue("mongodb"), deployment.database)
    else:
        side_store = sqlite(tmp_path_factory.mktemp("side-store"))
    options = merge(COMMON, bridge, side_store, {"wsgi": {"workers": deployment.workers}})
    with require(lambda: Gateway(options)) as service:
        yield service


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Start gateways of the test's own: `start_gateway(bridge={"uri": …}, DEFAULT={…})`.

    What is not given is as in the embedded default, with one database file for all gateways of the test.
    """
    started: list[Gateway] = []

    def start(**sections: dict[str, object]) -> Gateway:
        gateway = require(lambda: Gateway(merge(embedded(tmp_path), sections)))
        started.append(gateway)
        return gateway.start()

    yield start
    for gateway in started:
        gateway.close()


@pytest.fixture
def api(gateway: Gateway) -> Iterator[Api]:
    """A client of the gateway under test, in a project of its own."""
    client = Api(gateway.url)
    yield client
    client.close()


@pytest.fixture
def queue() -> str:
    """A queue name that nobody has used."""
    return f"queue-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def pika_connection(rabbitmq: RabbitMQ) -> Iterator[Callable[[], pika.BlockingConnection]]:
    """Open native connections to the shared broker: `pika_connection()`."""
    opened: list[pika.BlockingConnection] = []

    def connect() -> pika.BlockingConnection:
        opened.append(rabbitmq.connect())
        return opened[-1]

    yield connect
    for connection in opened:
        if connection.is_open:
            connection.close()
