"""All the clients of a run: started together, and stopped so that nothing is in anybody's hand any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from functional.faults.checker import FINAL
from functional.faults.clients import LONGEST_DELAY, PAGE, Client, Probe
from functional.faults.cluster import HEALTHY_TIMEOUT, FaultyGateway
from functional.faults.history import LIST, Call, History, Seen
from functional.http import Api
from functional.wait import wait_until

Say = Callable[[str], None]


class NotRecovered(AssertionError):
    """There was no service again in time after a fault was mended."""


class Load:
    """Clients of some queues of a project. Those of each kind are added before `start`.

    ``probes``: the queue that each gateway's probe works on.
    """

    def __init__(
        self, history: History, gateways: Sequence[FaultyGateway], project: str, seed: str, probes: Sequence[str]
    ) -> None:
        self.history = history
        self._gateways = gateways
        self._project = project
        self._seed = seed
        self._api = Api(gateways[0].url, project)
        self._producers: list[Client] = []
        self._consumers: list[Client] = []
        self._listers: list[Client] = []
        self._probes = [
            Probe(f"probe-{gateway.name}", history, [gateway], project, queue, seed)
            for gateway, queue in zip(gateways, probes, strict=True)
        ]

    def add_producers(self, kind: type[Client], queue: str, number: int = 1, **more: Any) -> None:
        """Clients that post, and are stopped first."""
        self._producers += self._make(kind, queue, number, **more)

    def add_consumers(self, kind: type[Client], queue: str, number: int = 1) -> None:
        """Clients that take, read or delete."""
        self._consumers += self._make(kind, queue, number)

    def add_listers(self, kind: type[Client], queue: str, number: int = 1) -> None:
        """Clients that follow a queue to its end."""
        self._listers += self._make(kind, queue, number)

    def _make(self, kind: type[Client], queue: str, number: int, **more: Any) -> list[Client]:
        names = [f"{kind.__name__.lower()}-{n}-{queue}" for n in range(1, number + 1)]
        return [kind(name, self.history, self._gateways, self._project, queue, self._seed, **more) for name in names]

    def start(self) -> None:
        """Let all clients begin."""
        for client in self._all():
            client.start()

    @property
    def queues(self) -> list[str]:
        """The queues that clients work on, without those of probes."""
        return sorted({client.queue for client in (*self._producers, *self._consumers, *self._listers)})

    def _all(self) -> list[Client]:
        return [*self._producers, *self._consumers, *self._listers, *self._probes]

    def until_good(self, since: float) -> float:
        """Wait until each gateway has done a round of work that began after ``since``; when the last of them began."""
        wait_until(
            lambda: all((probe.good_since or 0) > since for probe in self._probes), HEALTHY_TIMEOUT, "service again"
        )
        return max(probe.good_since or 0 for probe in self._probes)

    def finish(self, say: Say, gives_back_after: float = 0.0) -> None:
        """Stop, and list what is left, when all that brokers may hold back for so many seconds is in its place again.

        A call that hung at a broker may have taken something there when it could go on, at the end of the last fault.
        """
        queues = sorted({client.queue for client in self._all()})
        _stop(self._producers)
        _stop(self._probes)
        _stop(self._consumers)
        time.sleep(max(LONGEST_DELAY, gives_back_after + 1))
        for queue in queues:
            say(f"{queue}: {self._list_all(queue)} messages are left")
        since = self.history.now()
        wait_until(lambda: all(self._has_caught_up(lister, since) for lister in self._listers), 60, "the listers")
        _stop(self._listers)

    def _has_caught_up(self, lister: Client, since: float) -> bool:
        return any(
            call.client == lister.name and call.invoked > since and call.status == 200 and not call.seen
            for call in self.history.calls[-200:]
        )

    def _list_all(self, queue: str) -> int:
        """List a queue from its beginning to its end until two such walks see the same; how many messages."""
        before: set[str] = set()
        deadline = time.monotonic() + HEALTHY_TIMEOUT
        while True:
            found = self._walk(queue, deadline)
            if found == before:
                return len(found)
            before = found

    def _walk(self, queue: str, deadline: float) -> set[str]:
        found: set[str] = set()
        path: str | None = f"/v2/queues/{queue}/messages?echo=true&include_claimed=true&limit={PAGE}"
        while path:
            call = Call(LIST, "final", self._gateways[0].name, queue, self.history.now(), walk=FINAL)
            answer = self._api.get(path)
            call.returned, call.status = self.history.now(), answer.status_code
            if answer.status_code != 200:
                if time.monotonic() > deadline:
                    raise NotRecovered(f"listing {queue} in the end: {answer.text}")
                time.sleep(0.5)
                continue
            page = answer.json()
            call.seen = [Seen(m["id"], m["body"]["producer"], m["body"]["number"]) for m in page["messages"]]
            self.history.add(call)
            found |= {seen.id for seen in call.seen}
            path = page["links"][0]["href"] if page["links"] else None
        return found


def _stop(clients: Sequence[Client]) -> None:
    for client in clients:
        client.stop.set()
    for client in clients:
        client.join()
