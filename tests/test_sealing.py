"""Encrypted messages that a gateway can't open: they take nothing else along, and those who have the key get them."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from bridges.base import Bridge, Envelope
from bridges.bridging import parse
from bridges.errors import BridgeUnavailable
from bridges.loopback import LoopbackBridge
from bridges.memory import MemoryBridge
from gateway.config.limits import Limits
from gateway.core import sealing
from gateway.core.core import Core
from gateway.core.demand import Count
from gateway.core.envelopes import CIPHER_HEADER, CLIENT_HEADER, KEY_HEADER
from gateway.core.errors import Busy, Conflict, CoreError
from gateway.core.ids import IdMaker
from gateway.core.messages.post import Post
from gateway.core.queues.info import QueueInfo, Reads
from gateway.core.seal import CIPHER, KEY_SIZE, Seal, key_id
from gateway.observe.metrics import UNOPENED
from storage.model import Message
from storage.sqlite import SQLiteStore

OURS, THEIRS = bytes(KEY_SIZE), b"t" * KEY_SIZE

HOUR = 3_600_000

#: What can be wrong with a message for a gateway: how it is made bad, the gateway's seal, and whether others open it.
CASES: dict[str, tuple[Callable[[Message], Message], Seal, bool]] = {
    "other-key": (lambda m: m, Seal(OURS), True),
    "no-key": (lambda m: m, Seal(), True),
    "other-key-unnamed": (lambda m: replace(m, key=""), Seal(OURS), True),
    "no-key-unnamed": (lambda m: replace(m, key=""), Seal(), True),
    "garbage": (lambda m: replace(m, key="", body=b"garbage"), Seal(OURS), False),
    "empty": (lambda m: replace(m, key="", body=b""), Seal(OURS), False),
    "garbage-named": (lambda m: replace(m, key=key_id(OURS), body=b"garbage"), Seal(OURS), False),
    "damaged": (lambda m: replace(m, body=m.body[:-1] + bytes([m.body[-1] ^ 1])), Seal(THEIRS), False),
}


class Pair:
    """A gateway that can't open what is posted with ``put(bad=…)``, and one that has all keys."""

    def __init__(self, bridge: Bridge, store: SQLiteStore, case: str):
        self._spoil, seal, self.recoverable = CASES[case]
        self.bridge, self.store = bridge, store
        self.core = Core(bridge, store, Limits(), seal)
        self.other = Core(bridge, store, Limits(), Seal(THEIRS, [OURS]))
        self.info = self.core.directory.ensure("project", "queue")
        self._ids = IdMaker()
        self._sealing = sealing.Sealing(Seal(THEIRS))

    def put(self, *bodies: str, bad: bool = False) -> list[str]:
        """Post messages as they are stored; their ids."""
        now = self.store.now()
        messages = [
            Message(id_, now, now + HOUR, body.encode(), "client")
            for id_, body in zip(self._ids.make(now, len(bodies)), bodies, strict=True)
        ]
        if bad:
            for message in messages:
                self._sealing.seal("project", message)
            messages = [self._spoil(message) for message in messages]
        self.core.pool.publishing.publish(self.info, messages)
        return [message.id for message in messages]

    def mixed(self) -> tuple[list[str], list[str]]:
        """Ten messages, three good ones with bad ones in front, between and behind; the ids of both."""
        bad = self.put("-1", "-2", "-3", bad=True)
        good = self.put("1")
        bad += self.put("-4", "-5", bad=True)
        good += self.put("2", "3")
        bad += self.put("-6", "-7", bad=True)
        return good, bad

    def waiting(self) -> int:
        """Messages in the broker."""
        return self.bridge.depth(self.info.broker) if self.bridge.has_backlog else 0

    def get(self, core: Core, id_: str) -> list[str]:
        return bodies(core.messages.get(own(core, self.info), [id_]))

    def close(self) -> None:
        self.core.close()
        self.other.close()


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["backlog", "landed", "loopback"])
def where(request: pytest.FixtureRequest) -> Any:
    """Where the messages wait when the calls begin: in the broker, landed out of it, or landed at once."""
    return request.param


