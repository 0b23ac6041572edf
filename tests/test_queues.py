"""Queues, their names on the broker, and what a process knows of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.memory import MemoryBridge
from gateway.core.core import Core
from gateway.core.errors import Conflict, InvalidInput, NotFound
from gateway.core.queues.admin import CHANGE_TRIES
from gateway.core.queues.names import MAX_BROKER_NAME, broker_name, queue_key
from gateway.core.queues.remembering import KNOWN_FOR
from storage.sqlite import SQLiteStore

#: As the API admits them; the health check's own has a control character in front.
PROJECTS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=256)
QUEUES = st.text("AZaz09_.-", min_size=1, max_size=64)

#: Projects that look like each other, or like what a name is made of.
LIKENESSES = st.text("a.%2E#/", min_size=1, max_size=12)


@given(PROJECTS | LIKENESSES, QUEUES, PROJECTS | LIKENESSES, QUEUES)
def test_no_two_queues_share_a_name_on_the_broker(project: str, queue: str, other: str, others: str) -> None:
    same = (project, queue) == (other, others)
    assert (broker_name(project, queue) == broker_name(other, others)) == same
    assert (queue_key(project, queue) == queue_key(other, others)) == same


@given(PROJECTS, QUEUES)
def test_name_on_the_broker_is_a_short_string(project: str, queue: str) -> None:
    name = broker_name(project, queue)
    assert len(name.encode()) <= MAX_BROKER_NAME
    assert name.isascii() and name.isprintable()
    assert name.startswith("marconi.") and name.endswith(f".{queue}")


def test_usual_project_can_be_read_in_the_name() -> None:
    assert broker_name("1f0e2d3c", "jobs") == "marconi.1f0e2d3c.jobs"


def test_name_that_would_be_too_long_has_a_hash() -> None:
    names = {broker_name("%" * length, "q" * 64) for length in (100, 101, 256)}
    assert len(names) == 3
    assert all(name.startswith("marconi.#") for name in names)


class TestQueues:
    """Against a side-store and a bridge."""

    def test_queue_is_made_on_first_use_here_and_on_the_broker(
        self, core: Core, bridge: MemoryBridge, store: SQLiteStore
    ) -> None:
        assert core.directory.find("p", "q") is None
        info = core.directory.ensure("p", "q")
        assert info.settings.default_ttl == 3600
        assert info.broker in bridge._queues
        queue = store.catalogue.get_queue("p/q")
        assert queue is not None and queue.key == info.key

    def test_queue_is_known_for_a_while_without_asking(self, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
        core.queues.create("p", "q", None)
        asked: list[str] = []
        real = core.pool.store.catalogue.get_queue
        monkeypatch.setattr(core.pool.store.catalogue, "get_queue", lambda q: asked.append(q) or real(q))
        for _ in range(3):
            core.directory.find("p", "q")
        assert asked == ["p/q"]
        for _ in range(3):
            core.directory.find("p", "none")
        assert asked == ["p/q", *["p/none"] * 3], "whatever is not there may be there the next moment"
        assert KNOWN_FOR <= 1.0  # another gateway's change must not take longer to act

    def test_own_changes_act_at_once(self, core: Core) -> None:
        core.directory.ensure("p", "q")
        core.queues.create("p", "q", {"_default_message_ttl": 60})
        info = core.directory.find("p", "q")
        assert info is not None and info.settings.default_ttl == 60
        core.queues.patch("p", "q", [{"op": "remove", "path": "/metadata/_default_message_ttl"}])
        info = core.directory.find("p", "q")
        assert info is not None and info.settings.default_ttl == 3600
        core.queues.delete("p", "q")
        assert core.directory.find("p", "q") is None

    def test_metadata_is_shown_with_defaults_and_before_the_queue_exists(self, core: Core) -> None:
        assert core.queues.metadata("p", "never")["_default_message_ttl"] == 3600
        core.queues.create("p", "q", {"mine": [1, None]})
        assert core.queues.metadata("p", "q")["mine"] == [1, None]

    def test_refused_metadata_makes_no_queue(self, core: Core, bridge: MemoryBridge) -> None:
        with pytest.raises(InvalidInput):
            core.queues.create("p", "q", {"_default_message_ttl": "x"})
        assert core.queues.exists("p", "q") is False
        assert bridge._queues == {}

    def test_queue_is_not_its_own_dead_letter_queue(self, core: Core) -> None:
        with pytest.raises(InvalidInput, match="own _dead_letter_queue"):
            core.queues.create("p", "q", {"_dead_letter_queue": "q"})
        core.queues.create("p", "q", None)
        with pytest.raises(InvalidInput, match="own _dead_letter_queue"):
            core.queues.patch("p", "q", [{"op": "add", "path": "/metadata/_dead_letter_queue", "value": "q"}])

    def test_patch_of_a_missing_queue_is_not_found(self, core: Core) -> None:
        with pytest.raises(NotFound):
            core.queues.patch("p", "q", [{"op": "add", "path": "/metadata/a", "value": 1}])

    def test_patch_meets_anothers_change(
        self, core: Core, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Somebody else changes the metadata between the reading and the writing."""
        core.queues.create("p", "q", {"a": 1})
        real = core.pool.store.catalogue.replace_metadata

        def interrupted(q: str, metadata: bytes, version: int) -> bool:
            monkeypatch.setattr(core.pool.store.catalogue, "replace_metadata", real)
            store.catalogue.create_queue(q, b'{"b":2}')
            return bool(real(q, metadata, version))

        monkeypatch.setattr(core.pool.store.catalogue, "replace_metadata", interrupted)
        patched = core.queues.patch("p", "q", [{"op": "add", "path": "/metadata/c", "value": 3}])
        assert (patched.get("a"), patched["b"], patched["c"]) == (None, 2, 3)

    def test_patch_gives_up_when_others_are_always_quicker(
        self, core: Core, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        core.queues.create("p", "q", None)
        tries: list[int] = []
        catalogue = core.pool.store.catalogue
        monkeypatch.setattr(catalogue, "replace_metadata", lambda q, data, version: bool(tries.append(version)))
        with pytest.raises(Conflict):
            core.queues.patch("p", "q", [{"op": "add", "path": "/metadata/c", "value": 3}])
        assert len(tries) == CHANGE_TRIES
