"""Subscribers of type trust+http: who has subscribed is who they hear from, as Keystone says itself."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openstack
import pytest
import requests

from functional.api.helpers import assert_error, eventually
from functional.deployments import sqlite
from functional.http import Api
from functional.identity.conftest import PASSWORD, Cloud
from functional.services.gateway import Gateway, Options, merge
from functional.services.keystone import DOMAIN, TIMEOUT
from tests.notify_receiver import OK, Receiver, receiving

TRUSTEE, TRUSTEE_PASSWORD = "trustee", "the password of the trustee"

#: Seconds that a delivery takes at most on a machine that is busy: a first attempt may wait in vain for its token.
PATIENCE = 30.0


@dataclass(frozen=True)
class Trusting:
    """A gateway with a trustee."""

    cloud: Cloud
    gateway: Gateway
    options: Options
    api: Api
    trustee: str

    def subscribe(self, token: str, url: str, **more: Any) -> requests.Response:
        """Subscribe to a queue of its own."""
        path = f"/v2/queues/{more.pop('queue', None) or uuid.uuid4()}/subscriptions"
        return self.api.post(path, headers=with_token(token), json={"subscriber": url, **more})

    def trust(self, trust_id: str) -> dict[str, Any] | None:
        """What Keystone says of a trust; None if there is none."""
        token = self.cloud.keystone.token(TRUSTEE, TRUSTEE_PASSWORD, None)
        answer = requests.get(
            f"{self.cloud.keystone.url}/OS-TRUST/trusts/{trust_id}", headers={"X-Auth-Token": token}, timeout=TIMEOUT
        )
        return answer.json()["trust"] if answer.status_code == 200 else None

    def whose(self, token: str) -> dict[str, Any]:
        """What Keystone says of a token."""
        root = self.cloud.keystone.admin.session.get_token()
        answer = requests.get(
            f"{self.cloud.keystone.url}/auth/tokens", headers={"X-Auth-Token": root, "X-Subject-Token": token},
            timeout=TIMEOUT,
        )
        answer.raise_for_status()
        return answer.json()["token"]


def with_token(token: str) -> dict[str, Any]:
    return {"X-Auth-Token": token, "X-Project-ID": None}


@pytest.fixture(scope="module")
def trusting(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trusting]:
    trustee = cloud.keystone.admin.identity.create_user(
        name=TRUSTEE, password=TRUSTEE_PASSWORD, domain_id=DOMAIN, default_project=None
    )
    # A side-store of its own: the cloud's gateway, which may send nothing here, would share in the deliveries.
    options = merge(cloud.options, sqlite(tmp_path_factory.mktemp("trusting")), {
        "trustee": {
            "auth_type": "password", "auth_url": cloud.keystone.url, "username": TRUSTEE,
            "password": TRUSTEE_PASSWORD, "user_domain_id": DOMAIN, "timeout": int(TIMEOUT),
        },
        "notification": {"trust_networks": "127.0.0.1/32", "retry_schedule": "0,1,2,4,8"},
    })
    with Gateway(options) as gateway:
        api = Api(gateway.url, cloud.shop)
        yield Trusting(cloud, gateway, options, api, trustee.id)
        api.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def options(trusting: Trusting, token: str, path: str) -> dict[str, Any]:
    answer = trusting.api.get(path, headers=with_token(token))
    assert answer.status_code == 200
    return answer.json()["options"]


def test_from_the_trust_to_its_end(trusting: Trusting, receiver: Receiver) -> None:
    api, token, queue = trusting.api, trusting.cloud.token("member"), f"q-{uuid.uuid4()}"
    began = time.time()
    made = trusting.subscribe(token, f"trust+{receiver.url}", queue=queue, ttl=600)
    assert made.status_code == 201, made.text
    path = f"/v2/queues/{queue}/subscriptions/{made.json()['subscription_id']}"
    trust_id = options(trusting, token, path)["trust_id"]
    trust = trusting.trust(trust_id)
    assert trust is not None
    assert (trust["trustee_user_id"], trust["project_id"]) == (trusting.trustee, trusting.cloud.shop)
    assert trust["impersonation"] is True
    assert "member" in {role["name"] for role in trust["roles"]}
    ends = time.mktime(time.strptime(trust["expires_at"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert 599 <= ends - began <= 600 + PATIENCE

    # What the receiver gets is a token of the member's, for the trust.
    post = {"messages": [{"body": 1, "ttl": 300}]}
    assert api.post(f"/v2/queues/{queue}/messages", headers=with_token(token), json=post).status_code == 201
    eventually(lambda: len(receiver.requests) == 1, seconds=PATIENCE)
    got = receiver.requests[0].headers["x-auth-token"]
    whose = trusting.whose(got)
    assert whose["user"]["name"] == "member" and whose["project"]["id"] == trusting.cloud.shop
    assert whose["OS-TRUST:trust"]["id"] == trust_id

    # It is used again; once it is revoked the receiver's 401 makes the gateway get another one.
    revoked = []
    receiver.answer = lambda request: (401, {}) if request.headers["x-auth-token"] in revoked else OK
    assert api.post(f"/v2/queues/{queue}/messages", headers=with_token(token), json=post).status_code == 201
    eventually(lambda: len(receiver.requests) == 2, seconds=PATIENCE)
    assert receiver.requests[1].headers["x-auth-token"] == got
    revoked.append(got)
    assert api.post(f"/v2/queues/{queue}/messages", headers=with_token(token), json=post).status_code == 201
    eventually(lambda: receiver.requests[-1].headers["x-auth-token"] != got, seconds=PATIENCE)
    assert trusting.whose(receiver.requests[-1].headers["x-auth-token"])["user"]["name"] == "member"

    # Other options keep the trust, another TTL takes another one, and the end of the subscription deletes it.
    assert api.patch(path, headers=with_token(token), json={"options": {"post_data": "x"}}).status_code == 204
    assert options(trusting, token, path) == {"post_data": "x", "trust_id": trust_id}
    assert api.patch(path, headers=with_token(token), json={"ttl": 220367260800}).status_code == 204
    newer = options(trusting, token, path)["trust_id"]
    assert newer != trust_id
    assert trusting.trust(trust_id) is None
    assert trusting.trust(newer) is not None
    assert api.delete(path, headers=with_token(token)).status_code == 204
    assert trusting.trust(newer) is None
    assert all(secret not in trusting.gateway.log for secret in (got, token, TRUSTEE_PASSWORD))


def test_keystone_refuses_what_is_no_login(trusting: Trusting) -> None:
    """Neither the token of a trust nor that of an application credential makes a trust."""
    keystone = trusting.cloud.keystone
    cloud = openstack.connect(
        load_yaml_config=False, load_envvars=False, **keystone.cloud("member", PASSWORD, "shop")
    )
    credential = cloud.identity.create_application_credential(user=cloud.current_user_id, name=str(uuid.uuid4()))
    restricted = keystone.issue({"identity": {
        "methods": ["application_credential"],
        "application_credential": {"id": credential.id, "secret": credential.secret},
    }})
    answer = trusting.subscribe(restricted, "trust+https://example.org/")
    assert_error(answer, 403)
    assert "Keystone refuses a trust" in answer.json()["description"]

    token, queue = trusting.cloud.token("member"), f"q-{uuid.uuid4()}"
    made = trusting.subscribe(token, "trust+https://example.org/", queue=queue)
    path = f"/v2/queues/{queue}/subscriptions/{made.json()['subscription_id']}"
    trustee = keystone.issue({
        "identity": {"methods": ["password"], "password": {"user": {
            "name": TRUSTEE, "password": TRUSTEE_PASSWORD, "domain": {"id": DOMAIN},
        }}},
        "scope": {"OS-TRUST:trust": {"id": options(trusting, token, path)["trust_id"]}},
    })
    assert_error(trusting.subscribe(trustee, "trust+https://example.org/"), 403)
    assert trusting.api.delete(path, headers=with_token(token)).status_code == 204


def test_without_a_trustee_there_are_no_such_subscribers(cloud: Cloud, api: Api) -> None:
    answer = api.post(
        "/v2/queues/q/subscriptions", headers=cloud.headers("member"), json={"subscriber": "trust+https://example.org/"}
    )
    assert_error(answer, 400)
    assert "[trustee]" in answer.json()["description"]


def test_trustee_that_can_not_log_in_is_a_503(trusting: Trusting) -> None:
    wrong = merge(trusting.options, {"trustee": {"password": "wrong"}})
    with Gateway(wrong) as gateway:
        client = Api(gateway.url, trusting.cloud.shop)
        answer = client.post(
            "/v2/queues/q/subscriptions", headers=trusting.cloud.headers("member"),
            json={"subscriber": "trust+https://example.org/"},
        )
        client.close()
    assert_error(answer, 503)