@pytest.fixture
def pair(store: SQLiteStore, case: str, where: str) -> Iterator[Pair]:
    bridge: Bridge = LoopbackBridge("loopback://", None) if where == "loopback" else MemoryBridge()
    pair = Pair(bridge, store, case)
    if where == "landed":
        put = pair.put

        def landed(*bodies: str, bad: bool = False) -> list[str]:
            ids = put(*bodies, bad=bad)
            pair.other.pool.landing.land_free(pair.info, Count(100))
            return ids

        pair.put = landed  # type: ignore[method-assign]
    yield pair
    pair.close()


def own(core: Core, info: QueueInfo) -> QueueInfo:
    """The queue as another gateway knows it: in its own pool."""
    return core.directory.ensure(info.project, info.name)


def bodies(messages: Any) -> list[str]:
    return [message.body.decode() for message in messages]


def count_calls(target: Any, name: str) -> list[Any]:
    """The arguments of each call to a method from now on."""
    call, calls = getattr(target, name), []

    def counted(*args: Any) -> Any:
        calls.append(args)
        return call(*args)

    setattr(target, name, counted)
    return calls


def claim(core: Core, info: QueueInfo, limit: int = 20) -> Any:
    return core.claims.create(own(core, info), 60, 60, limit)


def others_get_the_rest(pair: Pair, bad: list[str], good: list[str]) -> None:
    """Nothing is lost: who has the key gets it, in order, and is the first who does."""
    stats, waiting = pair.core.messages.stats(pair.info)
    assert stats.free + waiting >= len(bad)
    claimed = claim(pair.other, pair.info)
    first = [str(-number) for number in range(1, 8)] if pair.recoverable else []
    assert bodies(claimed) == [*first[:3], *good[:1], *first[3:5], *good[1:], *first[5:]]
    assert {message.claims for message in claimed} <= {1}


@pytest.mark.parametrize("limit", [1, 2, 20])
def test_claims_get_what_can_be_opened(pair: Pair, limit: int) -> None:
    _, bad = pair.mixed()
    got: list[str] = []
    while claimed := claim(pair.core, pair.info, limit):
        assert len(claimed) <= limit
        got += bodies(claimed)
    assert got == ["1", "2", "3"]
    others_get_the_rest(pair, bad, [])


@pytest.mark.parametrize("limit", [1, 2, 20])
def test_pops_lose_nothing(pair: Pair, limit: int) -> None:
    _, bad = pair.mixed()
    got: list[str] = []
    while popped := pair.core.messages.pop(pair.info, limit):
        assert len(popped) <= limit
        got += bodies(popped)
    assert got == ["1", "2", "3"]
    others_get_the_rest(pair, bad, [])


@pytest.mark.parametrize("limit", [1, 2, 20])
def test_lists_go_on_behind_what_cannot_be_opened(pair: Pair, limit: int) -> None:
    _, bad = pair.mixed()
    got: list[str] = []
    marker = None
    while page := pair.core.messages.list(pair.info, marker, limit, None, False, False):
        assert len(page) <= limit
        got += bodies(page)
        marker = str(page[-1].seq)
    assert got == ["1", "2", "3"]
    others_get_the_rest(pair, bad, ["1", "2", "3"])


def test_message_by_id_is_an_error_that_says_why(pair: Pair, case: str, where: str) -> None:
    good, bad = pair.mixed()
    for _ in range(2):
        with pytest.raises(CoreError, match=f"{bad[0]} can't be decrypted") as caught:
            pair.get(pair.core, bad[0])
        # Whoever lands a message and can open it, knows its key.
        elsewhere = case in ("other-key", "no-key", "no-key-unnamed") or (where == "landed" and pair.recoverable)
        assert isinstance(caught.value, Busy if elsewhere else Conflict)
    assert pair.get(pair.core, good[0]) == ["1"]
    assert bodies(pair.core.messages.get(pair.info, [bad[3], good[1], bad[0], good[0]])) == ["2", "1"]
    if pair.recoverable:
        assert pair.get(pair.other, bad[0]) == ["-1"]
    others_get_the_rest(pair, bad, ["1", "2", "3"])


