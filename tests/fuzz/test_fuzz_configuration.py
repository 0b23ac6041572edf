"""What operators write, by accident or as they were told: URIs, users, rules and keys. And who sends which password."""

import base64
import contextlib
import io
import logging
import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import bcrypt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridges.amqp.uri import read_uri
from bridges.bridging import parse
from bridges.errors import BridgeError, BridgeMisconfigured
from gateway.access.auth.base import Unauthenticated
from gateway.access.auth.basic import BasicAuth, read_users
from gateway.config.drivers import BRIDGES, SIDE_STORES, UnknownScheme, create_driver, driver_classes
from gateway.core.errors import Forbidden
from gateway.core.foreign.access import AccessRules
from gateway.core.seal import read_key
from gateway.observe.masking import without_password
from gateway.web.errors import answer
from storage.errors import StoreError, StoreMisconfigured
from storage.mongodb import MongoDBStore
from storage.sqlite import SQLiteStore
from tests.fuzz.fuzzing import fuzzed, headers, near, parsed, texts

#: What must be nowhere, in spellings that are not good URIs too.
SECRET = "hunter2-secret"

#: A URI's pieces in any order.
pieces = st.lists(
    st.sampled_from([
        "amqp", "amqps", "mongodb", "sqlite", "://", "/", "//", ":", "@", "[", "]", "::1", "%", "%zz", "%2F", ",", "?",
        "&", "=", "#", " ", "host", "user", "5672", "99999", "-1", "db", "a.b", "$x", "replicaSet", "tls", "timeoutMS",
        "\u2100", "\n", "\0",
    ]) | texts,
    max_size=10,
).map("".join)


def uris(scheme: str) -> st.SearchStrategy[str]:
    return pieces.map(lambda text: f"{scheme}://{text}") | pieces


@fuzzed
@given(uris("amqp"), st.lists(pieces, max_size=2))
def test_broker_uri_is_understood_or_refused(uri: str, hosts: list[str]) -> None:
    try:
        target = read_uri(uri, hosts)
    except BridgeMisconfigured:
        return
    for broker in target.brokers:
        assert broker.host.encode("idna") and 0 < broker.port < 2**16


@fuzzed
@given(texts, texts, texts)
def test_what_is_escaped_arrives_as_it_was(user: str, password: str, vhost: str) -> None:
    parts = [part.encode("utf-8", "replace").decode().replace("\0", "") for part in (f"u{user}", password, vhost[:60])]
    target = read_uri("amqp://{}:{}@host/{}".format(*(quote(part, safe="") for part in parts)))
    assert [target.user, target.password, target.vhost] == [parts[0], parts[1], parts[2] or "/"]


