"""Trusts of subscriptions in the core, with an identity service that is a list; functional/identity has a real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bridges.memory import MemoryBridge
from functional.services.ports import free_port
from gateway.access.auth.base import Identity, IdentityUnavailable
from gateway.access.trusts import create_trusts
from gateway.app import build
from gateway.config.limits import Limits
from gateway.config.notifications import Notifications
from gateway.core.core import Core
from gateway.core.errors import Conflict, Forbidden, InvalidInput, QuotaExceeded
from gateway.core.queues.names import topic_project
from gateway.core.subscriptions import trusts
from gateway.core.subscriptions.record import Subscription
from gateway.core.subscriptions.trusts import DISCARDED, NoToken
from gateway.web.context import Context
from storage.sqlite import SQLiteStore

URI = "trust+https://example.org/hook"
OTHER = "trust+https://example.net/hook"
PLAIN = "https://example.org/hook"
PASSWORD = "the trustee's password"

Configured = Callable[..., Any]


class IdentityService:
    """Gives and deletes trusts. ``alive``: ids of those that there are, with their ends."""

    def __init__(self) -> None:
        self.alive: dict[str, int] = {}
        self.given = 0
        self.is_up = True

    def give(self, expires: int) -> str:
        self.given += 1
        self.alive[f"trust-{self.given}"] = expires
        return f"trust-{self.given}"

    def delete(self, trust_id: str) -> bool:
        if self.is_up:
            self.alive.pop(trust_id, None)
        return self.is_up


@pytest.fixture(autouse=True)
def hurried_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("states.HEEDED_AFTER", "removal.HEEDED_AFTER", "sources.KNOWN_FOR", "sources.MARGIN"):
        monkeypatch.setattr(f"gateway.core.subscriptions.{name}", 0.01)
    monkeypatch.setattr(trusts, "AGAIN", 0.0)


@pytest.fixture
def identity() -> IdentityService:
    return IdentityService()


@pytest.fixture
def core(store: SQLiteStore, identity: IdentityService) -> Iterator[Core]:
    core = Core(
        MemoryBridge(), store, Limits(), notifications=Notifications(per_project=2), delete_trust=identity.delete
    )
    yield core
    core.stop()


def subscribe(core: Core, identity: IdentityService, uri: str = URI, **options: Any) -> str:
    return core.subscriptions.create("project", "queue", uri, 600, options, identity.give).id


def update(core: Core, identity: IdentityService, id_: str, **changes: Any) -> None:
    core.subscriptions.update("project", "queue", id_, changes, identity.give)


def get(core: Core, id_: str) -> Subscription:
    return core.subscriptions.get("project", "queue", id_)


def left(core: Core) -> list[str]:
    """Trusts that have still to be deleted."""
    return [record.name for record in core.pool.store.catalogue.list_records(DISCARDED, "", 10)]


def test_subscriber_gets_a_trust_that_ends_with_the_subscription(core: Core, identity: IdentityService) -> None:
    found = get(core, subscribe(core, identity, post_data="x"))
    assert found.options == {"post_data": "x", "trust_id": "trust-1"}
    assert identity.alive == {"trust-1": found.expires}
    assert 0 <= found.expires - found.created - 600_000 + 5_000 <= 5_000


def test_other_subscribers_get_none(core: Core, identity: IdentityService) -> None:
    assert get(core, subscribe(core, identity, PLAIN)).options == {}
    assert identity.given == 0


def test_request_that_is_repeated_makes_none(core: Core, identity: IdentityService) -> None:
    assert subscribe(core, identity) == subscribe(core, identity)
    assert identity.given == 1


def test_without_an_identity_service_nobody_subscribes(core: Core) -> None:
    with pytest.raises(InvalidInput, match="it takes no tokens of Keystone"):
        core.subscriptions.create("project", "queue", URI, None, None)
    assert core.pool.store.catalogue.get_queue("project/queue") is None


def test_trust_is_deleted_if_there_is_no_subscription(core: Core, identity: IdentityService) -> None:
    for n in range(2):
        subscribe(core, identity, f"{PLAIN}/{n}")
    with pytest.raises(QuotaExceeded):
        subscribe(core, identity)
    assert identity.given == 1 and identity.alive == {}


def test_refusal_is_the_answer(core: Core) -> None:
    def refuse(expires: int) -> str:
        raise Forbidden("no")

    with pytest.raises(Forbidden, match="no"):
        core.subscriptions.create("project", "queue", URI, None, None, refuse)


def test_clients_set_no_trust(core: Core, identity: IdentityService) -> None:
    with pytest.raises(InvalidInput, match="trust_id"):
        subscribe(core, identity, trust_id="trust-of-somebody-else")
    assert identity.given == 0


@pytest.mark.parametrize("options", [{}, {"post_data": "x"}, {"trust_id": "trust-1"}, {"trust_id": None}, None])
def test_other_options_keep_the_trust(core: Core, identity: IdentityService, options: Any) -> None:
    id_ = subscribe(core, identity, post_data="y")
    update(core, identity, id_, options=options)
    assert get(core, id_).options["trust_id"] == "trust-1"
    assert "post_data" not in get(core, id_).options or options == {"post_data": "x"}
    assert set(identity.alive) == {"trust-1"}


def test_another_ttl_takes_another_trust(core: Core, identity: IdentityService) -> None:
    id_ = subscribe(core, identity, post_data="x")
    update(core, identity, id_, ttl=3600)
    found = get(core, id_)
    assert found.options == {"post_data": "x", "trust_id": "trust-2"}
    assert identity.alive == {"trust-2": found.expires}


@pytest.mark.parametrize("new", [OTHER, "trust+https://example.org/other"])
def test_another_receiver_gets_tokens_of_whoever_names_it(core: Core, identity: IdentityService, new: str) -> None:
    id_ = subscribe(core, identity)
    update(core, identity, id_, subscriber=new)
    found = get(core, id_)
    assert (found.subscriber, found.options) == (new, {"trust_id": "trust-2"})
    assert identity.alive == {"trust-2": found.expires}
    with pytest.raises(InvalidInput):
        core.subscriptions.update("project", "queue", id_, {"subscriber": URI})
    assert get(core, id_).subscriber == new


def test_trust_comes_and_goes_with_the_type(core: Core, identity: IdentityService) -> None:
    id_ = subscribe(core, identity, PLAIN)
    update(core, identity, id_, subscriber=URI)
    assert get(core, id_).options == {"trust_id": "trust-1"}
    update(core, identity, id_, subscriber=PLAIN, options={"trust_id": "trust-1", "post_data": "x"})
    assert get(core, id_).options == {"post_data": "x"}
    assert identity.alive == {}


def test_change_that_fails_keeps_the_trust(core: Core, identity: IdentityService) -> None:
    id_ = subscribe(core, identity)
    subscribe(core, identity, OTHER)
    with pytest.raises(Conflict):
        update(core, identity, id_, subscriber=OTHER)
    assert set(identity.alive) == {"trust-1", "trust-2"} and identity.given == 3
    assert get(core, id_).options == {"trust_id": "trust-1"}


def test_end_of_a_subscription_ends_its_trust(core: Core, identity: IdentityService) -> None:
    core.subscription_removal.delete("project", "queue", subscribe(core, identity))
    assert identity.alive == {} and left(core) == []


def test_expired_subscription_leaves_no_trust(core: Core, identity: IdentityService) -> None:
    found = get(core, subscribe(core, identity))
    assert core.subscription_records.put(replace(found, expires=1))
    core.subscription_removal._looked_at = float("-inf")
    core.subscription_removal.tend()
    assert identity.alive == {} and left(core) == []


def test_what_can_not_be_deleted_is_tried_again(
    core: Core, identity: IdentityService, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = subscribe(core, identity)
    identity.is_up = False
    core.subscription_removal.delete("project", "queue", id_)
    assert core.subscriptions.page("project", "queue", None, 10) == []
    assert left(core) == ["trust-1"]
    identity.is_up = True
    core.subscription_removal._looked_at = float("-inf")
    core.subscription_removal.tend()
    assert identity.alive == {} and left(core) == []


def test_identity_service_that_is_down_is_left_alone(
    core: Core, identity: IdentityService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trusts, "AGAIN", 60.0)
    asked: list[str] = []
    kept = trusts.Trusts(core.pool.store.catalogue, lambda trust_id: bool(asked.append(trust_id)))
    for n in range(3):
        kept.discard(f"trust-{n}")
    kept.tend()
    assert asked == ["trust-0"]
    assert left(core) == ["trust-0", "trust-1", "trust-2"]


def test_trust_is_for_the_project_of_a_topic() -> None:
    asked: list[Any] = []
    made = SimpleNamespace(create=lambda *arguments: asked.append(arguments) or "trust-1")
    caller = Identity("project", "user", (), "token")
    service: Any = SimpleNamespace(trusts=made)
    for project in ("project", topic_project("project")):
        assert Context(service, project, "client", caller).give_trust(5) == "trust-1"
    assert asked == [(caller, "project", 5)] * 2


# -- Keystone, as far as there needs to be none ---------------------------------------------------------------------


def options(**more: object) -> dict[str, dict[str, object]]:
    return {
        "DEFAULT": {"auth_strategy": "keystone"},
        "trustee": {
            "auth_type": "password", "auth_url": f"http://127.0.0.1:{free_port()}/v3", "username": "trustee",
            "password": PASSWORD, "user_domain_id": "default", **more,
        },
    }


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"auth_type": "carrier-pigeon"}, "carrier-pigeon"),
        ({"auth_type": "http_basic"}, "knows no trusts"),
        ({"cafile": "/none.pem"}, "/none.pem"),
    ],
)
def test_wrong_options_are_refused(configured: Configured, more: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        create_trusts(configured(**options(**more)))
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("sections", [{}, {**options(), "DEFAULT": {"auth_strategy": "noauth"}}, {
    "DEFAULT": {"auth_strategy": "keystone"},
}])
def test_no_trusts_without_keystone_or_without_a_trustee(configured: Configured, sections: Any) -> None:
    assert create_trusts(configured(**sections)) is None


def test_keystone_that_is_down_is_told_apart(configured: Configured, caplog: pytest.LogCaptureFixture) -> None:
    made = create_trusts(configured(**options()))
    assert made is not None
    caller = Identity("project", "user", ("member",), "a token")
    with pytest.raises(IdentityUnavailable) as caught:
        made.create(caller, "project", 2**41)
    with pytest.raises(NoToken) as missing:
        made.token("trust")
    with pytest.raises(ValueError, match="trustee"):
        made.ping()
    assert not made.delete("trust")
    assert "a token" not in repr(caller)
    for text in (str(caught.value), str(missing.value), caplog.text):
        assert PASSWORD not in text and "a token" not in text


def test_caller_without_a_token_makes_no_trust(configured: Configured) -> None:
    made = create_trusts(configured(**options()))
    assert made is not None
    with pytest.raises(InvalidInput, match="a request with a token of Keystone"):
        made.create(Identity("project"), "project", 2**41)


@pytest.mark.parametrize("uri", [URI, "trust+http://example.org/", "TRUST+HTTPS://example.org/"])
def test_service_without_authentication_says_why_not(configured: Configured, uri: str) -> None:
    gateway = build(configured(), deliver=False)
    try:
        answer = gateway.app.test_client().post(
            "/v2/queues/q/subscriptions", json={"subscriber": uri},
            headers={"X-Project-ID": "p", "Client-ID": "3381af92-2b9e-11e3-b191-71861300734c"},
        )
    finally:
        gateway.close()
    assert answer.status_code == 400
    assert "no tokens of Keystone" in answer.json["description"]
