"""Rounds of a consumer of Redis, over a session that is none."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from redis.exceptions import ReadOnlyError, ResponseError

from bridges.consuming import Delivery
from bridges.errors import BridgeUnavailable
from bridges.redis import handing
from bridges.redis.feeds import Feeds
from bridges.redis.handing import GIVEN_BACK, Former, Handing
from bridges.redis.session import AT_ONCE, Taken
from bridges.redis.wake import Wake


class Session:
    """Streams as lists of ids; ``calls`` has the names of the methods called, and of what."""

    def __init__(self) -> None:
        self.streams: dict[str, list[bytes]] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.reads = False
        self.late = False
        self.reply: Any = None
        #: How many streams a take is done with at most.
        self.capacity = AT_ONCE
        self._ready = os.pipe()

    def close(self) -> None:
        for number in self._ready:
            os.close(number)

    def names(self) -> list[str]:
        return [call[0] for call in self.calls]

    def take(self, rooms: Mapping[str, int]) -> Taken:
        self.calls.append(("take", dict(rooms)))
        missing, entries = [], []
        for number, (key, room) in enumerate(rooms.items()):
            if key not in self.streams:
                missing.append(number)
            if number < self.capacity:
                got = self.streams.get(key, [])[:room]
                entries += [(number, entry, 0, (b"body", entry)) for entry in got]
                del self.streams.get(key, [])[:room]
        return Taken(min(self.capacity, len(rooms)), missing, entries)

    def has_expired(self, entry: bytes, ttl: int | None) -> bool:
        return ttl == 0

    def settle(self, settled: Mapping[str, Sequence[bytes]]) -> None:
        if settled:
            self.calls.append(("settle", dict(settled)))

    def give_some_back(self, returned: Mapping[str, Sequence[bytes]]) -> None:
        for key, entries in returned.items():
            self.streams[key][:0] = entries

    def give_back(self, keys: Iterable[str], name: str | None = None) -> None:
        self.calls.append(("give_back", set(keys), name))

    def renew(self, keys: Iterable[str]) -> None:
        self.calls.append(("renew", list(keys)))

    def tidy(self, keys: Sequence[str]) -> None:
        self.calls += [("tidy", list(keys))] if keys else []

    def read(self, keys: Sequence[bytes], seconds: float) -> None:
        assert not self.reads
        self.reads = True
        self.calls.append(("read", set(keys)))

    def comes(self, reply: Any) -> None:
        """The wait is over."""
        self.reply = reply
        os.write(self._ready[1], b"!")

    def fileno(self) -> int:
        return self._ready[0]

    def is_late(self) -> bool:
        return self.late

    def arrived(self) -> Any:
        os.read(self._ready[0], 1)
        return self.end_read()

    def end_read(self) -> Any:
        assert self.reads
        self.calls.append(("end_read",))
        self.reads = False
        reply, self.reply = self.reply, None
        return reply


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round without anything to do ends soon."""
    monkeypatch.setattr(handing, "LOOK_EVERY", 0.02)


class Rounds:
    """A Handing with all that it needs; queues are added by the names of their streams."""

    def __init__(self, session: Session, former: list[Former]):
        self.session = session
        self.feeds = Feeds()
        self.wake = Wake()
        self.got: list[Delivery] = []
        self.handing = Handing(
            session, self.feeds, self.got.append, self.wake, 60.0, former  # type: ignore[arg-type]
        )

    def add(self, most: int, **streams: list[bytes]) -> None:
        for key, entries in streams.items():
            self.session.streams[key] = list(entries)
            self.feeds.add(key, key, most)

    def run(self, count: int = 1) -> None:
        for _ in range(count):
            self.handing.round()

    def bodies(self) -> list[bytes]:
        return [delivery.envelope.body for delivery in self.got]

    def settle(self, number: int) -> None:
        assert self.feeds.settle(self.got[number].tag)
        self.wake.set()


@pytest.fixture
def former() -> list[Former]:
    return []


@pytest.fixture
def rounds(former: list[Former]) -> Iterator[Rounds]:
    session = Session()
    rounds = Rounds(session, former)
    yield rounds
    rounds.wake.close()
    session.close()


