"""Topics: names that messages are posted to for subscribers alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import orjson
import pytest
from flask.testing import FlaskClient

from bridges.loopback import LoopbackBridge
from bridges.memory import MemoryBridge
from gateway.app import make_app
from gateway.config.limits import Limits
from gateway.config.notifications import Notifications
from gateway.core.core import Core
from gateway.core.queues.names import broker_name, topic_project
from gateway.core.seal import KEY_SIZE, Seal
from gateway.core.subscriptions import quotas
from gateway.core.subscriptions.record import Subscription
from gateway.notify.attempts import request
from gateway.notify.item import Item
from storage.sqlite import SQLiteStore

HEADERS = {"Client-ID": str(uuid4()), "X-Project-ID": "project", "X-Roles": "admin"}
PATCH = {**HEADERS, "Content-Type": "application/openstack-messaging-v2.0-json-patch"}
PATH = "/v2/topics/news"
HOOK = "http://example.org/hook"
KEY = "signing key"

#: What `GET` shows of a topic without metadata of its own, and no more.
RESERVED = {"_max_messages_post_size": 262144, "_default_message_ttl": 3600, "_default_message_delay": 0}

Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def hurried_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("states.HEEDED_AFTER", "removal.HEEDED_AFTER", "sources.KNOWN_FOR", "sources.MARGIN"):
        monkeypatch.setattr(f"gateway.core.subscriptions.{name}", 0.02)
    for name in ("KNOWN_FOR", "FORGOTTEN_MARGIN"):
        monkeypatch.setattr(f"gateway.core.queues.admin.{name}", 0.02)


@pytest.fixture(params=[MemoryBridge, lambda: LoopbackBridge("loopback://", None)], ids=["broker", "no broker"])
def core(request: pytest.FixtureRequest, store: SQLiteStore) -> Iterator[Core]:
    core = Core(request.param(), store, Limits(), Seal(bytes(KEY_SIZE)))
    yield core
    core.close()


@pytest.fixture
def client(configured: Callable[..., Any], core: Core) -> FlaskClient:
    return make_app(configured(signed_url={"secret_key": KEY}), core).test_client()


@pytest.fixture
def call(client: FlaskClient) -> Call:
    """Send a request below the topic."""

    def call(method: str, below: str = "", document: Any = None, path: str = PATH, **headers: str) -> Any:
        data = None if document is None else orjson.dumps(document)
        return client.open(path + below, method=method, data=data, headers={**HEADERS, **headers})

    return call


def post(call: Call, *bodies: Any, path: str = PATH, **fields: Any) -> list[str]:
    """The ids of what is posted."""
    answer = call("POST", "/messages", {"messages": [{"body": body, **fields} for body in bodies]}, path)
    assert answer.status_code == 201, answer.data
    return [href.rpartition("/")[2] for href in answer.json["resources"]]


def subscribe(call: Call, subscriber: str = HOOK, **document: Any) -> str:
    answer = call("POST", "/subscriptions", {"subscriber": subscriber, **document})
    assert (answer.status_code, answer.headers["Location"]) == (201, f"{PATH}/subscriptions"), answer.data
    id_: str = answer.json["subscription_id"]
    return id_


def found(core: Core, id_: str) -> Subscription:
    return core.subscriptions.get(topic_project("project"), "news", id_)


def waiting(core: Core, id_: str) -> list[str | None]:
    """Ids of what waits for a subscription, on the broker and then in the side-store."""
    subscription = found(core, id_)
    ids: list[str | None] = []
    if core.pool.bridge.has_backlog:
        batch = core.pool.bridge.fetch(subscription.copy, 100)
        ids += [envelope.message_id for envelope in batch.envelopes]
        core.pool.bridge.requeue(batch)
    landed = core.pool.store.landed.list_messages(subscription.key, 0, 100, claimed=True, delayed=True)
    return ids + [message.id for message in landed]


# -- topics ---------------------------------------------------------------------------------------------------------


def test_topic_from_its_creation_to_its_end(call: Call) -> None:
    assert (call("GET").status_code, call("GET").json) == (200, RESERVED), "it need not be there"
    assert call("HEAD").status_code == 404
    created = call("PUT", document={"color": "red"})
    assert (created.status_code, created.headers["Location"]) == (201, PATH)
    assert call("HEAD").status_code == 204
    assert call("GET").json == {**RESERVED, "color": "red"}
    assert call("PUT", document={"size": 1, "_default_message_ttl": 300}).status_code == 204
    assert call("GET").json == {**RESERVED, "_default_message_ttl": 300, "size": 1}
    for _ in range(2):
        assert call("DELETE").status_code == 204
    assert call("HEAD").status_code == 404


def test_metadata_is_patched_as_that_of_queues(client: FlaskClient, call: Call) -> None:
    change = orjson.dumps([{"op": "add", "path": "/metadata/color", "value": "red"}])
    assert client.patch(PATH, data=change, headers=PATCH).status_code == 404
    call("PUT")
    patched = client.patch(PATH, data=change, headers=PATCH)
    assert (patched.status_code, patched.json) == (200, {**RESERVED, "color": "red"})
    missing = orjson.dumps([{"op": "remove", "path": "/metadata/size"}])
    assert client.patch(PATH, data=missing, headers=PATCH).status_code == 409
    assert client.patch(PATH, data=change, headers=HEADERS).status_code == 415


def test_names_are_apart_from_those_of_queues(call: Call) -> None:
    call("PUT", document={"kind": "topic"})
    queue = "/v2/queues/news"
    assert call("HEAD", path=queue).status_code == 404
    post(call, 1, path=queue)
    assert call("GET", path=queue).json.get("kind") is None
    assert call("DELETE", path=queue).status_code == 204
    assert call("GET").json["kind"] == "topic"
    assert call("GET", path="/v2/queues").json["queues"] == []


def test_list_has_pages_of_topics(call: Call) -> None:
    assert call("GET", path="/v2/topics").json == {"topics": [], "links": []}
    for name in "abc":
        call("PUT", path=f"/v2/topics/{name}", document={"n": name})
        call("PUT", path=f"/v2/queues/q{name}")
    page = call("GET", path="/v2/topics?limit=2&detailed=true&with_count=true").json
    assert page["topics"] == [
        {"name": name, "href": f"/v2/topics/{name}", "metadata": {**page["topics"][n]["metadata"], "n": name}}
        for n, name in enumerate("ab")
    ]
    (link,) = page["links"]
    assert link["href"].startswith("/v2/topics?") and "count" not in page
    assert [topic["name"] for topic in call("GET", path=link["href"]).json["topics"]] == ["c"]
    assert len(call("GET", path="/v2/queues").json["queues"]) == 3


@pytest.mark.parametrize("name", ["a b", "ä", "x" * 65, "."])
def test_bad_names_are_refused(call: Call, name: str) -> None:
    refused = call("PUT", path=f"/v2/topics/{name}")
    assert (refused.status_code, refused.json["title"]) == (400, "Invalid topic identification")


def test_what_is_for_queues_alone_is_not_there(call: Call) -> None:
    assert call("POST", "/claims", {}).status_code == 404
    assert call("POST", "/share", {}).status_code == 404
    refused = call("PUT", document={"_bridge": {"source": {"queue": "theirs"}}})
    assert refused.status_code == 400


def test_topics_of_other_projects_are_others(call: Call, core: Core) -> None:
    call("PUT")
    id_ = subscribe(call)
    assert call("HEAD", **{"X-Project-ID": "other"}).status_code == 404
    assert call("GET", f"/subscriptions/{id_}", **{"X-Project-ID": "other"}).status_code == 404
    assert call("GET", path="/v2/topics", **{"X-Project-ID": "other"}).json["topics"] == []


# -- messages -------------------------------------------------------------------------------------------------------


def test_nothing_is_kept(call: Call, core: Core) -> None:
    for delay in (0, 100):
        (id_,) = post(call, 1, delay=delay)
        assert call("GET", "/messages").json == {"messages": [], "links": []}
        assert call("GET", "/messages?include_delayed=true&echo=true").json["messages"] == []
        assert call("GET", f"/messages/{id_}").status_code == 404
        assert call("GET", f"/messages?ids={id_}").status_code == 404
        assert call("DELETE", f"/messages/{id_}").status_code == 204
        assert call("DELETE", f"/messages?ids={id_}").status_code == 204
        assert call("DELETE", "/messages?pop=1").json == {"messages": []}
    assert call("GET", "/stats").json == {"messages": {"claimed": 0, "free": 0, "total": 0}}
    key = core.directory.ensure(topic_project("project"), "news").key
    assert core.pool.store.landed.stats(key).newest is None
    if core.pool.bridge.has_backlog:
        assert core.pool.bridge.depth(broker_name(topic_project("project"), "news")) == 0


def test_each_subscription_gets_what_is_posted(call: Call, core: Core) -> None:
    post(call, "before")
    ids = [subscribe(call, f"{HOOK}/{number}") for number in range(2)]
    posted = post(call, 1, 2, ttl=300)
    delayed = post(call, 3, delay=100)
    for id_ in ids:
        assert waiting(core, id_) == posted + delayed
        assert call("GET", f"/subscriptions/{id_}?detailed=true").json["pending"] == 3
    call("DELETE", f"/subscriptions/{ids[0]}")
    posted += post(call, 4)
    assert sorted(map(str, waiting(core, ids[1]))) == sorted(posted + delayed)


def test_answer_names_the_messages(call: Call) -> None:
    answer = call("POST", "/messages", {"messages": [{"body": 1}, {"body": 2}]})
    assert all(href.startswith(f"{PATH}/messages/") for href in answer.json["resources"])
    assert answer.headers["Location"].startswith(f"{PATH}/messages?ids=")
    assert call("HEAD").status_code == 204, "a topic is created by its first post"


@pytest.mark.parametrize("document", [
    {}, {"messages": []}, {"messages": [{}]}, {"messages": [{"body": 1, "ttl": 1}]},
    {"messages": [{"body": 1, "delay": 10**6}]}, {"messages": [{"body": 1, "properties": {}}]},
    {"messages": [{"body": "x" * 300_000}]},
])
def test_posts_are_checked_as_those_to_queues(call: Call, document: Any) -> None:
    refused, same = call("POST", "/messages", document), call("POST", "/messages", document, path="/v2/queues/queue")
    assert (refused.status_code, refused.json["title"]) == (same.status_code, same.json["title"])
    assert refused.status_code == 400


def test_topic_that_is_created_again_serves_its_subscriptions(call: Call, core: Core) -> None:
    id_ = subscribe(call)
    before = post(call, 1)
    assert call("DELETE").status_code == 204
    assert waiting(core, id_) == before
    after = post(call, 2) + post(call, 3, delay=100)
    assert waiting(core, id_) == before + after


def test_broker_that_has_lost_what_copies_gets_it_again(call: Call, core: Core) -> None:
    id_ = subscribe(call)
    if core.pool.bridge.has_backlog:
        core.pool.bridge.delete(broker_name(topic_project("project"), "news"))
    posted = post(call, 1)
    assert waiting(core, id_) == posted


# -- subscriptions --------------------------------------------------------------------------------------------------


def test_subscriptions_are_managed_as_those_of_queues(call: Call) -> None:
    id_ = subscribe(call, ttl=300, options={"a": 1})
    shown = call("GET", f"/subscriptions/{id_}").json
    assert shown == {
        "id": id_, "source": "news", "subscriber": HOOK, "ttl": 300, "age": 0, "options": {"a": 1}, "confirmed": False,
    }
    assert call("GET", "/subscriptions").json["subscriptions"] == [shown]
    link = call("GET", "/subscriptions").json["links"][0]["href"]
    assert link.startswith(f"{PATH}/subscriptions?") and call("GET", path=link).json["subscriptions"] == []
    changed = call("PATCH", f"/subscriptions/{id_}", {"ttl": 600})
    assert (changed.status_code, changed.headers["Location"]) == (204, f"{PATH}/subscriptions/{id_}")
    confirmed = call("PUT", f"/subscriptions/{id_}/confirm", {"confirmed": True})
    assert (confirmed.status_code, confirmed.headers["Location"]) == (204, f"{PATH}/subscriptions/{id_}/confirm")
    assert call("PUT", f"/subscriptions/{id_}/state", {"state": "paused"}).status_code == 204
    assert call("GET", f"/subscriptions/{id_}/status").json["state"] == "paused"
    assert call("GET", f"/subscriptions/{id_}/dead_letters").json["dead_letters"] == []
    assert call("GET", f"/subscriptions/{id_}/secret").json["secret"].startswith("whsec_")
    assert call("GET", f"/subscriptions/{id_}", path="/v2/queues/news").status_code == 404
    assert call("POST", "/purge", {"resource_types": ["messages"]}).status_code == 204
    assert call("GET", f"/subscriptions/{id_}").status_code == 200
    assert call("POST", "/purge").status_code == 204
    assert call("GET", "/subscriptions").json["subscriptions"] == []


def test_queue_subscribes_to_a_topic_of_its_own_name(call: Call, core: Core) -> None:
    core.queues.create(topic_project("project"), "news", {"_enable_encrypt_messages": True})
    id_ = subscribe(call, "marconi:news")
    posted = post(call, {"a": 1}) + post(call, {"a": 2}, delay=100)
    listed = call("GET", "/messages?echo=true&include_delayed=true", path="/v2/queues/news").json["messages"]
    assert sorted(message["id"] for message in listed) == sorted(posted)
    assert listed[0]["body"]["a"] in (1, 2), "it is sealed for both"
    assert call("DELETE", path="/v2/queues/news").status_code == 204
    own = post(call, 0, path="/v2/queues/news")
    posted = post(call, 3)
    listed = call("GET", "/messages?echo=true", path="/v2/queues/news").json["messages"]
    assert [message["id"] for message in listed] == own + posted
    call("DELETE", f"/subscriptions/{id_}")
    post(call, 4)
    assert call("GET", "/stats", path="/v2/queues/news").json["messages"]["total"] == 2


def test_quota_of_a_project_is_for_both(call: Call, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core.subscriptions._quota, "_most", 2)
    monkeypatch.setattr(quotas, "PER_SOURCE", 2)
    subscribe(call)
    assert call("POST", "/subscriptions", {"subscriber": HOOK}, path="/v2/queues/q").status_code == 201
    for path in (PATH, "/v2/queues/q2"):
        assert call("POST", "/subscriptions", {"subscriber": f"{HOOK}/2"}, path=path).status_code == 403


def test_confirmation_is_for_the_topic_and_its_client_s_project(
    configured: Callable[..., Any], store: SQLiteStore
) -> None:
    from functools import partial

    from gateway.access.signing import sign

    asking = Notifications(require_confirmation=True, public_url="https://api.example.org")
    core = Core(MemoryBridge(), store, Limits(), notifications=asking, sign=partial(sign, KEY))
    client = make_app(configured(signed_url={"secret_key": KEY}), core).test_client()
    created = client.post(f"{PATH}/subscriptions", json={"subscriber": HOOK}, headers=HEADERS)
    id_ = orjson.loads(created.data)["subscription_id"]
    (message,) = core.pool.store.landed.list_messages(found(core, id_).key, 0, 10)
    sent = orjson.loads(message.body)
    assert "messages of topic news" in sent["Message"]
    assert (sent["URL-Paths"], sent["X-Project-ID"]) == (f"{PATH}/subscriptions/{id_}/confirm", "project")
    signed = {name: sent[name] for name in ("URL-Signature", "URL-Methods", "URL-Paths", "URL-Expires", "X-Project-ID")}
    answer = client.put(sent["URL-Paths"], json=sent["SubscribeBody"], headers={**signed, "Client-ID": str(uuid4())})
    assert answer.status_code == 204 and found(core, id_).confirmed

    page = {
        "Signature": sent["URL-Signature"], "Methods": "PUT", "Paths": sent["URL-Paths"], "Project": "project",
        "Expires": sent["URL-Expires"], "Action": "unsubscribe",
    }
    question = client.get("/v2/confirm", query_string=page).text
    assert "no more messages of this topic?" in question and "<dt>Topic</dt><dd>news</dd>" in question
    done = client.post("/v2/confirm", data=page)
    assert done.status_code == 200 and "no more messages of this topic." in done.text
    assert not found(core, id_).confirmed
    core.close()


def test_delivery_says_which_topic(call: Call, core: Core) -> None:
    subscription = found(core, subscribe(call, options={"_format": "cloudevents"}))
    info = core.directory.ensure(topic_project("project"), "news")
    post(call, 1)
    message = core.ids.make(core.now())[0]
    from storage.model import Message

    item = Item(Message(message, core.now(), core.now() + 1000, b"1"), core.now() + 1000, body=b"1")
    headers, body = request(subscription, info, item, core.now())
    assert orjson.loads(body)["source"] == PATH
    assert dict(headers)["marconi-queue"] == "news"


# -- rights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "document", "status", "said"),
    [
        ("PATCH", "/v2/topics/no", [{"op": "add", "path": "/metadata/a", "value": 1}], 404, "Topic no does not exist"),
        ("PATCH", PATH, [{"op": "remove", "path": "/metadata/none"}], 409, "the metadata has no such key"),
        ("PUT", PATH, {"_default_message_ttl": "long"}, 400, "Metadata _default_message_ttl"),
        ("PUT", PATH, {"a": "x" * 70_000}, 400, "is too large"),
        ("POST", f"{PATH}/subscriptions", {"subscriber": HOOK}, 409, "queue or topic"),
        ("PATCH", f"{PATH}/subscriptions/{{id}}", {"subscriber": f"{HOOK}/2"}, 409, "by project, topic and subscriber"),
        ("POST", f"{PATH}/subscriptions", {"subscriber": f"{HOOK}/3"}, 403, "A topic may have 2 subscriptions"),
        ("GET", f"{PATH}/messages/1", None, 404, "a topic keeps none"),
    ],
)
def test_errors_are_about_topics(
    call: Call, client: FlaskClient, core: Core, monkeypatch: pytest.MonkeyPatch, method: str, path: str, document: Any,
    status: int, said: str,
) -> None:
    id_ = subscribe(call)
    subscribe(call, f"{HOOK}/2")
    core.subscription_states.confirm(topic_project("project"), "news", id_, True)
    monkeypatch.setattr(quotas, "PER_SOURCE", 2)
    headers = PATCH if isinstance(document, list) else HEADERS
    answer = client.open(path.format(id=id_), method=method, data=orjson.dumps(document), headers=headers)
    description = orjson.loads(answer.data)["description"]
    assert answer.status_code == status and said in description
    assert "queue" not in description.lower().replace("queue or topic", "")


def test_a_queue_may_have_the_name_of_the_topic(call: Call, core: Core) -> None:
    """It is another thing, so it may get the topic's alerts and dead letters."""
    id_ = subscribe(call, options={"_dead_letter_queue": "news", "_alert": "marconi:news"})
    assert found(core, id_).options["_dead_letter_queue"] == "news"
    assert subscribe(call, f"{HOOK}/2", options={"_alert": "mailto:a@example.org"})


def test_roles(call: Call) -> None:
    reader, member = {"X-Roles": "reader"}, {"X-Roles": "member"}
    for method, below, document in (
        ("PUT", "", None), ("DELETE", "", None), ("POST", "/messages", {"messages": [{"body": 1}]}),
        ("POST", "/subscriptions", {"subscriber": HOOK}), ("POST", "/purge", None),
    ):
        assert call(method, below, document, **reader).status_code == 403
        assert call(method, below, document, **member).status_code < 300
    for below in ("", "/stats", "/messages", "/subscriptions"):
        assert call("GET", below, **reader).status_code == 200
    assert call("POST", "/subscriptions", {"subscriber": "marconi:queue"}, **member).status_code == 201


def test_topics_stay_in_their_pool(core: Core, call: Call) -> None:
    call("PUT")
    project = topic_project("project")
    document = core.pool.store.catalogue.get_queue(f"{project}/news")
    assert core._workers.stays(f"{project}/news", document, "")
