"""Requests over WebSocket: what is checked, in which order, and what each action answers."""

import base64
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import bcrypt
import msgpack
import pytest

import gateway.access.auth
from gateway.access.auth.base import AuthStrategy, Identity, Unauthenticated
from gateway.access.signing import sign
from gateway.api.v2.operations import OPERATIONS
from gateway.app import make_service, make_serving
from gateway.core.core import Core
from gateway.core.errors import InvalidInput
from gateway.stream.websocket.actions import ACTIONS
from gateway.stream.websocket.actions.fields import Unusable
from gateway.stream.websocket.frames import DEEPEST, decode, encode
from gateway.stream.websocket.requests import Requests
from gateway.stream.websocket.session import Session

KEY = "secret"
HEADERS = {"Client-ID": str(uuid4()), "X-Project-ID": "project"}


class Client:
    """One connection's requests, without the connection."""

    def __init__(self, conf: Any, core: Core) -> None:
        service = make_service(conf, core)
        self.requests = Requests(service, make_serving(conf, service))
        self.session = Session()

    def send(self, frame: bytes, is_binary: bool = False) -> Any:
        """The answer to a frame."""
        answer = self.requests.serve(self.session, frame, is_binary)
        return msgpack.unpackb(answer) if is_binary else json.loads(answer)

    def ask(self, action: Any, headers: Any = HEADERS, is_binary: bool = False, **body: Any) -> tuple[int, Any]:
        """Status and body of an answer."""
        request = {"action": action, "headers": headers, "body": body}
        answer = self.send(msgpack.packb(request) if is_binary else json.dumps(request).encode(), is_binary)
        return answer["headers"]["status"], answer["body"]

    def post(self, *bodies: Any, queue: str = "q") -> list[str]:
        status, body = self.ask("message_post", queue_name=queue, messages=[{"body": each} for each in bodies])
        assert status == 201
        ids: list[str] = body["message_ids"]
        return ids


@pytest.fixture
def client(configured: Callable[..., Any], core: Core) -> Client:
    return Client(configured(signed_url={"secret_key": KEY}), core)


# -- frames ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [
    None, 1, -1.5, 2**64 - 1, -2**63, "ä\U0001f600", [], {}, {"a": [1, {"b": None}]}, [[]] * 3,
], ids=str)
def test_values_are_the_same_in_both_kinds(value: Any) -> None:
    for is_binary in (False, True):
        assert decode(encode(value, is_binary), is_binary) == value


@pytest.mark.parametrize("frame", [
    b"", b"{", b"nul", b"[1,]", b"{'a': 1}", b"\xff", b'"\\ud800"', b"NaN", b"1" * 30, b"[" * 5000 + b"]" * 5000,
    b"[" * (DEEPEST + 2) + b"]" * (DEEPEST + 2),
], ids=range(11))
def test_text_that_is_no_json_can_not_be_decoded(frame: bytes) -> None:
    with pytest.raises(Unusable, match="Can't decode text"):
        decode(frame, is_binary=False)


def test_much_that_is_not_deep_is_decoded() -> None:
    assert decode(b"[" + b"[]," * 5000 + b"[]]", is_binary=False) == [[]] * 5001


@pytest.mark.parametrize("frame", [
    b"", b"\xc1", b"\x81", b"\x81\xa1a", b"\xa1\xff", msgpack.packb(b"bytes"), msgpack.packb({"a": {"b": b""}}),
    msgpack.packb({1: 2}), msgpack.packb([math.nan]), msgpack.packb([math.inf]),
    msgpack.packb(msgpack.ExtType(5, b"x")),
    msgpack.packb(datetime.now(UTC), datetime=True), b"\x91" * 5000 + b"\x01", b"\x91" * (DEEPEST + 2) + b"\x01",
    b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", msgpack.packb(1) * 2,
    b"\xd6\xff\xff\xff\xff\xff", b"\xa3\xed\xa0\x80",
], ids=range(20))
def test_binary_that_is_no_messagepack_of_json_can_not_be_decoded(frame: bytes) -> None:
    with pytest.raises(Unusable, match="Can't decode binary"):
        decode(frame, is_binary=True)


# -- the order of the checks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frame", "is_binary", "says"), [
    (b"{", False, "Can't decode text"), (b"\xc1", True, "Can't decode binary"),
    (b"[]", False, "Unexpected body type. Expected dict"), (b"1", False, "Unexpected body type. Expected dict"),
    (msgpack.packb("x"), True, "Unexpected body type. Expected dict"),
])
def test_what_is_no_object_is_refused(client: Client, frame: bytes, is_binary: bool, says: str) -> None:
    answer = client.send(frame, is_binary)
    assert answer["headers"] == {"status": 400} and says in answer["body"]["error"]
    assert answer["request"] == {"action": None, "body": None, "headers": None, "api": "v2"}


