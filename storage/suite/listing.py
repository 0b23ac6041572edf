"""Lists of queues, marks of bridged ones, and odd names."""

from uuid import uuid4

import pytest

from storage.base import SideStore
from storage.suite.support import ODD_PROJECTS, SuiteFixtures, add, created, ids_of, listed, new_claim, take


class ListingTests(SuiteFixtures):
    """Lists of queues, marks of bridged ones, and odd names."""

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
