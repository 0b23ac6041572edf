"""What every side-store has to do: inherit SideStoreSuite and provide a `store` fixture.

The suite is installed with the package, so that authors of drivers can run it; it needs pytest, which nothing else here
imports. It is one module because a driver inherits one class, with one test for each promise.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest

from storage.base import SideStore
from storage.errors import LeaseLost, QueueGone, Unstorable
from storage.landed import SEEN_FOR
from storage.model import Claim, Message, Ring

MINUTE = 60_000
HOUR = 60 * MINUTE

#: Ids of keys; the last would be a number without its letter.
KEYS = ("kaaaaaaaaaaaaaa0", "kaaaaaaaaaaaaaa1", "k123456789012345")

#: Threads that do the same thing at the same moment.
CROWD = 8

#: Seconds after which a test that waits for its threads fails.
DEADLINE = 30.0

#: Largest landing position, as clients may send it as a marker.
MAX_POSITION = 2**63 - 1

#: Projects as they may be: printable, up to 256 characters. A slash and a dot are what keys are made of.
ODD_PROJECTS = ("a.b", "a/b", "a%2Fb", "a b", "$where", "a'b\"c", "p" * 256, "\x00health")


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Run the calls at the same moment, each in a thread of its own; their results, or what one of them raised."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait(DEADLINE)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(DEADLINE) for future in [pool.submit(run, call) for call in calls]]


class Clock:
    """Stands in for a store's clock, and moves only when told to."""

    def __init__(self, time: int):
        self.time = time

    def __call__(self) -> int:
        return self.time

    def advance(self, milliseconds: int) -> None:
        self.time += milliseconds


def new(store: SideStore, id_: str, **fields: Any) -> Message:
    """A message that lives for an hour, unless the fields say otherwise."""
    now = store.now()
    values: dict[str, Any] = {"id": id_, "posted": now, "expires": now + HOUR, "body": b'"body"'}
    return Message(**(values | fields))


def add(store: SideStore, q: str, *ids: str, **fields: Any) -> list[Message]:
    """Land new messages in this order."""
    messages = [new(store, id_, **fields) for id_ in ids]
    store.landed.append(q, messages)
    return messages


