"""Roles and calls against a real Keystone: what happens is what the policy's sample says."""

import base64
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from functional.api.helpers import JSON_PATCH, assert_error, claim, eventually, messages_path, post, queue_path
from functional.http import Api
from functional.identity.conftest import ROLES, Cloud
from functional.services.gateway import Gateway

SAMPLE = Path(__file__).parents[2] / "etc" / "policy.yaml.sample"

#: Who fits a check of the sample.
FITS = {
    "": set(ROLES),
    "rule:project_reader_or_admin": {"reader", "member", "admin"},
    "rule:project_member_or_admin": {"member", "admin"},
    "rule:context_is_admin": {"admin"},
}

#: Bodies of calls that want one, by method and the path's end.
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "messages"): {"messages": [{"body": 1}]},
    ("POST", "claims"): {},
    ("PATCH", "{claim_id}"): {"ttl": 60, "grace": 60},
    ("PATCH", "{queue_name}"): [{"op": "add", "path": "/metadata/a", "value": 1}],
    ("POST", "share"): {},
    ("PATCH", "{pool_name}"): {"weight": 0},
    ("POST", "evacuate"): {"pool": "default"},
    ("PATCH", "{flavor_name}"): {"capabilities": []},
    ("PATCH", "{topic_name}"): [{"op": "add", "path": "/metadata/a", "value": 1}],
    ("POST", "subscriptions"): {"subscriber": f"https://example.org/new/{uuid.uuid4().hex}"},
    ("PATCH", "{subscription_id}"): {"ttl": 60},
    ("PUT", "confirm"): {"confirmed": True},
    ("PUT", "state"): {"state": "paused"},
    ("POST", "replay"): {"all": True},
    ("POST", "test"): {"body": 1},
    ("PUT", "secret"): {"secret": f"whsec_{base64.b64encode(bytes(32)).decode()}"},
    ("POST", "rotate"): {"keep": 60},
}


def sample() -> Iterator[tuple[str, str, str, str]]:
    """Rule, its check, and method and path of each call that it is for, as the sample has them."""
    calls: list[tuple[str, str]] = []
    for line in SAMPLE.read_text().splitlines():
        if found := re.fullmatch(r"# ([A-Z]+)  (/\S+)", line):
            calls.append((found[1], found[2]))
        elif found := re.fullmatch(r'#"(\S+)": "(.*)"', line):
            yield from ((found[1], found[2], *call) for call in calls)
            calls = []


#: Paths of topics that have the rules and handlers of queues, but are other after a call.
AS_QUEUES = ("/v2/topics/{topic_name}/subscriptions", "/v2/topics/{topic_name}/messages/{message_id}")

TABLE = [row for row in sample() if not row[3].startswith(AS_QUEUES)]

#: A queue with subscriptions: the first one of a queue takes a second.
TOLD = f"told-{uuid.uuid4().hex[:12]}"


def test_sample_is_understood() -> None:
    assert len(TABLE) >= 19
    assert {check for _, check, _, _ in TABLE} == set(FITS)


class Shelf:
    """Two pools, which get no queues by themselves, and a flavor that one of them belongs to."""

    def __init__(self, admin: "As", folder: Path) -> None:
        self._admin = admin
        self.name, self.other, self.flavor = (f"{kind}-{uuid.uuid4().hex[:12]}" for kind in ("pool", "other", "flavor"))
        self.pool = {"weight": 0, "uri": f"sqlite:///{folder}/{self.name}.db"}
        self._other_pool = {"weight": 0, "uri": f"sqlite:///{folder}/{self.other}.db"}

    def fill(self) -> dict[str, str]:
        """Create them; variables of paths."""
        for path, document in (
            (f"/v2/pools/{self.name}", self.pool), (f"/v2/pools/{self.other}", self._other_pool),
            (f"/v2/flavors/{self.flavor}", {"pool_list": [self.other]}),
        ):
            assert self._admin.request("PUT", path, json=document).status_code == 201
        return {"pool_name": self.name, "flavor_name": self.flavor}

    def clear(self) -> None:
        """Remove what is not in use."""
        for path in (f"/v2/flavors/{self.flavor}", f"/v2/pools/{self.other}", f"/v2/pools/{self.name}"):
            self._admin.request("DELETE", path)


@pytest.fixture
def shelf(api: Api, tokens: dict[str, str], tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(As(api, tokens["admin"]), tmp_path)
    yield made
    made.clear()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("rule", "check", "method", "path"), TABLE, ids=lambda part: str(part))
def test_role_may_do_what_the_sample_says(
    api: Api, tokens: dict[str, str], shelf: Shelf, role: str, rule: str, check: str, method: str, path: str
) -> None:
    queue = f"queue-{uuid.uuid4().hex[:12]}"
    worker = As(api, tokens["member"])
    post(worker, queue, "free", "claimed")
    claim_id, messages = claim(worker, queue, limit=1)
    free = next(m for m in worker.get(messages_path(queue) + "?echo=true").json()["messages"] if m["body"] == "claimed")
    query = "?pop=1" if rule == "messages:delete_all" else ""
    names = {"queue_name": queue, "message_id": free["id"], "claim_id": claim_id}
    if "{topic_name}" in path:
        names["topic_name"] = queue
        assert worker.request("PUT", f"/v2/topics/{queue}").status_code == 201
    if "/subscriptions" in path:
        made = worker.post(f"{queue_path(TOLD)}/subscriptions", json={"subscriber": f"https://example.org/{queue}"})
        assert made.status_code == 201, made.text
        names |= {"queue_name": TOLD, "subscription_id": made.json()["subscription_id"]}
    last = path.rpartition("/")[2]
    body = BODIES.get((method, last))
    if "pool" in path or "flavor" in path or last == "migrate":
        names |= shelf.fill()
        body = {
            ("PUT", "{pool_name}"): shelf.pool, ("PUT", "{flavor_name}"): {"pool_list": [shelf.other]},
            ("POST", "migrate"): {"pool": shelf.name},
        }.get((method, last), body)

    response = As(api, tokens[role]).request(
        method, path.format(**names) + query,
        json=body, headers=JSON_PATCH if isinstance(body, list) else {},
    )

    if role in FITS[check]:
        assert response.status_code in (200, 201, 202, 204), response.text
    else:
        assert response.status_code == 403
        if method != "HEAD":
            assert_error(response, 403)
            assert rule in response.json()["description"]
    assert messages


