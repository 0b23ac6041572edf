"""Poison: it is put aside once, and what can't be shown or stored is in nobody's way."""

import gzip
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from bridges.base import Batch, Envelope
from bridges.errors import BridgeUnavailable
from bridges.memory import MemoryBridge
from gateway.config.limits import Limits
from gateway.core.core import Core
from gateway.core.envelopes import CLIENT_HEADER
from gateway.core.messages.post import Post
from gateway.core.poison import LARGEST, REASON_HEADER
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.names import poison_name
from gateway.core.seal import KEY_SIZE, Seal
from storage.errors import StoreUnavailable, Unstorable
from storage.model import Message
from storage.sqlite import SQLiteStore
from storage.sqlite.landed import SQLiteLanded

BAD = Envelope(b"no gzip", content_encoding="gzip", message_id="bad")


@pytest.fixture
def aside(bridge: MemoryBridge, info: QueueInfo) -> Callable[[], list[Envelope]]:
    """What has been put aside of the queue so far."""

    def look() -> list[Envelope]:
        name = poison_name(info.project, info.name)
        return list(bridge._queues.get(name, ()))

    return look


def good(*texts: str) -> list[Envelope]:
    return [Envelope(orjson.dumps(text)) for text in texts]


def bodies(messages: Any) -> list[Any]:
    return [orjson.loads(message.body) for message in messages]


def claim(core: Core, info: QueueInfo, limit: int = 20) -> list[Any]:
    return bodies(core.claims.create(info, None, None, limit))


#: All ways by which the messages in front of a queue are read.
READS: dict[str, Callable[[Core, QueueInfo], list[Any]]] = {
    "claim": claim,
    "claims of one": lambda core, info: [*claim(core, info, 1), *claim(core, info, 1)],
    "pop": lambda core, info: bodies(core.messages.pop(info, 20)),
    "list": lambda core, info: bodies(core.messages.list(info, None, 20, None, False, False)),
}

