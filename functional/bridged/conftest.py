"""One gateway that may bridge what the tests declare, on the shared RabbitMQ and MongoDB, and a native client."""

from collections.abc import Callable, Iterator

import pika
import pytest

from functional.bridged.helpers import PREFIX, Native
from functional.deployments import COMMON, beside, through
from functional.http import Api
from functional.installed import require
from functional.services.gateway import Gateway, Options, merge
from functional.services.mongodb import MongoDB
from functional.services.rabbitmq import RabbitMQ

#: The broker's user of the gateway: it can declare and delete nothing but objects of its own.
USER, PASSWORD = "bridged-gateway", "secret"

#: A second virtual host.
VHOST = "other"

#: Bytes of a foreign message: little, so that a poisonous one is made quickly.
MAX_BODY = 100_000

#: Messages in a page and in a claim, so that traffic does not take all day.
PAGE = 100


@pytest.fixture(scope="session")
def least_rights(rabbitmq: RabbitMQ) -> str:
    """Address of the shared broker for a user without the right to declare or delete what is not the gateway's."""
    rabbitmq.ctl("add_user", USER, PASSWORD)
    rabbitmq.ctl("add_vhost", VHOST)
    for vhost in ("/", VHOST):
        rabbitmq.ctl("set_permissions", "-p", vhost, USER, r"^marconi[.-].*", ".*", ".*")
    rabbitmq.ctl("set_permissions", "-p", VHOST, "guest", ".*", ".*", ".*")
    return rabbitmq.uri.replace("guest:guest", f"{USER}:{PASSWORD}")


@pytest.fixture(scope="session")
def bridged_options(rabbitmq: RabbitMQ, mongodb: MongoDB, least_rights: str) -> Options:
    """Options of a gateway that may bridge the objects of these tests in both virtual hosts."""
    objects = [f"{kind}:{PREFIX}*" for kind in ("queue", "exchange")]
    return merge(
        COMMON,
        through(rabbitmq),
        beside(mongodb, "bridged"),
        {
            "bridge": {"uri": least_rights},
            "bridging": {
                "allow": [f"* * {vhost} {name}" for vhost in ("/", VHOST) for name in objects],
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
def native_elsewhere(rabbitmq: RabbitMQ, least_rights: str) -> Iterator[Native]:
    """A native client of the second virtual host."""
    with pika.BlockingConnection(pika.URLParameters(rabbitmq.uri.replace("%2F", VHOST))) as connection:
        client = Native(connection)
        yield client
        client.clean()
