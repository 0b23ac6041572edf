"""What cycles are made of, whatever the server speaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from gateway.bench.client import EMPTY_PAUSE, ERROR_PAUSE, Client, Pause, Request, Steps


def countdown(items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """The items, each with the number of those after it."""
    return zip(range(len(items) - 1, -1, -1), items, strict=True)


def each(requests: Iterable[Request]) -> Steps:
    """One request after the other."""
    for request in requests:
        reply = yield request
        if not reply.ok:
            yield Pause(ERROR_PAUSE)


def cycle_in_groups(
    client: Client,
    post: Callable[[str], Request],
    claim: Callable[[str], Request],
    delete: Callable[[str, Sequence[Any]], Steps],
) -> Steps:
    """A cycle in FIFO queues, where a claim may be empty because other connections hold all groups.

    While a connection has taken a batch less than it has posted, it does not post, or each empty claim would make the
    queue longer.
    """
    ahead: Counter[str] = Counter()  # by queue, how many more messages this connection has posted than taken
    for queue in client.turns():
        ok = True
        if ahead[queue] < client.batch:
            ok = (yield post(queue)).ok
            ahead[queue] += client.batch if ok else 0
        claimed = yield claim(queue)
        ahead[queue] -= len(claimed.items)
        yield from delete(queue, claimed.items)
        if not (ok and claimed.ok):
            yield Pause(ERROR_PAUSE)
        elif not claimed.items:
            yield Pause(EMPTY_PAUSE)