def test_claim_of_others_shows_what_can_be_opened(pair: Pair) -> None:
    pair.mixed()
    claimed = claim(pair.other, pair.info)
    assert len(claimed) == (10 if pair.recoverable else 3)
    assert bodies(pair.core.claims.get(pair.info, claimed[0].claim)) == ["1", "2", "3"]


def test_claim_of_others_without_anything_to_show_is_an_error(pair: Pair) -> None:
    pair.put("-1", bad=True)
    if claimed := claim(pair.other, pair.info):
        with pytest.raises(CoreError, match="can't be decrypted"):
            pair.core.claims.get(pair.info, claimed[0].claim)
        pair.core.claims.renew(pair.info, claimed[0].claim, 60, 60)
    assert bool(claimed) is pair.recoverable


def test_what_cannot_be_opened_can_be_deleted(pair: Pair) -> None:
    good, bad = pair.mixed()
    pair.core.messages.delete(pair.info, bad[0], None)
    assert pair.core.messages.delete_many(pair.info, bad[1:], None) [0] == set()
    assert pair.core.messages.get(pair.info, bad) == []
    assert bodies(claim(pair.other, pair.info)) == ["1", "2", "3"]
    assert pair.core.messages.stats(pair.info)[0].free == 0


def test_claims_that_get_nothing_do_not_count(pair: Pair) -> None:
    """Neither do pops: the message would be moved to the dead letters unread."""
    pair.core.queues.create("project", "queue", {"_max_claim_count": 1, "_dead_letter_queue": "dead"})
    pair.info = pair.core.directory.ensure("project", "queue")
    bad = pair.put(*[str(-number) for number in range(1, 8)], bad=True)
    for _ in range(3):
        assert claim(pair.core, pair.info) == []
        assert pair.core.messages.pop(pair.info, 5) == []
    others_get_the_rest(pair, bad, [])


@pytest.mark.parametrize("case", [case for case, (_, _, recoverable) in CASES.items() if recoverable], indirect=True)
def test_dead_letter_keeps_its_key(pair: Pair) -> None:
    pair.core.queues.create("project", "queue", {"_max_claim_count": 1, "_dead_letter_queue": "dead"})
    pair.info = pair.core.directory.ensure("project", "queue")
    pair.put("-1", bad=True)
    (claimed,) = claim(pair.other, pair.info)
    pair.other.claims.release(pair.info, claimed.claim)
    assert claim(pair.other, pair.info) == []
    letters = pair.other.directory.ensure("project", "dead")
    assert claim(pair.core, letters) == []
    assert bodies(claim(pair.other, letters)) == ["-1"]


@pytest.mark.parametrize("case", ["other-key", "garbage"], indirect=True)
def test_many_in_front_hide_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "SKIPPING", 5)
    pair.put(*["-1"] * 60, bad=True)
    pair.put("1", "2")
    pair.put(*["-1"] * 20, bad=True)
    pair.put("3")
    assert bodies(pair.core.messages.list(pair.info, None, 3, None, False, False)) == ["1", "2", "3"]
    assert bodies(pair.core.messages.pop(pair.info, 1)) == ["1"]
    assert bodies(claim(pair.core, pair.info, 1)) == ["2"]
    assert bodies(claim(pair.core, pair.info, 1)) == ["3"]


@pytest.mark.parametrize("case", ["other-key"], indirect=True)
@pytest.mark.parametrize("call", ["claim", "pop", "list"])
def test_one_request_moves_only_so_many(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, case: str, call: str
) -> None:
    for module in ("taking", "messages.reading"):
        monkeypatch.setattr(f"gateway.core.{module}.SKIPPED", 20)
    monkeypatch.setattr("gateway.core.taking.SKIPPING", 10)
    pair = Pair(MemoryBridge(), store, case)
    pair.put(*["-1"] * 90, bad=True)
    pair.put("1")
    calls: dict[str, Callable[[], Any]] = {
        "claim": lambda: claim(pair.core, pair.info, 1),
        "pop": lambda: pair.core.messages.pop(pair.info, 1),
        "list": lambda: pair.core.messages.list(pair.info, None, 5, None, False, False),
    }
    fetches = count_calls(pair.core.pool.bridge, "fetch")
    assert calls[call]() == []
    assert 10 <= 91 - pair.waiting() <= 30
    assert len(fetches) <= 5
    for _ in range(20):
        if found := calls[call]():
            break
    assert bodies(found) == ["1"]
    pair.close()


