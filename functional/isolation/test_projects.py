"""Project B knows every name and id of project A's, and gets nowhere with them.

Each call is made by B twice: with A's ids while A's queue is full, and with ids that nobody has. The answers must not
differ, nor what they cost in calls to broker and side-store, and A's queue must be as it was.
"""

import base64
import itertools
import json
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from functional.api.helpers import (
    JSON_PATCH,
    bodies,
    claim,
    claims_path,
    create,
    get_claim,
    ids,
    listed,
    messages_path,
    metadata_of,
    next_link,
    page,
    pop,
    post,
    queue_path,
    stats,
    unknown_id,
)
from functional.http import Api
from functional.services.gateway import Gateway
from functional.wait import wait_until

#: What may differ between two answers anyway.
VARIABLE = re.compile(r"req-[0-9a-f-]{36}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}")

#: Headers that differ anyway.
VARIABLE_HEADERS = {"Date", "X-Openstack-Request-Id"}


#: Calls of broker and side-store in the metrics, but for those of the housekeeping and of who looks after bindings,
#: moves and subscriptions.
CALL_COUNT = re.compile(
    r'marconi_(bridge|side_store)_call_seconds_count\{'
    r'(?!call="(now|connections|maintain|tick|list_bridged|list_moving|list_records|get_record|bind)")'
)


@dataclass(frozen=True)
class Known:
    """What B knows of A's, or guesses."""

    queue: str
    claimed: list[str]
    free: list[str]
    claim: str
    marker: str
    subscription: str

    def fill(self, text: str) -> str:
        """A path with these names in its places."""
        return text.format(
            queue=self.queue, claimed=self.claimed[0], free=self.free[0], claim=self.claim, marker=self.marker,
            ids=",".join([*self.claimed, *self.free]), subscription=self.subscription,
        )


#: A key that receivers check signatures with.
KEY = f"whsec_{base64.b64encode(bytes(32)).decode()}"

#: Times that a call is made again whose cost is another one: those who work in the background call, too.
TRIES = 6