@pytest.mark.parametrize("action", [None, 1, [], {}, "", "queue", "pool_create", "flavor_list", "QUEUE_GET"], ids=str)
def test_unknown_action_is_refused_in_these_words(client: Client, action: Any) -> None:
    assert client.ask(action) == (400, {"error": f"{action} is not a valid action"})


REQUIRED = [
    (name, field.name) for name, action in ACTIONS.items() for field in action.fields if field.required
]
TYPED = [(name, field) for name, action in ACTIONS.items() for field in action.fields]
GOOD = {str: "x", int: 1, bool: True, list: [], dict: {}}


def body_of(action: str) -> dict[str, Any]:
    """A body that has what an action needs."""
    return {field.name: GOOD[field.type] for field in ACTIONS[action].fields if field.required}


@pytest.mark.parametrize(("action", "missing"), REQUIRED)
def test_required_member_is_missed(client: Client, action: str, missing: str) -> None:
    for body in (
        {name: value for name, value in body_of(action).items() if name != missing},
        body_of(action) | {missing: None},
    ):
        status, answer = client.ask(action, **body)
        assert (status, answer) == (400, {"error": f"{missing!r} is a required property of the body"})


@pytest.mark.parametrize(("action", "field"), TYPED, ids=lambda value: getattr(value, "name", value))
def test_member_of_another_type_is_refused(client: Client, action: str, field: Any) -> None:
    for wrong in ("x", 1, True, [], {}, 1.5):
        if type(wrong) is not field.type:
            status, answer = client.ask(action, **(body_of(action) | {field.name: wrong}))
            assert (status, answer) == (400, {"error": f"{field.name!r} in the body must be {field.words}"})


@pytest.mark.parametrize("headers", [
    {}, None, {"Client-ID": "x"}, {"X-Project-ID": "p"}, {"client-id": "x", "x-project-id": "y"},
    {"Client-ID": 1, "X-Project-ID": "p"}, {"Client-ID": None, "X-Project-ID": "p"}, [], "x",
], ids=str)
def test_headers_are_checked_before_the_body(client: Client, headers: Any) -> None:
    status, answer = client.ask("queue_create", headers)
    assert status == 400 and set(answer) == {"error"}
    assert "queue_name" not in answer["error"]


def test_body_that_is_no_object_is_refused(client: Client) -> None:
    frame = json.dumps({"action": "queue_list", "headers": HEADERS, "body": []}).encode()
    assert client.send(frame)["body"] == {"error": "'body' must be an object"}


def test_request_is_repeated_in_the_answer(client: Client) -> None:
    request = {"action": "queue_list", "headers": {**HEADERS, "x": [1]}, "body": {"limit": 3, "more": "keys"}}
    answer = client.send(json.dumps(request).encode())
    assert answer == {"request": {**request, "api": "v2"}, "headers": {"status": 200}, "body": {"queues": []}}


def test_refusal_of_the_call_itself_has_both_texts(client: Client) -> None:
    status, answer = client.ask("queue_create", queue_name="a/b")
    assert status == 400 and "A queue's name is" in answer["exception"] and "A queue's name is" in answer["error"]
    assert client.ask("queue_list", HEADERS | {"Client-ID": "no uuid"})[1]["exception"] == (
        "The Client-ID header must be a UUID"
    )
    assert client.ask("queue_list", HEADERS | {"X-Project-ID": ""})[0] == 400


# -- actions --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["text", "binary"])
def ask(request: pytest.FixtureRequest, client: Client) -> Callable[..., tuple[int, Any]]:
    return lambda action, **body: client.ask(action, is_binary=request.param, **body)


