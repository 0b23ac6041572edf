"""The same random calls on every deployment: the answers must not differ but for ids, times and what has no order.

MARCONI_SAME_SCRIPTS (12) is how many sequences of calls are tried, MARCONI_SAME_SEED (1) the first one's seed. Failures
print sequences that were made as short as possible.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

import pytest
import requests

from functional.api.helpers import JSON, JSON_PATCH, id_of
from functional.deployments import COMMON
from functional.http import Api
from functional.installed import require
from functional.rules.two_gateways import BESIDE_MONGODB, EMBEDDED, HYBRID, side_options
from functional.services.gateway import Gateway, merge

SCRIPTS = int(os.environ.get("MARCONI_SAME_SCRIPTS", "12"))
SEED = int(os.environ.get("MARCONI_SAME_SEED", "1"))

#: Calls in a script, and differences that are reported.
STEPS = 60
REPORTED = 6

#: Seconds within which a broker's counts are right.
COUNTED = 3.0

QUEUES = ("q1", "q2", "dead")

#: Ids as they appear in texts.
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
MARKER = re.compile(r"marker=[^&\"]+")

#: Headers that say something.
HEADERS = ("Location", "Content-Type", "Allow", "Retry-After", "Accept-Patch")


@dataclass(frozen=True)
class Step:
    """One call. Texts may name what earlier calls have made: ``$m3`` a message, ``$c1`` a claim, ``$n2`` a page."""

    method: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    client: int = 1

    def __str__(self) -> str:
        query = f"?{urlencode(self.params, safe='$,')}" if self.params else ""
        return f"{self.method} {self.path}{query}" + (f" -d '{self.body}'" if self.body is not None else "")


# -- scripts ----------------------------------------------------------------------------------------------------


class Writer:
    """Writes a script."""

    def __init__(self, number: int) -> None:
        self.random = random.Random(number)
        self.messages = self.claims = self.pages = 0
        self.delayed: set[int] = set()
        self._bodies = 0

    def script(self) -> list[Step]:
        """A random one."""
        return [step for step in (self._step() for _ in range(STEPS)) if step is not None]

    def _step(self) -> Step | None:
        r = self.random
        queue = r.choice(QUEUES[:2]) if r.random() < 0.9 else "dead"
        write = r.choices(
            [self._post, self._claim, self._list, self._message, self._delete, self._many, self._claimed, self._queue,
             self._odd],
            [6, 5, 4, 2, 4, 3, 4, 4, 5],
        )[0]
        step = write(queue)
        return replace(step, client=r.choice([1, 1, 1, 2])) if step else None

    def _post(self, queue: str) -> Step:
        documents = []
        for _ in range(self.random.randint(1, 3)):
            self._bodies += 1
            self.messages += 1
            document: dict[str, Any] = {"body": self._bodies, "ttl": 3600}
            if self.random.random() < 0.2:
                document["delay"] = 600
                self.delayed.add(self.messages)
            documents.append(document)
        return Step("POST", f"/v2/queues/{queue}/messages", body=json.dumps({"messages": documents}))

    def _claim(self, queue: str) -> Step:
        self.claims += 1
        return Step(
            "POST", f"/v2/queues/{queue}/claims", (("limit", str(self.random.randint(1, 4))),), '{"ttl": 600}'
        )

    def _list(self, queue: str) -> Step:
        r = self.random
        if self.pages and r.random() < 0.4:
            return Step("GET", f"$n{r.randint(max(1, self.pages - 3), self.pages)}")
        params = [(name, "true") for name in ("echo", "include_claimed") if r.random() < 0.5]
        if r.random() < 0.3:
            return Step("GET", f"/v2/queues/{queue}/messages", (*params, ("include_delayed", "true"), ("limit", "20")))
        if self.messages and r.random() < 0.4:
            params.append(("marker", self._message_id(prompt=True)))
        else:
            self.pages += 1
        return Step("GET", f"/v2/queues/{queue}/messages", (*params, ("limit", str(r.randint(1, 5)))))

    def _message_id(self, *, prompt: bool = False) -> str:
        last = self.messages
        for _ in range(5):
            number = self.random.randint(max(1, last - 7), last) if last else 1
            if not prompt or number not in self.delayed:
                return f"$m{number}"
        return str(uuid.UUID(int=1))

    def _claim_id(self) -> str:
        if self.claims and self.random.random() < 0.8:
            return f"$c{self.random.randint(max(1, self.claims - 2), self.claims)}"
        return self.random.choice(["invalid", "0" * 32, str(uuid.UUID(int=2)), "x" * 300])

    def _message(self, queue: str) -> Step:
        return Step(self.random.choice(["GET", "GET", "HEAD"]), f"/v2/queues/{queue}/messages/{self._message_id()}")

    def _delete(self, queue: str) -> Step:
        params = (("claim_id", self._claim_id()),) if self.random.random() < 0.6 else ()
        return Step("DELETE", f"/v2/queues/{queue}/messages/{self._message_id()}", params)

    def _many(self, queue: str) -> Step:
        r = self.random
        path = f"/v2/queues/{queue}/messages"
        ids = ("ids", ",".join(self._message_id() for _ in range(r.randint(1, 3))))
        kind = r.random()
        if kind < 0.35:
            return Step("DELETE", path, (("pop", str(r.randint(1, 3))),))
        if kind < 0.65:
            return Step("DELETE", path, (ids, *((("claim_ids", self._claim_id()),) if r.random() < 0.5 else ())))
        return Step("GET", path, (ids,))

    def _claimed(self, queue: str) -> Step:
        method = self.random.choice(["GET", "PATCH", "DELETE"])
        body = self.random.choice(['{"ttl": 900}', '{"ttl": 600, "grace": 120}', None]) if method == "PATCH" else None
        return Step(method, f"/v2/queues/{queue}/claims/{self._claim_id()}", body=body)

    def _queue(self, queue: str) -> Step:
        r = self.random
        path = f"/v2/queues/{queue}"
        metadata = r.choice([
            None, {}, {"color": "red"}, {"_max_messages_post_size": 120}, {"_enable_encrypt_messages": True},
            {"_max_claim_count": 1, "_dead_letter_queue": "dead"}, {"_max_claim_count": 1},
            {"_max_claim_count": 2, "_dead_letter_queue": "dead", "_dead_letter_queue_messages_ttl": 120},
        ])
        change = {"op": r.choice(["add", "replace", "remove"]), "path": "/metadata/color", "value": 1}
        return r.choice([
            Step("PUT", path, body=None if metadata is None else json.dumps(metadata)),
            Step("GET", path),
            Step("HEAD", path),
            Step("PATCH", path, body=json.dumps([change]), headers=tuple(JSON_PATCH.items())),
            Step("DELETE", path),
            Step("GET", f"{path}/stats"),
            Step("GET", f"{path}/stats"),
            Step("POST", f"{path}/purge"),
            Step("GET", "/v2/queues", (("detailed", "true"), ("with_count", "true"))),
        ])

    def _odd(self, queue: str) -> Step:
        """Something that is refused, or nearly."""
        r = self.random
        path = f"/v2/queues/{queue}"
        messages, claims = f"{path}/messages", f"{path}/claims"

        def post(*documents: Any) -> Step:
            return Step("POST", messages, body=json.dumps({"messages": [*documents]}))

        return r.choice([
            post(), post({"body": 1, "ttl": 59}), post({"body": 1, "delay": 901}), post({"ttl": 60}), post(1),
            post({"body": 1, "properties": {"type": "x"}}), post({"body": 1, "ttl": "60"}),
            post({"body": 1, "ttl": 59}, {"body": 2, "delay": 600}),
            Step("POST", messages, body="{"), Step("POST", messages, body="[]"), Step("POST", messages),
            Step("GET", messages, (("limit", r.choice(["0", "21", "x"])),)),
            Step("GET", messages, (("marker", r.choice(["", "!", "0", "99999999999999999999", "peek-3", "no-such"])),)),
            Step("GET", messages, (("echo", "perhaps"),)),
            Step("GET", messages, (("ids", r.choice(["", "no-such", "!!", ",".join(["a"] * 21)])),)),
            Step("DELETE", messages), Step("DELETE", messages, (("pop", r.choice(["0", "21", "x", ""])),)),
            Step("DELETE", messages, (("pop", "1"), ("ids", "a"))),
            Step("DELETE", messages, (("ids", r.choice(["", "no-such", "!!"])),)),
            Step("GET", f"{messages}/{r.choice(['no-such', '!!', 'a b'])}"),
            Step("DELETE", f"{messages}/{r.choice(['no-such', '!!'])}", (("claim_id", "invalid"),)),
            Step("DELETE", f"{messages}/{self._message_id()}", (("claim_id", r.choice(["", "!!", "null"])),)),
            Step("POST", claims, body=r.choice(['{"ttl": 59}', '{"grace": 59}', "[]", '{"ttl": null, "limit": 0}'])),
            Step("POST", claims, (("limit", r.choice(["0", "21", "x"])),)),
            Step("PATCH", f"{claims}/{self._claim_id()}", body=r.choice(['{"ttl": 59}', "x", "[]", '{"ttl": "x"}'])),
            Step("PUT", path, body=r.choice(["[]", " ", '{"_max_claim_count": -1}', '{"_default_message_ttl": 1}'])),
            Step("PUT", path, body=json.dumps({"_dead_letter_queue": queue})),
            Step("PATCH", path, body="[]", headers=tuple(JSON_PATCH.items())),
            Step("PATCH", path, body="[]", headers=tuple(JSON.items())),
            Step("PATCH", path, body='[{"op": "add"}]', headers=tuple(JSON_PATCH.items())),
            Step("POST", f"{path}/purge", body=r.choice(['{"resource_types": ["x"]}', '{"resource_types": []}', "[]"])),
            Step("PUT", "/v2/queues/a%20b"), Step("GET", "/v2/queues", (("limit", "0"),)),
            Step("PUT", messages), Step("DELETE", claims), Step("GET", claims),
        ])


# -- playing ----------------------------------------------------------------------------------------------------


@dataclass
class Place:
    """A deployment, and what a script has made there."""

    name: str
    clients: dict[int, Api]
    messages: list[str] = field(default_factory=list)
    claims: list[str] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    symbols: dict[str, str] = field(default_factory=dict)

    def real(self, text: str) -> str:
        """With ids in place of their names; what was never made has an id that nobody has."""

        def found(match: re.Match[str]) -> str:
            made = {"m": self.messages, "c": self.claims, "n": self.pages}[match[1]]
            number = int(match[2]) - 1
            nothing = "/v2/queues/none/messages" if match[1] == "n" else str(uuid.UUID(int=number + 100))
            return (made[number] if number < len(made) else "") or nothing

        return re.sub(r"\$([mcn])([0-9]+)", found, text)

    def play(self, step: Step) -> requests.Response:
        """Do one call, and remember what it has made."""
        answer = self.clients[step.client].request(
            step.method, self.real(step.path), params=[(name, self.real(value)) for name, value in step.params],
            data=step.body, headers=dict(step.headers),
        )
        parts = step.path.split("/")
        if step.method == "POST" and parts[-1] == "messages" and answer.status_code == 201:
            for href in answer.json()["resources"]:
                self.messages.append(id_of(href))
                self.symbols[id_of(href)] = f"$m{len(self.messages)}"
        if step.method == "POST" and parts[-1] == "claims" and step.body == '{"ttl": 600}':
            self.claims.append(id_of(answer.headers.get("Location", "")))
            self.symbols[self.claims[-1]] = f"$c{len(self.claims)}"
        if step.method == "GET" and parts[-1] == "messages" and "limit" in dict(step.params):
            named = {name for name, _ in step.params}
            if not named & {"marker", "include_delayed"} and dict(step.params)["limit"] in "12345":
                links = answer.json().get("links") if answer.status_code == 200 else None
                self.pages.append(links[0]["href"] if links else "")
        return answer

    def symbolic(self, text: str) -> str:
        """With names in place of ids, and no markers."""
        return MARKER.sub("marker=*", ID.sub(lambda m: self.symbols.setdefault(
            m[0], f"$u{1 + sum(name.startswith('$u') for name in self.symbols.values())}"
        ), text))

    def shown(self, step: Step, answer: requests.Response) -> Any:
        """An answer without what may differ."""
        headers = {name: self.symbolic(answer.headers[name]) for name in HEADERS if name in answer.headers}
        if headers.get("Content-Type") == "application/json":
            body = json.loads(self.symbolic(answer.text)) if answer.text else None
        else:
            body = self.symbolic(answer.text)
        return {"status": answer.status_code, "headers": headers, "body": _without_times(step, body)}


def _without_times(step: Step, value: Any) -> Any:
    if isinstance(value, list):
        shown = [_without_times(step, item) for item in value]
        if "include_delayed" in dict(step.params):  # whose places are their own affair
            shown.sort(key=lambda item: json.dumps(item, sort_keys=True))
        return shown
    if not isinstance(value, dict):
        return value
    if "include_delayed" in dict(step.params) and len(value.get("messages", ())) == 20:
        return "a full page"
    shown = {}
    for key, inner in value.items():
        if key in ("age", "created"):
            shown[key] = "*"
        elif key in ("oldest", "newest"):
            shown[key] = "*"  # delayed messages have places of their own
        elif key == "ttl" and isinstance(inner, int) and inner > 3600:
            shown[key] = "*"  # a claim has made it longer, by the seconds that have passed
        else:
            shown[key] = _without_times(step, inner)
    return shown


@dataclass(frozen=True)
class Difference:
    """Where two deployments part."""

    steps: Sequence[Step]
    one: str
    other: str
    answers: tuple[str, str]
    trace: Sequence[str]

    @property
    def kind(self) -> tuple[str, ...]:
        """What makes two of them the same."""
        last = self.steps[-1]
        path = re.sub(r"\$[mcn][0-9]+|no-such|!!|q[12]|dead", "*", last.path)
        return last.method, path, self.one, self.other, *(re.sub(r"[$]?[0-9]+", "*", a)[:60] for a in self.answers)

    def __str__(self) -> str:
        calls = "\n".join(f"  {call}" for call in self.trace)
        return f"{calls}\n    {self.one}: {self.answers[0]}\n    {self.other}: {self.answers[1]}"


def compare(gateways: dict[str, Gateway], steps: Sequence[Step]) -> Difference | None:
    """Play a script everywhere; the first answer that differs."""
    project = f"project-{uuid.uuid4().hex}"
    ids = {1: str(uuid.uuid4()), 2: str(uuid.uuid4())}
    with ExitStack() as stack:
        places = []
        for name, gateway in gateways.items():
            first = stack.enter_context(closing(Api(gateway.url, project, ids[1])))
            places.append(Place(name, {1: first, 2: first.as_client(ids[2])}))
            for queue in QUEUES:
                stack.callback(first.delete, f"/v2/queues/{queue}")
        trace = []
        for number, step in enumerate(steps):
            shown = _played(places, step)
            trace.append(f"{step}  ->  {shown[0]['status']} {json.dumps(shown[0]['body'])[:300]}")
            for place, answer in zip(places[1:], shown[1:], strict=True):
                if answer != shown[0]:
                    texts = json.dumps(shown[0]), json.dumps(answer)
                    return Difference(steps[:number + 1], places[0].name, place.name, texts, trace)
        return None


def _played(places: Sequence[Place], step: Step) -> list[Any]:
    shown = [place.shown(step, place.play(step)) for place in places]
    deadline = time.monotonic() + COUNTED
    while step.path.endswith("/stats") and shown[1:] != shown[:-1] and time.monotonic() < deadline:
        time.sleep(0.1)
        shown = [place.shown(step, place.play(step)) for place in places]
    return shown


def shortened(differs: Callable[[Sequence[Step]], Difference | None], found: Difference) -> Difference:
    """Leave out what is not needed for this difference."""
    best, size = found, max(1, len(found.steps) // 2)
    while size:
        place = 0
        while place < len(best.steps) - 1:
            steps = [*best.steps[:place], *best.steps[min(place + size, len(best.steps) - 1):]]
            again = differs(steps)
            if again is not None and again.kind == found.kind:
                best = again
            else:
                place += size
        size //= 2
    return best


@pytest.fixture(scope="module")
def gateways(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Gateway]]:
    """One gateway of each deployment; what the embedded one answers is what the others are compared with."""
    with ExitStack() as stack:
        started = {}
        for name in (EMBEDDED, BESIDE_MONGODB, HYBRID):
            options = merge(COMMON, side_options(name, request, tmp_path_factory.mktemp("same")))
            started[name] = stack.enter_context(closing(require(lambda options=options: Gateway(options))))
            started[name].start()
        yield started


@pytest.mark.timeout(1800)
def test_every_deployment_gives_the_same_answers(gateways: dict[str, Gateway]) -> None:
    found: dict[tuple[str, ...], Difference] = {}
    for number in range(SEED, SEED + SCRIPTS):
        steps = Writer(number).script()
        while (difference := compare(gateways, steps)) is not None and len(found) < REPORTED:
            if difference.kind not in found:
                found[difference.kind] = shortened(lambda steps: compare(gateways, steps), difference)
            place = len(difference.steps) - 1  # and on without this call
            steps = [*steps[:place], *steps[place + 1:]]
        if len(found) == REPORTED:
            break
    report = "\n\n".join(map(str, found.values()))
    assert not found, f"{len(found)} kinds of calls are answered differently:\n{report}"
