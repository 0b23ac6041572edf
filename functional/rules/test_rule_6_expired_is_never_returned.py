"""Rule 6: expiry is exact on read. A message past its TTL is never returned, wherever it is.

The API's shortest ttl is a minute; the cores here get messages with shorter ones underneath it.
"""

import uuid

import pytest

from functional.wait import wait_until
from storage.model import Message

#: Milliseconds that the short-lived messages live.
LIFE = 1_500


@pytest.fixture
def info(core, queue):
    return core.directory.ensure(uuid.uuid4().hex, queue)


def publish(core, info, life):
    """Put a message that lives ``life`` milliseconds into the broker; its id and its expiry."""
    now = core.pool.store.now()
    message = Message(core.ids.make(now)[0], now, now + life, b'"short-lived"', "somebody")
    core.pool.publishing.publish(info, [message])
    return message.id, message.expires


def watch(core, expires, read):
    """Read till some time after the expiry; the reads that began after it and found something."""
    late = []

    def over():
        start = core.pool.store.now()
        found = read()
        if start >= expires and found:
            late.append((start - expires, found))
        return start > expires + LIFE / 3

    wait_until(over, 10, "the expiry")
    return late


def test_landed_message_is_not_listed_after_its_ttl(core, info):
    _, expires = publish(core, info, LIFE)
    assert core.messages.list(info, None, 10, None, False, False)

    late = watch(core, expires, lambda: core.messages.list(info, None, 10, None, True, True))

    assert late == []


def test_landed_message_is_not_got_by_id_after_its_ttl(core, info):
    id_, expires = publish(core, info, LIFE)
    assert core.messages.get(info, [id_])

    assert watch(core, expires, lambda: core.messages.get(info, [id_])) == []


def test_landed_message_is_not_claimed_after_its_ttl(core, info):
    _, expires = publish(core, info, LIFE)
    core.messages.list(info, None, 10, None, False, False)
    wait_until(lambda: core.pool.store.now() >= expires, 10, "the expiry")

    assert core.claims.create(info, None, None, 10) == []


def test_message_in_the_backlog_is_not_claimed_after_its_ttl(core, info):
    _, expires = publish(core, info, LIFE)
    wait_until(lambda: core.pool.store.now() >= expires, 10, "the expiry")

    assert core.claims.create(info, None, None, 10) == []


def test_expired_message_in_front_does_not_hide_a_living_one(core, info):
    _, expires = publish(core, info, LIFE)
    living, _ = publish(core, info, 60_000)
    wait_until(lambda: core.pool.store.now() >= expires, 10, "the expiry")

    assert [message.id for message in core.claims.create(info, None, None, 10)] == [living]


def test_landed_message_is_not_counted_after_its_ttl(core, info):
    _, expires = publish(core, info, LIFE)
    core.messages.list(info, None, 10, None, False, False)
    wait_until(lambda: core.pool.store.now() >= expires, 10, "the expiry")

    landed, waiting = core.messages.stats(info)

    assert (landed.free, landed.claimed, waiting, landed.oldest) == (0, 0, 0, None)
