"""Queues on their way round all pools, hop by hop."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import requests

from functional.faults.history import History
from functional.http import Api
from functional.migration.pools import ADMIN, Pools, Say
from functional.wait import wait_until

#: Seconds that a hop may take, faults included.
HOP = 180.0

#: Seconds between two looks at the queues, and between two hops.
LOOK = 0.1
REST = 1.0

#: Seconds that an administrator waits for one answer.
PATIENCE = 10.0


@dataclass
class Hop:
    """One queue's way to a pool. ``phases``: when each of them was first seen (seconds of the history's clock)."""

    queue: str
    target: str
    begun: float
    phases: dict[str, float] = field(default_factory=dict)
    ended: float | None = None

    def __str__(self) -> str:
        phases = ", ".join(f"{phase} {at - self.begun:.1f}" for phase, at in self.phases.items())
        lasted = "not over" if self.ended is None else f"{self.ended - self.begun:.1f} s"
        return f"{self.queue} to {self.target}: {lasted} ({phases})"


class Journey:
    """Moves queues from pool to pool, in a thread of its own, until it is told to end; all of them make each hop."""

    def __init__(self, history: History, pools: Pools, project: str, queues: Sequence[str], say: Say) -> None:
        self.hops: list[Hop] = []
        self.failed: BaseException | None = None
        self._history = history
        self._gateways = list(pools.gateways)
        self._way = pools.way
        self._queues = queues
        self._say = say
        self._api = Api(self._gateways[0].url, project)
        self._phases: dict[str, str | None] = dict.fromkeys(queues)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journey", daemon=True)

    def start(self) -> None:
        """Set out."""
        self._thread.start()

    def finish(self) -> None:
        """Let the hops that have begun come to their end. Raises what went wrong."""
        self._ending.set()
        self._thread.join()
        self._api.close()
        if self.failed is not None:
            raise self.failed

    def until_round(self) -> None:
        """Wait until the queues have been everywhere."""
        moves = len(self._way) * len(self._queues)
        wait_until(
            lambda: self.failed or sum(hop.ended is not None for hop in self.hops) >= moves, len(self._way) * HOP,
            "the queues to come back",
        )

    @property
    def phase(self) -> str | None:
        """The phase that the first queue's move is in, as last seen; None between two hops."""
        return self._phases[self._queues[0]]

    @property
    def place(self) -> str:
        """Where the queues are in the end."""
        return self.hops[-1].target if self.hops else self._way[-1]

    def _run(self) -> None:
        try:
            turn = 0
            while not self._ending.is_set():
                self._hop(self._way[turn % len(self._way)])
                turn += 1
                self._ending.wait(REST)
        except BaseException as error:
            self.failed = error

    def _hop(self, target: str) -> None:
        hops = [Hop(queue, target, self._history.now()) for queue in self._queues]
        self.hops += hops
        deadline = time.monotonic() + HOP
        for hop in hops:
            while (answer := self._ask("POST", hop.queue, "migrate", {"pool": target})) is None or (
                answer.status_code not in (202, 409)
            ):
                _check(deadline, f"{hop.queue} to set out for {target}: {answer.text if answer else 'no answer'}")
                time.sleep(LOOK)
        while not all(hop.ended for hop in hops):
            for hop in hops:
                if hop.ended is None:
                    self._look(hop)
            _check(deadline, "; ".join(str(hop) for hop in hops))
            time.sleep(LOOK)
        for hop in hops:
            self._say(str(hop))

    def _look(self, hop: Hop) -> None:
        answer = self._ask("GET", hop.queue, "migration")
        if answer is None or answer.status_code != 200:
            return
        found = answer.json()
        move = found["migration"]
        self._phases[hop.queue] = move["phase"] if move else None
        if move:
            hop.phases.setdefault(move["phase"], self._history.now())
        elif found["pool"] == hop.target:
            hop.ended = self._history.now()

    def _ask(
        self, method: str, queue: str, what: str, document: object = None
    ) -> requests.Response | None:
        """An administrator's call to the gateway that answers; None if it does not."""
        try:
            return self._api.request(
                method, f"/v2/queues/{queue}/{what}", json=document, headers=ADMIN, timeout=PATIENCE
            )
        except requests.RequestException:
            self._gateways.append(self._gateways.pop(0))
            self._api.close()
            self._api = self._api.at(self._gateways[0].url)
            return None


def _check(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"this takes too long: {what}")