def new_claim(store: SideStore, id_: str = "claim", lasts: int = MINUTE, grace: int = MINUTE) -> Claim:
    """A claim from now on; times in ms."""
    expires = store.now() + lasts
    return Claim(id_, lasts // 1000, expires, expires + grace)


def created(store: SideStore, name: str) -> str:
    """The key of a queue that is made if it does not exist."""
    store.catalogue.create_queue(name, None)
    queue = store.catalogue.get_queue(name)
    assert queue is not None
    return queue.key


def take(store: SideStore, q: str, claim: Claim, *ids: str) -> list[Message]:
    """Claim these messages, or all that are free."""
    found, _ = store.landed.find_free(q, 1000)
    return store.landed.claim(q, [m for m in found if m.id in ids or not ids], claim)


def ids_of(messages: Sequence[Message]) -> list[str]:
    return [message.id for message in messages]


def listed(store: SideStore, q: str, **filters: Any) -> list[str]:
    """Ids of what a list from the beginning shows."""
    return ids_of(store.landed.list_messages(q, 0, 1000, **filters))


def free_ids(store: SideStore, q: str) -> list[str]:
    return ids_of(store.landed.find_free(q, 1000)[0])


class SideStoreSuite:
    """One test for each promise of storage/base.py, catalogue.py and landed.py.

    Queues are new in each test, so the store may be shared.
    """

    @pytest.fixture
    def project(self) -> str:
        """A project that nobody else uses."""
        return f"project-{uuid4().hex}"

    @pytest.fixture
    def name(self, project: str) -> str:
        """Name of a queue that nobody else uses, and that does not exist."""
        return f"{project}/queue"

    @pytest.fixture
    def q(self, store: SideStore, name: str) -> str:
        """Key of a queue that exists, and that nobody else uses."""
        return created(store, name)

    @pytest.fixture
    def q2(self, store: SideStore, name: str) -> str:
        """Key of another one."""
        return created(store, f"{name}2")

    @pytest.fixture
    def clock(self, store: SideStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
        """The store's clock, in the hands of the test."""
        clock = Clock(store.now())
        monkeypatch.setattr(store, "now", clock)
        yield clock

    # -- life ---------------------------------------------------------------------------------------------------

    def test_ping_returns_when_the_store_works(self, store: SideStore) -> None:
        store.ping()

    def test_connections_are_counted(self, store: SideStore) -> None:
        store.ping()
        assert store.connections() >= 1

    def test_clock_is_in_whole_milliseconds_and_does_not_go_back(self, store: SideStore) -> None:
        store.ping()
        times = [store.now() for _ in range(100)]
        assert all(isinstance(time, int) for time in times)
        assert times == sorted(times)

    def test_housekeeping_leaves_the_living_alone(self, store: SideStore, q: str) -> None:
        add(store, q, "free")
        add(store, q, "delayed", hidden_until=store.now() + MINUTE)
        store.maintain()
        assert listed(store, q, delayed=True) == ["free", "delayed"]

    # -- queues -------------------------------------------------------------------------------------------------

    def test_queue_is_made_once(self, store: SideStore, name: str) -> None:
        assert store.catalogue.create_queue(name, b'{"a":1}') is True
        assert store.catalogue.create_queue(name, None) is False
        queue = store.catalogue.get_queue(name)
        assert queue is not None
        assert (queue.name, queue.metadata) == ("queue", b'{"a":1}')

    def test_queue_made_without_metadata_has_an_empty_object(self, store: SideStore, name: str) -> None:
        store.catalogue.create_queue(name, None)
        queue = store.catalogue.get_queue(name)
        assert queue is not None and queue.metadata == b"{}"

    def test_queue_that_was_never_made_is_none(self, store: SideStore, name: str) -> None:
        assert store.catalogue.get_queue(name) is None

    def test_creating_again_replaces_metadata(self, store: SideStore, name: str) -> None:
        store.catalogue.create_queue(name, b'{"a":1}')
        before = store.catalogue.get_queue(name)
        assert store.catalogue.create_queue(name, b'{"b":2}') is False
        after = store.catalogue.get_queue(name)
        assert before is not None and after is not None
        assert after.metadata == b'{"b":2}'
        assert after.version > before.version

    def test_one_of_many_creators_makes_the_queue(self, store: SideStore, name: str) -> None:
        made = together(*[lambda: store.catalogue.create_queue(name, None)] * CROWD)
        assert made.count(True) == 1

    def test_metadata_is_replaced_at_the_version_that_was_read(self, store: SideStore, name: str) -> None:
        store.catalogue.create_queue(name, b"{}")
        read = store.catalogue.get_queue(name)
        assert read is not None
        assert store.catalogue.replace_metadata(name, b'{"a":1}', read.version) is True
        assert store.catalogue.replace_metadata(name, b'{"b":2}', read.version) is False
        now = store.catalogue.get_queue(name)
        assert now is not None and now.metadata == b'{"a":1}'

    def test_one_of_many_changes_to_one_version_succeeds(self, store: SideStore, name: str) -> None:
        store.catalogue.create_queue(name, b"{}")
        read = store.catalogue.get_queue(name)
        assert read is not None
        done = together(*[
            lambda n=n: store.catalogue.replace_metadata(name, b'{"n":%d}' % n, read.version) for n in range(CROWD)
        ])
        now = store.catalogue.get_queue(name)
        assert done.count(True) == 1
        assert now is not None and now.metadata == b'{"n":%d}' % done.index(True)

    def test_metadata_of_a_missing_queue_is_not_replaced(self, store: SideStore, name: str) -> None:
        assert store.catalogue.replace_metadata(name, b"{}", 1) is False
        assert store.catalogue.get_queue(name) is None

    def test_deleting_a_queue_removes_all_of_it(self, store: SideStore, name: str) -> None:
        q = created(store, name)
        add(store, q, "landed")
        store.landed.tombstone(q, {"dropped": store.now() + HOUR})
        store.catalogue.delete_queue(name)
        assert store.catalogue.get_queue(name) is None
        assert listed(store, q) == []
        again = created(store, name)
        assert again != q
        assert listed(store, again) == []
        assert store.landed.land(again, [new(store, "dropped", seq=1)]) == set()

    def test_nothing_lands_under_the_key_of_a_deleted_queue(self, store: SideStore, name: str) -> None:
        old = created(store, name)
        store.landed.acquire_lease(old, "us", 60)
        store.catalogue.delete_queue(name)
        new_key = created(store, name)
        late = [new(store, "late", seq=1)]
        calls: tuple[Callable[[], Any], ...] = (
            lambda: store.landed.land(old, late), lambda: store.landed.land(old, late, "us"),
            lambda: store.landed.append(old, late), lambda: store.landed.acquire_lease(old, "them", 60),
            lambda: store.landed.find_free(old, 10), lambda: store.landed.landed_or_deleted(old, ["late"]),
            lambda: store.landed.land(old, late, seen=time.monotonic() - SEEN_FOR),
        )
        for call in calls:
            with pytest.raises(QueueGone):
                call()
        assert listed(store, old) == listed(store, new_key) == []

    def test_what_lands_in_a_queue_that_was_seen_just_before_its_end_does_not_stay(
        self, store: SideStore, name: str
    ) -> None:
        old = created(store, name)
        seen = time.monotonic()
        store.catalogue.delete_queue(name)
        with suppress(QueueGone):
            store.landed.land(old, [new(store, "late", seq=1)], seen=seen)
        assert listed(store, created(store, name)) == []
        time.sleep(SEEN_FOR)
        store.maintain()
        assert listed(store, old) == []

    def test_versions_of_a_deleted_queue_do_not_come_again(self, store: SideStore, name: str) -> None:
        created(store, name)
        read = store.catalogue.get_queue(name)
        assert read is not None
        store.catalogue.delete_queue(name)
        time.sleep(0.002)
        created(store, name)
        assert store.catalogue.replace_metadata(name, b'{"old":1}', read.version) is False

    def test_creating_again_mends_a_queue_under_which_nothing_lands(self, store: SideStore, name: str) -> None:
        q = created(store, name)
        self.lose_lease(store, q)
        with pytest.raises(QueueGone):
            store.landed.append(q, [new(store, "m")])
        assert store.catalogue.create_queue(name, None) is False
        add(store, q, "m")
        assert listed(store, q) == ["m"]

    def lose_lease(self, store: Any, q: str) -> None:
        """Remove a queue's lease, as if its creator had died before making it."""
        raise NotImplementedError

    # -- locks --------------------------------------------------------------------------------------------------

    def test_lock_is_held_by_one(self, store: SideStore, name: str, clock: Clock) -> None:
        assert store.catalogue.lock(name, "us", 30) == 0
        assert store.catalogue.lock(name, "them", 30) is None
        assert store.catalogue.lock(name, "us", 30) is None
        assert store.catalogue.lock(f"{name}2", "them", 30) == 0

    def test_one_of_many_gets_a_lock(self, store: SideStore, name: str) -> None:
        got = together(*[lambda n=n: store.catalogue.lock(name, f"owner-{n}", 30) for n in range(CROWD)])
        assert len([last for last in got if last is not None]) == 1

    def test_lock_is_given_up_by_its_holder_alone(self, store: SideStore, name: str, clock: Clock) -> None:
        store.catalogue.lock(name, "us", 30)
        store.catalogue.unlock(name, "them")
        assert store.catalogue.lock(name, "them", 30) is None
        clock.advance(5)
        store.catalogue.unlock(name, "us")
        given_up = clock.time
        clock.advance(5)
        assert store.catalogue.lock(name, "them", 30) == given_up

    def test_lock_may_stay_held_for_a_while(self, store: SideStore, name: str, clock: Clock) -> None:
        store.catalogue.lock(name, "us", 30)
        store.catalogue.unlock(name, "us", after=2)
        clock.advance(1_999)
        assert store.catalogue.lock(name, "them", 30) is None
        clock.advance(1)
        assert store.catalogue.lock(name, "them", 30) is not None

    def test_lock_of_a_dead_holder_is_free_at_its_time(self, store: SideStore, name: str, clock: Clock) -> None:
        store.catalogue.lock(name, "dead", 30)
        clock.advance(29_999)
        assert store.catalogue.lock(name, "us", 30) is None
        clock.advance(1)
        assert store.catalogue.lock(name, "us", 30) is not None
        store.catalogue.unlock(name, "dead")
        assert store.catalogue.lock(name, "them", 30) is None

    def test_deleting_a_queue_leaves_the_others(self, store: SideStore, project: str) -> None:
        keys = [created(store, f"{project}/{name}") for name in ("queue", "queue2")]
        for key in keys:
            add(store, key, "m")
        store.catalogue.delete_queue(f"{project}/queue")
        assert store.catalogue.get_queue(f"{project}/queue2") is not None
        assert listed(store, keys[1]) == ["m"]

    def test_deleting_a_missing_queue_does_nothing(self, store: SideStore, name: str) -> None:
        store.catalogue.delete_queue(name)
        assert store.catalogue.get_queue(name) is None
    @pytest.mark.parametrize("fields", [
        {"client": "\udc80"}, {"posted": 2**64}, {"claims": 2**63}, {"claim": "\ud800"},
    ], ids=str)
    def test_what_can_never_be_stored_says_so_and_fails_nobody_else(
        self, store: SideStore, q: str, fields: dict[str, Any]
    ) -> None:
        def land(number: int) -> bool:
            messages = [new(store, f"{number}-good", seq=2 * number + 1)]
            if number % 2:
                messages.append(new(store, f"{number}-bad", **{"seq": 2 * number + 2, **fields}))
            try:
                return store.landed.land(q, messages) == set()
            except Unstorable:
                return False

        results = together(*[lambda number=number: land(number) for number in range(CROWD)])
        assert results == [True, False] * (CROWD // 2)
        assert {f"{number}-good" for number in range(0, CROWD, 2)} <= set(listed(store, q))
        with pytest.raises(Unstorable):
            store.landed.append(q, [new(store, "appended", **{key: fields[key] for key in fields})])
        add(store, q, "after")
        assert listed(store, q)[-1] == "after"

    def test_queues_are_listed_by_name(self, store: SideStore, project: str) -> None:
        names = ["b", "a", "B", "_", "-", ".", "a10", "a9", "0", "Z", "aa", "a-b", "a.b"]
        for name in names:
            store.catalogue.create_queue(f"{project}/{name}", b'{"of":"%s"}' % name.encode())
        found = store.catalogue.list_queues(project, "", 100)
        assert [queue.name for queue in found] == sorted(names)
        assert all(queue.metadata == b'{"of":"%s"}' % queue.name.encode() for queue in found)

    def test_queues_are_listed_in_pages(self, store: SideStore, project: str) -> None:
        for number in range(5):
            store.catalogue.create_queue(f"{project}/q{number}", None)
        assert [queue.name for queue in store.catalogue.list_queues(project, "", 2)] == ["q0", "q1"]
        assert [queue.name for queue in store.catalogue.list_queues(project, "q1", 2)] == ["q2", "q3"]
        assert [queue.name for queue in store.catalogue.list_queues(project, "q3", 2)] == ["q4"]
        assert store.catalogue.list_queues(project, "q4", 2) == []

    def test_queues_are_found_by_a_part_of_their_name(self, store: SideStore, project: str) -> None:
        for name in ("jobs", "jobs.v1", "my-jobs", "JOBS", "job_s", "j.bs", "x"):
            store.catalogue.create_queue(f"{project}/{name}", b"{}")
        for part, found in {
            "jobs": ["jobs", "jobs.v1", "my-jobs"], "": ["JOBS", "j.bs", "job_s", "jobs", "jobs.v1", "my-jobs", "x"],
            ".": ["j.bs", "jobs.v1"], "_": ["job_s"], "-": ["my-jobs"], "jobs.v1": ["jobs.v1"], "none": [],
        }.items():
            assert store.catalogue.list_names(project, "", 10, part) == found
            assert [queue.name for queue in store.catalogue.list_queues(project, "", 10, part)] == found
            assert store.catalogue.count_queues(project, part) == len(found)
        assert store.catalogue.list_names(project, "jobs", 1, "jobs") == ["jobs.v1"]
        assert store.catalogue.count_queues(f"{project}x", "jobs") == 0

    def test_list_of_queues_ends_when_there_are_too_many_bytes(self, store: SideStore, project: str) -> None:
        for number in range(30):
            store.catalogue.create_queue(f"{project}/q{number:02}", b'{"a":"%s"}' % (b"x" * 992))
        assert len(store.catalogue.list_queues(project, "", 30)) == 30
        found = store.catalogue.list_queues(project, "", 30, most_bytes=3000)
        assert [queue.name for queue in found] == ["q00", "q01", "q02"]
        assert [queue.name for queue in store.catalogue.list_queues(project, "q02", 30, most_bytes=1)] == ["q03"]
        assert len(store.catalogue.list_queues(project, "", 30, most_bytes=25_000)) == 25

    def test_keys_of_all_queues_are_listed_in_order(self, store: SideStore, project: str) -> None:
        keys = sorted(f"{project}{end}/q{number}" for end in ("", "2") for number in range(2))
        for key in keys:
            store.catalogue.create_queue(key, None)
        assert [key for key in store.catalogue.queue_keys("", 1_000_000) if key.startswith(project)] == keys
        assert store.catalogue.queue_keys(keys[0], 2) == keys[1:3]

    def test_volume_counts_the_messages_of_all_queues(self, store: SideStore, project: str) -> None:
        before = store.landed.volume()
        keys = [created(store, f"{project}/{name}") for name in "ab"]
        for key in keys:
            add(store, key, "1", "2")
        take(store, keys[0], new_claim(store, "c"), "1")
        after = store.landed.volume()
        assert (after.free - before.free, after.claimed - before.claimed, after.delayed) == (3, 1, before.delayed)
        assert (after.oldest, after.newest) == (None, None)

    def test_only_the_projects_own_queues_are_listed_and_counted(self, store: SideStore, project: str) -> None:
        for owner in (project, f"{project}x", f"{project}/sub"):
            store.catalogue.create_queue(f"{owner}/queue-of-{owner[-3:].strip('/')}", None)
        assert len(store.catalogue.list_queues(project, "", 10)) == store.catalogue.count_queues(project) == 1
        assert len(store.catalogue.list_queues(f"{project}/sub", "", 10)) == 1
        assert store.catalogue.count_queues(f"{project}/other") == 0

    def test_bridged_queues_are_listed_till_they_are_unmarked(self, store: SideStore, project: str) -> None:
        keys = [f"{project}/{name}" for name in ("b", "a", "C", "a.b")]
        marks = {key: store.catalogue.mark_bridged(key) for key in keys}
        again = marks[keys[0]] = store.catalogue.mark_bridged(keys[0])
        before = project[:-1] + chr(ord(project[-1]) - 1) + "\uffff"
        assert store.catalogue.list_bridged(before, 4) == sorted(marks.items())
        assert store.catalogue.list_bridged(sorted(keys)[1], 1) == [(sorted(keys)[2], marks[sorted(keys)[2]])]
        store.catalogue.unmark_bridged(keys[0], "another mark")
        assert (keys[0], again) in store.catalogue.list_bridged(before, 4)
        for key, mark in marks.items():
            store.catalogue.unmark_bridged(key, mark)
        assert not set(keys) & {key for key, _ in store.catalogue.list_bridged(before, 4)}

    @pytest.mark.parametrize("odd", ODD_PROJECTS)
    def test_odd_projects_keep_apart(self, store: SideStore, odd: str) -> None:
        unique = uuid4().hex
        odd = odd[:256 - len(unique)] + unique
        plain = odd.replace("/", "_").replace(".", "_") + "-"
        odd_q, plain_q = (created(store, f"{project}/q.1") for project in (odd, plain))
        for key in (odd_q, plain_q):
            add(store, key, f"in {key[:8]}".replace(" ", "-").replace("/", "-"), "same-id")
        take(store, odd_q, new_claim(store, "c"), "same-id")
        assert [queue.name for queue in store.catalogue.list_queues(odd, "", 10)] == ["q.1"]
        assert ids_of(store.landed.get_claim(odd_q, "c")) == ["same-id"]
        assert store.landed.delete_unclaimed(plain_q, ["same-id"]) == 1
        assert len(listed(store, odd_q, claimed=True)) == 2
        store.catalogue.delete_queue(f"{odd}/q.1")
        assert store.catalogue.get_queue(f"{plain}/q.1") is not None
        assert len(listed(store, plain_q)) == 1

    # -- the lease ----------------------------------------------------------------------------------------------

    def test_first_lease_of_a_queue_starts_at_zero(self, store: SideStore, q: str) -> None:
        assert store.landed.acquire_lease(q, "us", 60) == 0

    def test_held_lease_is_refused_to_others(self, store: SideStore, q: str) -> None:
        store.landed.acquire_lease(q, "us", 60)
        assert store.landed.acquire_lease(q, "them", 60) is None

    def test_one_of_many_gets_the_lease(self, store: SideStore, q: str) -> None:
        got = together(*[lambda n=n: store.landed.acquire_lease(q, f"owner-{n}", 60) for n in range(CROWD)])
        assert [last for last in got if last is not None] == [0]

    def test_released_lease_can_be_taken(self, store: SideStore, q: str) -> None:
        store.landed.acquire_lease(q, "us", 60)
        store.landed.release_lease(q, "us", 7)
        assert store.landed.acquire_lease(q, "them", 60) == 7

    def test_lease_is_not_released_by_others(self, store: SideStore, q: str) -> None:
        store.landed.acquire_lease(q, "us", 60)
        store.landed.release_lease(q, "them", 7)
        assert store.landed.acquire_lease(q, "them", 60) is None

    def test_renewed_lease_lasts_from_then(self, store: SideStore, q: str, clock: Clock) -> None:
        store.landed.acquire_lease(q, "us", 60)
        clock.advance(MINUTE - 1)
        assert store.landed.renew_lease(q, "us", 60) is True
        clock.advance(MINUTE - 1)
        assert store.landed.acquire_lease(q, "them", 60) is None
        clock.advance(1)
        assert store.landed.acquire_lease(q, "them", 60) is not None

    def test_lease_is_renewed_only_for_its_holder(self, store: SideStore, q: str, clock: Clock) -> None:
        assert store.landed.renew_lease(q, "us", 60) is False
        store.landed.acquire_lease(q, "us", 60)
        assert store.landed.renew_lease(q, "them", 60) is False
        clock.advance(MINUTE)
        assert store.landed.renew_lease(q, "us", 60) is False
        store.landed.acquire_lease(q, "them", 60)
        store.landed.release_lease(q, "them", 1)
        assert store.landed.renew_lease(q, "them", 60) is False

    def test_leases_of_two_queues_are_independent(self, store: SideStore, q: str, q2: str) -> None:
        store.landed.acquire_lease(q, "us", 60)
        assert store.landed.acquire_lease(q2, "them", 60) == 0

    def test_lease_ends_at_its_time(self, store: SideStore, q: str, clock: Clock) -> None:
        store.landed.acquire_lease(q, "us", 60)
        clock.advance(MINUTE - 1)
        assert store.landed.acquire_lease(q, "them", 60) is None
        clock.advance(1)
        assert store.landed.acquire_lease(q, "them", 60) is not None

    def test_late_release_does_not_end_the_next_holders_lease(self, store: SideStore, q: str, clock: Clock) -> None:
        store.landed.acquire_lease(q, "us", 60)
        clock.advance(MINUTE)
        store.landed.acquire_lease(q, "them", 60)
        store.landed.release_lease(q, "us", 9)
        assert store.landed.acquire_lease(q, "third", 60) is None

    def test_nothing_lands_under_a_lease_that_is_over(self, store: SideStore, q: str, clock: Clock) -> None:
        with pytest.raises(LeaseLost):
            store.landed.land(q, [new(store, "never-held", seq=1)], "us")
        store.landed.acquire_lease(q, "us", 60)
        clock.advance(MINUTE)
        with pytest.raises(LeaseLost):
            store.landed.land(q, [new(store, "late", seq=1)], "us")
        store.landed.acquire_lease(q, "them", 60)
        with pytest.raises(LeaseLost):
            store.landed.land(q, [new(store, "late", seq=1)], "us")
        assert listed(store, q) == []
        assert store.landed.land(q, [new(store, "theirs", seq=1)], "them") == set()
        assert listed(store, q) == ["theirs"]

    def test_what_has_landed_before_does_not_land_again_under_a_lease(self, store: SideStore, q: str) -> None:
        add(store, q, "before")
        store.landed.tombstone(q, {"dead": store.now() + HOUR})
        last = store.landed.acquire_lease(q, "us", 60)
        assert last is not None
        messages = [new(store, id_, seq=last + n) for n, id_ in enumerate(("before", "a", "dead", "b"), 1)]
        assert store.landed.land(q, messages, "us") == {"before", "dead"}
        store.landed.release_lease(q, "us", last + 4)
        assert listed(store, q) == ["before", "a", "b"]
        assert store.landed.acquire_lease(q, "them", 60) == last + 4

    def test_last_position_never_goes_back(self, store: SideStore, q: str) -> None:
        for last in (9, 5):
            store.landed.acquire_lease(q, "us", 60)
            store.landed.release_lease(q, "us", last)
        assert store.landed.acquire_lease(q, "us", 60) == 9

    def test_lease_starts_behind_what_landed_without_it(self, store: SideStore, q: str) -> None:
        store.landed.acquire_lease(q, "us", 60)
        store.landed.release_lease(q, "us", 5)
        store.landed.land(q, [new(store, "by-a-claimer", seq=12)])
        assert store.landed.acquire_lease(q, "us", 60) == 12

    def test_free_tells_of_the_lease(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "m")
        assert store.landed.find_free(q, 10)[1] is False
        store.landed.acquire_lease(q, "us", 60)
        messages, leased = store.landed.find_free(q, 10)
        assert (ids_of(messages), leased) == (["m"], True)
        clock.advance(MINUTE)
        assert store.landed.find_free(q, 10)[1] is False
        store.landed.acquire_lease(q, "us", 60)
        store.landed.release_lease(q, "us", 1)
        assert store.landed.find_free(q, 10)[1] is False

    def test_free_tells_of_the_lease_of_a_queue_without_messages(self, store: SideStore, q: str) -> None:
        store.landed.acquire_lease(q, "us", 60)
        assert store.landed.find_free(q, 10) == ([], True)

    # -- landing ------------------------------------------------------------------------------------------------

    def test_all_fields_are_kept(self, store: SideStore, q: str) -> None:
        now = store.now()
        message = Message(
            id="id", posted=now - 5, expires=now + HOUR, body=b"{}", client="client", encrypted=True, seq=3,
            hidden_until=now + MINUTE, claim="claim", claim_ttl=60, claims=2,
        )
        assert store.landed.land(q, [message]) == set()
        assert store.landed.get_messages(q, ["id"]) == [message]

    @pytest.mark.parametrize("key", ["", KEYS[0], f"{KEYS[0]}?0123abcd", "?0123abcd?12345678"])
    def test_key_of_an_encrypted_message_is_kept(self, store: SideStore, q: str, key: str) -> None:
        message = new(store, "id", seq=1, encrypted=True, key=key)
        store.landed.land(q, [message])
        assert store.landed.get_messages(q, ["id"]) == [message]

    def test_ring_leaves_out_what_it_does_not_open(self, store: SideStore, q: str) -> None:
        ring = Ring("0123abcd", KEYS[:2])
        opened = {"plain": "", "one": KEYS[0], "two": KEYS[1], "unknown": "", "tried": "?12345678",
                  "mine-tried": f"{KEYS[1]}?12345678"}
        closed = {"third": KEYS[2], "failed": "?0123abcd", "failed-too": "?12345678?0123abcd",
                  "damaged": f"{KEYS[0]}?0123abcd", "not-mine": f"{KEYS[2]}?12345678"}
        for id_, key in [*closed.items(), *opened.items()]:
            add(store, q, id_, encrypted=id_ != "plain", key=key)

        assert ids_of(store.landed.find_free(q, 100)[0]) == [*closed, *opened]
        assert ids_of(store.landed.find_free(q, 100, ring)[0]) == [*opened]
        assert ids_of(store.landed.find_free(q, 2, ring)[0]) == ["plain", "one"]
        assert ids_of(store.landed.list_messages(q, 0, 100, ring=ring)) == [*opened]
        assert ids_of(store.landed.list_messages(q, 0, 100)) == [*closed, *opened]
        assert ids_of(store.landed.find_free(q, 100, Ring("87654321", ()))[0]) == [
            "failed", "failed-too", "plain", "unknown", "tried"
        ]

    def test_ring_is_no_reason_to_miss_the_lease(self, store: SideStore, q: str) -> None:
        add(store, q, "closed", encrypted=True, key=KEYS[0])
        store.landed.acquire_lease(q, "us", 60)
        assert store.landed.find_free(q, 10, Ring("0123abcd", ())) == ([], True)

    def test_mark_changes_the_key_alone(self, store: SideStore, q: str) -> None:
        message, other = add(store, q, "id", "other", encrypted=True)
        message.key = "?0123abcd"
        store.landed.mark(q, [message, new(store, "gone", encrypted=True, key="?0123abcd")])
        assert store.landed.list_messages(q, 0, 10) == [message, other]
        assert ids_of(store.landed.find_free(q, 10, Ring("0123abcd", KEYS))[0]) == ["other"]

    def test_defaults_are_kept(self, store: SideStore, q: str) -> None:
        message = new(store, "id", seq=1)
        store.landed.land(q, [message])
        assert store.landed.get_messages(q, ["id"]) == [message]

    @pytest.mark.parametrize(
        "body", [b"", b"0", bytes(range(256)), b"\0" * 10, b'"' + b"x" * 2**20 + b'"'],
        ids=["empty", "digit", "binary", "zeros", "1-MiB"],
    )
    def test_bodies_come_back_as_they_were(self, store: SideStore, q: str, body: bytes) -> None:
        add(store, q, "id", body=body)
        (found,) = store.landed.get_messages(q, ["id"])
        assert found.body == body and isinstance(found.body, bytes)

    def test_largest_position_is_kept(self, store: SideStore, q: str) -> None:
        store.landed.land(q, [new(store, "last", seq=MAX_POSITION)])
        assert ids_of(store.landed.list_messages(q, MAX_POSITION - 1, 10)) == ["last"]
        assert store.landed.list_messages(q, MAX_POSITION, 10) == []

    def test_what_has_landed_is_left_out_and_unchanged(self, store: SideStore, q: str) -> None:
        add(store, q, "old", body=b"1")
        left_out = store.landed.land(q, [new(store, "old", seq=5, body=b"2"), new(store, "new", seq=6)])
        assert left_out == {"old"}
        assert {m.id: m.body for m in store.landed.get_messages(q, ["old", "new"])} == {"old": b"1", "new": b'"body"'}

    def test_landing_again_does_not_free_a_claimed_message(self, store: SideStore, q: str) -> None:
        (message,) = add(store, q, "m")
        take(store, q, new_claim(store))
        assert store.landed.land(q, [message]) == {"m"}
        assert free_ids(store, q) == []

    def test_same_id_in_two_queues_is_two_messages(self, store: SideStore, q: str, q2: str) -> None:
        add(store, q, "m")
        assert store.landed.land(q2, [new(store, "m", seq=1)]) == set()

    def test_one_of_many_landings_of_an_id_counts(self, store: SideStore, q: str) -> None:
        left_out = together(*[lambda n=n: store.landed.land(q, [new(store, "m", seq=n + 1)]) for n in range(CROWD)])
        assert left_out.count(set()) == 1
        assert listed(store, q) == ["m"]

    def test_nothing_lands_where_a_tombstone_is(self, store: SideStore, q: str) -> None:
        assert store.landed.tombstone(q, {"dead": store.now() + HOUR}) == set()
        assert store.landed.land(q, [new(store, "dead", seq=1), new(store, "living", seq=2)]) == {"dead"}
        assert listed(store, q) == ["living"]

    def test_tombstone_is_no_message(self, store: SideStore, q: str) -> None:
        store.landed.tombstone(q, {"dead": store.now() + HOUR})
        assert store.landed.get_messages(q, ["dead"]) == []
        assert store.landed.delete_unclaimed(q, ["dead"]) == 0
        assert store.landed.find_free(q, 10) == ([], False)
        assert store.landed.stats(q).free == 0
        assert store.landed.land(q, [new(store, "dead", seq=1)]) == {"dead"}

    def test_tombstone_counts_in_its_queue_only(self, store: SideStore, q: str, q2: str) -> None:
        store.landed.tombstone(q, {"m": store.now() + HOUR})
        assert store.landed.land(q2, [new(store, "m", seq=1)]) == set()

    def test_tombstone_may_be_put_twice(self, store: SideStore, q: str) -> None:
        for _ in range(2):
            assert store.landed.tombstone(q, {"dead": store.now() + HOUR}) == set()
        assert store.landed.land(q, [new(store, "dead", seq=1)]) == {"dead"}

    def test_what_has_landed_gets_no_tombstone(self, store: SideStore, q: str) -> None:
        add(store, q, "landed")
        until = store.now() + HOUR
        assert store.landed.tombstone(q, {"landed": until, "dead": until}) == {"landed"}
        assert listed(store, q) == ["landed"]
        store.landed.delete_unclaimed(q, ["landed"])
        assert store.landed.land(q, [new(store, "landed", seq=9)]) == set()

    def test_known_is_what_has_landed_or_has_a_tombstone(self, store: SideStore, q: str, q2: str) -> None:
        assert store.landed.land(q, [new(store, "landed", seq=1)]) == set()
        store.landed.tombstone(q, {"dead": store.now() + HOUR})
        assert store.landed.landed_or_deleted(q, ["landed", "dead", "new"]) == {"landed", "dead"}
        assert store.landed.landed_or_deleted(q2, ["landed", "dead"]) == set()

    def test_nothing_is_a_fine_amount(self, store: SideStore, q: str) -> None:
        assert store.landed.land(q, []) == set()
        assert store.landed.claim(q, [], new_claim(store)) == []
        assert store.landed.get_messages(q, []) == []
        assert store.landed.delete_unclaimed(q, []) == 0
        assert store.landed.delete_claimed(q, [], ["claim"]) == 0
        assert store.landed.delete_claimed(q, ["m"], []) == 0
        assert store.landed.tombstone(q, {}) == set()

    # -- append -------------------------------------------------------------------------------------------------

    def test_appended_messages_are_in_the_order_given(self, store: SideStore, q: str) -> None:
        first = add(store, q, "c", "a")
        second = add(store, q, "b")
        assert listed(store, q) == ["c", "a", "b"]
        assert [m.seq for m in store.landed.list_messages(q, 0, 10)] == [m.seq for m in first + second]

    def test_position_grows_when_the_clock_goes_back(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "before")
        clock.advance(-MINUTE)
        add(store, q, "after")
        assert listed(store, q) == ["before", "after"]

    @pytest.mark.parametrize("remove", ["delete", "purge"])
    def test_position_of_a_message_that_is_gone_is_not_used_again(
        self, store: SideStore, q: str, clock: Clock, remove: str
    ) -> None:
        """Whoever has read up to a position asks for what is behind it, and would never see the new message."""
        (gone,) = add(store, q, "gone")
        if remove == "delete":
            store.landed.delete_unclaimed(q, ["gone"])
        else:
            store.landed.purge(q)
        (next_,) = add(store, q, "next")
        assert next_.seq > gone.seq

    def test_lease_starts_behind_what_was_appended_and_is_gone(self, store: SideStore, q: str) -> None:
        (gone,) = add(store, q, "gone")
        store.landed.delete_unclaimed(q, ["gone"])
        last = store.landed.acquire_lease(q, "us", 60)
        assert last is not None and last >= gone.seq

    def test_reader_of_positions_sees_every_append_once_and_in_order(self, store: SideStore, q: str) -> None:
        batches, size = 8, 3
        writing = threading.Semaphore(0)

        def write(writer: int) -> None:
            try:
                for batch in range(batches):
                    add(store, q, *(f"{writer}-{batch}-{number}" for number in range(size)))
            finally:
                writing.release()

        def read() -> list[str]:
            seen: list[str] = []
            after = ended = 0
            while True:
                while ended < CROWD and writing.acquire(blocking=False):
                    ended += 1
                page = store.landed.list_messages(q, after, 5)
                seen += ids_of(page)
                if page:
                    after = page[-1].seq
                elif ended == CROWD:
                    return seen

        *_, seen = together(*[lambda n=n: write(n) for n in range(CROWD)], read)
        posted = [f"{w}-{b}-{n}" for w in range(CROWD) for b in range(batches) for n in range(size)]
        assert len(seen) == len(posted)
        assert sorted(seen, key=lambda id_: id_[0]) == posted

    # -- free ---------------------------------------------------------------------------------------------------

    def test_free_messages_come_oldest_first_up_to_the_limit(self, store: SideStore, q: str, q2: str) -> None:
        add(store, q, "c", "a", "b")
        assert ids_of(store.landed.find_free(q, 2)[0]) == ["c", "a"]
        assert ids_of(store.landed.find_free(q, 9)[0]) == ["c", "a", "b"]
        assert free_ids(store, q2) == []

    def test_hidden_messages_are_not_free(self, store: SideStore, q: str) -> None:
        add(store, q, "claimed", "free")
        add(store, q, "delayed", hidden_until=store.now() + MINUTE)
        take(store, q, new_claim(store), "claimed")
        assert free_ids(store, q) == ["free"]

    def test_message_whose_claim_is_over_is_free_in_its_old_place(
        self, store: SideStore, q: str, clock: Clock
    ) -> None:
        add(store, q, "first", "second", "third")
        take(store, q, new_claim(store, lasts=MINUTE), "first", "third")
        clock.advance(MINUTE - 1)
        assert free_ids(store, q) == ["second"]
        clock.advance(1)
        messages, _ = store.landed.find_free(q, 10)
        assert ids_of(messages) == ["first", "second", "third"]
        assert [(m.hidden_until, m.claim, m.claims) for m in messages] == [(0, None, 1), (0, None, 0), (0, None, 1)]

    def test_old_messages_come_first_also_when_the_limit_is_small(
        self, store: SideStore, q: str, clock: Clock
    ) -> None:
        add(store, q, "first", "second", "third")
        take(store, q, new_claim(store, lasts=MINUTE), "first", "third")
        clock.advance(MINUTE)
        assert ids_of(store.landed.find_free(q, 1)[0]) == ["first"]
        assert ids_of(store.landed.find_free(q, 2)[0]) == ["first", "second"]

    def test_message_is_free_when_its_delay_is_over(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "delayed", hidden_until=clock.time + MINUTE)
        clock.advance(MINUTE - 1)
        assert free_ids(store, q) == []
        clock.advance(1)
        assert free_ids(store, q) == ["delayed"]

    def test_expired_message_is_not_free(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "short", expires=clock.time + MINUTE)
        add(store, q, "long")
        clock.advance(MINUTE - 1)
        assert free_ids(store, q) == ["short", "long"]
        clock.advance(1)
        assert free_ids(store, q) == ["long"]

    def test_expired_hold_on_an_expired_message_is_no_obstacle(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "dead", expires=clock.time + MINUTE, hidden_until=clock.time + MINUTE)
        add(store, q, "living")
        clock.advance(MINUTE)
        assert free_ids(store, q) == ["living"]

    # -- claim --------------------------------------------------------------------------------------------------

    def test_claimed_messages_are_returned_as_they_are_now(self, store: SideStore, q: str) -> None:
        add(store, q, "a", "b")
        claim = new_claim(store)
        got = take(store, q, claim)
        assert ids_of(got) == ["a", "b"]
        assert {(m.hidden_until, m.claim, m.claim_ttl, m.claims) for m in got} == {(claim.expires, "claim", 60, 1)}
        assert store.landed.get_claim(q, "claim") == got

    def test_claim_makes_messages_live_long_enough(self, store: SideStore, q: str) -> None:
        add(store, q, "short", expires=store.now() + MINUTE)
        claim = new_claim(store, lasts=MINUTE, grace=MINUTE)
        (got,) = take(store, q, claim)
        assert got.expires == claim.keep_until
        assert store.landed.get_messages(q, ["short"])[0].expires == claim.keep_until

    def test_claim_does_not_shorten_a_life(self, store: SideStore, q: str) -> None:
        (message,) = add(store, q, "long", expires=store.now() + HOUR)
        (got,) = take(store, q, new_claim(store))
        assert got.expires == message.expires

    def test_every_claim_is_counted(self, store: SideStore, q: str) -> None:
        add(store, q, "m")
        for number in (1, 2, 3):
            (got,) = take(store, q, new_claim(store, f"claim-{number}"))
            assert got.claims == number
            store.landed.release_claim(q, f"claim-{number}")

    def test_what_is_gone_or_taken_is_not_claimed(self, store: SideStore, q: str) -> None:
        add(store, q, "taken", "gone", "left")
        found, _ = store.landed.find_free(q, 10)
        take(store, q, new_claim(store, "theirs"), "taken")
        store.landed.delete_unclaimed(q, ["gone"])
        got = store.landed.claim(q, found, new_claim(store, "ours"))
        assert ids_of(got) == ["left"]
        assert ids_of(store.landed.get_claim(q, "ours")) == ["left"]
        assert ids_of(store.landed.get_claim(q, "theirs")) == ["taken"]

    def test_of_many_claimers_each_message_goes_to_one(self, store: SideStore, q: str) -> None:
        posted = [f"m{number:02}" for number in range(40)]
        add(store, q, *posted)

        def work(worker: int) -> list[str]:
            got: list[str] = []
            rounds = 0
            while found := store.landed.find_free(q, 5)[0]:
                rounds += 1
                got += ids_of(store.landed.claim(q, found, new_claim(store, f"claim-{worker}-{rounds}")))
            return got

        got = together(*[lambda n=n: work(n) for n in range(CROWD)])
        assert sorted(id_ for ids in got for id_ in ids) == posted

    # -- lists --------------------------------------------------------------------------------------------------

    def test_list_goes_on_behind_a_position(self, store: SideStore, q: str) -> None:
        messages = add(store, q, "a", "b", "c")
        assert ids_of(store.landed.list_messages(q, 0, 2)) == ["a", "b"]
        assert ids_of(store.landed.list_messages(q, messages[1].seq, 2)) == ["c"]
        assert store.landed.list_messages(q, messages[2].seq, 2) == []

    @pytest.mark.parametrize(
        ("filters", "shown"),
        [
            ({}, ["free", "over"]),
            ({"claimed": True}, ["free", "claimed", "over"]),
            ({"delayed": True}, ["free", "delayed", "over"]),
            ({"claimed": True, "delayed": True}, ["free", "claimed", "delayed", "over"]),
        ],
    )
    def test_hidden_messages_are_listed_on_demand(
        self, store: SideStore, q: str, filters: dict[str, bool], shown: list[str]
    ) -> None:
        add(store, q, "free")
        hidden = {"hidden_until": store.now() + MINUTE}
        add(store, q, "claimed", claim="claim", **hidden)
        add(store, q, "delayed", **hidden)
        add(store, q, "over", claim="over", hidden_until=store.now() - 1)
        assert listed(store, q, **filters) == shown

    def test_one_clients_messages_can_be_left_out(self, store: SideStore, q: str) -> None:
        add(store, q, "a1", client="a")
        add(store, q, "b1", client="b")
        add(store, q, "native")
        assert listed(store, q, not_from="a") == ["b1", "native"]
        assert listed(store, q, not_from="c") == ["a1", "b1", "native"]

    def test_expired_message_is_never_shown(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "m", expires=clock.time + MINUTE, client="c")
        clock.advance(MINUTE - 1)
        assert listed(store, q) == ["m"]
        clock.advance(1)
        assert listed(store, q, claimed=True, delayed=True) == []
        assert store.landed.get_messages(q, ["m"]) == []
        assert store.landed.newest(q) is None
        assert store.landed.stats(q) == type(store.landed.stats(q))()

    def test_messages_are_got_by_id_whatever_their_state(self, store: SideStore, q: str, q2: str) -> None:
        add(store, q, "free", "claimed")
        add(store, q, "delayed", hidden_until=store.now() + MINUTE)
        take(store, q, new_claim(store), "claimed")
        found = store.landed.get_messages(q, ["free", "claimed", "delayed", "unknown"])
        assert {m.id: m.claim for m in found} == {"free": None, "claimed": "claim", "delayed": None}
        assert store.landed.get_messages(q2, ["free"]) == []

    def test_newest_is_the_one_that_landed_last(self, store: SideStore, q: str) -> None:
        assert store.landed.newest(q) is None
        add(store, q, "b", "a")
        newest = store.landed.newest(q)
        assert newest is not None and newest.id == "a"

    # -- delete -------------------------------------------------------------------------------------------------

    def test_unclaimed_messages_are_deleted(self, store: SideStore, q: str, q2: str) -> None:
        add(store, q, "free", "claimed", "other")
        add(store, q, "delayed", hidden_until=store.now() + MINUTE)
        take(store, q, new_claim(store), "claimed")
        assert store.landed.delete_unclaimed(q, ["free", "claimed", "delayed", "unknown"]) == 2
        assert listed(store, q, claimed=True, delayed=True) == ["claimed", "other"]
        assert store.landed.delete_unclaimed(q2, ["other"]) == 0

    @pytest.mark.parametrize("ids", [["m"], ["m", "unknown"]], ids=["one", "many"])
    def test_message_whose_claim_is_over_can_be_deleted_without_it(
        self, store: SideStore, q: str, clock: Clock, ids: list[str]
    ) -> None:
        add(store, q, "m")
        take(store, q, new_claim(store, lasts=MINUTE))
        clock.advance(MINUTE - 1)
        assert store.landed.delete_unclaimed(q, ids) == 0
        clock.advance(1)
        assert store.landed.delete_unclaimed(q, ids) == 1

    @pytest.mark.parametrize("ids", [["m"], ["m", "unknown"]], ids=["one", "many"])
    def test_claimed_message_is_deleted_with_its_claim(
        self, store: SideStore, q: str, q2: str, clock: Clock, ids: list[str]
    ) -> None:
        add(store, q, "m")
        take(store, q, new_claim(store, "ours"))
        assert store.landed.delete_claimed(q, ids, ["theirs"]) == 0
        assert store.landed.delete_claimed(q2, ids, ["ours"]) == 0
        assert store.landed.delete_claimed(q, ids, ["theirs", "ours"]) == 1
        assert store.landed.get_messages(q, ["m"]) == []

    @pytest.mark.parametrize("ids", [["m"], ["m", "unknown"]], ids=["one", "many"])
    def test_expired_claim_deletes_nothing(self, store: SideStore, q: str, clock: Clock, ids: list[str]) -> None:
        add(store, q, "m")
        take(store, q, new_claim(store, lasts=MINUTE))
        clock.advance(MINUTE)
        assert store.landed.delete_claimed(q, ids, ["claim"]) == 0

    def test_free_message_is_not_deleted_with_a_claim(self, store: SideStore, q: str) -> None:
        add(store, q, "m")
        assert store.landed.delete_claimed(q, ["m"], ["claim"]) == 0

    def test_deleted_messages_can_land_again(self, store: SideStore, q: str) -> None:
        add(store, q, "m")
        store.landed.delete_unclaimed(q, ["m"])
        assert store.landed.land(q, [new(store, "m", seq=1)]) == set()

    # -- stats and purge ----------------------------------------------------------------------------------------

    def test_stats_count_by_state(self, store: SideStore, q: str, q2: str, clock: Clock) -> None:
        add(store, q, "free", "claimed-1", "claimed-2", "over")
        take(store, q, new_claim(store, "over", lasts=1), "over")
        take(store, q, new_claim(store), "claimed-1", "claimed-2")
        add(store, q, "delayed", hidden_until=clock.time + MINUTE)
        add(store, q2, "elsewhere")
        clock.advance(1)
        stats = store.landed.stats(q)
        assert (stats.free, stats.claimed, stats.delayed) == (2, 2, 1)
        assert stats.oldest is not None and stats.oldest.id == "free"
        assert stats.newest is not None and stats.newest.id == "delayed"

    def test_stats_of_an_empty_queue(self, store: SideStore, q: str) -> None:
        stats = store.landed.stats(q)
        assert (stats.free, stats.claimed, stats.delayed, stats.oldest, stats.newest) == (0, 0, 0, None, None)

    def test_purge_removes_messages_and_tombstones_of_one_queue(self, store: SideStore, q: str, q2: str) -> None:
        for key in (q, q2):
            store.catalogue.create_queue(key, b'{"a":1}')
            add(store, key, "free", "claimed")
            take(store, key, new_claim(store), "claimed")
        store.landed.tombstone(q, {"dead": store.now() + HOUR})
        store.landed.purge(q)
        assert listed(store, q, claimed=True, delayed=True) == []
        assert store.landed.get_claim(q, "claim") == []
        assert store.landed.land(q, [new(store, "dead", seq=1)]) == set()
        assert store.catalogue.get_queue(q) is not None
        assert listed(store, q2, claimed=True) == ["free", "claimed"]

    def test_purge_leaves_the_lease_to_its_holder(self, store: SideStore, q: str) -> None:
        store.landed.acquire_lease(q, "us", 60)
        store.landed.purge(q)
        assert store.landed.acquire_lease(q, "them", 60) is None

    # -- claims -------------------------------------------------------------------------------------------------

    def test_claim_shows_its_messages_oldest_first(self, store: SideStore, q: str, q2: str) -> None:
        add(store, q, "c", "a", "b", "not-in-it")
        take(store, q, new_claim(store), "a", "b", "c")
        store.landed.delete_claimed(q, ["a"], ["claim"])
        assert ids_of(store.landed.get_claim(q, "claim")) == ["c", "b"]
        assert store.landed.get_claim(q, "unknown") == []
        assert store.landed.get_claim(q2, "claim") == []

    def test_claim_is_gone_at_its_time(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "m")
        take(store, q, new_claim(store, lasts=MINUTE))
        clock.advance(MINUTE - 1)
        assert ids_of(store.landed.get_claim(q, "claim")) == ["m"]
        clock.advance(1)
        assert store.landed.get_claim(q, "claim") == []

    def test_renewed_claim_runs_anew(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "m", expires=clock.time + MINUTE)
        take(store, q, new_claim(store, lasts=MINUTE, grace=0))
        clock.advance(MINUTE - 1)
        renewed = new_claim(store, lasts=2 * MINUTE, grace=MINUTE)
        assert store.landed.renew_claim(q, renewed) is True
        (message,) = store.landed.get_claim(q, "claim")
        assert (message.hidden_until, message.claim_ttl, message.expires, message.claims) == (
            renewed.expires, 120, renewed.keep_until, 1,
        )

    def test_renewing_may_end_a_claim_sooner_but_no_life(self, store: SideStore, q: str) -> None:
        (message,) = add(store, q, "m", expires=store.now() + 2 * HOUR)
        take(store, q, new_claim(store, lasts=HOUR))
        renewed = new_claim(store, lasts=MINUTE)
        assert store.landed.renew_claim(q, renewed) is True
        (found,) = store.landed.get_claim(q, "claim")
        assert (found.hidden_until, found.expires) == (renewed.expires, message.expires)

    def test_claim_that_is_over_is_not_renewed(self, store: SideStore, q: str, q2: str, clock: Clock) -> None:
        add(store, q, "m")
        take(store, q, new_claim(store, lasts=MINUTE))
        assert store.landed.renew_claim(q2, new_claim(store)) is False
        assert store.landed.renew_claim(q, new_claim(store, "unknown")) is False
        clock.advance(MINUTE)
        assert store.landed.renew_claim(q, new_claim(store)) is False
        assert free_ids(store, q) == ["m"]

    def test_released_messages_are_free_at_once(self, store: SideStore, q: str, q2: str) -> None:
        add(store, q, "a", "b", "c")
        take(store, q, new_claim(store, "ours"), "a", "c")
        take(store, q, new_claim(store, "theirs"), "b")
        store.landed.release_claim(q2, "ours")
        assert free_ids(store, q) == []
        store.landed.release_claim(q, "ours")
        store.landed.release_claim(q, "unknown")
        messages, _ = store.landed.find_free(q, 10)
        assert [(m.id, m.claim, m.claims) for m in messages] == [("a", None, 1), ("c", None, 1)]
        assert ids_of(store.landed.get_claim(q, "theirs")) == ["b"]

    def test_of_a_delete_and_a_release_one_wins(self, store: SideStore, q: str) -> None:
        ids = [f"m{number}" for number in range(10)]
        add(store, q, *ids)
        take(store, q, new_claim(store))
        deleted, _ = together(
            lambda: [id_ for id_ in ids if store.landed.delete_claimed(q, [id_], ["claim"])],
            lambda: store.landed.release_claim(q, "claim"),
        )
        assert sorted(deleted + free_ids(store, q)) == ids
