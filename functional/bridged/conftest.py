"""One gateway that may bridge what the tests declare, on the shared broker and MongoDB, and a native client."""

from collections.abc import Callable, Iterator

import pika
import pytest

from functional.bridged.helpers import PREFIX, Native
from functional.brokers import Broker
from functional.deployments import COMMON, beside, through
from functional.http import Api
from functional.installed import require
from functional.rights import LEAST_PASSWORD, LEAST_USER, OTHER_VHOST
from functional.services.gateway import Gateway, Options, merge
from functional.services.mongodb import MongoDB
from functional.services.qpid import Qpid
from functional.services.rabbitmq import RabbitMQ
from functional.services.redis import Redis

#: Bytes of a foreign message: little, so that a poisonous one is made quickly.
MAX_BODY = 100_000

#: Messages in a page and in a claim, so that traffic does not take all day.
PAGE = 100


@pytest.fixture(scope="session")
def least_rights(shared_broker: Broker) -> str:
    """Address of the shared broker for a user without the right to declare or delete what is not the gateway's."""
    if isinstance(shared_broker, Redis):
        pytest.skip("bridged queues are on AMQP brokers")
    if isinstance(shared_broker, Qpid):  # it was started with this user
        return shared_broker.uri.replace("guest:guest", f"{LEAST_USER}:{LEAST_PASSWORD}")
    return _least_rights(shared_broker)


def _least_rights(rabbitmq: RabbitMQ) -> str:
    rabbitmq.ctl("add_user", LEAST_USER, LEAST_PASSWORD)
    rabbitmq.ctl("add_vhost", OTHER_VHOST)
    for vhost in ("/", OTHER_VHOST):
        rabbitmq.ctl("set_permissions", "-p", vhost, LEAST_USER, r"^marconi[.-].*", ".*", ".*")
    rabbitmq.ctl("set_permissions", "-p", OTHER_VHOST, "guest", ".*", ".*", ".*")
    return rabbitmq.uri.replace("guest:guest", f"{LEAST_USER}:{LEAST_PASSWORD}")


@pytest.fixture(scope="session")
def bridged_options(shared_broker: Broker, mongodb: MongoDB, least_rights: str) -> Options:
    """Options of a gateway that may bridge the objects of these tests in both virtual hosts."""
    objects = [f"{kind}:{PREFIX}*" for kind in ("queue", "exchange")]
    return merge(
        COMMON,
        through(shared_broker),
        beside(mongodb, "bridged"),
        {
            "bridge": {"uri": least_rights},
            "bridging": {
                "allow": [f"* * {vhost} {name}" for vhost in ("/", OTHER_VHOST) for name in objects],
                "max_body": MAX_BODY,
            },
            "transport": {"max_messages_per_page": PAGE, "max_messages_per_claim_or_pop": PAGE},
        },
    )


@pytest.fixture(scope="session")
def bridged_gateway(bridged_options: Options) -> Iterator[Gateway]:
    """The gateway that these tests share: leave it running."""
    with require(lambda: Gateway(bridged_options)) as service:
        yield service


@pytest.fixture
def api(bridged_gateway: Gateway) -> Iterator[Api]:
    """A client of that gateway, in a project of its own."""
    client = Api(bridged_gateway.url)
    yield client
    client.close()


@pytest.fixture
def native(pika_connection: Callable[[], pika.BlockingConnection]) -> Iterator[Native]:
    """A native client of the shared broker; what it has declared is gone after the test."""
    client = Native(pika_connection())
    yield client
    client.clean()


@pytest.fixture
def native_elsewhere(shared_broker: RabbitMQ | Qpid, least_rights: str) -> Iterator[Native]:
    """A native client of the second virtual host."""
    with shared_broker.connect(OTHER_VHOST) as connection:
        client = Native(connection)
        yield client
        client.clean()
