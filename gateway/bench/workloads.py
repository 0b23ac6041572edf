"""What the connections do. Each job is a generator that yields requests and gets replies, endlessly or to its end."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from gateway.bench.client import EMPTY_PAUSE, ERROR_PAUSE, Client, Job, Pause, Request, Steps
from gateway.bench.cycles import countdown, cycle_in_groups, each
from gateway.bench.messages import messages

#: Minimum number of messages in each queue of a list workload.
LISTED = 100

#: Messages per post while queues are filled. Every server of the API allows that many by default.
FILL_BATCH = 20

#: Body of a claim. Its TTL in seconds is longer than the work on it; the API's minimum is 60.
CLAIM = orjson.dumps({"ttl": 300, "grace": 60})

#: Body of a claim that must last for the whole run.
LONG_CLAIM = orjson.dumps({"ttl": 3600, "grace": 60})

#: Metadata of the queues.
ORDINARY, FIFO = b"{}", b'{"_fifo":true}'

#: Connections of the standard workloads. Don't change them: results stay comparable with the first ones of Zaqar.
CONNECTIONS, CYCLE_CONNECTIONS = 8, 4


@dataclass(frozen=True)
class Workload:
    """``roles``: jobs with their numbers of connections. ``counted``: kind of request whose messages are counted.

    ``batch``: messages per request. ``backlog``: messages in each queue at the start.
    """

    name: str
    roles: tuple[tuple[Job, int], ...]
    batch: int
    counted: str
    backlog: int = 0

    @property
    def connections(self) -> int:
        """Number of connections of all roles."""
        return sum(count for _, count in self.roles)

    def with_connections(self, connections: int) -> Workload:
        """The same workload with another number of connections; it must have a single role."""
        ((steps, _),) = self.roles
        return replace(self, roles=((steps, connections),))


def messages_of(body: bytes) -> Sequence[object]:
    """The messages in the answer to a list, a claim or a pop."""
    found: Sequence[object] = orjson.loads(body)["messages"]
    return found


def _post(client: Client, queue: str, made: Iterator[bytes], kind: str = "post") -> Request:
    body = b'{"messages":[%b]}' % b",".join(itertools.islice(made, client.batch))
    return Request(kind, client.request("POST", f"/v2/queues/{queue}/messages", body), (201,), client.batch)


def post(client: Client) -> Steps:
    """Post batches."""
    made = messages(client)
    for queue in client.turns():
        reply = yield _post(client, queue, made)
        if not reply.ok:
            yield Pause(ERROR_PAUSE)


def list_first(client: Client) -> Steps:
    """List the first page, again and again."""
    for queue in client.turns():
        data = client.request("GET", f"/v2/queues/{queue}/messages?echo=true&limit={client.batch}")
        reply = yield Request("list", data, (200,), messages_of)
        if not reply.ok:
            yield Pause(ERROR_PAUSE)


def list_on(client: Client) -> Steps:
    """List page after page, and poll for new messages at the end."""
    markers = {
        queue: f"/v2/queues/{queue}/messages?echo=true&include_claimed=true&limit={client.batch}"
        for queue in client.queues
    }
    for queue in client.turns():
        reply = yield Request("list", client.request("GET", markers[queue]), (200,), messages_of)
        if not reply.ok:
            yield Pause(ERROR_PAUSE)
        elif reply.items:
            markers[queue] = orjson.loads(reply.body)["links"][0]["href"]
        else:
            yield Pause(EMPTY_PAUSE)


def _claim(client: Client, queue: str, terms: bytes = CLAIM) -> Request:
    data = client.request("POST", f"/v2/queues/{queue}/claims?limit={client.batch}", terms)
    return Request("claim", data, (201, 204), messages_of, more=client.groups > 0)


def _delete_each(client: Client, items: Sequence[Any]) -> Steps:
    return each(
        Request("delete", client.request("DELETE", item["href"]), (204,), 1, more=left > 0 and client.groups > 0)
        for left, item in countdown(items)
    )


def claim_and_delete(client: Client) -> Steps:
    """Claim batches and delete the messages one by one."""
    for queue in client.turns():
        reply = yield _claim(client, queue)
        yield from _delete_each(client, reply.items)
        if not reply.items:
            yield Pause(EMPTY_PAUSE if reply.ok else ERROR_PAUSE)


def cycle(client: Client) -> Steps:
    """Post a batch, claim as many, delete what was claimed."""
    made = messages(client)
    if client.groups:
        yield from cycle_in_groups(
            client, lambda queue: _post(client, queue, made), lambda queue: _claim(client, queue),
            lambda queue, items: _delete_each(client, items),
        )
        return
    for queue in client.turns():
        posted = yield _post(client, queue, made)
        claimed = yield _claim(client, queue)
        yield from _delete_each(client, claimed.items)
        if not (posted.ok and claimed.ok):
            yield Pause(ERROR_PAUSE)


def pop(client: Client) -> Steps:
    """Post a batch, and pop as many messages in one request."""
    made = messages(client)
    for queue in client.turns():
        posted = yield _post(client, queue, made)
        data = client.request("DELETE", f"/v2/queues/{queue}/messages?pop={client.batch}")
        popped = yield Request("pop", data, (200,), messages_of)
        if not (posted.ok and popped.ok):
            yield Pause(ERROR_PAUSE)


def make_queues(client: Client) -> Steps:
    """Create this connection's part of the queues."""
    metadata = FIFO if client.groups else ORDINARY
    for queue in client.queues[client.index::client.count]:
        yield Request("make", client.request("PUT", f"/v2/queues/{queue}", metadata), (201, 204))