class As:
    """The same client with a token, and no word of a project."""

    def __init__(self, api: Api, token: str) -> None:
        self._api, self._token = api, token

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        headers = {"X-Auth-Token": self._token, "X-Project-ID": None, **arguments.pop("headers", {})}
        return self._api.request(method, path, headers=headers, **arguments)

    def get(self, path: str, **arguments: Any) -> requests.Response:
        return self.request("GET", path, **arguments)

    def post(self, path: str, **arguments: Any) -> requests.Response:
        return self.request("POST", path, **arguments)


# Projects


def test_token_says_which_project(api: Api, cloud: Cloud, tokens: dict[str, str], queue: str) -> None:
    post(As(api, tokens["member"]), queue, "of the shop")
    path = f"{messages_path(queue)}?echo=true"
    banker = cloud.headers("banker", "bank")
    assert api.get(path, headers=banker).json()["messages"] == []
    for project in (cloud.shop, "unknown", f"{cloud.bank} x", cloud.shop.upper()):
        response = api.get(path, headers=banker | {"X-Project-ID": project})
        assert response.status_code == 403 and "of the shop" not in response.text
    same = api.get(path, headers=banker | {"X-Project-ID": cloud.bank})
    assert (same.status_code, same.json()["messages"]) == (200, [])


def test_admin_may_name_any_project(api: Api, cloud: Cloud, tokens: dict[str, str], queue: str) -> None:
    banker = cloud.headers("banker", "bank")
    assert api.put(queue_path(queue), headers=banker).status_code == 201
    for role in ("reader", "member", "guest"):
        response = api.head(queue_path(queue), headers={"X-Auth-Token": tokens[role], "X-Project-ID": cloud.bank})
        assert response.status_code == 403, role
    admin = {"X-Auth-Token": tokens["admin"], "X-Project-ID": cloud.bank}
    assert api.head(queue_path(queue), headers=admin).status_code == 204
    assert api.head(queue_path(queue), headers=admin | {"X-Project-ID": None}).status_code == 404


def test_token_for_no_project_opens_nothing(api: Api, cloud: Cloud) -> None:
    token = cloud.token("member", None)
    assert_error(api.get("/v2/queues", headers={"X-Auth-Token": token, "X-Project-ID": None}), 400)
    assert_error(api.get("/v2/queues", headers={"X-Auth-Token": token, "X-Project-ID": cloud.shop}), 403)


#: What auth_token would tell the service behind it, and services believe.
SPOOFED = {
    "X-Roles": "admin", "X-Role": "admin", "X-Identity-Status": "Confirmed", "X-Service-Identity-Status": "Confirmed",
    "X-User-Id": "root", "X-User-Name": "root", "X-Domain-Id": "default", "X-Tenant-Id": "other", "X-Tenant": "other",
    "X-Is-Admin-Project": "True", "OpenStack-System-Scope": "all", "X-Service-Roles": "admin,service",
    "X-Service-Token": "made-up", "X_Roles": "admin", "X-Forwarded-User": "root", "Remote-User": "root",
}


def test_headers_give_nobody_a_role_or_a_project(api: Api, cloud: Cloud, tokens: dict[str, str], queue: str) -> None:
    for name, value in {**SPOOFED, "": ""}.items():
        spoofed = {name: value} if name else SPOOFED
        reader = {"X-Auth-Token": tokens["reader"], "X-Project-ID": None, **spoofed}
        expected = (401,) if "X-Service-Token" in spoofed else (403,)
        assert api.put(queue_path(queue), headers=reader).status_code in expected, name
        assert api.get("/v2/queues", headers=reader | {"X-Project-ID": cloud.bank}).status_code in (403, 401), name
        assert api.get("/v2/queues", headers=spoofed).status_code == 401, name
        assert api.get("/v2/health", headers=spoofed).status_code == 401, name


# Policy files


def test_policy_file_beside_the_configuration_counts_when_it_changes(
    api: Api, tokens: dict[str, str], another_gateway: Callable[..., Gateway], queue: str
) -> None:
    gateway = another_gateway()
    file = gateway.config_file.with_name("policy.yaml")
    own = api.at(gateway.url)

    def may(role: str) -> int:
        return As(own, tokens[role]).request("PUT", queue_path(queue)).status_code

    assert (may("member"), may("guest")) == (201, 403)
    file.write_text('"queues:create": "role:guest and project_id:%(project_id)s"\n')
    eventually(lambda: (may("member"), may("guest")) == (403, 204))
    file.write_text('"queues:create": "rule:no_such_rule"\n')
    eventually(lambda: (may("member"), may("guest")) == (403, 204) and "going on with the rules" in gateway.log)
    file.unlink()
    eventually(lambda: (may("member"), may("guest")) == (204, 403))
