"""What the tests of FIFO queues share: gateways, posts, claims."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from bridges.loopback import LoopbackBridge
from bridges.memory import MemoryBridge
from gateway.config.limits import Limits
from gateway.core.core import Core
from gateway.core.ids import IdMaker
from gateway.core.pools.pool import Pool
from gateway.core.queues.info import QueueInfo
from gateway.core.seal import Seal
from gateway.core.sealing import Sealing
from gateway.observe.metrics import STORE_CALLS, timed
from storage.model import Claim, Message
from storage.sqlite import SQLiteStore

HOUR = 3_600_000
MINUTE = 60_000


@pytest.fixture(params=["memory", "loopback"])
def ordered(request: pytest.FixtureRequest, bridge: MemoryBridge, store: SQLiteStore) -> Iterator[Core]:
    """A gateway with a broker, and one without."""
    core = Core(bridge if request.param == "memory" else LoopbackBridge("loopback://", None), store, Limits())
    yield core
    core.close()


def fifo(core: Core, name: str = "fifo", **metadata: Any) -> QueueInfo:
    core.queues.create("project", name, {"_fifo": True, **metadata})
    return core.directory.ensure("project", name)


def publish(info: QueueInfo, *names: str, **fields: Any) -> list[Message]:
    """Post messages whose names are their bodies; the part before a dash, if there is one, is the group."""
    now = info.pool.store.now()
    messages = [
        Message(id_, now, now + HOUR, orjson.dumps(name), "client", group=name.partition("-")[0] if "-" in name else "",
                **fields)
        for id_, name in zip(IDS.make(now, len(names)), names, strict=True)
    ]
    info.pool.publishing.publish(info, messages)
    return messages


def landed(core: Core, info: QueueInfo, *names: str) -> None:
    """Post messages and have them land."""
    publish(info, *names)
    assert len(core.messages.list(info, None, 100, None, True, True)) == len(names)


IDS = IdMaker()


def claim(core: Core, info: QueueInfo, limit: int = 20) -> list[Message]:
    return core.claims.create(info, 60, 60, limit)


def names(messages: Sequence[Message]) -> list[str]:
    return [str(orjson.loads(message.body)) for message in messages]


def release(core: Core, info: QueueInfo, claimed: Sequence[Message]) -> None:
    assert claimed[0].claim
    assert core.claims.release(info, claimed[0].claim)


def delete(info: QueueInfo, claimed: Sequence[Message]) -> None:
    assert claimed[0].claim
    landed = info.pool.store.landed
    assert landed.delete_claimed(info.key, [each.id for each in claimed], [claimed[0].claim]) == len(claimed)


def elsewhere(info: QueueInfo) -> QueueInfo:
    """The queue as another gateway has it, on the same broker and side-store."""
    store = timed(info.pool.store, STORE_CALLS, "default", parts=("landed",))  # to be broken for this one alone
    pool = Pool(info.pool.name, info.bridge, store, IdMaker(), Sealing(Seal()))
    return replace(info, pool=pool)


def taken(info: QueueInfo, name: str, limit: int = 20) -> list[Message]:
    """Claim through the pool of ``info`` alone."""
    expires = info.pool.store.now() + MINUTE
    return info.pool.taking.claim(
        info, Claim(name, 60, expires, expires), limit, lambda info, free, burials=None: free
    )


def raised(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except Exception as error:
        return error
    return None


def end_lease(store: SQLiteStore, info: QueueInfo) -> None:
    """The lease is over, as if much time had passed."""
    def change(db: Any) -> None:
        db.execute("UPDATE leases SET owner = NULL, until = 0 WHERE q = ?", (info.key,))

    store.landed._database.write(change)
