"""Lists of queues: what is read for them, and that they wait for nobody."""

import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest

from bridges.bridging import parse
from gateway.config.limits import Limits
from gateway.core.core import Core
from gateway.core.errors import Busy
from gateway.core.gate import Gate
from gateway.core.queues import listing
from gateway.core.queues.listing import QueueLists, Wanted
from gateway.core.queues.metadata import MetadataRules
from storage.sqlite import SQLiteStore
from storage.sqlite.catalogue import SQLiteCatalogue


def names(core: Core, **wanted: Any) -> list[str]:
    page, _ = core.queues.list(Wanted("p", **{"after": "", "limit": 20} | wanted))
    return [queue.name for queue in page]


def count(core: Core, **wanted: Any) -> int | None:
    return core.queues.list(Wanted("p", **{"after": "", "limit": 1, "count": True} | wanted))[1]


def even(metadata: dict[str, Any]) -> bool:
    return bool(metadata["even"])


@pytest.fixture
def seven(core: Core) -> Core:
    for number in range(7):
        core.queues.create("p", f"q{number}", {"even": number % 2 == 0})
    return core


def test_filter_goes_across_steps(seven: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "STEP", 2)
    assert names(seven, limit=3, matches=even) == ["q0", "q2", "q4"]
    assert names(seven, after="q4", limit=3, matches=even) == ["q6"]
    assert names(seven, after="q0", limit=1, matches=even, count=True) == ["q2"]
    assert (count(seven, matches=even), count(seven)) == (4, 7)
    assert count(seven, after="q4", limit=1, matches=even) == 4  # of all, not of what is behind the marker


@pytest.mark.parametrize("part", ["no", "Q", "q ", "q0\0", "q" * 65, "(", "é"])
def test_part_that_is_in_no_name_finds_nothing(seven: Core, part: str) -> None:
    assert (names(seven, part=part), count(seven, part=part)) == ([], 0)
    assert (names(seven, part=part, matches=even), count(seven, part=part, matches=even)) == ([], 0)


def test_names_and_counts_by_name_read_no_metadata(seven: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MetadataRules, "show", lambda _: pytest.fail("metadata was read"))
    monkeypatch.setattr(seven.pool.store.catalogue, "list_queues", lambda *_: pytest.fail("metadata was read"))
    assert names(seven, part="3") == ["q3"]
    assert count(seven, part="q") == 7


def test_page_of_one_reads_one_queue(seven: Core, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = store.catalogue.list_queues
    monkeypatch.setattr(
        seven.pool.store.catalogue, "list_queues", lambda *place: asked.append(place) or real(*place)
    )
    (queue,), _ = seven.queues.list(Wanted("p", "", 1, detailed=True))
    assert orjson.loads(queue.metadata)["even"] is True
    assert asked == [("p", "", 1, "")]


def test_count_with_a_filter_has_no_end(core: Core, store: SQLiteStore) -> None:
    def change(db: Any) -> None:
        db.executemany(
            "INSERT INTO queues VALUES (?, 'p', ?, ?, 1, '')",
            ((f"p/q{n}", f"q{n}", b'{"even":%s}' % (b"true" if n % 2 else b"false")) for n in range(45_000)),
        )

    store._database.write(change)
    assert count(core, matches=even) == 22_500
    assert count(core, part="9", matches=even) == count(core, part="9") - sum(
        "9" in str(n) for n in range(0, 45_000, 2)
    )


def test_detailed_page_ends_when_there_are_too_many_bytes(core: Core, store: SQLiteStore) -> None:
    for number in range(8):
        store.catalogue.create_queue(f"p/q{number}", b'{"even":true,"x":"%s"}' % (b"x" * 700_000))
    for matches in (None, even):
        assert names(core, detailed=True, matches=matches) == ["q0", "q1"]
        assert names(core, detailed=True, matches=matches, after="q6") == ["q7"]
    assert count(core, detailed=True, matches=even) == 8


def test_filter_holds_little_in_memory(core: Core, store: SQLiteStore) -> None:
    metadata = orjson.dumps({f"key{n}": [n] for n in range(4000)})
    for number in range(120):
        store.catalogue.create_queue(f"p/q{number}", metadata)
    core.pool.store.timeout = 60.0  # it takes long to trace
    tracemalloc.start()
    try:
        assert names(core, limit=20, matches=lambda m: m["key1"] == [1], count=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * 1024 * 1024 < 120 * len(metadata)


def test_steps_are_as_large_as_the_metadata_lets_them(
    core: Core, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        store.catalogue.create_queue(f"p/a{number:02}", b'{"even":true}')
    for number in range(40):
        store.catalogue.create_queue(f"p/b{number:02}", b'{"even":true,"x":"%s"}' % (b"x" * 100_000))
    got: list[int] = []

    def list_queues(*place: Any) -> Any:
        found = SQLiteCatalogue.list_queues(store.catalogue, *place)
        got.append(len(found))
        return found

    monkeypatch.setattr(core.pool.store.catalogue, "list_queues", list_queues)
    assert count(core, matches=even) == 100
    assert got == [20, 50, 10, 10, 10, 0]


def test_long_filters_are_few_at_a_time_and_leave_short_ones_alone(
    seven: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "STEP", 1)
    inside, go_on = threading.Event(), threading.Event()

    class Watched(Gate):
        @contextmanager
        def turn(self) -> Iterator[None]:
            with super().turn():
                inside.set()
                yield

    rules = MetadataRules(Limits(), can_encrypt=False, parse_bridging=parse)
    lists = QueueLists(seven.pool.store, rules, Watched(1, 0, 0.1, "busy"))
    monkeypatch.setattr(seven.queues, "list", lists.page)

    def slow(metadata: dict[str, Any]) -> bool:
        if threading.current_thread() is first and inside.is_set():
            go_on.wait(10)
        return False

    first = threading.Thread(target=names, args=(seven,), kwargs={"matches": slow})
    first.start()
    try:
        assert inside.wait(10)
        with pytest.raises(Busy, match="busy"):
            names(seven, matches=slow)
        assert names(seven, matches=even, limit=1) == ["q0"]
        assert names(seven, limit=3) == ["q0", "q1", "q2"]
    finally:
        go_on.set()
        first.join()
    assert names(seven, matches=even) == ["q0", "q2", "q4", "q6"]


def test_filter_ends_in_time(seven: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "STEP", 1)
    monkeypatch.setattr(seven.pool.store, "timeout", -1.0, raising=False)
    with pytest.raises(Busy, match="too many queues"):
        names(seven, matches=even)


def test_gate_lets_some_wait_and_turns_the_rest_away() -> None:
    gate = Gate(1, 1, 10.0, "busy")
    order: list[str] = []

    def wait() -> None:
        with gate.turn():
            order.append("waiter")

    with gate.turn():
        waiter = threading.Thread(target=wait)
        waiter.start()
        while gate._room._value:
            pass
        with pytest.raises(Busy), gate.turn():
            pass
        order.append("first")
    waiter.join()
    assert order == ["first", "waiter"]
    with gate.turn():
        pass