def test_queues(client: Client, ask: Callable[..., tuple[int, Any]]) -> None:
    assert ask("queue_get", queue_name="q") == (200, {})
    assert ask("queue_get_stats", queue_name="q") == (404, {"messages": {"claimed": 0, "free": 0, "total": 0}})
    assert ask("queue_create", queue_name="q", metadata={"a": 1}) == (201, "Queue q created.")
    assert ask("queue_create", queue_name="q", metadata={"_default_message_ttl": 600})[0] == 204
    assert ask("queue_create", queue_name="q", metadata={"_default_message_ttl": "x"})[0] == 400
    assert ask("queue_get", queue_name="q") == (200, {"_default_message_ttl": 600})
    ask("queue_create", queue_name="r")
    assert ask("queue_list") == (200, {"queues": [{"name": "q"}, {"name": "r"}]})
    (detailed,) = ask("queue_list", limit=1, detailed=True)[1]["queues"]
    assert (detailed["name"], detailed["metadata"]["_default_message_ttl"]) == ("q", 600)
    assert ask("queue_list", marker="q") == (200, {"queues": [{"name": "r"}]})
    assert ask("queue_list", limit=21)[0] == 400
    assert ask("queue_get_stats", queue_name="q") == (200, {"messages": {"claimed": 0, "free": 0, "total": 0}})
    (id_,) = client.post("x")
    status, body = ask("queue_get_stats", queue_name="q")
    assert (status, body["messages"]["total"], body["messages"]["oldest"]["id"]) == (200, 1, id_)
    assert ask("queue_purge", queue_name="q", resource_types=["x"])[0] == 400
    assert ask("queue_purge", queue_name="q", resource_types=["messages"]) == (204, {})
    assert ask("queue_get_stats", queue_name="q")[1]["messages"]["total"] == 0
    assert ask("queue_delete", queue_name="q") == (204, "Queue q removed.")
    assert ask("queue_list") == (200, {"queues": [{"name": "r"}]})


def test_messages(client: Client, ask: Callable[..., tuple[int, Any]]) -> None:
    status, body = ask("message_post", queue_name="q", messages=[
        {"body": {"a": [1]}, "ttl": 100}, {"body": "two"}, {"body": None, "delay": 5},
    ])
    assert (status, list(body)) == (201, ["message_ids"])
    first, second, third = body["message_ids"]
    assert ask("message_list", queue_name="q") == (200, {"messages": []})  # a client's own
    shown = {"id": first, "claim_id": None, "ttl": 100, "age": 0, "body": {"a": [1]}}
    (listed,) = ask("message_list", queue_name="q", echo=True, limit=1)[1]["messages"]
    assert listed | {"age": 0} == shown
    assert [each["id"] for each in ask("message_list", queue_name="q", echo=True, marker=first)[1]["messages"]] == [
        second
    ]
    assert len(ask("message_list", queue_name="q", echo=True, include_delayed=True)[1]["messages"]) == 3
    status, found = ask("message_get", queue_name="q", message_id=first)
    assert (status, found["messages"] | {"age": 0}) == (200, shown)
    assert ask("message_get", queue_name="q", message_id="no")[0] == 404
    found = ask("message_get_many", queue_name="q", message_ids=[second, first, "no"])
    assert (found[0], {each["id"] for each in found[1]["messages"]}) == (200, {first, second})
    for ids in ([], [first] * 21, [1], [None]):
        assert ask("message_get_many", queue_name="q", message_ids=ids)[0] == 400
    assert ask("message_delete", queue_name="q", message_id=first) == (204, {})
    assert ask("message_delete_many", queue_name="q", message_ids=[second, "no"]) == (204, {})
    assert ask("message_delete_many", queue_name="q", message_ids=[third], pop=1)[0] == 400
    assert ask("message_delete_many", queue_name="q")[0] == 400
    client.post(1, 2)
    status, body = ask("message_delete_many", queue_name="q", pop=1)
    assert status == 200
    (popped,) = body["messages"]
    assert (popped["body"], popped["claim_id"], popped["claim_count"]) == (1, None, 0)


@pytest.mark.parametrize("messages", [
    [], [1], [{}], [{"body": 1, "ttl": "x"}], [{"body": 1, "ttl": 1}], [{"body": 1, "delay": -1}], [None],
    [{"body": "x" * 262144}],
], ids=range(8))
def test_messages_that_can_not_be_posted(client: Client, messages: list[Any]) -> None:
    status, body = client.ask("message_post", queue_name="q", messages=messages)
    assert status == 400 and body["exception"]


