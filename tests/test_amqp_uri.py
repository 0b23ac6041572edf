"""From `[bridge] uri` to what kombu connects with."""

import ssl
from pathlib import Path
from types import SimpleNamespace

import pytest
from kombu import Connection

from bridges.amqp.uri import broker_uris, tls_options
from bridges.errors import BridgeMisconfigured


def parts(uri: str) -> tuple[object, ...]:
    """Host, port, vhost, user and password as kombu reads them."""
    read = Connection(uri).info()
    return read["hostname"], read["port"], read["virtual_host"], read["userid"], read["password"]


@pytest.mark.parametrize(
    ("uri", "read"),
    [
        ("amqp://u:p@host:5673/vhost", ("host", 5673, "vhost", "u", "p")),
        ("amqp://u:p@host/", ("host", 5672, "/", "u", "p")),
        ("amqp://u:p@host", ("host", 5672, "/", "u", "p")),
        ("amqp://u:p@host/%2F", ("host", 5672, "/", "u", "p")),
        ("amqp://u:p@host/a%2Fb", ("host", 5672, "a/b", "u", "p")),
        ("amqp://u:p%40%3A%2F@host/v", ("host", 5672, "v", "u", "p@:/")),
        ("amqp://u:a:b@host/v", ("host", 5672, "v", "u", "a:b")),
        ("amqp://u:p@[::1]:5673/v", ("::1", 5673, "v", "u", "p")),
    ],
)
def test_uri_is_read_as_written(uri: str, read: tuple[object, ...]) -> None:
    (own,) = broker_uris(uri, [])
    assert parts(own) == read


def test_tls_has_its_own_transport() -> None:
    (own,) = broker_uris("amqps://u:p@host/v", [])
    assert Connection(own).info()["transport"] == "amqps"
    assert Connection(own).info()["port"] == 5671


def test_several_brokers_share_credentials_and_vhost() -> None:
    uris = broker_uris("amqp://u:p@a:1,b:2/v", ["c:3", " d "])
    assert [parts(uri) for uri in uris] == [
        ("a", 1, "v", "u", "p"), ("b", 2, "v", "u", "p"), ("c", 3, "v", "u", "p"), ("d", 5672, "v", "u", "p"),
    ]


@pytest.mark.parametrize(
    "uri",
    ["amqp:", "amqp://", "amqp:///vhost", "http://host", "amqp://host?heartbeat=3", "amqp://host:port/",
     "amqp://host:99999/", "amqp://a,,b/", "amqp://u:p@/", "amqp://[::1/"],
)
def test_what_cannot_be_connected_to_is_refused(uri: str) -> None:
    with pytest.raises(BridgeMisconfigured, match=r"\[bridge\] uri"):
        broker_uris(uri, [])


def test_further_host_that_is_none_is_refused() -> None:
    with pytest.raises(BridgeMisconfigured, match="port"):
        broker_uris("amqp://host", ["other:port"])


@pytest.mark.parametrize("uri", ["amqp://user:secret/more@host/v", "amqp://user:secret#more@host/v"])
def test_complaint_does_not_show_a_password_that_should_have_been_escaped(uri: str) -> None:
    with pytest.raises(BridgeMisconfigured) as caught:
        broker_uris(uri, [])
    assert "secret" not in str(caught.value)


def tls(**changed: object) -> dict[str, object]:
    defaults = {"tls_ca_file": None, "tls_cert_file": None, "tls_key_file": None, "tls_insecure": False}
    return tls_options(SimpleNamespace(**defaults | changed))


def test_certificate_and_name_of_the_broker_are_checked() -> None:
    assert tls()["cert_reqs"] == ssl.CERT_REQUIRED
    assert "server_hostname" in tls()  # py-amqp checks the name when it has one; kombu fills it in


def test_check_can_be_switched_off() -> None:
    assert tls(tls_insecure=True) == {"cert_reqs": ssl.CERT_NONE}


def test_files_are_passed_on(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("ca.pem", "cert.pem", "key.pem")]
    for file in files:
        Path(file).touch()
    options = tls(tls_ca_file=files[0], tls_cert_file=files[1], tls_key_file=files[2])
    assert [options["ca_certs"], options["certfile"], options["keyfile"]] == files


@pytest.mark.parametrize("option", ["tls_ca_file", "tls_cert_file", "tls_key_file"])
def test_file_that_can_not_be_read_is_named(option: str) -> None:
    with pytest.raises(BridgeMisconfigured, match=rf"\[bridge\] {option}.*'/none.pem'"):
        tls(**{option: "/none.pem"})
