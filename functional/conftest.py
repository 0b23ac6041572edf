"""Services, gateways and clients for the functional tests; they start when a test first needs them."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
from xdist.scheduler import LoadScopeScheduling

from functional.brokers import BROKER, BROKERS, Broker, broker_kind, broker_option, make_broker
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
from functional.rights import LEAST_PASSWORD, LEAST_USER, OTHER_VHOST, QPID_RULES
from functional.services.gateway import Gateway, Options, merge
from functional.services.mongodb import MongoDB
from functional.services.qpid import Qpid
from functional.services.rabbitmq import UNPACKED, RabbitMQ
from functional.services.redis import Redis

pytest.register_assert_rewrite("storage.suite")

#: Modules whose tests load the machine, or count seconds so closely that no other test may run beside them.
ALONE = (
    "feeds/test_rude_feeds", "migration/test_run", "notify/test_faults", "overload/", "pools/test_paused",
    "rules/test_rule_4", "websocket/test_rude",
)

#: Modules whose tests start many processes: three workers side by side are enough.
PAIRED = (
    "faults/", "feeds/", "identity/", "migration/test_moves", "outages/", "rules/test_rule_7", "test_bench.py",
    "test_load_scripts.py", "test_process.py", "waiting/test_ends", "websocket/test_gateways",
)

#: Modules that run on all usual deployments: what depends most on the broker, the side-store and the number of workers.
#: The others run where it matters most, unless --deployment names other deployments.
EVERYWHERE = ("api/test_fifo.py", "rules/")

#: What a plain run leaves out, as it tries the like elsewhere or it is about the tests' own tools: tox -e thorough. How
#: a path begins, and what the test's name has in it. Single tests have the mark themselves.
THOROUGH = (
    ("api/test_pools", "evacuate"),
    ("api_v1/test_bad_input", "quorum+mongodb"),
    ("api_v1/test_pools", "quorum+mongodb"),
    ("api_v1/test_v1", "quorum+mongodb"),
    ("faults/", "fifo_queues"),
    ("faults/", "feeds_miss"),
    ("feeds/test_browser", "another_origin"),
    ("feeds/test_ends", "broker_is_down"),
    ("feeds/test_ends", "configuration_changes"),
    ("feeds/test_ends", "gateways_die"),
    ("feeds/test_ends", "side_store_is_down"),
    ("feeds/test_ends", "[2]"),
    ("feeds/test_moves",),
    ("feeds/test_rude",),
    ("identity/test_prefix", "command_line_finds_its_way[taken off]"),
    ("notify/test_deliveries", "failing_receivers", "loopback+sqlite"),
    ("notify/test_deliveries", "real_statuses", "loopback+sqlite"),
    ("notify/test_mail", "quorum+mongodb"),
    ("notify/test_takeover", "loopback+sqlite"),
    ("openapi/test_conformance",),
    ("outages/test_posts_sent_again", "gateway_that_was_killed"),
    ("outages/test_posts_sent_again", "dedup_id"),
    ("peers/test_elasticmq",),
    ("pools/test_recipes", "second_cluster"),
    ("pools/test_recipes", "zaqars_way"),
    ("rules/test_rule_4_fifo_queues",),
    ("test_amqp_bridge", "many_queues_are_on_one_connection"),
    ("test_load_scripts", "bare"),
    ("test_load_scripts", "growth"),
    ("test_load_scripts", "scaling"),
    ("test_services", "data_is_there"),
    ("test_services", "paused_service"),
    ("test_services", "three_nodes"),
    ("waiting/test_calls", "claim_that_expires"),
    ("waiting/test_ends", "[2]"),
    ("waiting/test_ends", "dependency"),
    ("waiting/test_gateways", "mongodb"),
    ("websocket/", "redis+mongodb"),
    ("websocket/test_gateways", "quorum+mongodb"),
    ("websocket/test_moves",),
    ("websocket/test_rude", "nothing"),
    ("websocket/test_rude", "silent"),
    ("websocket/test_rude", "thousands"),
    ("websocket/test_rude", "half"),
    ("websocket/test_gateways", "redis+mongodb"),
)

#: Modules that take longest, which begin first: else the last of them keeps all others waiting.
LONG = (
    "api/test_expiry", "waiting/test_calls", "pools/test_recipes", "notify/", "test_services", "rules/test_rule_9",
    "rules/test_rule_8", "api/test_pools", "bridged/test_bindings", "test_tls", "test_amqp_bridge",
    "isolation/test_projects", "rules/test_rule_1", "rules/test_native_clients", "test_refusals",
)

#: Modules that share what takes long to start, here a Keystone, by how their paths begin: those of a group go to one
#: worker. The first one that fits counts.
TOGETHER = {
    "functional/identity/test_clients": "identity, slow half", "functional/identity/test_trusts": "identity, slow half",
    "functional/identity/": "identity",
}

#: Modules that are kept apart from the others of a deployment: they start gateways of their own, or wait for long.
APART = ("functional/notify/", "functional/api/test_expiry", "functional/waiting/")


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
    parser.addoption(
        "--broker",
        choices=BROKERS,
        help="run tests of the whole gateway on this broker, as far as they are not about one (default: rabbitmq)",
    )


def pytest_configure(config: pytest.Config) -> None:
    if (broker := config.getoption("--broker")) is not None:
        os.environ[BROKER] = broker
    if (folder := config.getoption("--rabbitmq")) is not None:
        os.environ[UNPACKED] = str(config.rootpath / folder)


@pytest.hookimpl(tryfirst=True)  # before items are selected by their marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    kept, left_out = [], []
    for item in items:
        kept.append(item)
        if not item.path.is_relative_to(here):
            continue
        path = str(item.path.relative_to(here))
        if not path.startswith(EVERYWHERE) and not config.getoption("--deployment") and not _matters_most(item):
            left_out.append(kept.pop())
        if any(path.startswith(begin) and all(part in item.name for part in parts) for begin, *parts in THOROUGH):
            item.add_marker("thorough")
        if path.startswith(ALONE):
            item.add_marker("alone")
        elif path.startswith(PAIRED):
            item.add_marker("paired")
            # Commands of OpenStack's client take a second or two each, and Keystone's start half a minute.
            item.add_marker(pytest.mark.timeout(300))
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    items[:] = sorted(kept, key=lambda item: not _is_long(item.path, here))


def _is_long(path: Path, here: Path) -> bool:
    return path.is_relative_to(here) and str(path.relative_to(here)).startswith(LONG)


def _matters_most(item: pytest.Item) -> bool:
    name = getattr(getattr(item, "callspec", None), "params", {}).get("deployment")
    return name is None or DEPLOYMENTS[name].matters_most


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # pytest groups the tests by a parameter of session scope, so each deployment is started once.
    if "deployment" in metafunc.fixturenames:
        usual = [name for name, deployment in DEPLOYMENTS.items() if deployment.usual]
        names = metafunc.config.getoption("--deployment") or usual
        metafunc.parametrize("deployment", names, indirect=True, scope="session")


class DeploymentScheduling(LoadScopeScheduling):
    """Side by side (pytest-xdist -n) each deployment is one worker's, so that it is started once there too. So is each
    group of TOGETHER; what is left is split by module.

    xdist's own groups (--dist loadgroup) are without effect in xdist 3.8 with pytest 9.2 (pytest-xdist, issue 1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        if group := next((group for path, group in TOGETHER.items() if nodeid.startswith(path)), None):
            return group
        module = super()._split_scope(nodeid)
        for name in nodeid.rpartition("[")[2].rstrip("]").split("-"):
            if name in DEPLOYMENTS:
                return f"{module} {name}" if nodeid.startswith(APART) else name
        return module


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> DeploymentScheduling:
    return DeploymentScheduling(config, log)


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """The RabbitMQ node that the tests share: leave it running. Tests that ask for it are about RabbitMQ."""
    if broker_kind() is not RabbitMQ:
        pytest.skip("it is about RabbitMQ")
    with require(RabbitMQ) as service:
        yield service


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """The Redis that the tests share: leave it running."""
    with require(Redis) as service:
        yield service


