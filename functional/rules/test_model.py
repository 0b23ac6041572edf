"""Random calls through two gateways, one after the other, against a model: no answer may contradict all before it.

MARCONI_MODEL_EXAMPLES (12) is how many sequences are tried on each deployment, MARCONI_MODEL_STEPS (40) their length.
A failure prints the shortest sequence that was found, as one could repeat it by hand. By default the sequences are
always the same; with MARCONI_MODEL_SEED they are others.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from functional.api.helpers import JSON_PATCH, RESERVED_DEFAULTS, eventually, id_of, next_link
from functional.http import Api, new_session
from functional.rules.queue_model import Message, Service
from functional.rules.two_gateways import BESIDE_MONGODB, EMBEDDED, HYBRID, Two, two_gateways

EXAMPLES = int(os.environ.get("MARCONI_MODEL_EXAMPLES", "12"))
STEPS = int(os.environ.get("MARCONI_MODEL_STEPS", "40"))
SEED = os.environ.get("MARCONI_MODEL_SEED")

QUEUES = ("q1", "q2")

#: Which of the things that an earlier call has made.
PICK = st.integers(0, 11)

GATEWAY = st.sampled_from("AB")
QUEUE = st.sampled_from(QUEUES)
LIMIT = st.integers(1, 4)
METADATA = st.sampled_from([
    None, {}, {"color": "red"}, {"color": "blue", "n": 1}, {"_enable_encrypt_messages": True},
])

#: Seconds within which the broker's counts are right.
COUNTED = 3.0


@pytest.fixture(scope="module", params=[EMBEDDED, BESIDE_MONGODB, HYBRID])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """The two gateways."""
    with two_gateways(request.param, request, tmp_path_factory.mktemp("two")) as started:
        yield started


class Calls(RuleBasedStateMachine):
    """Calls in a row, of two clients of a project."""

    two: Two

    def __init__(self) -> None:
        super().__init__()
        self.model = Service()
        self.trace: list[str] = []
        project = f"project-{uuid.uuid4().hex}"
        session = new_session()
        names = [(gateway, client) for gateway in "AB" for client in (1, 2)]
        ids = {1: str(uuid.uuid4()), 2: str(uuid.uuid4())}
        urls = {"A": self.two.first.url, "B": self.two.second.url}
        self.clients = {
            (gateway, client): Api(urls[gateway], project, ids[client], session) for gateway, client in names
        }
        self.client_ids = ids
        #: What may be named: (queue, id) of messages, (queue, claim), and (queue, marker, place) of pages.
        self.ids: list[tuple[str, str]] = []
        self.claims: list[tuple[str, str]] = []
        self.markers: list[tuple[str, str, int]] = []
        self._bodies = 0

    # -- calling ------------------------------------------------------------------------------------------------

    def call(
        self, gateway: str, method: str, path: str, status: int | tuple[int, ...], client: int = 1,
        body: Any = None, headers: dict[str, str] | None = None, **params: Any,
    ) -> requests.Response:
        """One call, which must be answered by one of these."""
        query = f"?{urlencode(params)}" if params else ""
        data = json.dumps(body) if body is not None else None
        answer = self.clients[gateway, client].request(method, path + query, data=data, headers=headers or {})
        self.trace.append(
            f"{method} {gateway}{path}{query}" + (f" -d '{data}'" if data else "") + f" (client {client})"
            f"  ->  {answer.status_code} {answer.text[:400]}"
        )
        expected = (status,) if isinstance(status, int) else status
        self.check(answer.status_code in expected, f"{answer.status_code}, not {' or '.join(map(str, expected))}")
        return answer

    def check(self, true: bool, what: str) -> None:
        """Fail with all calls up to here."""
        if not true:
            calls = "\n".join(f"  {number:2} {call}" for number, call in enumerate(self.trace, 1))
            raise AssertionError(f"{self.two.name}: {what}\n{calls}")

    def compare(self, shown: list[dict[str, Any]], wanted: list[Message], what: str) -> None:
        """The messages of an answer are these."""
        ids = [message["id"] for message in shown]
        self.check(ids == [m.id for m in wanted], f"{what} {ids}, not {[m.id for m in wanted]}")
        for message, expected in zip(shown, wanted, strict=True):
            self.look(message, expected)

    def look(self, shown: dict[str, Any], expected: Message) -> None:
        """One message of an answer."""
        self.check(shown["body"] == expected.body, f"body {shown['body']!r}, not {expected.body!r}")
        if "href" in shown:
            claim = shown["href"].partition("?claim_id=")[2] or None
            self.check(claim == expected.claim, f"shown as claimed by {claim}, not {expected.claim}")

    def pick_id(self, queue: str, pick: int) -> str:
        """The id of a message of the queue, there or not; sometimes one that was never there."""
        ids = [id_ for q, id_ in self.ids if q == queue]
        return ids[-1 - pick % len(ids)] if ids else str(uuid.uuid4())

    def pick_claim(self, queue: str, pick: int) -> str:
        """The same for a claim."""
        claims = [claim for q, claim in self.claims if q == queue]
        return claims[-1 - pick % len(claims)] if claims and pick < 10 else uuid.uuid4().hex

    # -- queues -------------------------------------------------------------------------------------------------

    @rule(gateway=GATEWAY, queue=QUEUE, metadata=METADATA)
    def put(self, gateway: str, queue: str, metadata: dict[str, Any] | None) -> None:
        status = self.model.put(queue, metadata)
        self.call(gateway, "PUT", f"/v2/queues/{queue}", status, body=metadata)

    @rule(
        gateway=GATEWAY, queue=QUEUE, operation=st.sampled_from(["add", "replace", "remove"]), value=st.integers(1, 3)
    )
    def patch(self, gateway: str, queue: str, operation: str, value: int) -> None:
        status = self.model.patch(queue, operation, "color", value)
        change = {"op": operation, "path": "/metadata/color"} | ({} if operation == "remove" else {"value": value})
        answer = self.call(gateway, "PATCH", f"/v2/queues/{queue}", status, body=[change], headers=JSON_PATCH)
        if status == 200:
            self.check_metadata(queue, answer.json())

    @rule(gateway=GATEWAY, queue=QUEUE)
    def get_metadata(self, gateway: str, queue: str) -> None:
        self.check_metadata(queue, self.call(gateway, "GET", f"/v2/queues/{queue}", 200).json())

    def check_metadata(self, queue: str, shown: dict[str, Any]) -> None:
        expected = RESERVED_DEFAULTS | self.model.get(queue).metadata
        self.check({k: v for k, v in shown.items() if k in expected} == expected, f"metadata is not {expected}")
        own = {k for k in shown if not k.startswith("_")}
        self.check(own == {k for k in expected if not k.startswith("_")}, f"metadata is not {expected}")

    @rule(gateway=GATEWAY, queue=QUEUE)
    def head(self, gateway: str, queue: str) -> None:
        self.call(gateway, "HEAD", f"/v2/queues/{queue}", 204 if queue in self.model.queues else 404)

    @rule(gateway=GATEWAY)
    def list_queues(self, gateway: str) -> None:
        shown = self.call(gateway, "GET", "/v2/queues", 200, with_count="true").json()
        names = [queue["name"] for queue in shown["queues"]]
        self.check(names == sorted(self.model.queues), f"the queues are {sorted(self.model.queues)}")
        self.check(shown["count"] == len(names), "the count is wrong")

    @rule(gateway=GATEWAY, queue=QUEUE)
    def delete_queue(self, gateway: str, queue: str) -> None:
        self.call(gateway, "DELETE", f"/v2/queues/{queue}", 204)
        self.model.queues.pop(queue, None)
        self.markers = [marker for marker in self.markers if marker[0] != queue]

    @rule(gateway=GATEWAY, queue=QUEUE)
    def purge(self, gateway: str, queue: str) -> None:
        self.call(gateway, "POST", f"/v2/queues/{queue}/purge", 204)
        self.model.purge(queue)

    @rule(gateway=GATEWAY, queue=QUEUE)
    def stats(self, gateway: str, queue: str) -> None:
        def counted() -> bool:
            shown = self.call(gateway, "GET", f"/v2/queues/{queue}/stats", 200).json()["messages"]
            edges = {"oldest", "newest"} & set(shown)
            self.check(not edges or shown["total"] > 0, "edges of an empty queue")
            counts = {name: shown[name] for name in ("claimed", "free", "total")}
            expected = self.model.stats(queue)
            self.check(counts == expected, f"the counts are not {expected}")
            return True

        if self.two.has_broker:
            eventually(counted, COUNTED)
        else:
            counted()

    # -- messages -----------------------------------------------------------------------------------------------

    @rule(
        gateway=GATEWAY, queue=QUEUE, client=st.sampled_from([1, 2]),
        delays=st.lists(st.sampled_from([0, 0, 0, 600]), min_size=1, max_size=4),
    )
    def post(self, gateway: str, queue: str, client: int, delays: list[int]) -> None:
        documents = []
        for delay in delays:
            self._bodies += 1
            documents.append({"body": self._bodies, "ttl": 3600} | ({"delay": delay} if delay else {}))
        path = f"/v2/queues/{queue}/messages"
        answer = self.call(gateway, "POST", path, 201, client, {"messages": documents})
        ids = [id_of(href) for href in answer.json()["resources"]]
        self.check(len(ids) == len(documents), "not one resource for each message")
        self.model.post(queue, self.client_ids[client], ids, documents)
        self.ids += [(queue, id_) for id_ in ids]

    @rule(
        gateway=GATEWAY, queue=QUEUE, client=st.sampled_from([1, 2]), limit=LIMIT, echo=st.booleans(),
        claimed=st.booleans(), delayed=st.booleans(), pick=PICK,
    )
    def list_messages(
        self, gateway: str, queue: str, client: int, limit: int, echo: bool, claimed: bool, delayed: bool, pick: int
    ) -> None:
        params: dict[str, Any] = {"limit": limit}
        params |= {"echo": "true"} if echo else {}
        params |= {"include_claimed": "true"} if claimed else {}
        params |= {"include_delayed": "true"} if delayed else {}
        markers = [marker for marker in self.markers if marker[0] == queue]
        after = 0
        if markers and pick < 8:
            _, params["marker"], after = markers[-1 - pick % len(markers)]
        answer = self.call(gateway, "GET", f"/v2/queues/{queue}/messages", 200, client, **params).json()
        self.check_page(queue, client, answer, after, limit, echo, claimed, delayed)

    def check_page(
        self, queue: str, client: int, answer: dict[str, Any], after: int, limit: int,
        echo: bool, claimed: bool, delayed: bool,
    ) -> None:
        """Delayed messages have a place, but it is not known which: in a broker's queue they stand in front."""
        wanted, late = self.model.page(
            queue, self.client_ids[client], after, echo=echo, claimed=claimed, delayed=delayed
        )
        shown = answer["messages"]
        late_ids = {m.id: m for m in late}
        prompt = [message for message in shown if message["id"] not in late_ids]
        self.check(len(shown) <= limit, "more than the limit")
        self.check(len({message["id"] for message in shown}) == len(shown), "a message twice")
        for message in shown:
            if message["id"] in late_ids:
                self.look(message, late_ids[message["id"]])
        if len(shown) == limit:
            self.compare(prompt, wanted[:len(prompt)], "listed")
        else:
            self.compare(prompt, wanted, "listed")
            if after == 0:
                self.check({m["id"] for m in shown} >= late_ids.keys(), "a delayed message is missing")
        self.check(bool(shown) == bool(next_link(answer)), "a next link if and only if there are messages")
        if shown and shown[-1]["id"] not in late_ids:
            marker = next_link(answer).partition("marker=")[2].partition("&")[0]  # type: ignore[union-attr]
            self.markers.append((queue, marker, self.model.queues[queue].messages[shown[-1]["id"]].order))

    @rule(gateway=GATEWAY, queue=QUEUE, pick=PICK, limit=LIMIT)
    def list_behind_an_id(self, gateway: str, queue: str, pick: int, limit: int) -> None:
        id_ = self.pick_id(queue, pick)
        message = self.model.get(queue).messages.get(id_)
        if message is not None and message.delayed:
            return
        path = f"/v2/queues/{queue}/messages"
        answer = self.call(gateway, "GET", path, 200, limit=limit, marker=id_, echo="true").json()
        if message is None:
            self.check(answer["messages"] == [], "a page after a message that does not exist")
        else:
            self.check_page(queue, 1, answer, message.order, limit, True, False, False)

    @rule(gateway=GATEWAY, queue=QUEUE, pick=PICK)
    def get_message(self, gateway: str, queue: str, pick: int) -> None:
        id_ = self.pick_id(queue, pick)
        message = self.model.get(queue).messages.get(id_)
        answer = self.call(gateway, "GET", f"/v2/queues/{queue}/messages/{id_}", 200 if message else 404)
        if message:
            self.look(answer.json(), message)

    @rule(gateway=GATEWAY, queue=QUEUE, picks=st.lists(PICK, min_size=1, max_size=3))
    def get_messages(self, gateway: str, queue: str, picks: list[int]) -> None:
        ids = [self.pick_id(queue, pick) for pick in picks]
        wanted = [m for id_ in dict.fromkeys(ids) if (m := self.model.get(queue).messages.get(id_))]
        path = f"/v2/queues/{queue}/messages"
        answer = self.call(gateway, "GET", path, 200 if wanted else 404, ids=",".join(ids))
        if wanted:
            self.compare(answer.json()["messages"], wanted, "found")

    @rule(
        gateway=GATEWAY, queue=QUEUE, pick=PICK, claim=st.sampled_from(["none", "right", "other", "invalid"]),
        claim_pick=PICK,
    )
    def delete_message(self, gateway: str, queue: str, pick: int, claim: str, claim_pick: int) -> None:
        id_ = self.pick_id(queue, pick)
        message = self.model.get(queue).messages.get(id_)
        claim_id = {
            "none": None,
            "right": message.claim if message else None,
            "other": self.pick_claim(queue, claim_pick),
            "invalid": "invalid",
        }[claim]
        params = {} if claim_id is None else {"claim_id": claim_id}
        status = self.model.delete_message(queue, id_, claim_id)
        self.call(gateway, "DELETE", f"/v2/queues/{queue}/messages/{id_}", status, **params)

    @rule(gateway=GATEWAY, queue=QUEUE, picks=st.lists(PICK, min_size=1, max_size=3), claim_pick=PICK)
    def delete_messages(self, gateway: str, queue: str, picks: list[int], claim_pick: int) -> None:
        ids = [self.pick_id(queue, pick) for pick in picks]
        claims = [self.pick_claim(queue, claim_pick)] if claim_pick % 2 else []
        params = {"ids": ",".join(ids)} | ({"claim_ids": ",".join(claims)} if claims else {})
        self.call(gateway, "DELETE", f"/v2/queues/{queue}/messages", 204, **params)
        self.model.delete_messages(queue, ids, claims)

    @rule(gateway=GATEWAY, queue=QUEUE, limit=LIMIT)
    def pop(self, gateway: str, queue: str, limit: int) -> None:
        answer = self.call(gateway, "DELETE", f"/v2/queues/{queue}/messages", 200, pop=limit)
        self.compare(answer.json()["messages"], self.model.pop(queue, limit), "popped")

    # -- claims -------------------------------------------------------------------------------------------------

    @rule(gateway=GATEWAY, queue=QUEUE, limit=LIMIT)
    def claim(self, gateway: str, queue: str, limit: int) -> None:
        path = f"/v2/queues/{queue}/claims"
        status = 201 if self.model.get(queue).find_free() else 204
        answer = self.call(gateway, "POST", path, status, body={"ttl": 600, "grace": 60}, limit=limit)
        if status == 201:
            claim = id_of(answer.headers["Location"])
            self.compare(answer.json()["messages"], self.model.claim(queue, limit, claim), "claimed")
            self.claims.append((queue, claim))

    @precondition(lambda self: self.claims)
    @rule(gateway=GATEWAY, queue=QUEUE, pick=PICK)
    def get_claim(self, gateway: str, queue: str, pick: int) -> None:
        claim = self.pick_claim(queue, pick)
        held = self.model.get(queue).held(claim)
        answer = self.call(gateway, "GET", f"/v2/queues/{queue}/claims/{claim}", 200 if held else 404)
        if held:
            self.compare(answer.json()["messages"], held, "held")

    @precondition(lambda self: self.claims)
    @rule(gateway=GATEWAY, queue=QUEUE, pick=PICK)
    def renew(self, gateway: str, queue: str, pick: int) -> None:
        claim = self.pick_claim(queue, pick)
        status = 204 if self.model.get(queue).held(claim) else 404
        self.call(gateway, "PATCH", f"/v2/queues/{queue}/claims/{claim}", status, body={"ttl": 700})

    @precondition(lambda self: self.claims)
    @rule(gateway=GATEWAY, queue=QUEUE, pick=PICK)
    def release(self, gateway: str, queue: str, pick: int) -> None:
        claim = self.pick_claim(queue, pick)
        self.call(gateway, "DELETE", f"/v2/queues/{queue}/claims/{claim}", 204)
        self.model.release(queue, claim)

    # -- the end ------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Drop what is left."""
        for queue in QUEUES:
            self.clients["A", 1].delete(f"/v2/queues/{queue}")
        self.clients["A", 1].close()


@pytest.mark.timeout(1800)
def test_no_answer_contradicts_the_calls_before_it(two: Two) -> None:
    machine = type("Calls", (Calls,), {"two": two})
    run_state_machine_as_test(
        seed(int(SEED))(machine) if SEED else machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=SEED is None,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )
