"""Whose subscriptions they are: makes them before and during the load, and pauses, deletes and unsubscribes some."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import requests

from functional.faults.clients import PATIENCE, RETRY_PAUSE
from functional.http import Api
from functional.notify.faults.history import PAUSE, REMOVE, RESUME, UNSUBSCRIBE, Change, NotifyHistory, Subscribed
from functional.notify.faults.receivers import FAILING, Receiver
from functional.services.gateway import Gateway

#: Seconds between two changes, from and to.
BETWEEN = 0.3, 1.5

#: Number of subscriptions that may be changed at least, and of those that live at a time at most.
FEWEST, MOST = 3, 24

#: Deliveries at a time that subscriptions ask for.
AT_ONCE = (1, 2, 5)

#: Seconds for what has to succeed once the faults are over.
SUCCEEDS_WITHIN = 90.0

#: Two attempts, and the message is dead.
IMPATIENT = {
    "retries_with_no_delay": 1, "minimum_delay_retries": 0, "minimum_delay": 1, "maximum_delay": 11,
    "maximum_delay_retries": 0, "retry_backoff_function": "geometric",
}


class Owner:
    """Calls one gateway until that does not answer, then the next one. ``start`` and ``finish`` its own thread."""

    def __init__(
        self, history: NotifyHistory, gateways: Sequence[Gateway], project: str, queues: Sequence[str],
        receivers: Sequence[Receiver], seed: int,
    ) -> None:
        self._history = history
        self._gateways = list(gateways)
        self._project = project
        self._queues = queues
        self._receivers = receivers
        self._random = Random(f"{seed} owner")
        self._api = Api(self._gateways[0].url, project)
        self._made = 0
        #: Those that are changed; the others last.
        self._volatile: list[Subscribed] = []
        self._paused: set[str] = set()
        self._stop = threading.Event()
        self._still = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="owner", daemon=True)

    # -- what the run asks for ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """A subscription of each receiver to each queue, and one that dies soon of failures."""
        for queue in self._queues:
            for receiver in self._receivers:
                self._subscribe(queue, receiver)
        failing = next(receiver for receiver in self._receivers if receiver.nature == FAILING)
        self._subscribe(self._queues[0], failing, _retry_policy=IMPATIENT)

    def start(self) -> None:
        """Change things until `finish`."""
        self._thread.start()

    @contextmanager
    def still(self) -> Iterator[None]:
        """Nothing is made meanwhile: a broker that is killed forgets its youngest queues."""
        with self._still:
            yield

    def finish(self) -> None:
        """Change nothing more, and let what is paused go on."""
        self._stop.set()
        self._thread.join()
        for name in list(self._paused):
            deadline = time.monotonic() + SUCCEEDS_WITHIN
            while not self._change(self._history.subscriptions[name], RESUME).succeeded:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{name} can't be activated again")

    def list_dead(self) -> None:
        """Learn what is among the dead letters."""
        for subscription in self._history.subscriptions.values():
            if subscription.ended == float("inf"):
                subscription.dead = self._dead(subscription)

    @property
    def living(self) -> list[Subscribed]:
        """What has not been deleted or unsubscribed."""
        return [each for each in self._history.subscriptions.values() if each.ended == float("inf")]

    # -- turns --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.wait(self._random.uniform(*BETWEEN)):
            with self._still:
                self._turn()

    def _turn(self) -> None:
        living = [each for each in self._volatile if each.ended == float("inf")]
        if len(self.living) < MOST and (len(living) < FEWEST or self._random.random() < 0.3):
            made = self._subscribe(self._random.choice(self._queues), self._random.choice(self._receivers))
            if made is not None and self._random.random() < 0.7:
                self._volatile.append(made)
            return
        if not living:
            return
        chosen = self._random.choice(living)
        if chosen.name in self._paused:
            self._change(chosen, RESUME)
        else:
            self._change(chosen, self._random.choices((PAUSE, REMOVE, UNSUBSCRIBE), (4, 1, 1))[0])

    def _subscribe(self, queue: str, receiver: Receiver, **options: Any) -> Subscribed | None:
        """Ask until the answer is yes; None if there is none before the end."""
        self._made += 1
        name = f"{receiver.nature}-{self._made}"
        most = self._random.choice(AT_ONCE)
        body = {"subscriber": receiver.url(name), "ttl": 7200, "options": {"_max_in_flight": most, **options}}
        while True:
            status, document = self._call("POST", f"/v2/queues/{queue}/subscriptions", json=body)
            if status == 201:
                break
            if status not in (None, 503):
                raise AssertionError(f"subscribing {name}: {status} {document}")
            if self._stop.is_set():
                return None
        made, id_ = self._history.now(), document["subscription_id"]
        secret = self._asked(f"/v2/queues/{queue}/subscriptions/{id_}/secret")["secret"]
        found = Subscribed(name, queue, receiver.nature, most, id_, secret, made)
        self._history.subscriptions[name] = found
        return found

    def _change(self, subscription: Subscribed, kind: str) -> Change:
        path = f"/v2/queues/{subscription.queue}/subscriptions/{subscription.id}"
        change = Change(kind, self._history.now())
        subscription.changes.append(change)
        if kind == REMOVE:
            change.status, _ = self._call("DELETE", path)
        elif kind == UNSUBSCRIBE:
            change.status, _ = self._call("PUT", f"{path}/confirm", json={"confirmed": False})
        else:
            change.status, _ = self._call(
                "PUT", f"{path}/state", json={"state": "paused" if kind == PAUSE else "active"}
            )
        change.returned = self._history.now()
        if kind == PAUSE:
            self._paused.add(subscription.name)
        elif change.succeeded:
            self._paused.discard(subscription.name)
        return change

    def _dead(self, subscription: Subscribed) -> list[str]:
        ids: list[str] = []
        path: str | None = f"/v2/queues/{subscription.queue}/subscriptions/{subscription.id}/dead_letters?limit=20"
        while path:
            page = self._asked(path)
            ids += [letter["id"] for letter in page["dead_letters"]]
            path = page["links"][0]["href"] if page["dead_letters"] and page["links"] else None
        return ids

    # -- calls --------------------------------------------------------------------------------------------------

    def _asked(self, path: str) -> Any:
        deadline = time.monotonic() + SUCCEEDS_WITHIN
        while time.monotonic() < deadline:
            status, document = self._call("GET", path)
            if status == 200:
                return document
        raise TimeoutError(f"{path} is not answered")

    def _call(self, method: str, path: str, **arguments: Any) -> tuple[int | None, Any]:
        """Status, None without an answer, and the document."""
        try:
            answer = self._api.request(method, path, timeout=PATIENCE, **arguments)
            document = answer.json() if answer.content else None
        except (requests.RequestException, ValueError):
            self._gateways.append(self._gateways.pop(0))
            self._api.close()
            self._api = Api(self._gateways[0].url, self._project)
            time.sleep(RETRY_PAUSE)
            return None, None
        if answer.status_code == 503:
            time.sleep(RETRY_PAUSE)
        return answer.status_code, document