def test_claims(client: Client, ask: Callable[..., tuple[int, Any]]) -> None:
    assert ask("claim_create", queue_name="q") == (204, {"claim_id": None})
    ids = client.post(1, 2, 3)
    status, body = ask("claim_create", queue_name="q", ttl=100, grace=60, limit=2)
    assert status == 201 and [each["id"] for each in body["messages"]] == ids[:2]
    claim = body["claim_id"]
    assert {each["claim_id"] for each in body["messages"]} == {claim}
    status, body = ask("claim_get", queue_name="q", claim_id=claim)
    assert (status, body["ttl"], len(body["messages"])) == (200, 100, 2) and body["age"] < 60
    assert ask("claim_update", queue_name="q", claim_id=claim, ttl=200, grace=60)[0] == 204
    assert ask("claim_get", queue_name="q", claim_id=claim)[1]["ttl"] == 200
    assert ask("message_delete", queue_name="q", message_id=ids[0])[0] == 403
    assert ask("message_delete", queue_name="q", message_id=ids[0], claim_id=claim) == (204, {})
    assert ask("claim_delete", queue_name="q", claim_id=claim)[0] == 204
    assert ask("claim_get", queue_name="q", claim_id=claim)[0] == 404
    assert ask("claim_update", queue_name="q", claim_id=claim, ttl=200)[0] == 404
    assert ask("claim_create", queue_name="q", ttl=1)[0] == 400
    assert ask("claim_create", queue_name="q", limit=0)[0] == 400


def test_subscriptions(client: Client, ask: Callable[..., tuple[int, Any]]) -> None:
    wanted = {"queue_name": "q", "subscriber": "http://fake", "ttl": 600, "options": {"a": 1}}
    status, made = ask("subscription_create", **wanted)
    assert (status, made["message"]) == (201, "Subscription q created.")
    assert ask("subscription_create", **wanted)[1]["subscription_id"] == made["subscription_id"]
    client.requests._service.core.subscription_states.confirm("project", "q", made["subscription_id"], True)
    status, body = ask("subscription_create", **wanted)
    assert status == 409 and isinstance(body, str)
    shown = {
        "id": made["subscription_id"], "source": "q", "subscriber": "http://fake", "ttl": 600, "age": 0,
        "options": {"a": 1}, "confirmed": True,
    }
    status, found = ask("subscription_get", queue_name="q", subscription_id=made["subscription_id"])
    assert (status, found | {"age": 0}) == (200, shown)
    (listed,) = ask("subscription_list", queue_name="q")[1]["subscriptions"]
    assert listed | {"age": 0} == shown
    assert ask("subscription_list", queue_name="q", marker=made["subscription_id"]) == (200, {"subscriptions": []})
    for wrong in ({"subscriber": "gopher://x"}, {"ttl": 1}, {"options": {"post_data": 1}}):
        assert ask("subscription_create", **(wanted | wrong))[0] == 400
    for id_ in (made["subscription_id"], made["subscription_id"]):
        assert ask("subscription_delete", queue_name="q", subscription_id=id_) == (204, f"Subscription {id_} removed.")
    assert ask("subscription_get", queue_name="q", subscription_id=made["subscription_id"])[0] == 404


def test_connection_has_one_subscription_to_a_queue(client: Client) -> None:
    status, made = client.ask("subscription_create", queue_name="q", ttl=600)
    assert status == 201
    status, body = client.ask("subscription_create", queue_name="q")
    assert status == 409 and isinstance(body, str)
    assert client.ask("subscription_create", queue_name="r")[0] == 201
    assert {each.source for each in client.session.subscriptions.values()} == {"q", "r"}
    status, found = client.ask("subscription_get", queue_name="q", subscription_id=made["subscription_id"])
    assert found["subscriber"] == f"websocket:{client.session.id}" and found["confirmed"] is True
    assert client.ask("subscription_create", queue_name="q", options={"_format": "cloudevents-binary"})[0] == 400


def test_nobody_subscribes_a_connection_by_its_name(client: Client) -> None:
    for subscriber in (client.session.subscriber, f"websocket:{uuid4()}"):
        status, body = client.ask("subscription_create", queue_name="q", subscriber=subscriber)
        assert status == 400 and "must be supported in the list" in body["exception"]
    client.ask("subscription_create", queue_name="q")
    (ours,) = client.session.subscriptions.values()
    with pytest.raises(InvalidInput, match="connection"):
        client.requests._service.core.subscriptions.update("project", "q", ours.id, {"subscriber": "http://fake"})


def test_service(client: Client, configured: Callable[..., Any], core: Core) -> None:
    status, body = client.ask("get_home_doc")
    assert status == 200 and "rel/queues" in body["resources"]
    assert client.ask("ping_node") == (204, {})
    assert client.ask("check_node_health")[0] == 403
    assert client.ask("check_node_health", HEADERS | {"X-Roles": "admin"})[0] == 404
    admin = Client(configured(DEFAULT={"admin_mode": True}), core)
    status, body = admin.ask("check_node_health", HEADERS | {"X-Roles": "admin"})
    assert status == 200 and body["catalog_reachable"] is True


