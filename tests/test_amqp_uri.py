"""From `[bridge] uri` to what py-amqp connects with."""

import ssl
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch
from urllib.parse import quote

import pytest
from amqp.transport import to_host_port
from cryptography.hazmat.primitives import serialization

from bridges.amqp.uri import check_login, connection, read_uri
from bridges.errors import BridgeMisconfigured
from bridges.tls import tls_options
from functional.services.certificates import Authority

OPTIONS = SimpleNamespace(timeout=1.0, heartbeat=30, tls_insecure=False, login_method="PLAIN")


def parts(uri: str, hosts: list[str] | None = None) -> list[tuple[object, ...]]:
    """Host, port, vhost, user and password as py-amqp has them when it connects, for each broker."""
    target = read_uri(uri, hosts or [])
    found = []
    with patch("kombu.transport.pyamqp.Connection.connect"):
        for broker in target.brokers:
            own = connection(target, broker, OPTIONS, {} if target.tls else None)
            made = own.transport.establish_connection()
            (login,) = made.authentication
            found.append((*to_host_port(made.host), made.virtual_host, login.username, login.password))
    return found


#: User, password and vhost that mean something to somebody: kombu, urllib, oslo.config, URIs, shells.
HOSTILE = [
    "Tr0ub4dor;99", "a;b;amqp://c", "$HOME", "$$", "50%", "%41", "a#b", "a?b=c", "a b", " a ", "p\u00e4ss",
    "\U0001f600", "a@b", "a:b", "a/b", "a//b", "[x]", "a,b", "'\"\\", "a+b", "://", "&=", "*", "~", "", "{}", "guest;",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_every_character_arrives_as_it_was_meant(text: str) -> None:
    part = quote(text, safe="")
    assert parts(f"amqp://u{part}:{part}@host/{part}") == [("host", 5672, text or "/", f"u{text}", text)]


@pytest.mark.parametrize(
    "text", ["Tr0ub4dor;99", "$HOME", "a b", "p\u00e4ss", "a@b", "a:b", "[x]", "a,b", "a+b", "&=", ""]
)
def test_what_can_be_told_apart_need_not_be_escaped(text: str) -> None:
    assert parts(f"amqp://u:{text}@host/v") == [("host", 5672, "v", "u", text)]


@pytest.mark.parametrize(
    ("uri", "read"),
    [
        ("amqp://u:p@host:5673/vhost", ("host", 5673, "vhost", "u", "p")),
        ("amqp://u:p@host/", ("host", 5672, "/", "u", "p")),
        ("amqp://u:p@host", ("host", 5672, "/", "u", "p")),
        ("amqp://u:p@host/%2F", ("host", 5672, "/", "u", "p")),
        ("amqp://u:p@host/%2Fa", ("host", 5672, "/a", "u", "p")),
        ("amqp://u:p@host/a%2Fb", ("host", 5672, "a/b", "u", "p")),
        ("amqp://u:p@host/a/b", ("host", 5672, "a/b", "u", "p")),
        ("amqp://u:p%40%3A%2F@host/v", ("host", 5672, "v", "u", "p@:/")),
        ("amqp://u:a:b@host/v", ("host", 5672, "v", "u", "a:b")),
        ("amqp://u:p@[::1]:5673/v", ("::1", 5673, "v", "u", "p")),
        ("amqp://u:p@[2001:DB8::1]/v", ("2001:db8::1", 5672, "v", "u", "p")),
        ("amqp://u:p@[fe80::1%25eth0]:1/v", ("fe80::1%eth0", 1, "v", "u", "p")),
        ("amqp://u:p@localhost/v", ("localhost", 5672, "v", "u", "p")),
        ("amqp://u:p@b\u00fccher.example/v", ("b\u00fccher.example", 5672, "v", "u", "p")),
        ("amqp://host/v", ("host", 5672, "v", "guest", "guest")),
        ("amqp://u@host/v", ("host", 5672, "v", "u", "")),  # never a password that nobody has written
        ("amqps://u:p@host/v", ("host", 5671, "v", "u", "p")),
    ],
)
def test_uri_is_read_as_written(uri: str, read: tuple[object, ...]) -> None:
    assert parts(uri) == [read]


def test_several_brokers_share_credentials_and_vhost() -> None:
    assert parts("amqp://u:p;@a:1,[::2]:2/v", ["c:3", " d "]) == [
        ("a", 1, "v", "u", "p;"), ("::2", 2, "v", "u", "p;"), ("c", 3, "v", "u", "p;"), ("d", 5672, "v", "u", "p;"),
    ]


def test_certificate_of_each_broker_is_checked_for_its_own_name() -> None:
    target, tls = read_uri("amqps://a,b/"), {"cert_reqs": ssl.CERT_REQUIRED}
    with patch("kombu.transport.pyamqp.Connection.connect"):
        names = [
            connection(target, broker, OPTIONS, tls).transport.establish_connection().ssl["server_hostname"]
            for broker in target.brokers
        ]
    assert names == ["a", "b"]


def test_description_has_no_user_and_no_password() -> None:
    target = read_uri("amqps://u5er:s3cret@a,[::1]:2/v%2Fw")
    assert str(target) == "amqps://a:5671,[::1]:2/v%2Fw"
    assert "s3cret" not in repr(target)


@pytest.mark.parametrize(
    "uri",
    ["amqp:", "amqp://", "amqp:///vhost", "http://host", "amqp://host?heartbeat=3", "amqp://host:port/",
     "amqp://host:99999/", "amqp://a,,b/", "amqp://u:p@/", "amqp://[::1/", "amqp://host:0/", "amqp://h#x",
     "amqp://:p@host/", "amqp://@host/", "amqp://u:50%@host/", "amqp://u:%zz@host/", "amqp://u:%ff@host/",
     "amqp://u:%00@host/", "amqp://u:p@host/%00", "amqp://u:a\nb@host/", "amqp://u:a\tb@host/", "amqp://u:p/x@host/v",
     "amqp://u:1/x@host/v", "amqp://u:p@x/y@host/v", "amqp://a..b/", "amqp://" + "a" * 64 + "/", "amqp://[::z]/",
     "amqp://h o/", "amqp://h;x/", "amqp://h\u00a0/", "amqp://::1/", "amqp://h:\u0665/", "AMQP://host/",
     "amqp://host/" + "v" * 256, "amqp://host/" + "%C3%BC" * 128],
)
def test_what_cannot_be_connected_to_is_refused(uri: str) -> None:
    with pytest.raises(BridgeMisconfigured, match=r"\[bridge\] uri"):
        read_uri(uri)


def test_further_host_that_is_none_is_refused() -> None:
    with pytest.raises(BridgeMisconfigured, match="port"):
        read_uri("amqp://host", ["other:port"])


@pytest.mark.parametrize("uri", ["amqp://user:secret/more@host/v", "amqp://user:secret#more@host/v"])
def test_complaint_does_not_show_a_password_that_should_have_been_escaped(uri: str) -> None:
    with pytest.raises(BridgeMisconfigured) as caught:
        read_uri(uri)
    assert "secret" not in str(caught.value)


def tls(**changed: object) -> dict[str, object]:
    defaults = {"tls_ca_file": None, "tls_cert_file": None, "tls_key_file": None, "tls_insecure": False}
    return tls_options(SimpleNamespace(**defaults | changed))


def test_certificate_is_checked() -> None:
    assert tls()["cert_reqs"] == ssl.CERT_REQUIRED


def test_check_can_be_switched_off() -> None:
    assert tls(tls_insecure=True) == {"cert_reqs": ssl.CERT_NONE}
    options = SimpleNamespace(**vars(OPTIONS) | {"tls_insecure": True})
    target = read_uri("amqps://host/")
    with patch("kombu.transport.pyamqp.Connection.connect"):
        made = connection(target, target.brokers[0], options, tls(tls_insecure=True)).transport.establish_connection()
    assert made.ssl == {"cert_reqs": ssl.CERT_NONE}


def test_files_are_passed_on(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign("client")
    options = tls(tls_ca_file=authority.file, tls_cert_file=pair.certificate, tls_key_file=pair.key)
    assert [options["ca_certs"], options["certfile"], options["keyfile"]] == [
        authority.file, pair.certificate, pair.key,
    ]
    tls(tls_cert_file=pair.both)


@pytest.mark.parametrize("option", ["tls_ca_file", "tls_cert_file", "tls_key_file"])
def test_file_that_can_not_be_read_is_named(option: str) -> None:
    with pytest.raises(BridgeMisconfigured, match=rf"\[bridge\] {option}.*'/none.pem'"):
        tls(**{option: "/none.pem"})


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, other = authority.sign("one"), authority.sign("other")
    empty = tmp_path / "empty"
    empty.touch()
    locked = tmp_path / "locked"
    key = serialization.load_pem_private_key(one.key.read_bytes(), None)
    locked.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"hush")
    ))
    for message, files in (
        ("tls_ca_file", {"tls_ca_file": empty}),
        ("tls_cert_file", {"tls_cert_file": empty, "tls_key_file": one.key}),
        ("tls_cert_file", {"tls_cert_file": one.certificate, "tls_key_file": other.key}),
        ("tls_cert_file", {"tls_cert_file": one.certificate}),
        ("passphrase", {"tls_cert_file": one.certificate, "tls_key_file": locked}),
        ("without tls_cert_file", {"tls_key_file": one.key}),
    ):
        with pytest.raises(BridgeMisconfigured, match=message):
            tls(**files)


@pytest.mark.parametrize(
    ("uri", "certificate", "complaint"),
    [("amqp://host/", "/client.pem", "amqps://"), ("amqps://host/", None, "tls_cert_file is not set")],
)
def test_login_by_certificate_needs_one_and_tls(uri: str, certificate: str | None, complaint: str) -> None:
    with pytest.raises(BridgeMisconfigured, match=complaint):
        check_login(SimpleNamespace(login_method="EXTERNAL", tls_cert_file=certificate), read_uri(uri))


def test_login_by_certificate_sends_neither_user_nor_password() -> None:
    options = SimpleNamespace(**vars(OPTIONS) | {"login_method": "EXTERNAL"})
    target = read_uri("amqps://host/")
    with patch("kombu.transport.pyamqp.Connection.connect"):
        made = connection(target, target.brokers[0], options, {}).transport.establish_connection()
    assert [login.mechanism for login in made.authentication] == [b"EXTERNAL"]
    assert made.authentication[0].start(made) == b""