#: Calls that B makes: method, path and body. Every endpoint is here (see the test below).
CALLS: list[tuple[str, str, Any]] = [
    ("GET", "/v2/queues?detailed=true&with_count=true", None),
    ("GET", "/v2/queues?marker={queue}", None),
    ("GET", "/v2/queues?name={queue}&with_count=true", None),
    ("GET", "/v2/queues?secret=of-A&detailed=true", None),
    ("HEAD", "/v2/queues/{queue}", None),
    ("GET", "/v2/queues/{queue}", None),
    ("PATCH", "/v2/queues/{queue}", [{"op": "replace", "path": "/metadata/secret", "value": 1}]),
    ("GET", "/v2/queues/{queue}/stats", None),
    ("GET", "/v2/queues/{queue}/messages?echo=true&include_claimed=true&include_delayed=true", None),
    ("GET", "/v2/queues/{queue}/messages?echo=true&marker={marker}", None),
    ("GET", "/v2/queues/{queue}/messages?echo=true&marker={free}", None),
    ("GET", "/v2/queues/{queue}/messages?ids={ids}", None),
    ("GET", "/v2/queues/{queue}/messages/{free}", None),
    ("GET", "/v2/queues/{queue}/messages/{claimed}?claim_id={claim}", None),
    ("DELETE", "/v2/queues/{queue}/messages/{free}", None),
    ("DELETE", "/v2/queues/{queue}/messages/{claimed}", None),
    ("DELETE", "/v2/queues/{queue}/messages/{claimed}?claim_id={claim}", None),
    ("DELETE", "/v2/queues/{queue}/messages?ids={ids}", None),
    ("DELETE", "/v2/queues/{queue}/messages?ids={ids}&claim_ids={claim}", None),
    ("DELETE", "/v2/queues/{queue}/messages?pop=20", None),
    ("POST", "/v2/queues/{queue}/claims?limit=20", {"ttl": 60, "grace": 60}),
    ("GET", "/v2/queues/{queue}/claims/{claim}", None),
    ("PATCH", "/v2/queues/{queue}/claims/{claim}", {"ttl": 60, "grace": 60}),
    ("DELETE", "/v2/queues/{queue}/claims/{claim}", None),
    ("POST", "/v2/queues/{queue}/purge", {"resource_types": ["messages"]}),
    ("POST", "/v2/queues/{queue}/share", {"paths": ["messages"], "expires": "2100-01-01T00:00:00"}),
    ("PUT", "/v2/queues/{queue}", {"mine": True}),
    ("POST", "/v2/queues/{queue}/messages", {"messages": [{"body": "of B", "ttl": 60}]}),
    ("POST", "/v2/queues/{queue}/migrate", {"pool": "default"}),
    ("GET", "/v2/queues/{queue}/migration", None),
    ("DELETE", "/v2/queues/{queue}/migration", None),
    ("GET", "/v2/queues/{queue}/subscriptions", None),
    ("GET", "/v2/queues/{queue}/subscriptions/{subscription}", None),
    ("PATCH", "/v2/queues/{queue}/subscriptions/{subscription}", {"ttl": 60}),
    ("PUT", "/v2/queues/{queue}/subscriptions/{subscription}/confirm", {"confirmed": False}),
    ("GET", "/v2/queues/{queue}/subscriptions/{subscription}/status", None),
    ("PUT", "/v2/queues/{queue}/subscriptions/{subscription}/state", {"state": "paused"}),
    ("GET", "/v2/queues/{queue}/subscriptions/{subscription}/deliveries", None),
    ("GET", "/v2/queues/{queue}/subscriptions/{subscription}/dead_letters", None),
    ("DELETE", "/v2/queues/{queue}/subscriptions/{subscription}/dead_letters", None),
    ("POST", "/v2/queues/{queue}/subscriptions/{subscription}/replay", {"all": True}),
    ("POST", "/v2/queues/{queue}/subscriptions/{subscription}/test", {"body": 1}),
    ("GET", "/v2/queues/{queue}/subscriptions/{subscription}/secret", None),
    ("PUT", "/v2/queues/{queue}/subscriptions/{subscription}/secret", {"secret": KEY}),
    ("POST", "/v2/queues/{queue}/subscriptions/{subscription}/secret/rotate", {"keep": 60}),
    ("DELETE", "/v2/queues/{queue}/subscriptions/{subscription}", None),
    ("POST", "/v2/queues/{queue}/subscriptions", {"subscriber": "marconi:other"}),
    ("DELETE", "/v2/queues/{queue}", None),
]


def filled(api: Api, queue: str) -> Known:
    """A queue of A's with claimed, free and delayed messages."""
    create(api, queue, secret="of-A", _default_message_ttl=600)
    claimed = post(api, queue, "secret 1", "secret 2")
    claim_id, messages = claim(api, queue)
    assert claim_id is not None and len(messages) == 2
    free = post(api, queue, "secret 3", "secret 4")
    post(api, queue, "secret 5", delay=600)
    document = page(api, queue, limit=1, include_claimed="true")
    marker = (next_link(document) or "").rpartition("marker=")[2]
    assert marker.isdigit()
    answer = api.post(f"/v2/queues/{queue}/subscriptions", json={"subscriber": f"marconi:{queue}-copy"})
    assert answer.status_code == 201, answer.text
    return Known(queue, claimed, free, claim_id, marker, answer.json()["subscription_id"])


def guess(known: Known) -> Known:
    """The same things that nobody has; ids are of the same kind and time."""
    again = itertools.count(1)

    def other(id_: str) -> str:
        return f"{id_[:-12]}{next(again):012x}"

    return Known(
        f"queue-{uuid.uuid4().hex[:12]}", [*map(other, known.claimed)], [*map(other, known.free)], uuid.uuid4().hex,
        str(int(known.marker) - 1), other(known.subscription),
    )