@pytest.mark.parametrize("address", ["h/x", "user:secret@h", "h?a=b", "h#a", "", ":5672", "h:port"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(BridgeMisconfigured) as refused:
        read_uri("amqp://host/", [address])
    assert "secret" not in str(refused.value)


@fuzzed
@given(uris("mongodb").filter(lambda uri: "+srv" not in uri))
def test_mongodb_uri_is_understood_or_refused(uri: str) -> None:
    with contextlib.suppress(StoreMisconfigured):
        MongoDBStore(uri, SimpleNamespace(timeout=1.0, max_pool_size=1, direct=True)).close()


@fuzzed
@given(uris("sqlite"))
def test_sqlite_uri_is_understood_or_refused(uri: str) -> None:
    with contextlib.suppress(StoreMisconfigured):
        SQLiteStore(uri, SimpleNamespace(timeout=1.0)).close()


@fuzzed
@given(
    st.sampled_from(["amqp", "amqps", "mongodb", "sqlite"]), pieces, pieces, pieces,
    st.sampled_from(["host", "host:port", "host/a.b", "[::1", "h:99999/db", "\u2100", "h/?w=x&tls=maybe", "h?a=b"]),
)
@example("mongodb", "", "", "%", "host")
@example("mongodb", "", "://", "", "host")
def test_no_complaint_about_a_uri_shows_its_password(scheme: str, user: str, one: str, other: str, host: str) -> None:
    uri = f"{scheme}://{user}:{one}{SECRET}{other}@{host}"
    try:
        if scheme == "mongodb":
            MongoDBStore(uri, SimpleNamespace(timeout=1.0, max_pool_size=1, direct=True)).close()
        elif scheme == "sqlite":
            SQLiteStore(uri, SimpleNamespace(timeout=1.0)).close()
        else:
            read_uri(uri)
    except (BridgeMisconfigured, StoreMisconfigured) as error:
        assert SECRET not in without_password(str(error))


@pytest.mark.parametrize("uri", [
    f"amqp://user:{SECRET}@host/", f"amqp://user:{SECRET} {SECRET}@host/", f"amqp://us/er:{SECRET}@host/",
    f"amqp://user:{SECRET}//@host/", f"amqp://user:x://{SECRET}@host/", f"amqp://user:a@{SECRET}@host:port/",
    f"mongodb://user:{SECRET}@a,b/db?tls=true", f"sqlite://user:{SECRET}@host/x", f"amqp://:{SECRET}@host",
    f"mongodb://h/db?tls=true&tlsCertificateKeyFilePassword={SECRET}&w=1",
    f"mongodb://h/db?authMechanismProperties=AWS_SESSION_TOKEN:{SECRET}",
    f"http://h/v2/queues/q/messages?limit=1&url_signature={SECRET}&url_methods=GET",
])
def test_secrets_in_uris_are_masked(uri: str) -> None:
    assert SECRET not in without_password(f"[side_store] uri: {uri!r} is wrong")
    assert SECRET not in without_password(f"{uri}: {uri}")


@fuzzed
@given(texts, texts)
def test_a_password_is_masked_wherever_it_stands(before: str, password: str) -> None:
    uri = f"amqp://user:{quote(password.encode('utf-8', 'replace'), safe='')}{SECRET}@host:5672/v"
    assert SECRET not in without_password(f"{before} {uri}: {before}")


#: Passwords that no word of ours has in it, with every character that means something to somebody.
passwords = st.text("ZXQ;:$%#?/@&=+ ,[]{}<>()!*'\"\\^~|`\u00e9\u4e2d\u2028", min_size=4, max_size=24).filter(
    lambda text: len(re.findall("[ZXQ\u00e9\u4e2d]", text)) >= 3
)


def pieces_of(password: str) -> list[str]:
    """Of a password what is long enough not to be somewhere by chance."""
    return [piece for piece in [password, *re.split(r"[^ZXQ\u00e9\u4e2d]+", password)] if len(piece) >= 3]


@fuzzed
@given(
    st.sampled_from(["amqp", "amqps", "mongodb", "sqlite", "loopback", "redis", ""]), passwords, st.booleans(),
    st.sampled_from(["127.0.0.1:9/v", "h:port/v", "[::1/v", "127.0.0.1:9/?tls=x", "127.0.0.1:9/?a=b", "", "h/a.b"]),
)
@example("amqp", "QQQ0;ZZZ9", False, "127.0.0.1:9/v")
@example("mongodb", "QQQ?ZZZ=XXX", False, "127.0.0.1:9/v")
def test_no_piece_of_a_password_is_in_errors_logs_or_warnings(
    scheme: str, password: str, escaped: bool, rest: str
) -> None:
    """What the commands say of a broker or store that can't be used, and what the logs have of a call to it."""
    written = quote(password, safe="") if escaped else password
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            for group in (BRIDGES, SIDE_STORES):
                all_options = [option for kind in driver_classes(group) for option in kind.OPTS]
                options = SimpleNamespace(**{option.dest: option.default for option in all_options})
                options.timeout = 0.1
                try:
                    driver = create_driver(group, f"{scheme}://user:{written}@{rest}", options)
                except (BridgeError, StoreError, UnknownScheme) as error:
                    said.write(f"{error}\n")
                    logging.getLogger("test").error("x", exc_info=error)
                    continue
                said.write(driver.describe() + repr(driver))
                try:
                    driver.ping()
                except (BridgeError, StoreError) as error:
                    answer(error)
                    said.write(f"{error!r}\n")
                    logging.getLogger("test").error("x", exc_info=error)
                finally:
                    driver.close()
    finally:
        logging.getLogger().removeHandler(handler)
    text = said.getvalue() + "".join(str(warning.message) for warning in warned)
    # Source lines of tracebacks are no secrets; values are.
    assert [piece for piece in pieces_of(password) if piece in text] == []


hashes = st.from_regex(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}", fullmatch=True)
lines = st.lists(st.sampled_from([":", "#", " ", "\t", "alice", "shop"]) | texts | hashes, max_size=6).map("".join)


@fuzzed
@given(st.lists(near(st.tuples(texts, hashes, texts).map(":".join), lines), max_size=3), st.binary(max_size=20))
def test_users_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: list[str], junk: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "users"
    file.write_bytes("\n".join(text).encode("utf-8", "surrogatepass") + b"\n" + junk)
    try:
        users = read_users(str(file))
    except ValueError:
        return
    assert all(user.project.isprintable() and 0 < len(user.project) <= 256 for user in users.values())


@pytest.mark.parametrize("project", ["\0health", "a\x85b", "a\u2028b", "p" * 257])
def test_a_project_that_can_not_be_written_is_refused(tmp_path: Path, project: str) -> None:
    (tmp_path / "users").write_bytes(f"alice:{RIGHT}:{project}\n".encode())
    with pytest.raises(ValueError, match="line 1: a project"):
        read_users(str(tmp_path / "users"))


def basic(file: Path) -> BasicAuth:
    return BasicAuth(SimpleNamespace(
        basic=SimpleNamespace(htpasswd_file=str(file)), wsgi=SimpleNamespace(threads=8)
    ))


RIGHT = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()


@pytest.fixture(scope="module")
def auth(tmp_path_factory: pytest.TempPathFactory) -> BasicAuth:
    file = tmp_path_factory.mktemp("basic") / "users"
    # What looks like a hash and is none must not break the answer.
    file.write_text(f"alice:{RIGHT}:shop\nbroken:$2b$99${'a' * 53}\nstrange:$2b$04${'9' * 53}\n")
    return basic(file)


credentials = st.one_of(
    st.binary(max_size=100),
    st.tuples(st.sampled_from(["alice", "broken", "strange", "ALICE", "alice\0", ""]), texts).map(
        lambda pair: ":".join(pair).encode("utf-8", "surrogatepass")
    ),
)


@fuzzed
@given(
    headers | st.tuples(st.sampled_from(["Basic ", "basic  ", "Bearer "]), credentials).map(
        lambda pair: pair[0] + base64.b64encode(pair[1]).decode()
    )
)
def test_credentials_are_right_or_refused(auth: BasicAuth, header: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        auth.identify({"HTTP_AUTHORIZATION": header})
    assert refused.value.challenge.isprintable()


def test_right_credentials_are_right(auth: BasicAuth) -> None:
    header = f"Basic {base64.b64encode(b'alice:right').decode()}"
    assert auth.identify({"HTTP_AUTHORIZATION": header}).project == "shop"


@fuzzed
@given(texts)
def test_an_encryption_key_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert len(read_key(text)) == 32


@fuzzed
@given(st.lists(texts, max_size=3), st.sampled_from(["", "marconi.p.q", "marconi-x", "amq.topic"]), texts)
def test_no_rule_opens_what_is_reserved(rules: list[str], reserved: str, project: str) -> None:
    try:
        access = AccessRules([*rules, "* * * *"], admin_mode=True)
    except ValueError:
        return
    name = reserved or "marconi."
    for value in (
        {"source": {"queue": name}}, {"source": {"exchange": name, "type": "fanout"}},
        {"target": {"exchange": name}}, {"target": {"exchange": "", "routing_key": name}},
    ):
        with pytest.raises(Forbidden):
            access.check(project, ("admin",), "/", parse(value).uses())


source = st.fixed_dictionaries({}, optional={
    "queue": near(st.text(max_size=10), parsed), "exchange": near(st.text(max_size=10), parsed),
    "type": near(st.sampled_from(["topic", "headers", "fanout", "direct"]), parsed),
    "binding_keys": near(st.lists(st.text(max_size=5), max_size=3), parsed), "vhost": near(st.text(max_size=5), parsed),
    "arguments": near(st.dictionaries(st.text(max_size=5), parsed, max_size=2), parsed),
})
target = st.fixed_dictionaries({}, optional={
    "exchange": near(st.text(max_size=10), parsed), "routing_key": near(st.text(max_size=10), parsed),
    "unroutable": near(st.sampled_from(["reject", "accept"]), parsed), "vhost": parsed,
})
bridge = st.fixed_dictionaries({}, optional={
    "source": near(source, parsed), "target": near(target, parsed), "properties": near(st.booleans(), parsed),
    "format": near(st.sampled_from(["json", "oslo"]), parsed), "landing": near(st.booleans(), parsed),
})


@fuzzed
@given(near(bridge, parsed))
def test_a_bridge_is_understood_or_refused(value: Any) -> None:
    try:
        parse(value)
    except ValueError as error:
        assert str(error)