def fill_queues(client: Client) -> Steps:
    """Post this connection's share of ``amount`` messages to each queue."""
    made = messages(client)
    for queue in client.queues:
        left = client.share
        while left > 0:
            client = replace(client, batch=min(left, FILL_BATCH))
            reply = yield _post(client, queue, made, "fill")
            if not reply.ok:
                return
            left -= client.batch


def hold_messages(client: Client) -> Steps:
    """Claim this connection's share of ``amount`` messages in each queue, and keep the claims."""
    client = replace(client, batch=FILL_BATCH)
    for queue in client.queues:
        left = client.share
        while left > 0:
            reply = yield _claim(client, queue, LONG_CLAIM)
            if not reply.items:
                return
            left -= len(reply.items)


def delete_queues(client: Client) -> Steps:
    """Delete this connection's part of the queues."""
    for queue in client.queues[client.index::client.count]:
        reply = yield Request("remove", client.request("DELETE", f"/v2/queues/{queue}"), (204,))
        if not reply.ok:
            return


#: Kinds of workload by name: job, connections, and the kind of request whose messages count.
KINDS: dict[str, tuple[Job, int, str]] = {
    "post": (post, CONNECTIONS, "post"),
    "list": (list_first, CONNECTIONS, "list"),
    "cycle": (cycle, CYCLE_CONNECTIONS, "delete"),
    "pop": (pop, CONNECTIONS, "pop"),
}

#: Workloads that are measured by default.
STANDARD = ("post-1", "post-20", "list-20", "cycle-1", "cycle-20")


def named(name: str) -> Workload:
    """The workload of a name: ``post-20``, or ``cycle-20x16`` on 16 connections. Raises ValueError if there is none."""
    found = re.fullmatch(r"([a-z]+)-([1-9][0-9]*)(?:x([1-9][0-9]*))?", name)
    if not found or found[1] not in KINDS:
        kinds = ", ".join(f"{kind}-N" for kind in KINDS)
        raise ValueError(f"no workload {name!r}: there are {kinds}, N messages each, and NxC on C connections")
    steps, connections, counted = KINDS[found[1]]
    if found[3]:
        connections = int(found[3])
    batch = int(found[2])
    backlog = max(LISTED, batch) if steps is list_first else 0
    return Workload(name, ((steps, connections),), batch, counted, backlog)


def mix(producers: int, claimers: int, listers: int, batch: int) -> Workload:
    """A workload of producers, claimers and listers of the same queues; at least one of the numbers is not 0."""
    roles = tuple(
        (steps, count)
        for steps, count in ((post, producers), (claim_and_delete, claimers), (list_on, listers)) if count
    )
    counted = "delete" if claimers else "post" if producers else "list"
    name = "mix-" + "-".join(
        f"{count}{letter}" for count, letter in ((producers, "p"), (claimers, "c"), (listers, "l")) if count
    )
    return Workload(name, roles, batch, counted)