def snapshot(api: Api, known: Known) -> Any:
    """What A sees of its queue."""
    kept = get_claim(api, known.queue, known.claim)
    return (
        metadata_of(api, known.queue), bodies(listed(api, known.queue)), ids(listed(api, known.queue)),
        bodies(kept.json()["messages"]), kept.json()["ttl"],
        {key: value for key, value in stats(api, known.queue).items() if isinstance(value, int)},
    )


def called(api: Api, method: str, path: str, body: Any) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers, without what differs anyway."""
    arguments = {} if body is None else {"data": json.dumps(body), "headers": {"Content-Type": "application/json"}}
    if method == "PATCH" and isinstance(body, list):
        arguments["headers"] = JSON_PATCH
    response = api.request(method, path, **arguments)
    return response.status_code, response.text, {
        name: value for name, value in response.headers.items() if name not in VARIABLE_HEADERS
    }


def dependency_calls(api: Api) -> dict[str, float]:
    """How often broker and side-store have been called so far, by call: what an answer costs, and what it tells."""
    lines = api.get("/metrics").text.splitlines()
    return {
        name: float(count) for name, _, count in (line.rpartition(" ") for line in lines)
        if CALL_COUNT.match(name)
    }


def neutral(answer: tuple[int, str, dict[str, str]], known: Known) -> Any:
    """An answer in which the names that were asked for stand no more."""
    text = json.dumps(answer)
    for name in (*known.claimed, *known.free, known.claim, known.subscription, known.queue, known.marker):
        text = text.replace(name, "…")
    return re.sub(r'"signature\\": \\?"[0-9a-f]{64}|[0-9a-f]{64}', "signature", VARIABLE.sub("id", text))


def test_every_endpoint_is_tried() -> None:
    from gateway.api.v2.operations import OPERATIONS

    tried = {(method, re.sub(r"\?.*", "", path)) for method, path, _ in CALLS}
    tried = {(method, re.sub(r"{(free|claimed)}", "<message_id>", path)) for method, path in tried}
    for name, shown in {"queue": "queue", "claim": "claim_id", "subscription": "subscription_id"}.items():
        tried = {(method, path.replace(f"{{{name}}}", f"<{shown}>")) for method, path in tried}
    routes = {(operation.method, operation.route) for operation in OPERATIONS}
    assert {(m, r) for m, r in routes if r.startswith("/v2/queues")} == tried


def test_nothing_of_another_project_can_be_reached_or_told_from_nothing(fresh_gateway: Gateway, queue: str) -> None:
    api = Api(fresh_gateway.url)
    known = filled(api, queue)
    before = snapshot(api, known)
    nothing = guess(known)
    for method, path, body in CALLS:
        for _ in range(TRIES):
            answers, costs = [], []
            for names in (known, nothing):
                stranger = api.other_project()  # whatever the call makes, the next one meets none of it
                counts = dependency_calls(api)
                answers.append(neutral(called(stranger, method, names.fill(path), body), names))
                costs.append({name: n - counts.get(name, 0) for name, n in dependency_calls(api).items()})
            if costs[0] == costs[1]:
                break
        assert answers[0] == answers[1], f"{method} {path}"
        assert costs[0] == costs[1], f"{method} {path}"
        assert "secret" not in answers[0].replace('secret\\" ', "").replace("'secret'", ""), f"{method} {path}"
    assert snapshot(api, known) == before


def test_a_queue_of_the_same_name_has_nothing_to_do_with_it(api: Api, queue: str) -> None:
    """As above, but B has a queue and messages of its own there, so that every call reaches the messages."""
    known = filled(api, queue)
    before = snapshot(api, known)
    stranger = api.other_project().as_client(api.client_id)  # with A's Client-ID, for echo
    create(stranger, queue, mine=True)
    own = post(stranger, queue, "own")
    marker = stranger.get(f"{messages_path(queue)}?echo=true&marker={known.marker}").json()["messages"]
    assert bodies(marker) in (["own"], [])
    for method, path, body in CALLS:
        if method in ("PUT", "POST") or path.endswith(("pop=20", "{queue}")):
            continue
        text = called(stranger, method, known.fill(path), body)[1]
        assert "secret " not in text and "of-A" not in text.replace("secret=of-A", ""), f"{method} {path}"
    assert ids(listed(stranger, queue)) == own
    assert bodies(pop(stranger, queue, 20)) == ["own"]
    assert claim(stranger, queue) == (None, [])
    assert stranger.delete(queue_path(queue)).status_code == 204
    assert snapshot(api, known) == before


#: Pairs of project and queue that would be one if they were joined, cleaned or compared carelessly.
NEIGHBOURS = [
    ("a/b", "c"), ("a", "b.c"), ("a.b", "c"), ("a%2Eb", "c"), ("a%2eb", "c"), ("A/b", "c"), ("a/b/", "c"),
    ("a//b", "c"), ("a/../b", "c"), ("..", "c"), (".", "c"), ("a/b c", "c"), ("a+b", "c"), ("a%2Fb", "c"),
    ("a%252Fb", "c"), ("a/b#", "c"), ("a/b", "C"), ("a/b", ".c"), ("a/b", "-c"), ("a\\b", "c"), ("$a", "c"), ("*", "c"),
    ("a" * 256, "c"), ("a" * 255 + "b", "c"), ("%", "c"), ("a?b", "c"), ("a", "c"), ("b", "c"),
]


def test_projects_with_similar_names_are_different(api: Api) -> None:
    unique = uuid.uuid4().hex[:8]
    queues = [(Api(api.url, project, api.client_id), f"{queue}{unique}") for project, queue in NEIGHBOURS]
    for number, (client, queue) in enumerate(queues):
        post(client, queue, number)
    for number, (client, queue) in enumerate(queues):
        names = [found["name"] for found in client.get(f"/v2/queues?limit=20&name={unique}").json()["queues"]]
        assert sorted(names) == sorted(q for other, q in queues if other.project == client.project), client.project
        assert bodies(pop(client, queue, 20)) == [number], (client.project, queue)


@pytest.mark.parametrize("project", ["a\xa0", "\xa0a", "a\x85", "é", "a,b", "", "a" * 257, "a\x7f", "a\x1fb"])
def test_projects_that_are_none_are_refused(api: Api, project: str) -> None:
    for method, path in (("GET", "/v2/queues"), ("PUT", "/v2/queues/q")):
        response = api.request(method, path, headers={"X-Project-ID": project.encode("latin-1")})
        assert response.status_code == 400, repr(project)


def shared_headers(share: dict[str, Any], **changed: str | None) -> dict[str, Any]:
    """Headers of a pre-signed request."""
    return {
        "URL-Signature": share["signature"], "URL-Paths": ",".join(share["paths"]),
        "URL-Methods": ",".join(share["methods"]), "URL-Expires": share["expires"], "X-Project-ID": share["project"],
    } | {name.replace("_", "-"): value for name, value in changed.items()}


def test_a_share_opens_nothing_else(api: Api, queue: str) -> None:
    known = filled(api, queue)
    share = api.post(f"{queue_path(queue)}/share", json={"paths": ["messages"], "methods": ["GET"]}).json()
    stranger = api.other_project()
    assert stranger.get(messages_path(queue), headers=shared_headers(share)).status_code == 200
    # Credentials for another project don't count here, and the signature covers the project.
    for project in (stranger.project, f"{api.project}/", api.project.upper(), f"{api.project} x", "", None):
        response = stranger.get(messages_path(queue), headers=shared_headers(share, X_Project_ID=project))
        assert response.status_code == 404, project
    before = snapshot(api, known)
    for method, path, body in CALLS:
        if path.startswith("/v2/queues/{queue}/messages") and method == "GET":
            continue
        response = stranger.request(method, known.fill(path), json=body, headers=shared_headers(share))
        assert response.status_code == 404 and "secret " not in response.text, f"{method} {path}"
    assert snapshot(api, known) == before


def test_a_project_named_like_a_signed_text_signs_for_nobody(api: Api, queue: str) -> None:
    """The signed text is joined by backslash and n, and a project's id may hold those."""
    post(api, queue, "secret 1")
    forger = Api(api.url, rf"POST\n{api.project}", api.client_id)
    response = forger.post(f"{queue_path(queue)}/share", json={"paths": ["claims", "messages"], "methods": ["GET"]})
    assert response.status_code == 400
    response = forger.get(f"{queue_path(queue)}/stats")  # the project itself is as good as any
    assert response.status_code == 200