def test_each_action_is_like_a_call_with_a_rule() -> None:
    assert {action.operation for action in ACTIONS.values()} <= set(OPERATIONS)
    assert [name for name, action in ACTIONS.items() if action.operation.rule is None] == ["get_home_doc"]
    signable = [name for name, action in ACTIONS.items() if action.is_signable]
    assert signable == [
        "message_post", "message_list", "message_get", "message_get_many", "message_delete", "message_delete_many",
    ]


# -- rights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [name for name in ACTIONS if name != "get_home_doc"])
def test_policy_is_asked_for_each_action(client: Client, action: str) -> None:
    status, answer = client.ask(action, HEADERS | {"X-Roles": "nobody"}, **body_of(action))
    rule = ACTIONS[action].operation.rule
    if action == "ping_node":  # anybody may
        assert status == 204
    else:
        assert (status, answer["exception"]) == (403, f"Your roles don't allow this ({rule})")


def test_rates_are_those_of_the_api(configured: Callable[..., Any], core: Core) -> None:
    client = Client(configured(quota={"requests_per_second": 2}), core)
    statuses = [client.ask("queue_list")[0] for _ in range(4)]
    assert statuses[:2] == [200, 200] and 429 in statuses
    frame = json.dumps({"action": "queue_list", "headers": HEADERS}).encode()
    assert client.send(frame)["headers"] == {"status": 429, "Retry-After": "1"}


def test_audit_log_has_the_calls(configured: Callable[..., Any], core: Core, tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    client = Client(configured(audit={"file": file}), core)
    client.session.address = "192.0.2.1"
    client.ask("authenticate", HEADERS | {"X-Auth-Token": "never recorded"})
    client.ask("queue_list")
    client.post("x")
    client.ask("queue_create", HEADERS | {"X-Roles": "reader"}, queue_name="q")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["action"], line["method"], line["path"], line["status"]) for line in lines] == [
        ("authenticate", "POST", "/v2/websocket", 200),
        ("messages:create", "POST", "/v2/queues/q/messages", 201),
        ("queues:create", "PUT", "/v2/queues/q", 403),
    ]
    assert all(
        (line["project"], line["address"], line["client"]) == ("project", "192.0.2.1", HEADERS["Client-ID"])
        for line in lines
    )
    assert "never recorded" not in file.read_text()


class Tokens(AuthStrategy):
    """Knows one token, of one project."""

    right = "right"

    def __init__(self, conf: Any) -> None:
        pass

    def identify(self, environ: Any) -> Identity:
        if environ.get("HTTP_X_AUTH_TOKEN") != self.right:
            raise Unauthenticated("The token is wrong", "challenge")
        return Identity("project", "user", ("member", "reader"), expires=2e9)


