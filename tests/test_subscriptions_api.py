"""Subscriptions over HTTP: what clients send, and what they get to read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import orjson
import pytest
from flask.testing import FlaskClient

from gateway.app import build, make_app, make_core
from gateway.config.limits import Limits
from gateway.config.notifications import Notifications
from gateway.config.refused import CannotServe
from gateway.core.core import Core
from gateway.core.seal import KEY_SIZE, Seal
from gateway.core.subscriptions.status import Attempt, DeliveryStatus
from storage.sqlite import SQLiteStore

PATH = "/v2/queues/queue/subscriptions"
URI = "http://example.org/hook"
KEY = "signing key"
HEADERS = {"Client-ID": str(uuid4()), "X-Project-ID": "project", "X-Roles": "admin"}

Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def hurried_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes are heeded in a moment."""
    for name in ("states.HEEDED_AFTER", "removal.HEEDED_AFTER", "sources.KNOWN_FOR", "sources.MARGIN"):
        monkeypatch.setattr(f"gateway.core.subscriptions.{name}", 0.02)


@pytest.fixture
def client(configured: Callable[..., Any], core: Core) -> FlaskClient:
    return make_app(configured(signed_url={"secret_key": KEY}), core).test_client()


@pytest.fixture
def call(client: FlaskClient) -> Call:
    """Send a request below the queue's subscriptions; ``document`` may be bytes."""

    def call(method: str, path: str = "", document: Any = None, **headers: str) -> Any:
        data = document if document is None or isinstance(document, bytes) else orjson.dumps(document)
        sent = {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return client.open(PATH + path, method=method, data=data, headers=sent)

    return call


@pytest.fixture
def subscribed(call: Call) -> str:
    """The id of a subscription."""
    id_: str = call("POST", document={"subscriber": URI}).json["subscription_id"]
    return id_


def listed(call: Call) -> list[Any]:
    found: list[Any] = call("GET").json["subscriptions"]
    return found


# -- creating -------------------------------------------------------------------------------------------------------


def test_subscription_has_the_seven_keys(call: Call) -> None:
    created = call("POST", document={"subscriber": URI, "ttl": 300, "options": {"a": {"b": 1}}, "more": 1})
    assert (created.status_code, created.headers["Location"]) == (201, PATH)
    id_ = created.json["subscription_id"]
    shown = call("GET", f"/{id_}")
    assert shown.status_code == 200
    assert shown.json == {
        "id": id_, "source": "queue", "subscriber": URI, "ttl": 300, "age": 0, "options": {"a": {"b": 1}},
        "confirmed": False,
    }
    assert listed(call) == [shown.json]
    detailed = call("GET", f"/{id_}?detailed=true").json
    assert detailed == {**shown.json, "state": "active", "reason": "", "pending": 0}


@pytest.mark.parametrize(("document", "text"), [
    (None, "Missing parameter"),
    ({}, "Missing parameter"),
    ({"ttl": 100}, "Missing parameter"),
    ([], "object"),
    ([1], "object"),
    ("x", "object"),
    ({"subscriber": None}, "must be a URI"),
    ({"subscriber": ""}, "must be a URI"),
    ({"subscriber": 1}, "must be a URI"),
    ({"subscriber": "example.org"}, "must be supported in the list"),
    ({"subscriber": "ftp://example.org"}, "must be supported in the list"),
    ({"subscriber": "http://"}, "host"),
    ({"subscriber": "http:///x"}, "host"),
    ({"subscriber": "http://user:password@example.org"}, "user or a password"),
    ({"subscriber": "http://example.org:99999"}, "port"),
    ({"subscriber": "http://10.0.0.1"}, "10.0.0.0/8"),
    ({"subscriber": "http://[::1]:8080/"}, "::1"),
    ({"subscriber": URI, "ttl": "60"}, "must be an integer"),
    ({"subscriber": URI, "ttl": 60.5}, "must be an integer"),
    ({"subscriber": URI, "ttl": True}, "must be an integer"),
    ({"subscriber": URI, "ttl": 59}, "60"),
    ({"subscriber": URI, "ttl": 0}, "60"),
    ({"subscriber": URI, "ttl": -1}, "60"),
    ({"subscriber": URI, "ttl": 10**12}, "year"),
    ({"subscriber": URI, "options": "x"}, "must be a dict"),
    ({"subscriber": URI, "options": [1]}, "must be a dict"),
    ({"subscriber": URI, "options": 0}, "must be a dict"),
    ({"subscriber": URI, "options": ""}, "must be a dict"),
    ({"subscriber": URI, "options": []}, "must be a dict"),
    ({"subscriber": URI, "options": {"post_data": 1}}, "post_data"),
    ({"subscriber": URI, "options": {"post_headers": {"a": 1}}}, "post_headers"),
    ({"subscriber": URI, "options": {"trust_id": "mine"}}, "trust_id"),
    ({"subscriber": URI, "options": {"_retry_policy": {"minimum_delay": 25}}}, "_retry_policy"),
])
def test_what_breaks_a_rule_is_refused_and_makes_no_queue(
    call: Call, core: Core, document: Any, text: str
) -> None:
    refused = call("POST", document=document)
    assert (refused.status_code, refused.json["title"]) == (400, "Invalid API request")
    assert text in refused.json["description"]
    assert not core.queues.exists("project", "queue")


@pytest.mark.parametrize("data", [b"{", b'{"subscriber": "http://x", "ttl": 99999999999999999999}', b"\xff"])
def test_what_is_no_json_could_not_be_parsed(call: Call, subscribed: str, data: bytes) -> None:
    for method, path in (("POST", ""), ("PATCH", f"/{subscribed}"), ("PUT", f"/{subscribed}/confirm")):
        refused = call(method, path, data)
        assert (refused.status_code, refused.json["title"]) == (400, "Invalid request body")
        assert "body could not be parsed" in refused.json["description"]


@pytest.mark.parametrize("host", [
    "fake", "trigger.me", "CCC.com", "0", "14", "trigger_me", "fake:8080", "8.8.8.8", "[2600::1]",
])
def test_names_are_not_judged_when_somebody_subscribes(call: Call, host: str) -> None:
    assert call("POST", document={"subscriber": f"http://{host}"}).status_code == 201
    assert [found["subscriber"] for found in listed(call)] == [f"http://{host}"]


@pytest.mark.parametrize(("document", "ttl"), [
    ({}, 3600), ({"ttl": None}, 3600), ({"ttl": 60}, 60), ({"ttl": 220367260800}, 220367260800),
])
def test_ttl_may_be_left_out_or_mean_never(call: Call, document: dict[str, Any], ttl: int) -> None:
    created = call("POST", document={"subscriber": "HTTP://example.org", "options": None, **document})
    assert created.status_code == 201
    (found,) = listed(call)
    assert (found["ttl"], found["options"], found["subscriber"]) == (ttl, {}, "HTTP://example.org")


def test_confirmed_subscriber_is_a_conflict(call: Call, subscribed: str) -> None:
    assert call("POST", document={"subscriber": URI}).json == {"subscription_id": subscribed}
    assert call("PUT", f"/{subscribed}/confirm", {"confirmed": True}).status_code == 204
    taken = call("POST", document={"subscriber": URI})
    assert (taken.status_code, taken.headers["Location"], taken.json["title"]) == (409, PATH, "Conflict")


def test_http_can_be_switched_off(configured: Callable[..., Any], store: SQLiteStore, bridge: Any) -> None:
    core = Core(bridge, store, Limits(), Seal(bytes(KEY_SIZE)), notifications=Notifications(allow_http=False))
    client = make_app(configured(), core).test_client()
    for uri, status in (("http://example.org", 400), ("https://example.org", 201)):
        assert client.post(PATH, json={"subscriber": uri}, headers=HEADERS).status_code == status
    core.stop()


def test_quota_is_a_403(configured: Callable[..., Any], store: SQLiteStore, bridge: Any) -> None:
    core = Core(bridge, store, Limits(), Seal(bytes(KEY_SIZE)), notifications=Notifications(per_project=1))
    client = make_app(configured(), core).test_client()
    assert client.post(PATH, json={"subscriber": URI}, headers=HEADERS).status_code == 201
    refused = client.post(PATH, json={"subscriber": f"{URI}/2"}, headers=HEADERS)
    assert (refused.status_code, refused.json["title"]) == (403, "Quota exceeded")
    core.stop()


# -- lists ----------------------------------------------------------------------------------------------------------


def test_pages_lead_to_each_other(call: Call) -> None:
    ids = [call("POST", document={"subscriber": f"{URI}/{n}"}).json["subscription_id"] for n in range(12)]
    assert call("GET").json["links"] == [{"rel": "next", "href": f"{PATH}?marker={ids[9]}"}]
    page = call("GET", f"?limit=5&marker={ids[4]}").json
    assert [found["id"] for found in page["subscriptions"]] == ids[5:10]
    assert page["links"] == [{"rel": "next", "href": f"{PATH}?limit=5&marker={ids[9]}"}]
    for nothing in (f"?marker={ids[-1]}", "?marker=unknown", f"?marker={uuid4()}"):
        assert call("GET", nothing).json == {"subscriptions": [], "links": []}
    for wrong in ("?limit=0", "?limit=21", "?limit=x", "?detailed=x"):
        assert call("GET", wrong).status_code == 400


def test_unknown_queue_has_an_empty_list(call: Call, core: Core) -> None:
    assert call("GET").json == {"subscriptions": [], "links": []}
    assert not core.queues.exists("project", "queue")


# -- changing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [
    {"ttl": 100}, {"options": {"c": 3}}, {"subscriber": "http://example.net"}, {"subscriber": None, "ttl": 100},
    {"ttl": 100, "unknown": 1}, {"options": {}, "ttl": None},
])
def test_patch_changes_what_is_given(call: Call, subscribed: str, changes: dict[str, Any]) -> None:
    before = call("GET", f"/{subscribed}").json
    changed = call("PATCH", f"/{subscribed}", changes)
    assert (changed.status_code, changed.headers["Location"], changed.data) == (204, f"{PATH}/{subscribed}", b"")
    known = {key: value for key, value in changes.items() if value is not None and key != "unknown"}
    assert call("GET", f"/{subscribed}").json == {**before, **known}