def test_what_waits_is_taken_up_to_the_bound_and_the_rest_as_it_is_settled(rounds: Rounds) -> None:
    rounds.add(2, a=[b"1-1", b"1-2", b"1-3"])
    rounds.run()
    assert rounds.bodies() == [b"1-1", b"1-2"]
    assert "read" not in rounds.session.names(), "a full queue is not waited for"
    rounds.settle(0)
    rounds.run()
    assert rounds.bodies() == [b"1-1", b"1-2", b"1-3"]
    assert ("settle", {"a": [b"1-1"]}) in rounds.session.calls


def test_queue_that_is_settled_at_once_goes_on_without_a_wait(rounds: Rounds) -> None:
    rounds.handing._arrived = lambda delivery: rounds.got.append(delivery) or rounds.settle(-1)  # type: ignore
    rounds.add(1, a=[b"1-1", b"1-2", b"1-3"])
    rounds.run(3)
    assert rounds.bodies() == [b"1-1", b"1-2", b"1-3"]
    assert "end_read" not in rounds.session.names()


def test_what_comes_while_it_waits_is_handed_out_and_looked_after(rounds: Rounds) -> None:
    rounds.add(3, a=[], b=[])
    rounds.session.comes([[b"a", [[b"1-1", [b"body", b"x"]]]]])
    rounds.session.streams["a"] = []
    rounds.run()
    assert rounds.session.calls[-2:] == [("read", {b"a", b"b"}), ("end_read",)]
    assert rounds.bodies() == [b"x"]
    rounds.session.streams["a"] = [b"1-2"]
    rounds.run()
    assert rounds.bodies() == [b"x", b"1-2"]


def test_stream_that_is_waited_for_is_not_taken_from_meanwhile(rounds: Rounds) -> None:
    """Both together might be more than there is room for."""
    rounds.add(1, a=[])
    rounds.run()
    assert rounds.session.reads
    rounds.session.reply = [[b"a", [[b"1-1", [b"body", b"x"]]]]]
    rounds.session.streams["a"] = [b"1-2"]
    time.sleep(handing.LOOK_EVERY)
    rounds.run()
    assert rounds.bodies() == [b"x"]


def test_queue_added_while_it_waits_is_waited_for_too(rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing, "LOOK_EVERY", 0.05)
    rounds.add(1, a=[])
    rounds.run()
    monkeypatch.setattr(handing, "LOOK_EVERY", 10.0)
    rounds.add(1, b=[])
    rounds.wake.set()
    rounds.session.calls.clear()
    rounds.wake.set()
    rounds.handing.round()
    assert ("read", {b"a", b"b"}) in rounds.session.calls
    assert rounds.session.names().index("end_read") < rounds.session.names().index("read")


def test_missing_stream_is_not_waited_for_until_it_is_there(rounds: Rounds) -> None:
    rounds.add(1, a=[])
    rounds.feeds.add("gone", "gone", 1)
    rounds.run()
    assert ("read", {b"a"}) in rounds.session.calls
    rounds.session.streams["gone"] = [b"1-1"]
    time.sleep(handing.LOOK_EVERY)
    rounds.run()
    assert rounds.bodies() == [b"1-1"]


@pytest.mark.parametrize(
    "text", ["NOGROUP No such key 'a' or consumer group", "UNBLOCKED the stream key no longer exists", "WRONGTYPE no"]
)
def test_refused_wait_leads_to_a_look_at_all_of_it(
    rounds: Rounds, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handing, "AFTER_REFUSAL", 0.0)
    rounds.add(1, a=[], b=[])
    rounds.session.comes(ResponseError(text))
    rounds.run()
    del rounds.session.streams["a"]
    rounds.session.calls.clear()
    rounds.run()
    assert rounds.session.calls[0] == ("take", {"a": 1, "b": 1})
    assert ("read", {b"b"}) in rounds.session.calls


def test_other_refusals_end_the_session(rounds: Rounds) -> None:
    rounds.add(1, a=[])
    rounds.session.comes(ReadOnlyError("You can't write against a read only replica."))
    with pytest.raises(ReadOnlyError):
        rounds.run()