@pytest.mark.parametrize("case", ["other-key", "no-key", "other-key-unnamed"], indirect=True)
def test_each_gateway_tries_a_message_once_and_only_if_it_may_have_the_key(pair: Pair, case: str, where: str) -> None:
    pair.put("-1", "-2", bad=True)
    marked = count_calls(pair.core.pool.store.landed, "mark")
    for _ in range(3):
        assert claim(pair.core, pair.info) == []
    # In the broker there is nothing to mark: it lands with the mark.
    assert len(marked) == (1 if (case, where) == ("other-key-unnamed", "loopback") else 0)


@pytest.mark.parametrize("headers", [
    {CIPHER_HEADER: CIPHER}, {CIPHER_HEADER: CIPHER, CLIENT_HEADER: "c"},
    {CIPHER_HEADER: CIPHER, KEY_HEADER: "kffffffffffffff0"}, {CIPHER_HEADER: CIPHER, KEY_HEADER: key_id(OURS)},
    {CIPHER_HEADER: CIPHER, KEY_HEADER: 7}, {CIPHER_HEADER: CIPHER, KEY_HEADER: "k?.*" * 30},
    {CIPHER_HEADER: CIPHER, KEY_HEADER: None, CLIENT_HEADER: {}},
])
@pytest.mark.parametrize("message_id", ["one", None, "a/b?c,d"])
@pytest.mark.parametrize("seal", [Seal(), Seal(OURS)], ids=["no-key", "key"])
def test_native_message_that_says_it_is_encrypted(
    store: SQLiteStore, headers: dict[str, Any], message_id: str | None, seal: Seal
) -> None:
    bridge = MemoryBridge()
    core = Core(bridge, store, Limits(), seal)
    info = core.directory.ensure("project", "queue")
    for number in range(3):
        id_ = f"{message_id}{number}" if message_id and CLIENT_HEADER in headers else message_id  # ours are unique
        bridge.publish(info.broker, [Envelope(b"forged %d" % number, id_, headers=headers), Envelope(b"%d" % number)])
    assert bodies(core.messages.pop(info, 2)) == ["0", "1"]
    assert bodies(claim(core, info)) == ["2"]
    assert core.messages.list(info, None, 5, None, False, False) == []
    assert core.messages.stats(info)[0].free == 3
    core.close()


def test_message_sealed_before_keys_had_ids_opens_with_any_of_them(store: SQLiteStore, bridge: MemoryBridge) -> None:
    """As earlier versions stored it: in the broker without the header, landed with 1 for its key."""
    core = Core(bridge, store, Limits(), Seal(OURS, [THEIRS]))
    info = core.directory.ensure("project", "queue")
    ids = IdMaker().make(store.now(), 2)
    for id_ in ids:
        body = Seal(THEIRS).seal(b'"old"', f"project/{id_}")
        headers = {CLIENT_HEADER: "client", CIPHER_HEADER: CIPHER}
        bridge.publish(info.broker, [Envelope(body, id_, 60_000, headers=headers)])
    core.messages.list(info, None, 1, None, False, False)
    store._database.write(lambda db: db.execute("UPDATE messages SET x = 1"))
    assert bodies(core.messages.list(info, None, 1, None, False, False)) == ['"old"']
    assert bodies(core.messages.pop(info, 2)) == ['"old"'] * 2
    core.close()