@pytest.mark.parametrize("changes", [
    None, {}, {"ttl": None}, {"unknown": 1}, {"ttl": "60"}, {"ttl": 0}, {"subscriber": "ftp://x"}, {"options": "x"},
    {"subscriber": ""}, {"ttl": True},
])
def test_bad_patch_is_refused(call: Call, subscribed: str, changes: Any) -> None:
    refused = call("PATCH", f"/{subscribed}", changes)
    assert (refused.status_code, refused.json["title"]) == (400, "Invalid API request")


def test_patch_must_be_a_dict(call: Call, subscribed: str) -> None:
    for document in ([], [{"op": "add"}], "x", 1):
        assert call("PATCH", f"/{subscribed}", document).json["description"] == "Subscriptions must be a dict."


def test_patch_to_a_taken_subscriber_is_a_conflict(call: Call, subscribed: str) -> None:
    call("POST", document={"subscriber": f"{URI}/2"})
    assert call("PATCH", f"/{subscribed}", {"subscriber": f"{URI}/2"}).status_code == 409


@pytest.mark.parametrize("id_", [
    "unknown", "65884bdf-1571-4340-95c4-c5bf912dc450", "01a22860-7e9c-7000-a8b8-765b9710117b", "%00", "a%20b",
])
def test_unknown_subscription_is_a_404_or_gone_already(call: Call, id_: str) -> None:
    for method, path, document in (
        ("GET", "", None), ("PATCH", "", {"ttl": 100}), ("PUT", "/confirm", {"confirmed": True}),
        ("PUT", "/confirm", {"confirmed": False}), ("GET", "/status", None), ("PUT", "/state", {"state": "paused"}),
        ("GET", "/deliveries", None), ("GET", "/dead_letters", None), ("DELETE", "/dead_letters", None),
        ("POST", "/replay", {"all": True}), ("GET", "/secret", None), ("POST", "/secret/rotate", None),
    ):
        assert call(method, f"/{id_}{path}", document).status_code == 404, (method, path)
    assert call("DELETE", f"/{id_}").status_code == 204