def test_wait_that_does_not_end_is_a_failure(rounds: Rounds) -> None:
    rounds.session.late = True
    with pytest.raises(BridgeUnavailable):
        rounds.run()


def test_expired_message_is_removed_and_not_handed_out(rounds: Rounds) -> None:
    rounds.add(1, a=[])
    rounds.session.comes([[b"a", [[b"1-1", [b"body", b"x", b"ttl", b"0"]]]]])
    rounds.run()
    assert rounds.got == []
    assert ("settle", {"a": [b"1-1"]}) in rounds.session.calls


def test_requeued_message_comes_again(rounds: Rounds) -> None:
    rounds.add(1, a=[b"1-1"])
    rounds.run()
    assert rounds.feeds.requeue(rounds.got[0].tag)
    rounds.run()
    assert rounds.bodies() == [b"1-1", b"1-1"]


def test_removed_queue_gets_all_back_after_the_wait_for_it_has_ended(rounds: Rounds) -> None:
    rounds.add(1, a=[])
    rounds.run()
    rounds.session.calls.clear()
    rounds.session.reply = [[b"a", [[b"1-1", [b"body", b"x"]]]]]
    assert rounds.feeds.remove("a")
    rounds.run()
    assert rounds.session.calls[:2] == [("end_read",), ("give_back", {"a"}, None)]
    assert rounds.got == []


def test_many_streams_are_looked_at_in_parts_and_each_of_them(rounds: Rounds) -> None:
    keys = [f"key-{number}" for number in range(2 * AT_ONCE + 1)]
    rounds.add(1, **{key: [key.encode()] for key in keys})
    rounds.run()
    assert sorted(rounds.bodies()) == sorted(key.encode() for key in keys)
    assert [len(call[1]) for call in rounds.session.calls if call[0] == "take"] == [AT_ONCE, AT_ONCE, 1]


def test_look_that_stops_early_goes_on_with_what_is_left(rounds: Rounds) -> None:
    rounds.session.capacity = 2
    rounds.add(1, **{key: [key.encode()] for key in "abcdefg"})
    rounds.run(2)
    assert sorted(rounds.bodies()) == [key.encode() for key in "abcdefg"]


def test_what_is_held_is_renewed(former: list[Former]) -> None:
    session = Session()
    rounds = Rounds(session, former)
    rounds.handing = Handing(
        session, rounds.feeds, rounds.got.append, rounds.wake, 0.03, former  # type: ignore[arg-type]
    )
    rounds.add(1, a=[b"1-1"], b=[])
    rounds.run(6)
    assert ("renew", ["a"]) in session.calls
    session.close()
    rounds.wake.close()


def test_what_earlier_sessions_held_is_given_back_some_times(rounds: Rounds, former: list[Former]) -> None:
    former.append(Former("batch-old", frozenset({"a", "gone"})))
    rounds.add(1, a=[])
    for _ in range(GIVEN_BACK + 3):
        rounds.run()
        time.sleep(handing.LOOK_EVERY)
    assert rounds.session.calls.count(("give_back", {"a", "gone"}, "batch-old")) == GIVEN_BACK
    assert former == []


def test_end_gives_everything_back(rounds: Rounds) -> None:
    rounds.add(1, a=[b"1-1"], b=[])
    rounds.run()
    rounds.feeds.settle(rounds.got[0].tag)
    rounds.handing.end()
    assert not rounds.session.reads
    assert rounds.session.calls[-2:] == [("settle", {"a": [b"1-1"]}), ("give_back", {"a", "b"}, None)]


def test_receiver_that_raises_does_not_stop_the_next_message(rounds: Rounds, caplog: pytest.LogCaptureFixture) -> None:
    def broken(delivery: Delivery) -> None:
        rounds.got.append(delivery)
        raise ValueError("broken")

    rounds.handing._arrived = broken
    rounds.add(2, a=[b"1-1", b"1-2"])
    rounds.run()
    assert rounds.bodies() == [b"1-1", b"1-2"]
    assert "handed out and not taken" in caplog.text