@pytest.fixture
def guarded(configured: Callable[..., Any], core: Core, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client of a service that wants tokens."""
    monkeypatch.setitem(gateway.access.auth.STRATEGIES, "tokens", Tokens)
    monkeypatch.setattr(Tokens, "right", "right")
    return Client(configured(DEFAULT={"auth_strategy": "tokens"}, signed_url={"secret_key": KEY}), core)


def test_nothing_goes_without_authentication(guarded: Client) -> None:
    assert guarded.ask("pool_list")[0] == 400  # checked before
    assert guarded.ask("queue_create")[0] == 400
    for action in ACTIONS:
        status, answer = guarded.ask(action, **body_of(action))
        assert status == 403 and set(answer) == {"error"}, action


def test_authenticate(guarded: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (HEADERS, {"X-Auth-Token": "right"}, {"X-Project-ID": 1, "X-Auth-Token": "right"}):
        status, answer = guarded.ask("authenticate", wrong)
        assert status == 400 and set(answer) == {"error"}
    assert guarded.ask("authenticate", HEADERS | {"X-Auth-Token": "wrong"}) == (401, {"error": "The token is wrong"})
    assert guarded.ask("queue_list")[0] == 403
    frame = json.dumps({"action": "authenticate", "headers": HEADERS | {"X-Auth-Token": "right"}}).encode()
    answer = guarded.send(frame)
    assert answer["headers"] == {"status": 200} and set(answer["body"]) == {"message"}
    assert answer["request"] == {"action": "authenticate", "body": {}, "headers": {}, "api": "v2"}
    assert guarded.session.expires == 2e9
    assert "right" not in repr(guarded.session)
    assert guarded.ask("queue_list")[0] == 200
    assert guarded.ask("authenticate", HEADERS | {"X-Auth-Token": "wrong"})[0] == 401
    assert guarded.ask("queue_list")[0] == 200  # the one before still holds
    status, answer = guarded.ask("queue_list", HEADERS | {"X-Project-ID": "other"})
    assert status == 403 and set(answer) == {"error"}
    monkeypatch.setattr(Tokens, "right", "another")
    status, answer = guarded.ask("queue_list")
    assert status == 403 and set(answer) == {"error"}
    assert guarded.ask("authenticate", HEADERS | {"X-Auth-Token": "another"})[0] == 200
    assert guarded.ask("queue_list")[0] == 200


def test_without_a_strategy_authenticate_succeeds(client: Client) -> None:
    assert client.ask("authenticate", HEADERS | {"X-Auth-Token": "any"})[0] == 200
    assert client.session.expires == math.inf


def test_basic_authentication_in_the_request(
    configured: Callable[..., Any], core: Core, tmp_path: Path
) -> None:
    users = tmp_path / "users"
    users.write_text(f"alice:{bcrypt.hashpw(b'wonder', bcrypt.gensalt(4)).decode()}:project\n")
    client = Client(configured(DEFAULT={"auth_strategy": "basic"}, basic={"htpasswd_file": users}), core)
    assert client.ask("queue_list")[0] == 403
    assert client.ask("authenticate", HEADERS | {"X-Auth-Token": "x"})[0] == 401
    for password, status in (("wrong", 401), ("wonder", 200)):
        credentials = base64.b64encode(f"alice:{password}".encode()).decode()
        assert client.ask("authenticate", HEADERS | {"Authorization": f"Basic {credentials}"})[0] == status
    assert client.ask("queue_list")[0] == 200
    assert client.ask("authenticate", HEADERS | {"X-Auth-Token": "x"})[0] == 200  # python-zaqarclient begins so


def signed(
    queue: str = "q", methods: tuple[str, ...] = ("GET", "POST", "DELETE"), name: str = "messages",
    expires: timedelta = timedelta(hours=1),
) -> dict[str, Any]:
    paths, until = [f"/v2/queues/{queue}/{name}"], (datetime.now(UTC) + expires).strftime("%Y-%m-%dT%H:%M:%S")
    return HEADERS | {
        "URL-Signature": sign(KEY, paths, methods, "project", until), "URL-Expires": until,
        "URL-Methods": list(methods), "URL-Paths": paths,
    }


def test_signed_requests_need_no_authentication(guarded: Client) -> None:
    status, body = guarded.ask("message_post", signed(), queue_name="q", messages=[{"body": 1}])
    assert status == 201
    (id_,) = body["message_ids"]
    for action, body in (
        ("message_list", {}), ("message_get", {"message_id": id_}), ("message_get_many", {"message_ids": [id_]}),
        ("message_delete", {"message_id": id_}), ("message_delete_many", {"message_ids": [id_]}),
    ):
        assert guarded.ask(action, signed(), queue_name="q", **body)[0] in (200, 204)
    assert guarded.ask("queue_list")[0] == 403


@pytest.mark.parametrize(("action", "headers"), [
    ("message_list", signed("other")), ("message_list", signed(methods=("POST",))),
    ("message_post", signed(methods=("GET",))), ("message_delete", signed(methods=("GET", "POST"))),
    ("message_list", signed(name="claims")), ("message_list", signed(expires=timedelta(seconds=-1))),
    ("message_list", signed() | {"URL-Signature": ""}), ("message_list", signed() | {"URL-Signature": None}),
    ("message_list", signed() | {"URL-Paths": "/v2/queues/q/messages"}),
    ("message_list", signed() | {"URL-Paths": [1]}), ("message_list", signed() | {"URL-Methods": "GET"}),
    ("message_list", signed() | {"URL-Expires": 1}), ("message_list", signed() | {"X-Project-ID": "other"}),
    ("queue_get", signed()), ("claim_create", signed(name="claims")), ("subscription_create", signed()),
    ("queue_list", signed()),
], ids=range(17))
def test_signature_that_does_not_cover_the_request(guarded: Client, action: str, headers: dict[str, Any]) -> None:
    status, answer = guarded.ask(action, headers, **(body_of(action) | {
        name: value for name, value in {"queue_name": "q", "messages": [{"body": 1}], "message_id": "x"}.items()
        if name in body_of(action)
    }))
    assert status == 403 and set(answer) == {"error"}