def test_deleted_is_gone(call: Call, subscribed: str) -> None:
    for _ in range(2):
        gone = call("DELETE", f"/{subscribed}")
        assert (gone.status_code, gone.data) == (204, b"")
    assert call("GET", f"/{subscribed}").status_code == 404
    assert listed(call) == []


def test_confirm_is_repeatable(call: Call, subscribed: str) -> None:
    for confirmed in (True, True, False, False, True):
        answer = call("PUT", f"/{subscribed}/confirm", {"confirmed": confirmed})
        assert (answer.status_code, answer.headers["Location"]) == (204, f"{PATH}/{subscribed}/confirm")
        assert call("GET", f"/{subscribed}").json["confirmed"] is confirmed


@pytest.mark.parametrize("document", [
    None, {}, {"confirmed": 1}, {"confirmed": "true"}, {"confirmed": None}, [], [True],
])
def test_confirmed_is_a_boolean(call: Call, subscribed: str, document: Any) -> None:
    refused = call("PUT", f"/{subscribed}/confirm", document)
    assert (refused.status_code, refused.json["description"]) == (400, "The 'confirmed' should be boolean.")


# -- purge and share ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("document", "left"), [
    (None, 0), ({"resource_types": ["subscriptions"]}, 0), ({"resource_types": ["messages"]}, 12),
])
def test_purge_deletes_all_subscriptions(client: FlaskClient, call: Call, document: Any, left: int) -> None:
    for number in range(12):
        call("POST", document={"subscriber": f"{URI}/{number}"})
    data = orjson.dumps(document) if document else None
    assert client.post("/v2/queues/queue/purge", data=data, headers=HEADERS).status_code == 204
    assert len(call("GET", "?limit=20").json["subscriptions"]) == left


