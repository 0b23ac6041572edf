"""What the tests of side-stores share: messages, queues, a clock, threads."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from storage.base import SideStore
from storage.model import Claim, Message

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


class SuiteFixtures:
    """Fixtures of all tests. Queues are new in each test, so the store may be shared."""

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
