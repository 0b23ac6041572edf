"""A connection of the load, and what its job and the driver say to each other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from gateway.bench.wire import Answer

#: Seconds that a client waits if there was nothing to claim or list.
EMPTY_PAUSE = 0.01

#: Seconds that a client waits after an error.
ERROR_PAUSE = 0.1


@dataclass(frozen=True)
class Request:
    """A request. ``kind``: what it counts as. ``expected``: statuses that are no errors.

    ``messages``: the number of messages that it moves, or a function that reads them from the answer.
    ``more``: whether the connection goes on after it until its next pause, even if the measurement has ended: it may
    hold messages, which would block their groups in the next turn.
    """

    kind: str
    data: bytes
    expected: tuple[int, ...]
    messages: int | Callable[[bytes], Sequence[object]] = 0
    more: bool = False


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
    #: Number of groups that the messages are in; 0 if the queues are no FIFO queues.
    groups: int = 0
    #: Whether each message has a dedup_id.
    dedup_ids: bool = False

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