def test_purge_of_an_empty_object_is_refused(client: FlaskClient, call: Call, subscribed: str) -> None:
    assert client.post("/v2/queues/queue/purge", data=b"{}", headers=HEADERS).status_code == 400
    assert len(listed(call)) == 1


def test_shared_subscriptions_show_no_secret(client: FlaskClient, subscribed: str) -> None:
    reader = {**HEADERS, "X-Roles": "reader"}
    shared = client.post(
        "/v2/queues/queue/share", json={"paths": ["subscriptions"], "methods": ["GET"]},
        headers={**HEADERS, "X-Roles": "member"},
    ).json
    signed = {
        "Client-ID": HEADERS["Client-ID"], "X-Project-ID": shared["project"], "URL-Signature": shared["signature"],
        "URL-Paths": ",".join(shared["paths"]), "URL-Methods": "GET", "URL-Expires": shared["expires"],
    }
    for path, status in (("", 200), (f"/{subscribed}", 200), (f"/{subscribed}/status", 200),
                         (f"/{subscribed}/secret", 404)):
        assert client.get(PATH + path, headers=signed).status_code == status
    assert client.delete(f"{PATH}/{subscribed}", headers=signed).status_code == 404
    assert client.get(f"{PATH}/{subscribed}/secret", headers=reader).status_code == 403


# -- what owners see ------------------------------------------------------------------------------------------------