@pytest.fixture(scope="session")
def qpid() -> Iterator[Qpid]:
    """The Qpid Broker-J that the tests share: leave it running."""
    with require(lambda: Qpid(OTHER_VHOST, users={LEAST_USER: LEAST_PASSWORD}, rules=QPID_RULES)) as service:
        yield service


@pytest.fixture(scope="session")
def shared_broker(request: pytest.FixtureRequest) -> Broker:
    """The broker of the kind that `--broker` names, which the tests share: leave it running."""
    shared: Broker = request.getfixturevalue(broker_option())
    return shared


@pytest.fixture
def own_broker() -> Iterator[Broker]:
    """A broker of that kind which the test may stop."""
    with make_broker() as service:
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
def make_options(
    deployment: Deployment, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Options]:
    """Options of a gateway of the deployment under test whose side-store is of that name."""

    def make(name: str) -> Options:
        if deployment.needs_rabbitmq:
            bridge = through(request.getfixturevalue("rabbitmq"), deployment.bridge)
        elif deployment.bridge in ("redis", "qpid"):
            bridge = through(request.getfixturevalue(deployment.bridge))
        else:
            bridge = loopback()
        if deployment.needs_mongodb:
            side_store = beside(request.getfixturevalue("mongodb"), name)
        else:
            side_store = sqlite(tmp_path_factory.mktemp(name))
        return merge(COMMON, bridge, side_store, {"wsgi": {"workers": deployment.workers}})

    return make


@pytest.fixture(scope="session")
def gateway(deployment: Deployment, make_options: Callable[[str], Options]) -> Iterator[Gateway]:
    """The running gateway of the deployment under test, shared by the tests: leave it running."""
    made = make_options(deployment.database)
    with require(lambda: Gateway(made)) as service:
        yield service


@pytest.fixture
def fresh_gateway(make_options: Callable[[str], Options]) -> Iterator[Gateway]:
    """Another one, which serves this test alone: nothing of other tests costs it anything."""
    made = make_options(f"fresh_{uuid.uuid4().hex[:12]}")
    with require(lambda: Gateway(made)) as service:
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
def pika_connection(shared_broker: Broker) -> Iterator[Callable[[], pika.BlockingConnection]]:
    """Open native connections to the shared broker: `pika_connection()`."""
    if isinstance(shared_broker, Redis):
        pytest.skip("it is about brokers that speak AMQP")
    opened: list[pika.BlockingConnection] = []

    def connect() -> pika.BlockingConnection:
        opened.append(shared_broker.connect())
        return opened[-1]

    yield connect
    for connection in opened:
        if connection.is_open:
            connection.close()