#: Messages that can't be shown, or not stored.
BAD_THINGS = {
    "no gzip": BAD,
    "too large": Envelope(b"x" * (1024 * 1024 + 1)),
    "unreadable": replace(BAD, readable=False, content_encoding=None),
    "as large as nothing of ours is": Envelope(b'"' + b"x" * LARGEST + b'"', headers={CLIENT_HEADER: "c"}),
    "text that is six times as long as JSON": Envelope(b"\1" * (LARGEST // 6 + 1), headers={CLIENT_HEADER: "c"}),
    "base64 that is longer than the bytes": Envelope(b"\xff" * (LARGEST // 4 * 3 + 3), headers={CLIENT_HEADER: "c"}),
    "sealed": Envelope(bytes(LARGEST + 1), headers={CLIENT_HEADER: "c", "marconi-cipher": "AES-256-GCM"}),
    "a client of many characters": Envelope(b"1", headers={CLIENT_HEADER: "c" * LARGEST}),
    "refused by the side-store": Envelope(b'"refused"'),
}


@pytest.fixture
def picky(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A side-store that can never store one of the bodies."""
    real = SQLiteLanded.land

    def land(self: SQLiteLanded, q: str, messages: list[Message], **how: Any) -> set[str]:
        if any(message.body == b'"refused"' for message in messages):
            raise Unstorable("it is not liked")
        return real(self, q, messages, **how)

    monkeypatch.setattr(SQLiteLanded, "land", land)


@pytest.mark.usefixtures("picky")
@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("bad", BAD_THINGS.values(), ids=BAD_THINGS)
def test_others_get_theirs_whatever_is_among_them(
    bridge: MemoryBridge, tmp_path: Path, bad: Envelope, read: Callable[[Core, QueueInfo], list[Any]]
) -> None:
    fresh = SQLiteStore(f"sqlite:///{tmp_path}/picky.db", SimpleNamespace(timeout=5.0))
    core = Core(bridge, fresh, Limits(), Seal(bytes(KEY_SIZE)))
    info = core.directory.ensure("project", "queue")
    bridge.publish(info.broker, [*good("before"), bad, *good("after")])
    assert read(core, info) == ["before", "after"]
    (moved,) = bridge._queues[poison_name("project", "queue")]
    assert moved.body == bad.body and moved.headers[REASON_HEADER]
    assert bridge.depth(info.broker) == 0
    core.close()


class TestSizes:
    """Native messages have a limit of their own; what is made of any has one that all side-stores keep."""

    @pytest.fixture
    def large(self, bridge: MemoryBridge, store: SQLiteStore) -> Iterator[Core]:
        core = Core(
            bridge, store, Limits(max_messages_post_size=8 * 1024 * 1024), Seal(bytes(KEY_SIZE)), max_body=1024
        )
        yield core
        core.close()

    @pytest.mark.parametrize("encrypted", [False, True])
    def test_what_a_gateway_has_posted_has_no_native_limit(self, large: Core, encrypted: bool) -> None:
        large.queues.create("p", "q", {"_enable_encrypt_messages": encrypted})
        body = orjson.dumps("\1" * 1_300_000)  # six times as many bytes, almost the most that a post may have
        for read in (
            lambda info, ids: large.messages.get(info, ids),
            lambda info, ids: large.claims.create(info, None, None, 1),
            lambda info, ids: large.messages.pop(info, 1),
        ):
            ids = large.messages.post("p", "q", "client", [Post(body)], 1)
            info = large.directory.find("p", "q")
            assert info is not None
            assert [message.body for message in read(info, ids)] == [body]
            large.messages.purge("p", "q")

    def test_native_message_of_the_same_queue_has_it(self, large: Core, bridge: MemoryBridge) -> None:
        info = large.directory.ensure("p", "q")
        bridge.publish(info.broker, [Envelope(b'"' + b"x" * 1023 + b'"'), Envelope(b'"' + b"x" * 1022 + b'"')])
        assert [len(body) for body in claim(large, info)] == [1022]

    def test_text_that_grows_beyond_the_limit_is_put_aside(self, bridge: MemoryBridge, store: SQLiteStore) -> None:
        core = Core(bridge, store, Limits(), max_body=4 * 1024 * 1024)
        info = core.directory.ensure("p", "q")
        texts = [b"\1" * 3 * 1024 * 1024, b"\1" * 2 * 1024 * 1024, b"x"]
        bridge.publish(info.broker, [Envelope(text, content_type="text/plain") for text in texts])
        assert claim(core, info) == [text.decode() for text in texts[1:]]
        core.close()


class TestOnce:
    """A message is put aside once, as far as that is in the gateway's hands."""

    def test_landings_that_fail_put_nothing_aside(
        self, core: Core, bridge: MemoryBridge, info: QueueInfo, aside: Callable[[], list[Envelope]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        bridge.publish(info.broker, [BAD, *good("1")])

        def fail(*_: Any, **__: Any) -> None:
            raise StoreUnavailable("down")

        with monkeypatch.context() as patch:
            patch.setattr(core.pool.store.landed, "land", fail)
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    claim(core, info)
        assert aside() == []
        assert claim(core, info) == ["1"]
        assert [envelope.message_id for envelope in aside()] == ["bad"]

    def test_what_could_not_be_acknowledged_is_not_put_aside_again(
        self, core: Core, bridge: MemoryBridge, info: QueueInfo, aside: Callable[[], list[Envelope]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        bridge.publish(info.broker, [BAD, BAD])

        broken = iter(range(3))

        def lost(batch: Batch) -> None:
            if next(broken, None) is None:
                bridge.settle(batch)
            else:
                bridge.requeue(batch)
                raise BridgeUnavailable("the connection broke")

        monkeypatch.setattr(info.bridge, "settle", lost)
        assert claim(core, info, 2) == []
        assert (len(aside()), bridge.depth(info.broker)) == (2, 0)
        bridge.publish(info.broker, [BAD])
        claim(core, info)
        assert len(aside()) == 3, "another one that is the same"

    def test_what_can_not_be_put_aside_stays_and_the_others_land(
        self, core: Core, bridge: MemoryBridge, info: QueueInfo, aside: Callable[[], list[Envelope]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        bridge.publish(info.broker, [*good("1"), BAD, *good("2"), BAD])

        def full(*_: Any) -> None:
            raise BridgeUnavailable("an alarm")

        with monkeypatch.context() as patch:
            patch.setattr(core.pool.bridge, "deposit", full)
            assert claim(core, info) == ["1", "2"]
            assert (len(aside()), bridge.depth(info.broker)) == (0, 2)
            with pytest.raises(BridgeUnavailable):
                claim(core, info)
            assert bridge.depth(info.broker) == 2
        assert claim(core, info) == []
        assert (len(aside()), bridge.depth(info.broker)) == (2, 0)


def test_batch_of_which_the_first_try_has_stored_some_is_claimed_whole(
    core: Core, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MongoDB inserts the others before it says that it can't insert one."""
    real = SQLiteLanded.land

    def land(q: str, messages: list[Message], **how: Any) -> set[str]:
        left_out = real(store, q, [message for message in messages if message.body != b'"refused"'], **how)
        if any(message.body == b'"refused"' for message in messages):
            raise Unstorable("one of them")
        return left_out

    monkeypatch.setattr(core.pool.store.landed, "land", land)
    bridge.publish(info.broker, good("1", "refused", "2", "3"))
    assert claim(core, info) == ["1", "2", "3"]


def test_gzip_that_is_cut_off_is_poison(core: Core, bridge: MemoryBridge, info: QueueInfo) -> None:
    bridge.publish(info.broker, [Envelope(gzip.compress(b"x" * 1000)[:-4], content_encoding="gzip"), *good("1")])
    assert claim(core, info) == ["1"]