def test_status_is_what_the_worker_has_recorded(call: Call, core: Core, subscribed: str) -> None:
    core.messages.post("project", "queue", HEADERS["Client-ID"], [], 0)
    now = core.now()
    failure = Attempt("a1", "m1", 3, now, 503, 0.25, "failed", "status", "busy", now + 60_000)
    name = core.subscriptions.get("project", "queue", subscribed).name
    core.delivery_statuses.put(name, DeliveryStatus(
        delivered=7, failed=5, filtered=1, row=5, in_flight=2, rate=2.5, last_success=1000, last_failure=failure,
        resting_until=now + 60_000, attempts=(failure, replace(failure, id="a0", status=200, outcome="delivered")),
    ))
    shown = call("GET", f"/{subscribed}/status").json
    assert shown["state"] == "failing" and shown["last_success"] == "1970-01-01T00:00:01Z"
    assert [shown[key] for key in ("delivered", "failed", "filtered", "in_flight", "rate")] == [7, 5, 1, 2, 2.5]
    assert shown["last_failure"]["status"] == 503 and shown["last_failure"]["response"] == "busy"
    assert shown["next_attempt"] and shown["resting_until"]
    assert shown["retry_policy"] is None and shown["retry_delays"][:2] == [5, 300]

    attempts = call("GET", f"/{subscribed}/deliveries").json
    assert [each["id"] for each in attempts["deliveries"]] == ["a1", "a0"]
    assert [each["id"] for each in call("GET", f"/{subscribed}/deliveries?status=503").json["deliveries"]] == ["a1"]
    after = call("GET", f"/{subscribed}/deliveries?marker=a1").json
    assert [each["id"] for each in after["deliveries"]] == ["a0"]
    core.subscription_removal.delete("project", "queue", subscribed)
    assert core.delivery_statuses.get(name) == DeliveryStatus()


def test_status_has_the_policy_that_acts(client: FlaskClient, call: Call, subscribed: str) -> None:
    policy = {"minimum_delay": 10, "maximum_delay": 60, "retry_backoff_function": "geometric"}
    call("PATCH", f"/{subscribed}", {"options": {"_retry_policy": policy}})
    shown = call("GET", f"/{subscribed}/status").json
    assert {**shown["retry_policy"], **policy} == shown["retry_policy"]
    assert shown["retry_delays"] == [0, 0, 0, 10, 10, 10, 10, 12, 14, 18, 22, 27, 33, 40, 49, 60, 60, 60, 60]


def test_state_pauses_and_goes_on(call: Call, subscribed: str) -> None:
    for state in ("paused", "active"):
        assert call("PUT", f"/{subscribed}/state", {"state": state}).status_code == 204
        assert call("GET", f"/{subscribed}/status").json["state"] == state
    for document in (None, {}, {"state": "failing"}, {"state": 1}, {"state": "active", "more": 1}, []):
        assert call("PUT", f"/{subscribed}/state", document).status_code == 400


def test_secret_is_shown_set_and_rotated(call: Call, subscribed: str) -> None:
    path = f"/{subscribed}/secret"
    first = call("GET", path).json["secret"]
    rotated = call("POST", f"{path}/rotate", {"keep": 60}).json["secret"]
    assert rotated != first and call("GET", path).json == {"secret": rotated}
    assert call("PUT", path, {"secret": first}).status_code == 204
    assert call("GET", path).json == {"secret": first}
    for document in (None, {}, {"secret": "x"}, {"secret": 1}, {"secret": first, "more": 1}):
        assert call("PUT", path, document).status_code == 400
    for document in ({"keep": -1}, {"keep": "1"}, {"keep": 10**9}, {"more": 1}):
        assert call("POST", f"{path}/rotate", document).status_code == 400
    assert first not in call("GET", f"/{subscribed}?detailed=true").text


@pytest.mark.parametrize("document", [
    None, {}, {"all": False}, {"ids": []}, {"ids": "x"}, {"ids": [1]}, {"all": True, "ids": ["a"]}, {"since": "x"},
    {"since": 5}, {"all": True, "only": "x"}, {"ids": ["a"] * 21}, {"all": True, "more": 1}, [],
    {"since": "2026-01-02T00:00:00", "until": "2026-01-01T00:00:00"},
])
def test_bad_replay_is_refused(call: Call, subscribed: str, document: Any) -> None:
    assert call("POST", f"/{subscribed}/replay", document).status_code == 400


