"""Feeds with the watches that tell them: what this process does, and what others do, reaches them by itself."""

from collections.abc import Iterator
from typing import Any

import pytest

from bridges.memory import MemoryBridge
from gateway.core.core import Core
from gateway.core.messages.post import Post
from gateway.core.seal import KEY_SIZE, Seal
from gateway.stream.feeds import FeedSettings
from gateway.stream.watches import Watches
from storage.sqlite import SQLiteStore
from tests.test_feeds import Served
from tests.test_server import wsgi_options


class Watched(Served):
    """A gateway whose feeds nobody tells by hand."""

    def wake(self) -> None:
        pass


@pytest.fixture
def served(configured: Any, core: Core, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    made = Watched(configured(), core, FeedSettings(60.0, 60.0, 60.0), wsgi_options())
    monkeypatch.setattr(made.feeds, "_watches", Watches(core, made.streams))
    yield made
    made.close()


def test_post_in_this_process_is_told(served: Served) -> None:
    feed = served.feed()
    for number in range(20):
        served.post(b"%d" % number)
        assert feed.bodies(1) == [number]


def test_what_another_process_does_is_found(served: Served, bridge: MemoryBridge, store: SQLiteStore) -> None:
    other = Core(bridge, store, served.core.limits, Seal(bytes(KEY_SIZE)))
    feed = served.feed()
    assert feed.is_silent(0.3)
    other.messages.post("project", "queue", "", [Post(b"1", None, None)], 0)
    assert feed.bodies(1) == [1]
    other.messages.post("project", "queue", "", [Post(b"2", None, None)], 0)
    assert feed.bodies(1) == [2]
    other.queues.delete("project", "queue")
    assert feed.next().value["reason"] == "deleted"
    other.stop()


def test_deletion_in_this_process_ends_feeds(served: Served) -> None:
    served.post(b"1")
    feed = served.feed()
    assert feed.bodies(1) == [1]
    served.core.queues.delete("project", "queue")
    event = feed.next()
    assert event.name == "end" and event.value == {"reason": "deleted"}
