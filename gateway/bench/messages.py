"""Bodies of the messages that the load posts."""

from __future__ import annotations

import itertools
import random
import string
import uuid
from collections.abc import Iterator

from gateway.bench.client import Client


def random_body(size: int) -> bytes:
    """A JSON string of ``size`` bytes (at least 2) that compresses badly. The same size gives the same text."""
    letters = random.Random(size).choices(string.ascii_letters + string.digits, k=size - 2)  # nosec B311
    return b'"%b"' % "".join(letters).encode()


def messages(client: Client) -> Iterator[bytes]:
    """Messages to post, endlessly."""
    return _in_groups(client) if client.groups else itertools.repeat(b'{"ttl":3600,"body":%b}' % client.body)


def _in_groups(client: Client) -> Iterator[bytes]:
    dedup_ids = (b'"dedup_id":"%b",' % id_ for id_ in unique_ids()) if client.dedup_ids else itertools.repeat(b"")
    for group, dedup_id in zip(group_numbers(client), dedup_ids, strict=True):
        yield b'{"ttl":3600,"group":"%d",%b"body":%b}' % (group, dedup_id, client.body)


def group_numbers(client: Client) -> Iterator[int]:
    """The group of each message, endlessly. Each connection begins with another group."""
    first = client.index * client.groups // client.count
    return itertools.cycle([*range(first, client.groups), *range(first)])


def unique_ids() -> Iterator[bytes]:
    """Ids for messages, endlessly; no other connection and no other turn has the same."""
    turn = uuid.uuid4().hex.encode()
    return (b"%b-%d" % (turn, number) for number in itertools.count())
