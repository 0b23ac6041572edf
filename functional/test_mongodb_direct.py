"""Commands straight to MongoDB's primary: that they are used, and that nothing is lost without them."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient

from functional.commands import watched_directly
from functional.earlier import adopted
from functional.installed import require
from functional.services.certificates import Authority, Pair
from functional.services.mongodb import MongoDB
from functional.services.ports import free_port
from storage.errors import StoreUnavailable
from storage.model import Message
from storage.mongodb import MongoDBStore
from storage.mongodb.direct.wire import Connection
from storage.suite import add, new, new_claim, take

TIMEOUT = 5.0


@pytest.fixture
def open_store() -> Iterator[Callable[..., MongoDBStore]]:
    """Open stores that are closed after the test."""
    opened: list[MongoDBStore] = []

    def open_(uri: str, direct: bool = True) -> MongoDBStore:
        opened.append(MongoDBStore(uri, SimpleNamespace(timeout=TIMEOUT, max_pool_size=8, direct=direct)))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def store(mongodb: MongoDB, open_store: Callable[..., MongoDBStore]) -> MongoDBStore:
    store = open_store(mongodb.database_uri(f"direct_{uuid4().hex}"))
    adopted(store, "p/q")
    return store


@pytest.fixture
def direct() -> Iterator[list[str]]:
    """The names of the commands that went straight to the primary."""
    names: list[str] = []
    with watched_directly(lambda document: names.append(next(iter(document)))):
        yield names


def numbered(store: MongoDBStore, *ids: str, **fields: Any) -> list[Message]:
    """Messages with positions, as they are landed."""
    start = store.now() << 10
    return [new(store, id_, seq=start + place, **fields) for place, id_ in enumerate(ids)]


def use(store: MongoDBStore) -> None:
    """Land, look, list and delete."""
    messages = numbered(store, "a", "b")
    assert store.landed.land("p/q", messages, seen=time.monotonic()) == set()
    found, _ = store.landed.find_free("p/q", 10)
    assert [message.id for message in found] == ["a", "b"]
    assert [message.id for message in store.landed.list_messages("p/q", 0, 10)] == ["a", "b"]
    assert store.landed.delete_unclaimed("p/q", ["a"]) == 1
    assert store.landed.delete_unclaimed("p/q", ["a", "b"]) == 1


def test_hot_commands_go_straight_to_the_primary(store: MongoDBStore, direct: list[str]) -> None:
    use(store)
    assert direct == ["hello", "insert", "find", "find", "delete", "delete"]
    assert store._database.direct.open == 1


def test_one_page_may_be_more_than_one_answer(store: MongoDBStore, direct: list[str]) -> None:
    body = b'"' + b"x" * 2_000_000 + b'"'
    for number in range(20):
        add(store, "p/q", f"m{number:02}", body=body)
    store.landed.find_free("p/q", 1)
    direct.clear()
    page = store.landed.list_messages("p/q", 0, 20)
    assert [message.id for message in page] == [f"m{number:02}" for number in range(20)]
    assert all(message.body == body for message in page)
    assert direct == ["find", "getMore", "getMore"]


def test_large_batches_are_landed(store: MongoDBStore, direct: list[str]) -> None:
    messages = numbered(store, *(f"m{number}" for number in range(30)), body=b'"' + b"x" * 2_000_000 + b'"')
    assert store.landed.land("p/q", messages) == set()
    assert "insert" not in direct
    assert len(store.landed.list_messages("p/q", 0, 100)) == 30


@pytest.mark.parametrize("straight", [True, False])
def test_deletes_of_several_requests_are_one_command_with_and_without_it(
    mongodb: MongoDB, open_store: Callable[..., MongoDBStore], direct: list[str], straight: bool
) -> None:
    store = open_store(mongodb.database_uri(f"direct_{uuid4().hex}"), straight)
    adopted(store, "p/q")
    store.landed.land("p/q", numbered(store, "a", "b", "c"), seen=time.monotonic())
    direct.clear()
    assert store._database.delete_each([{"_id": f"p/q/{id_}"} for id_ in ("a", "gone", "c")]) == 2
    assert direct == (["delete"] if straight else [])
    assert [message.id for message in store.landed.list_messages("p/q", 0, 10)] == ["b"]


@pytest.mark.parametrize("known", [True, False])
def test_broken_connections_fail_no_call(store: MongoDBStore, direct: list[str], known: bool) -> None:
    use(store)
    for connection in store._database.direct.connections._idle:
        connection._socket.close() if known else connection._socket.shutdown(2)
        connection.used = float("inf")  # a moment ago
    use(store)
    direct.clear()
    use(store)
    assert direct[-5:] == ["insert", "find", "find", "delete", "delete"]


def test_connection_that_was_closed_while_it_idled_is_not_used(store: MongoDBStore, direct: list[str]) -> None:
    use(store)
    for connection in store._database.direct.connections._idle:
        connection._socket.shutdown(2)
        connection.used = float("-inf")
    direct.clear()
    use(store)
    assert direct[:2] == ["hello", "insert"]
    assert store._database.direct.open == 1


def test_primary_that_has_gone_is_not_asked(store: MongoDBStore, direct: list[str]) -> None:
    use(store)
    client, address = store._database.direct.connections._client, store._database.direct.connections._primary
    for primary in (None, ("127.0.0.1", free_port()), address):
        direct.clear()
        store._database.direct.connections._client = SimpleNamespace(primary=primary)  # type: ignore[assignment]
        store._database.direct.connections._looked = store._database.direct.connections._paused_until = float("-inf")
        use(store)
        assert (direct == []) is (primary != address)
        assert store._database.direct.open == (1 if primary == address else 0)
    store._database.direct.connections._client = client


def lose_answer(
    monkeypatch: pytest.MonkeyPatch, name: str, times: int = 1, meanwhile: Callable[[], Any] = lambda: None
) -> None:
    """Let the server do the next command of this name, and lose its answer."""
    command = Connection.command
    lost: list[str] = []

    def sent(connection: Connection, document: Mapping[str, Any]) -> dict[str, Any]:
        answer = command(connection, document)
        if next(iter(document)) == name and len(lost) < times:
            lost.append(name)
            meanwhile()
            raise ConnectionResetError("the answer is lost")
        return answer

    monkeypatch.setattr(Connection, "command", sent)


def test_landing_whose_answer_is_lost_has_landed_once(store: MongoDBStore, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = new_claim(store)
    messages = numbered(store, "a", "b")
    for message in messages:
        message.hidden_until, message.claim, message.claim_ttl = claim.expires, claim.id, claim.ttl
    lose_answer(monkeypatch, "insert")
    assert store.landed.land("p/q", messages) == set(), "they are this claim's, whatever became of the answer"
    assert [message.id for message in store.landed.get_claim("p/q", claim.id)] == ["a", "b"]


def test_landing_whose_answer_is_lost_does_not_bring_back_what_was_deleted(
    store: MongoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody claims and deletes a message before the landing is tried again."""
    lose_answer(monkeypatch, "insert", meanwhile=lambda: store._database.messages.delete_one({"_id": "p/q/a"}))
    assert store.landed.land("p/q", numbered(store, "a", "b")) == set()
    assert [message.id for message in store.landed.list_messages("p/q", 0, 10)] == ["b"]