@pytest.fixture
def users(tmp_path: Path) -> str:
    """Two users with projects of their own, and an admin."""
    file = tmp_path / "users"
    hash_ = bcrypt.hashpw(b"password", bcrypt.gensalt(4)).decode()
    file.write_text(f"alice:{hash_}:A\nbob:{hash_}:B\nroot:{hash_}:R:admin\n")
    return str(file)


def authorization(user: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:password'.encode()).decode()}"}


def test_a_user_has_one_project(start_gateway: Any, users: str) -> None:
    gateway = start_gateway(DEFAULT={"auth_strategy": "basic"}, basic={"htpasswd_file": users})
    api = Api(gateway.url)
    alice = {**authorization("alice"), "X-Project-ID": None}
    path = messages_path("q")
    response = api.post(path, json={"messages": [{"body": "secret 1"}]}, headers=alice)
    assert response.status_code == 201
    for project in ("A", "a", "A ", "A/", "B,A", "unknown"):
        response = api.get(f"{path}?echo=true", headers={**authorization("bob"), "X-Project-ID": project})
        assert response.status_code == 403 and "secret" not in response.text, project
    root = {**authorization("root"), "X-Project-ID": "A"}
    assert bodies(api.get(f"{path}?echo=true", headers=root).json()["messages"]) == ["secret 1"]
    for project in (None, "B", ""):
        response = api.get(f"{path}?echo=true", headers={**authorization("bob"), "X-Project-ID": project})
        assert (response.status_code, response.json()["messages"]) == (200, [])
    share = api.post("/v2/queues/q/share", headers=alice, json={})
    assert share.status_code == 200
    # A signature is valid only for the project that it names, whatever the caller's credentials.
    signed = shared_headers(share.json(), X_Project_ID="B") | authorization("bob")
    assert api.get(path, headers=signed).status_code == 404
    assert bodies(api.get(f"{path}?echo=true", headers=alice).json()["messages"]) == ["secret 1"]


def test_a_producers_id_that_another_project_has_too_is_not_the_same(
    api: Api, queue: str, deployment: Any, request: pytest.FixtureRequest
) -> None:
    """On the broker, everyone who may publish to the queues can choose ids."""
    if not deployment.needs_rabbitmq:
        pytest.skip("there are no native producers without a broker")
    import pika

    from gateway.core.queues.names import broker_name

    connection = request.getfixturevalue("rabbitmq").connect()
    with connection:
        channel = connection.channel()
        other = api.other_project()
        for client in (api, other):
            create(client, queue)
            channel.basic_publish(
                "", broker_name(client.project, queue), json.dumps(client.project).encode(),
                pika.BasicProperties(message_id="same", delivery_mode=2),
            )
    for client in (api, other):
        wait_until(lambda client=client: ids(listed(client, queue)) == ["same"], 5, "the message to land")
        assert bodies(listed(client, queue)) == [client.project]
    assert other.delete(f"{messages_path(queue)}/same").status_code == 204
    assert bodies(listed(api, queue)) == [api.project]
    claim_id, _ = claim(api, queue)
    assert other.delete(f"{claims_path(queue)}/{claim_id}").status_code == 204
    assert get_claim(api, queue, claim_id or unknown_id()).status_code == 200
