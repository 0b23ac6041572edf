"""The load: clients that post, claim, list, read, sweep and pop, each in a thread, and record what they are told."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import requests

from functional.faults.history import CLAIM, DELETE, GET, LIST, POP, POST, RELEASE, RENEW, Call, History, Seen
from functional.http import Api
from functional.services.gateway import Gateway

#: Seconds that a client waits for an answer, longer than any gateway that works may take.
PATIENCE = 20.0

#: Seconds between two turns of a client, and between two posts of a producer, about; after a failed call.
PAUSE = 0.06
POST_PAUSE = 0.18
RETRY_PAUSE = 0.15

#: Maximum number of messages in a post, and in a page or claim.
BATCH = 5
PAGE = 20

#: Seconds of the shortest claim and message that the API takes.
SHORTEST_TTL = 60

#: Seconds of claims in FIFO queues, where an expired one holds up its groups. Gateways of the fault run allow it.
BRIEF_CLAIM = 6

#: Maximum number of seconds of a delay.
LONGEST_DELAY = 3


class Client:
    """Calls one gateway until that does not answer, then the next one; runs until `stop` is set."""

    pause = PAUSE

    #: Seconds of its claims.
    claim_ttl = SHORTEST_TTL

    def __init__(
        self, name: str, history: History, gateways: Sequence[Gateway], project: str, queue: str, seed: str
    ) -> None:
        self.name = name
        self.history = history
        self.queue = queue
        self.random = random.Random(f"{seed} {name}")
        self.stop = threading.Event()
        self._gateways = list(gateways)
        self.random.shuffle(self._gateways)
        self._project = project
        self._path = f"/v2/queues/{queue}"
        self._api = Api(self._gateways[0].url, project)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the client has ended, which it does some time after `stop` is set."""
        self._thread.join()

    def _run(self) -> None:
        while not self.stop.is_set():
            self.turn()
            self.stop.wait(self.random.uniform(0, 2 * self.pause))
        self._api.close()

    def turn(self) -> None:
        """What the client does over and over."""
        raise NotImplementedError

    @contextmanager
    def _recorded(self, kind: str, **details: Any) -> Iterator[Call]:
        call = Call(kind, self.name, self._gateways[0].name, self.queue, self.history.now(), **details)
        try:
            yield call
        finally:
            call.returned = self.history.now()
            self.history.add(call)
        if call.unknown:
            self.stop.wait(RETRY_PAUSE)

    def _call(self, call: Call, method: str, path: str, **arguments: Any) -> Any:
        """The answer's JSON, None without one; fills in how the call went."""
        try:
            answer = self._api.request(method, self._path + path, timeout=PATIENCE, **arguments)
            document = json.loads(answer.content) if answer.content else None
        except (requests.RequestException, ValueError) as error:
            call.error = f"{type(error).__name__}: {error}"[:200]
            self._go_to_next()
            return None
        call.status = answer.status_code
        if answer.status_code >= 400:
            call.error = str(document)[:300]
        return document

    def _go_to_next(self) -> None:
        """Call the next gateway from now on."""
        self._gateways.append(self._gateways.pop(0))
        self._api.close()
        self._api = self._api.at(self._gateways[0].url)

    def _claim(self, limit: int) -> Call:
        with self._recorded(CLAIM, ttl=self.claim_ttl, limit=limit) as call:
            document = self._call(call, "POST", "/claims", params={"limit": limit}, json=self._times)
            if call.status == 201:
                call.seen = seen_in(document["messages"])
                call.claim = document["messages"][0]["href"].rpartition("claim_id=")[2]
        return call

    @property
    def _times(self) -> dict[str, int]:
        """What claims and renewals ask for."""
        return {"ttl": self.claim_ttl, "grace": SHORTEST_TTL}

    def _delete(self, id_: str, claim: str | None = None) -> Call:
        with self._recorded(DELETE, ids=[id_], claim=claim) as call:
            self._call(call, "DELETE", f"/messages/{id_}", params={"claim_id": claim} if claim else None)
        return call


class Producer(Client):
    """Posts messages, numbered; never the same number again, whatever became of a post.

    ``groups``: None for an ordinary queue; in a FIFO queue the number of groups, and 1 is that of messages without a
    group. ``delayed``: share of posts whose messages are delayed.
    """

    pause = POST_PAUSE

    def __init__(
        self, *arguments: Any, ttl: int = 3600, groups: int | None = None, delayed: float = 0.0, **more: Any
    ) -> None:
        super().__init__(*arguments, **more)
        self._ttl = ttl
        self._groups = groups
        self._delayed = delayed
        self._next = 0

    def turn(self) -> None:
        count = self.random.randint(1, BATCH)
        numbers = list(range(self._next, self._next + count))
        self._next += count
        delay = self.random.randint(1, LONGEST_DELAY) if self._delayed and self.random.random() < self._delayed else 0
        groups = [self._group() for _ in numbers] if self._groups else []
        messages: list[dict[str, Any]] = [
            {"ttl": self._ttl, "body": {"producer": self.name, "number": n}} | ({"delay": delay} if delay else {})
            for n in numbers
        ]
        for message, group in zip(messages, groups, strict=False):
            if group:
                message["group"] = group
        self._send(messages, {"numbers": numbers, "groups": groups, "delay": delay, "ttl": self._ttl})

    def _group(self) -> str:
        return f"group-{self.random.randrange(self._groups)}" if self._groups and self._groups > 1 else ""

    def _send(self, messages: list[dict[str, Any]], details: dict[str, Any], key: str | None = None) -> Call:
        """Post messages once."""
        headers = {"Idempotency-Key": key} if key else {}
        with self._recorded(POST, key=key, **details) as call:
            document = self._call(call, "POST", "/messages", json={"messages": messages}, headers=headers)
            if call.succeeded:
                call.ids = [href.rpartition("/")[2] for href in document["resources"]]
        return call