@pytest.mark.parametrize("document", [
    {"all": True}, {"ids": ["a"]}, {"since": "2026-01-01T00:00:00Z"}, {"until": "2026-01-01T00:00:00+01:00"},
    {"all": True, "only": "delivered"}, {"ids": ["a"], "only": "delivered"},
])
def test_replay_says_how_many(call: Call, subscribed: str, document: Any) -> None:
    answer = call("POST", f"/{subscribed}/replay", document)
    assert (answer.status_code, answer.json) == (202, {"accepted": 0})


# -- confirmation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/messaging"])
def test_receiver_confirms_with_the_signature_alone(
    configured: Callable[..., Any], store: SQLiteStore, bridge: Any, prefix: str
) -> None:
    conf = configured(
        signed_url={"secret_key": KEY}, notification={"require_confirmation": True, "public_url": "https://api.test/m/"},
        wsgi={"prefix": prefix} if prefix else {},
    )
    core = make_core(conf)
    client = make_app(conf, core).test_client()
    id_ = client.post(prefix + PATH, json={"subscriber": URI}, headers=HEADERS).json["subscription_id"]
    (message,) = core.pool.store.landed.list_messages(core.subscriptions.get("project", "queue", id_).key, 0, 9)
    request = orjson.loads(message.body)
    assert request["WSGISubscribeURL"] == f"https://api.test/m{request['URL-Paths']}"
    signed = {
        name: request[name] for name in ("URL-Signature", "URL-Methods", "URL-Paths", "URL-Expires", "X-Project-ID")
    }
    signed |= {"Client-ID": str(uuid4()), "Content-Type": "application/json"}
    path = prefix + request["URL-Paths"]
    for broken in (
        {"URL-Signature": "0" * 64}, {"X-Project-ID": "other"}, {"URL-Expires": "2099-01-01T00:00:00"},
        {"URL-Paths": "/v2/queues/queue"},
    ):
        refused = client.put(path, json=request["SubscribeBody"], headers={**signed, **broken})
        assert refused.status_code == 404
    for wrong_method, wrong_path in (("GET", path.removesuffix("/confirm")), ("DELETE", path.removesuffix("/confirm"))):
        assert client.open(wrong_path, method=wrong_method, headers=signed).status_code == 404
    assert not core.subscriptions.get("project", "queue", id_).confirmed

    for confirmed in (True, False, True):
        body = request["SubscribeBody" if confirmed else "UnsubscribeBody"]
        assert client.put(path, json=body, headers=signed).status_code == 204
        assert core.subscriptions.get("project", "queue", id_).confirmed is confirmed
    core.close()


def test_confirmation_needs_a_key(configured: Callable[..., Any]) -> None:
    with pytest.raises(CannotServe, match="secret_key"):
        build(configured(notification={"require_confirmation": True}))


def test_types_without_a_way_are_refused(configured: Callable[..., Any]) -> None:
    with pytest.raises(CannotServe, match="subscriber_types"):
        build(configured(transport={"subscriber_types": "http,gopher"}))


# -- home document --------------------------------------------------------------------------------------------------


def test_home_document_has_the_relations_of_zaqar(client: FlaskClient) -> None:
    resources = orjson.loads(client.get("/v2/", headers=HEADERS).data)["resources"]
    for relation, methods in {
        "rel/subscriptions": ["GET", "POST"], "rel/subscriptions_get": ["GET"], "rel/subscriptions_post": ["POST"],
        "rel/subscription": ["GET", "DELETE"], "rel/subscription_patch": ["PATCH"],
        "rel/subscription_confirm": ["PUT"],
    }.items():
        assert resources[relation]["hints"]["allow"] == methods
        assert resources[relation]["href-template"].startswith("/v2/queues/{queue_name}/subscriptions")