def test_key_is_changed_while_messages_wait(store: SQLiteStore, bridge: MemoryBridge) -> None:
    """The steps of docs/security.md: what was posted at each of them is read by gateways one step ahead and behind."""
    steps = [Seal(OURS), Seal(OURS, [THEIRS]), Seal(THEIRS, [OURS]), Seal(THEIRS)]
    cores = [Core(bridge, store, Limits(), seal) for seal in steps]
    cores[0].queues.create("project", "queue", {"_enable_encrypt_messages": True})
    info = cores[0].directory.ensure("project", "queue")
    for number, core in enumerate(cores[:3]):
        core.messages.post("project", "queue", "client", [Post(b"%d" % number)], 10)
    batch = bridge.fetch(info.broker, 3)
    assert [envelope.headers[KEY_HEADER] for envelope in batch.envelopes] == [
        key_id(OURS), key_id(OURS), key_id(THEIRS)
    ]
    bridge.requeue(batch)
    assert bodies(cores[2].messages.list(own(cores[2], info), None, 5, None, False, False)) == ["0", "1", "2"]
    assert bodies(cores[1].messages.pop(own(cores[1], info), 1)) == ["0"]
    assert bodies(cores[3].messages.list(own(cores[3], info), None, 5, None, False, False)) == ["2"]
    assert bodies(claim(cores[2], info)) == ["1", "2"]
    for core in cores:
        core.close()


def test_same_sealed_message_twice_lands_once(store: SQLiteStore, bridge: MemoryBridge) -> None:
    """Also when somebody has moved it and dropped the header that says that it is ours."""
    core = Core(bridge, store, Limits(), Seal(OURS))
    info = core.directory.ensure("project", "queue")
    (id_,) = IdMaker().make(store.now())
    sealed = Envelope(Seal(OURS).seal(b"1", f"project/{id_}"), id_, 60_000, headers={CIPHER_HEADER: CIPHER})
    bridge.publish(info.broker, [sealed, sealed])
    assert bodies(core.messages.list(info, None, 5, None, False, False)) == ["1"]
    bridge.publish(info.broker, [sealed])
    assert bodies(core.messages.list(info, None, 5, None, False, False)) == ["1"]
    assert core.messages.stats(info)[0].free == 1
    core.close()


def test_what_was_popped_before_the_broker_failed_is_shown(store: SQLiteStore, bridge: MemoryBridge) -> None:
    core = Core(bridge, store, Limits(), Seal(OURS))
    core.queues.create("project", "queue", {"_enable_encrypt_messages": True})
    core.messages.post("project", "queue", "client", [Post(b"1")], 10)
    info = core.directory.ensure("project", "queue")
    core.messages.list(info, None, 1, None, False, False)

    def fail(*_: Any) -> Any:
        raise BridgeUnavailable("down")

    core.pool.bridge.fetch = fail
    assert bodies(core.messages.pop(info, 2)) == ["1"]
    core.close()


def test_what_landed_before_a_queue_was_bridged_is_listed_open(
    store: SQLiteStore, bridge: MemoryBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = Core(bridge, store, Limits(), Seal(OURS))
    core.queues.create("project", "queue", {"_enable_encrypt_messages": True})
    core.messages.post("project", "queue", "client", [Post(b"1")], 10)
    info = core.directory.ensure("project", "queue")
    core.messages.list(info, None, 1, None, False, False)
    settings = replace(info.settings, bridging=parse({"source": {"queue": "foreign"}}))
    bridged = replace(info, settings=settings, reads=Reads.FOREIGN_QUEUE_PEEKED)
    monkeypatch.setattr(core.directory, "ensure_source", lambda _: None)
    bridged.pool.bridge.peek = lambda *_: None
    assert bodies(core.messages.list(bridged, None, 5, None, False, False)) == ["1"]
    core.close()


def test_log_and_metric_say_so_without_flooding(
    store: SQLiteStore, caplog: pytest.LogCaptureFixture
) -> None:
    pair = Pair(LoopbackBridge("loopback://", None), store, "other-key")
    before = UNOPENED.labels("no_key")._value.get()
    pair.put(*["-1"] * 3, bad=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert claim(pair.core, pair.info) == []
    warnings = [record.getMessage() for record in caplog.records if "can't be decrypted" in record.getMessage()]
    assert len(warnings) == 1 and "project/queue" in warnings[0] and key_id(THEIRS) in warnings[0]
    assert UNOPENED.labels("no_key")._value.get() - before >= 3
    pair.close()