class Claimer(Client):
    """Claims messages; then works them off, or releases them, renews the claim first, or crashes."""

    #: How often it does which of these, out of a hundred claims.
    ends = {"finish": 78, "renew": 8, "give_up": 7, "crash": 7}

    def turn(self) -> None:
        call = self._claim(self.random.randint(1, PAGE))
        if not call.seen:
            return
        assert call.claim is not None
        end = self.random.choices([*self.ends], [*self.ends.values()])[0]
        getattr(self, f"_{end}")(call.claim, [message.id for message in call.seen])

    def _finish(self, claim: str, ids: Sequence[str]) -> None:
        for id_ in ids:
            self._delete(id_, claim)

    def _renew(self, claim: str, ids: Sequence[str]) -> None:
        with self._recorded(RENEW, claim=claim, ids=list(ids), ttl=self.claim_ttl) as call:
            self._call(call, "PATCH", f"/claims/{claim}", json=self._times)
        self._finish(claim, ids)

    def _give_up(self, claim: str, ids: Sequence[str]) -> None:
        """Work off a part, release the rest; then go on with what is no longer held, as if that were forgotten."""
        done = self.random.randrange(len(ids))
        self._finish(claim, ids[:done])
        with self._recorded(RELEASE, claim=claim, ids=list(ids[done:])) as call:
            self._call(call, "DELETE", f"/claims/{claim}")
        if call.succeeded:
            self.stop.wait(self.random.uniform(0, 0.5))
            self._finish(claim, ids[done:])

    def _crash(self, claim: str, ids: Sequence[str]) -> None:
        self._finish(claim, ids[:self.random.randrange(len(ids))])


class GroupClaimer(Claimer):
    """Claims for a short time, which runs out now and then, and may renew a claim when that has happened."""

    claim_ttl = BRIEF_CLAIM
    ends = {"finish": 55, "linger": 20, "renew": 4, "renew_late": 4, "give_up": 12, "crash": 5}

    def _linger(self, claim: str, ids: Sequence[str]) -> None:
        """Let others meet a claimed group."""
        self.stop.wait(self.random.uniform(0, 1))
        self._finish(claim, ids)

    def _renew_late(self, claim: str, ids: Sequence[str]) -> None:
        self.stop.wait(self.claim_ttl + self.random.uniform(-1, 1))
        self._renew(claim, ids)


class Lister(Client):
    """Follows a queue with markers, from its beginning on, and does not lose its place whatever goes wrong."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._marker: str | None = None

    def turn(self) -> None:
        with self._recorded(LIST, walk=self.name) as call:
            parameters = {"echo": "true", "limit": str(PAGE)} | ({"marker": self._marker} if self._marker else {})
            document = self._call(call, "GET", "/messages", params=parameters)
            if call.status == 200:
                call.seen = seen_in(document["messages"])
                if document["links"]:
                    query = document["links"][0]["href"].partition("?")[2]
                    self._marker = next(
                        value for name, _, value in (pair.partition("=") for pair in query.split("&"))
                        if name == "marker"
                    )


class Reader(Client):
    """Reads messages by their ids, some that have landed and some that have not."""

    def turn(self) -> None:
        posts = [call for call in self.history.calls[-500:] if call.ids and call.queue == self.queue]
        if not posts:
            return
        id_ = self.random.choice(self.random.choice(posts).ids)
        with self._recorded(GET, ids=[id_]) as call:
            document = self._call(call, "GET", f"/messages/{id_}")
            if call.status == 200:
                call.seen = seen_in([document])


class Sweeper(Client):
    """Lists what is free and deletes some of it by id, without a claim."""

    def turn(self) -> None:
        with self._recorded(LIST) as call:
            document = self._call(call, "GET", "/messages", params={"echo": "true", "limit": str(PAGE)})
            if call.status == 200:
                call.seen = seen_in(document["messages"])
        if call.seen:
            self._delete(self.random.choice(call.seen).id)
        self.stop.wait(self.random.uniform(0, 1))


class Popper(Client):
    """Takes messages and deletes them in one call."""

    def turn(self) -> None:
        limit = self.random.randint(1, BATCH)
        with self._recorded(POP, limit=limit) as call:
            document = self._call(call, "DELETE", "/messages", params={"pop": limit})
            if call.status == 200:
                call.seen = seen_in(document["messages"])


class Probe(Producer):
    """Posts to one gateway, and claims and deletes there: several times a second while there is service."""

    #: When the last round was begun that went well all through, in seconds of the history's clock.
    good_since: float | None = None

    def turn(self) -> None:
        began = self.history.now()
        super().turn()
        call = self._claim(PAGE)
        ended = [self._delete(message.id, call.claim) for message in call.seen]
        if call.seen and all(end.succeeded for end in ended):
            self.good_since = began


def seen_in(messages: Sequence[dict[str, Any]]) -> list[Seen]:
    """Messages as an answer shows them."""
    return [
        Seen(message["id"], message["body"]["producer"], message["body"]["number"], message.get("claim_count", 0))
        for message in messages
    ]
