"""What the connections do. Each job is a generator that yields requests and gets replies, endlessly or to its end."""

from __future__ import annotations

import itertools
import random
import re
import string
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import orjson

from gateway.bench.wire import Answer

#: Seconds that a client waits if there was nothing to claim or list.
EMPTY_PAUSE = 0.01

#: Seconds that a client waits after an error.
ERROR_PAUSE = 0.1

#: Minimum number of messages in each queue of a list workload.
LISTED = 100

#: Messages per post while queues are filled. Every server of the API allows that many by default.
FILL_BATCH = 20

#: Body of a claim. Its TTL in seconds is longer than the work on it; the API's minimum is 60.
CLAIM = orjson.dumps({"ttl": 300, "grace": 60})

#: Body of a claim that must last for the whole run.
LONG_CLAIM = orjson.dumps({"ttl": 3600, "grace": 60})

#: Connections of the standard workloads. Don't change them: results stay comparable with the first ones of Zaqar.
CONNECTIONS, CYCLE_CONNECTIONS = 8, 4


@dataclass(frozen=True)
class Request:
    """A request. ``kind``: what it counts as. ``expected``: statuses that are no errors.

    ``messages``: the number of messages that it moves, or a function that reads them from the answer.
    """

    kind: str
    data: bytes
    expected: tuple[int, ...]
    messages: int | Callable[[bytes], Sequence[object]] = 0


@dataclass(frozen=True)
class Reply:
    """What a generator gets. ``status``: 0 if there was no answer. ``items``: the messages in the answer."""

    ok: bool
    status: int
    body: bytes
    items: Sequence[object]


@dataclass(frozen=True)
class Pause:
    """Wait before the next request."""

    seconds: float


Steps = Generator[Request | Pause, Reply, None]


@dataclass(frozen=True)
class Client:
    """Parameters of a connection, number ``index`` of ``count``. ``head``: header lines of every request."""

    index: int
    count: int
    prefix: str
    head: bytes
    queues: tuple[str, ...]
    batch: int
    body: bytes
    #: Messages that all connections together put into each queue, or claim from it, before the first turn.
    amount: int = 0

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The bytes of a request. ``path`` follows the server's prefix."""
        start = f"{method} {self.prefix}{path} HTTP/1.1\r\n".encode()
        if body is None:
            return b"%b%b\r\n" % (start, self.head)
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (start, self.head, len(body), body)

    def turns(self) -> itertools.cycle[str]:
        """Its queues in an endless cycle. Each connection begins with another queue."""
        at = self.index % len(self.queues)
        return itertools.cycle(self.queues[at:] + self.queues[:at])

    @property
    def share(self) -> int:
        """This connection's part of ``amount``."""
        return self.amount // self.count + (self.index < self.amount % self.count)


#: A function that makes the generator of a connection.
Job = Callable[[Client], Steps]


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


def random_body(size: int) -> bytes:
    """A JSON string of ``size`` bytes (at least 2) that compresses badly. The same size gives the same text."""
    letters = random.Random(size).choices(string.ascii_letters + string.digits, k=size - 2)  # nosec B311
    return b'"%b"' % "".join(letters).encode()


def messages_of(body: bytes) -> Sequence[object]:
    """The messages in the answer to a list, a claim or a pop."""
    found: Sequence[object] = orjson.loads(body)["messages"]
    return found


def _post_body(client: Client, batch: int) -> bytes:
    message = b'{"ttl":3600,"body":%b}' % client.body
    return b'{"messages":[%b]}' % b",".join([message] * batch)


def post(client: Client) -> Steps:
    """Post batches."""
    body = _post_body(client, client.batch)
    for queue in client.turns():
        data = client.request("POST", f"/v2/queues/{queue}/messages", body)
        reply = yield Request("post", data, (201,), client.batch)
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
    return Request("claim", data, (201, 204), messages_of)


def _delete_each(client: Client, items: Sequence[object]) -> Steps:
    for item in items:
        data = client.request("DELETE", item["href"])  # type: ignore[index]
        reply = yield Request("delete", data, (204,), 1)
        if not reply.ok:
            yield Pause(ERROR_PAUSE)


def claim_and_delete(client: Client) -> Steps:
    """Claim batches and delete the messages one by one."""
    for queue in client.turns():
        reply = yield _claim(client, queue)
        yield from _delete_each(client, reply.items)
        if not reply.items:
            yield Pause(EMPTY_PAUSE if reply.ok else ERROR_PAUSE)


def cycle(client: Client) -> Steps:
    """Post a batch, claim as many, delete what was claimed."""
    body = _post_body(client, client.batch)
    for queue in client.turns():
        data = client.request("POST", f"/v2/queues/{queue}/messages", body)
        posted = yield Request("post", data, (201,), client.batch)
        claimed = yield _claim(client, queue)
        yield from _delete_each(client, claimed.items)
        if not (posted.ok and claimed.ok):
            yield Pause(ERROR_PAUSE)


def pop(client: Client) -> Steps:
    """Post a batch, and pop as many messages in one request."""
    body = _post_body(client, client.batch)
    for queue in client.turns():
        data = client.request("POST", f"/v2/queues/{queue}/messages", body)
        posted = yield Request("post", data, (201,), client.batch)
        data = client.request("DELETE", f"/v2/queues/{queue}/messages?pop={client.batch}")
        popped = yield Request("pop", data, (200,), messages_of)
        if not (posted.ok and popped.ok):
            yield Pause(ERROR_PAUSE)


def make_queues(client: Client) -> Steps:
    """Create this connection's part of the queues."""
    for queue in client.queues[client.index::client.count]:
        yield Request("make", client.request("PUT", f"/v2/queues/{queue}", b"{}"), (201, 204))


def fill_queues(client: Client) -> Steps:
    """Post this connection's share of ``amount`` messages to each queue."""
    for queue in client.queues:
        left = client.share
        while left > 0:
            batch = min(left, FILL_BATCH)
            data = client.request("POST", f"/v2/queues/{queue}/messages", _post_body(client, batch))
            reply = yield Request("fill", data, (201,), batch)
            if not reply.ok:
                return
            left -= batch


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
    """The workload of a name like ``post-20``. Raises ValueError if there is none."""
    found = re.fullmatch(r"([a-z]+)-([1-9][0-9]*)", name)
    if not found or found[1] not in KINDS:
        raise ValueError(f"no workload {name!r}: there are {', '.join(f'{kind}-N' for kind in KINDS)}, N messages each")
    steps, connections, counted = KINDS[found[1]]
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


def reply_to(request: Request, answer: Answer) -> Reply:
    """The reply for an answer. ``ok``: its status was expected, and its body can be read."""
    if answer.status not in request.expected:
        return Reply(False, answer.status, answer.body, ())
    if callable(request.messages) and answer.body:
        try:
            return Reply(True, answer.status, answer.body, request.messages(answer.body))
        except (ValueError, KeyError, TypeError):
            return Reply(False, answer.status, answer.body, ())
    return Reply(True, answer.status, answer.body, ())
