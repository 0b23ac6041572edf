"""One Keystone and one gateway for all of these tests, with a user for each role."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from functional.deployments import embedded
from functional.http import Api
from functional.installed import require
from functional.services.gateway import Gateway, Options, merge
from functional.services.keystone import Keystone
from functional.services.openstack_client import OpenStackClient

PASSWORD = "a password of the functional tests"

#: Users of the project `shop`, who are called like their roles; `guest` has a role that says nothing.
ROLES = ("reader", "member", "admin", "guest")


@dataclass(frozen=True)
class Cloud:
    """Keystone, the gateway in its catalogue, two projects."""

    keystone: Keystone
    gateway: Gateway
    options: Options
    shop: str
    bank: str

    def token(self, user: str, project: str | None = "shop") -> str:
        """A new token."""
        return self.keystone.token(user, PASSWORD, project)

    def headers(self, user: str, project: str | None = "shop") -> dict[str, str | None]:
        """What a client sends for a user: a token and no project."""
        return {"X-Auth-Token": self.token(user, project), "X-Project-ID": None}


@pytest.fixture(scope="session")
def keystone() -> Iterator[Keystone]:
    with require(Keystone) as service:
        yield service


@pytest.fixture(scope="session")
def cloud(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The running cloud: leave it running."""
    options = merge(
        embedded(tmp_path_factory.mktemp("identity")), keystone.gateway_options(), {"DEFAULT": {"debug": True}}
    )
    gateway = require(lambda: Gateway(options))
    keystone.add_gateway(gateway.url)
    shop, bank = keystone.add_project("shop"), keystone.add_project("bank")
    for role in ROLES:
        keystone.add_user(role, PASSWORD, shop, role)
    keystone.add_user("banker", PASSWORD, bank, "member")
    with gateway:
        yield Cloud(keystone, gateway, options, shop, bank)


@pytest.fixture(scope="session")
def command_line() -> Iterator[OpenStackClient]:
    """The program `openstack`."""
    with OpenStackClient() as client:
        yield client


@pytest.fixture
def api(cloud: Cloud) -> Iterator[Api]:
    """A client of the gateway that knows its project, and has no token."""
    client = Api(cloud.gateway.url, cloud.shop)
    yield client
    client.close()


@pytest.fixture(scope="session")
def tokens(cloud: Cloud) -> dict[str, str]:
    """A token for each role, and none for nobody else."""
    return {role: cloud.token(role) for role in ROLES}


@pytest.fixture
def another_gateway(cloud: Cloud, tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Start gateways with the same Keystone and other options: `another_gateway(keystone_authtoken={…})`."""
    started: list[Gateway] = []

    def start(**sections: dict[str, object]) -> Gateway:
        started.append(Gateway(merge(cloud.options, sections)))
        return started[-1].start()

    yield start
    for gateway in started:
        gateway.close()