def test_landing_is_not_tried_again_by_the_driver(store: MongoDBStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the second connection breaks too, the outcome is unknown: that is what the caller gets to know."""
    lose_answer(monkeypatch, "insert", times=2)
    monkeypatch.setattr(store.landed, "_insert", pytest.fail)
    with pytest.raises(StoreUnavailable, match="outcome is unknown"):
        store.landed.land("p/q", numbered(store, "a"))


def test_landing_whose_answer_is_lost_leaves_out_what_was_there(
    store: MongoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, "p/q", "a")
    store.landed.tombstone("p/q", {"b": store.now() + 60_000})
    lose_answer(monkeypatch, "insert")
    assert store.landed.land("p/q", numbered(store, "a", "b", "c")) == {"a", "b"}


def test_delete_whose_answer_is_lost_is_done(store: MongoDBStore, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, "p/q", "a", "b")
    claim = new_claim(store)
    take(store, "p/q", claim, "a")
    lose_answer(monkeypatch, "delete")
    store.landed.delete_claimed("p/q", ["a"], [claim.id])
    assert [message.id for message in store.landed.list_messages("p/q", 0, 10, claimed=True)] == ["b"]


def test_look_whose_answer_is_lost_is_made_again(store: MongoDBStore, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, "p/q", "a")
    lose_answer(monkeypatch, "find")
    found, leased = store.landed.find_free("p/q", 10)
    assert [message.id for message in found] == ["a"]
    assert not leased


def test_refused_command_is_asked_of_the_driver(store: MongoDBStore, monkeypatch: pytest.MonkeyPatch) -> None:
    command = Connection.command

    def refused(connection: Connection, document: Mapping[str, Any]) -> dict[str, Any]:
        if next(iter(document)) == "hello":
            return command(connection, document)
        return {"ok": 0.0, "code": 10107, "errmsg": "not primary"}

    monkeypatch.setattr(Connection, "command", refused)
    use(store)


@pytest.mark.parametrize("answer", [
    {"ok": 0.0, "code": 50, "errmsg": "operation exceeded time limit"},
    {"ok": 1.0, "n": 1, "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
])
def test_slow_server_is_unavailable_and_not_asked_twice(
    store: MongoDBStore, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    add(store, "p/q", "a")
    store.landed.find_free("p/q", 1)
    monkeypatch.setattr(Connection, "command", lambda connection, document: answer)
    monkeypatch.setattr(store._database.messages, "delete_one", lambda query: pytest.fail("asked twice"))
    with pytest.raises(StoreUnavailable, match="time"):
        store.landed.delete_unclaimed("p/q", ["a"])


def test_deleting_is_conditional_all_the_same(store: MongoDBStore) -> None:
    add(store, "p/q", "a")
    take(store, "p/q", new_claim(store), "a")
    assert store.landed.delete_unclaimed("p/q", ["a"]) == 0
    assert store.landed.delete_claimed("p/q", ["a"], ["another"]) == 0


# -- users and TLS -----------------------------------------------------------------------------------------------------


class Locked:
    """A MongoDB that takes TLS and its users only."""

    def __init__(self, mongodb: MongoDB, authority: Authority, client: Pair) -> None:
        self._mongodb = mongodb
        self._tls = f"tls=true&tlsCAFile={authority.file}&tlsCertificateKeyFile={client.both}"
        roles = ["root"]
        with mongodb.connect() as admin:
            admin.admin.command("createUser", "old", pwd="p&/ss", roles=roles, mechanisms=["SCRAM-SHA-1"])
        with self._as_admin() as admin:
            admin.admin.command("createUser", "new", pwd="pässwörd", roles=roles, mechanisms=["SCRAM-SHA-256"])
            admin.admin.command("createUser", "both", pwd="pencil", roles=roles)
            admin["$external"].command("createUser", "CN=client", roles=[{"role": "root", "db": "admin"}])

    def _as_admin(self) -> MongoClient[dict[str, Any]]:
        return MongoClient(self.uri("old:p%26%2Fss@", "authSource=admin"))

    def uri(self, user: str, options: str) -> str:
        return f"mongodb://{user}{self._mongodb.host}/locked?replicaSet=rs0&{self._tls}&{options}"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    folder: Path = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder)
    with require(lambda: MongoDB((authority.file, authority.sign("server")), locked=True)) as mongodb:
        yield Locked(mongodb, authority, authority.sign("client"))


@pytest.mark.parametrize(("user", "options"), [
    ("old:p%26%2Fss@", "authSource=admin"),
    ("old:p%26%2Fss@", "authSource=admin&authMechanism=SCRAM-SHA-1"),
    ("new:p%C3%A4ssw%C3%B6rd@", "authSource=admin"),
    ("both:pencil@", "authSource=admin"),
    ("both:pencil@", "authSource=admin&authMechanism=SCRAM-SHA-256"),
    ("", "authMechanism=MONGODB-X509"),
    ("both:pencil@", "authSource=admin&tlsAllowInvalidHostnames=true"),
    ("both:pencil@", "authSource=admin&tlsInsecure=true"),
])
def test_users_are_let_in(
    locked: Locked, open_store: Callable[..., MongoDBStore], direct: list[str], user: str, options: str
) -> None:
    store = open_store(locked.uri(user, options))
    store.catalogue.delete_queue("p/q")
    adopted(store, "p/q")
    use(store)
    direct.clear()  # connecting may have taken so long that the landing looked for the queue
    use(store)
    assert direct == ["insert", "find", "find", "delete", "delete"]


def test_who_is_not_let_in_is_told_by_the_driver(
    locked: Locked, open_store: Callable[..., MongoDBStore], direct: list[str]
) -> None:
    store = open_store(locked.uri("both:wrong@", "authSource=admin"))
    with pytest.raises(StoreUnavailable, match="Authentication failed"):
        store.landed.land("p/q", [Message("a", store.now(), store.now() + 60_000, b"1", seq=1)])
    assert direct == []


def test_unknown_mechanism_is_left_to_the_driver(
    store: MongoDBStore, monkeypatch: pytest.MonkeyPatch, direct: list[str]
) -> None:
    connections = store._database.direct.connections
    monkeypatch.setattr(connections, "_uri", connections._uri + "&authMechanism=GSSAPI")
    use(store)
    use(store)
    assert direct == []


@pytest.mark.parametrize(("options", "direct_on"), [("", False), ("&readConcernLevel=majority", True)])
def test_everything_goes_through_the_driver_if_it_is_told_to(
    mongodb: MongoDB, direct: list[str], options: str, direct_on: bool, caplog: pytest.LogCaptureFixture
) -> None:
    uri = mongodb.database_uri(f"driver_{uuid4().hex}") + options
    store = MongoDBStore(uri, SimpleNamespace(timeout=TIMEOUT, max_pool_size=8, direct=direct_on))
    adopted(store, "p/q")
    use(store)
    use(store)
    assert store.fallbacks() == direct_on
    store.close()
    assert direct == []
    said = [record.getMessage() for record in caplog.records if "driver" in record.getMessage()]
    assert len(said) == direct_on, "it is said once, and not at all if the operator wants it"


def test_outage_of_the_direct_way_is_said_once(
    store: MongoDBStore, monkeypatch: pytest.MonkeyPatch, direct: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    connections = store._database.direct.connections
    caplog.set_level("INFO", "storage.mongodb.direct")
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "__init__", lambda *_: (_ for _ in ()).throw(ConnectionRefusedError("refused")))
        for _ in range(3):
            connections._paused_until = float("-inf")
            use(store)
    connections._paused_until = float("-inf")
    use(store)
    assert [record.getMessage().partition(":")[2] for record in caplog.records] == [
        " commands go through the driver until a connection can be made: refused",
        " commands go straight to the primary again",
    ]
    assert store.fallbacks() == 1
    assert direct[:2] == ["hello", "insert"]
