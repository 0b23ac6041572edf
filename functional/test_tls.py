"""TLS to RabbitMQ and MongoDB, with certificates made on the fly: what is good works, the rest is named by `check`."""

import datetime
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bridges.base import Envelope
from bridges.suite import consuming
from functional.api.helpers import bodies, claim, post
from functional.http import Api
from functional.installed import require
from functional.services.certificates import Authority, Pair
from functional.services.gateway import Gateway, Options, find_command, render
from functional.services.mongodb import MongoDB
from functional.services.rabbitmq import RabbitMQ
from functional.test_amqp_bridge import made, opened
from functional.wait import wait_until

#: Seconds that a server's certificate lives that is to expire: MongoDB does not start with one that has.
SHORT = 20

#: Seconds for `marconi check`: MongoDB's driver tries again until the timeout.
TIMEOUT = 3
CHECK_TIMEOUT = 60


@dataclass(frozen=True)
class World:
    """Two authorities, and servers that trust the first one's clients."""

    own: Authority
    other: Authority
    client: Pair
    rabbitmq: RabbitMQ
    mongodb: MongoDB

    def options(self, ca: Path | None = None, client: Pair | None = None) -> dict[str, dict[str, Any]]:
        """What the gateway is configured with, in the best case."""
        ca, client = ca or self.own.file, client or self.client
        return {
            "bridge": {
                "uri": self.rabbitmq.tls_uri, "tls_ca_file": ca, "tls_cert_file": client.certificate,
                "tls_key_file": client.key, "timeout": TIMEOUT,
            },
            "side_store": {
                "uri": f"{self.mongodb.uri}&tls=true&tlsCAFile={ca}&tlsCertificateKeyFile={client.both}",
                "timeout": TIMEOUT,
            },
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("certificates")
    own, other = Authority(folder), Authority(folder, "other")
    server = own.sign("server")
    with (
        require(lambda: RabbitMQ((own.file, server))) as rabbitmq,
        require(lambda: MongoDB((own.file, server))) as mongodb,
    ):
        yield World(own, other, own.sign("client"), rabbitmq, mongodb)


def check(folder: Path, options: Options) -> dict[str, str]:
    """What `marconi check` says of the bridge and of the side-store."""
    file = folder / "check.conf"
    file.write_text(render(options))
    done = subprocess.run(
        [find_command(), "check", "--config-file", str(file)], capture_output=True, text=True, timeout=CHECK_TIMEOUT
    )
    assert "Traceback" not in done.stderr
    assert "guest:guest" not in done.stdout
    return {line[:15].strip(): line[16:] for line in done.stdout.splitlines()}


def test_messages_go_over_tls(world: World, start_gateway: Callable[..., Gateway], queue: str, tmp_path: Path) -> None:
    found = check(tmp_path, world.options())
    assert found["bridge"].startswith("ok") and found["side-store"].startswith("ok"), found
    api = Api(start_gateway(**world.options()).url)
    post(api, queue, "over TLS")
    assert bodies(claim(api, queue)[1]) == ["over TLS"]


def test_consumer_gets_and_settles_messages_over_tls(world: World) -> None:
    options = {
        name: str(value) if isinstance(value, Path) else value for name, value in world.options()["bridge"].items()
    }
    sent = [bytes([letter]) * (300 * 1024) for letter in b"abcdef"]
    with opened(**options) as bridge, made(bridge) as queue, consuming(bridge, 2, queue) as inbox:
        bridge.publish(queue, [Envelope(body) for body in sent])
        for number in range(len(sent)):
            inbox.consumer.settle(inbox.wait(number + 1)[number])
        assert [delivery.envelope.body for delivery in inbox.arrived()] == sent
        wait_until(lambda: bridge.depth(queue) == 0, SHORT, "all to be settled")


def assert_failed(found: dict[str, str], bridge: str, side_store: str) -> None:
    for part, text in (("bridge", bridge), ("side-store", side_store)):
        assert found[part].startswith("FAILED") and text in found[part], found[part]


def test_server_of_a_wrong_authority_is_refused(world: World, tmp_path: Path) -> None:
    found = check(tmp_path, world.options(ca=world.other.file))
    assert_failed(found, *["certificate verify failed: self-signed certificate in certificate chain"] * 2)


def test_check_of_the_server_can_be_switched_off(world: World, tmp_path: Path) -> None:
    options = world.options(ca=world.other.file)
    options["bridge"] |= {"tls_insecure": True, "uri": options["bridge"]["uri"].replace("127.0.0.1", "localhost")}
    assert check(tmp_path, options)["bridge"].startswith("ok")


def test_server_under_another_name_is_refused(world: World, tmp_path: Path) -> None:
    elsewhere = world.own.sign("elsewhere", address="127.0.0.2")
    with RabbitMQ((world.own.file, elsewhere)) as rabbitmq:
        options = World(world.own, world.other, world.client, rabbitmq, world.mongodb).options()
        assert "certificate is not valid for '127.0.0.1'" in check(tmp_path, options)["bridge"]


def test_client_of_a_wrong_authority_is_refused(world: World, tmp_path: Path) -> None:
    found = check(tmp_path, world.options(client=world.other.sign("foreign")))
    assert_failed(found, "", "connection closed")


def test_client_with_an_expired_certificate_is_refused(world: World, tmp_path: Path) -> None:
    expired = world.own.sign("expired", -datetime.timedelta(hours=1))
    found = check(tmp_path, world.options(client=expired))
    assert_failed(found, "certificate", "connection closed")


def test_client_without_a_certificate_is_refused(world: World, tmp_path: Path) -> None:
    options = world.options()
    del options["bridge"]["tls_cert_file"], options["bridge"]["tls_key_file"]
    options["side_store"]["uri"] = options["side_store"]["uri"].partition("&tlsCertificateKeyFile")[0]
    assert_failed(check(tmp_path, options), "certificate", "connection closed")


def test_client_without_tls_is_refused(world: World, tmp_path: Path) -> None:
    options = {"bridge": {"uri": world.rabbitmq.tls_uri.replace("amqps", "amqp"), "timeout": TIMEOUT},
               "side_store": {"uri": world.mongodb.uri, "timeout": TIMEOUT}}
    found = check(tmp_path, options)
    assert found["bridge"].startswith("FAILED") and found["side-store"].startswith("FAILED")


def test_server_without_tls_is_not_spoken_to(world: World, tmp_path: Path) -> None:
    options = world.options()
    options["bridge"]["uri"] = world.rabbitmq.uri.replace("amqp:", "amqps:")
    found = check(tmp_path, options)
    assert found["bridge"].startswith("FAILED") and "wrong version number" in found["bridge"]


def test_file_that_is_not_there_is_named(world: World, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    assert_failed(check(tmp_path, world.options(ca=missing)), f"tls_ca_file: [Errno 2] No such file or directory: "
                  f"'{missing}'", str(missing))


@pytest.mark.slow
def test_server_whose_certificate_expires_is_refused(world: World, tmp_path: Path) -> None:
    short = world.own.sign("short", datetime.timedelta(seconds=SHORT))
    ends = datetime.datetime.now() + datetime.timedelta(seconds=SHORT)
    with RabbitMQ((world.own.file, short)) as rabbitmq, MongoDB((world.own.file, short)) as mongodb:
        options = World(world.own, world.other, world.client, rabbitmq, mongodb).options()
        wait_until(lambda: datetime.datetime.now() > ends, SHORT + 5, "the certificate to expire")
        assert_failed(check(tmp_path, options), *["certificate verify failed: certificate has expired"] * 2)


@pytest.fixture(scope="module")
def external(world: World) -> Iterator[RabbitMQ]:
    """A broker that lets in who has a certificate of its authority with a user's name."""
    with RabbitMQ((world.own.file, world.own.sign("server")), external=True) as rabbitmq:
        rabbitmq.ctl("add_user", "client", "not-used")
        rabbitmq.ctl("clear_password", "client")
        rabbitmq.ctl("set_permissions", "client", ".*", ".*", ".*")
        yield rabbitmq


def by_certificate(world: World, rabbitmq: RabbitMQ, client: Pair | None = None) -> dict[str, dict[str, Any]]:
    options = World(world.own, world.other, client or world.client, rabbitmq, world.mongodb).options()
    options["bridge"] |= {"uri": f"amqps://127.0.0.1:{rabbitmq.tls_port}/", "login_method": "EXTERNAL"}
    return options


def test_login_by_certificate(
    world: World, external: RabbitMQ, start_gateway: Callable[..., Gateway], queue: str, tmp_path: Path
) -> None:
    options = by_certificate(world, external)
    assert check(tmp_path, options)["bridge"].startswith("ok")
    api = Api(start_gateway(**options).url)
    post(api, queue, "by certificate")
    assert bodies(claim(api, queue)[1]) == ["by certificate"]
    assert "client" in external.ctl("list_connections", "user")


def test_login_by_certificate_of_nobody(world: World, external: RabbitMQ, tmp_path: Path) -> None:
    found = check(tmp_path, by_certificate(world, external, world.own.sign("stranger")))["bridge"]
    assert found.startswith("FAILED") and "make a user of the name in the gateway's certificate" in found


def test_login_by_certificate_that_is_not_offered(world: World, tmp_path: Path) -> None:
    found = check(tmp_path, by_certificate(world, world.rabbitmq))["bridge"]
    assert found.startswith("FAILED") and "enable its plugin rabbitmq_auth_mechanism_ssl" in found
