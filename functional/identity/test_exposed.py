"""A gateway that others can reach: proxies, browsers, the audit trail, sizes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from functional import raw
from functional.api.helpers import eventually, messages_path, queue_path
from functional.http import Api
from functional.identity.conftest import Cloud
from functional.services.gateway import Gateway

ORIGIN = "https://dashboard.example.org"


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


# Audit


def test_audit_says_who_did_what(
    api: Api, cloud: Cloud, tokens: dict[str, str], another_gateway: Callable[..., Gateway], queue: str, tmp_path: Path
) -> None:
    file = tmp_path / "audit.log"
    own = api.at(another_gateway(audit={"file": file}).url)
    member, reader = ({"X-Auth-Token": tokens[role], "X-Project-ID": None} for role in ("member", "reader"))
    made = own.put(queue_path(queue), headers=member)
    own.get(queue_path(queue), headers=member)
    own.put(queue_path(queue), headers=reader)
    own.get("/v2/health", headers=reader)
    own.get("/v2/queues", headers=reader | {"X-Project-ID": cloud.bank})
    own.put(queue_path(queue), headers={"X-Auth-Token": "wrong"})
    share = own.post(f"{queue_path(queue)}/share", json={"methods": ["POST"]}, headers=member).json()
    own.post(messages_path(queue), json={"messages": [{"body": "secret"}]}, headers={
        "URL-Signature": share["signature"], "URL-Expires": share["expires"], "URL-Methods": "POST",
        "URL-Paths": ",".join(share["paths"]),
    })

    found = lines(file)
    assert [(line["action"], line["status"]) for line in found] == [
        ("queues:create", 201), ("queues:create", 403), ("health:get", 403), ("queues:get_all", 403),
        ("queues:create", 401), ("queues:share", 200), ("messages:create", 201),
    ]
    first, refused, _, foreign, unknown, _, signed = found
    user = cloud.keystone.admin.identity.find_user("member").id
    assert (first["user"], first["project"], first["roles"]) == (user, cloud.shop, ["member", "reader"])
    assert first["request_id"] == made.headers["X-Openstack-Request-Id"]
    assert (first["address"], first["client"], first["path"]) == ("127.0.0.1", api.client_id, queue_path(queue))
    assert refused["roles"] == ["reader"] and refused["user"] != user
    assert foreign["project"] == cloud.bank
    assert (unknown["user"], unknown["project"]) == (None, None)
    assert (signed["signed"], signed["user"], signed["project"]) == (True, None, cloud.shop)
    text = file.read_text()
    assert "secret" not in text and share["signature"] not in text
    assert not any(token in text for token in tokens.values())


def test_audit_goes_on_in_a_new_file_and_writes_reads_if_asked_to(
    start_gateway: Callable[..., Gateway], queue: str, tmp_path: Path
) -> None:
    file = tmp_path / "audit.log"
    api = Api(start_gateway(audit={"file": file, "reads": True}, wsgi={"workers": 2}).url)
    api.get("/v2/queues")
    assert [line["action"] for line in lines(file)] == ["queues:get_all"]
    file.rename(tmp_path / "audit.log.1")
    for _ in range(20):
        api.put(f"/v2/queues/{queue}%0A%22%7D%1b")
        api.put(queue_path(queue))
    eventually(lambda: len(lines(file)) == 40)


# Proxies


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        (None, "203.0.113.7", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.7", "203.0.113.7"),  # what the client says itself stands on the left
        ("192.0.2.1", "203.0.113.7", "127.0.0.1"),
        ("*", "203.0.113.7", "203.0.113.7"),
    ],
)
def test_proxies_are_believed_if_they_are_trusted(
    start_gateway: Callable[..., Gateway], tmp_path: Path, queue: str, trusted: str | None, forwarded: str, address: str
) -> None:
    file = tmp_path / "audit.log"
    wsgi = {} if trusted is None else {"trusted_proxy": trusted}
    api = Api(start_gateway(audit={"file": file}, wsgi=wsgi).url)
    headers = {
        "X-Forwarded-For": forwarded, "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example.org",
        "X-Forwarded-Prefix": "/evil", "Forwarded": "for=198.51.100.9;host=evil.example.org",
    }
    response = api.put(queue_path(queue), headers=headers)
    assert response.status_code == 201
    assert response.headers["Location"] == queue_path(queue)
    assert [line["address"] for line in lines(file)] == [address]


# Browsers


@pytest.fixture(scope="module")
def browsed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from functional.deployments import embedded
    from functional.services.gateway import merge

    options = merge(embedded(tmp_path_factory.mktemp("cors")), {"cors": {"allowed_origin": ORIGIN}})
    with Gateway(options) as gateway:
        yield Api(gateway.url)


ASKED = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "client-id,x-auth-token"}


def test_pages_of_allowed_origins_may_call(browsed: Api, queue: str) -> None:
    asked = browsed.request("OPTIONS", messages_path(queue), headers={"Origin": ORIGIN, **ASKED})
    assert asked.status_code == 200
    assert asked.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert asked.headers["Access-Control-Allow-Methods"] == "POST"
    assert "x-auth-token" in asked.headers["Access-Control-Allow-Headers"].lower()
    assert "Access-Control-Allow-Credentials" not in asked.headers
    answer = browsed.get("/v2/queues", headers={"Origin": ORIGIN})
    assert answer.status_code == 200 and answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "X-Openstack-Request-Id" in answer.headers["Access-Control-Expose-Headers"]
    refused = browsed.get("/v2/queues", headers={"Origin": ORIGIN, "X-Roles": "none"})
    assert refused.status_code == 403 and refused.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize("origin", [
    "https://evil.example.org", f"{ORIGIN}.evil.org", ORIGIN.replace("https", "http"), "null", f"{ORIGIN}:444", "*",
    ORIGIN.upper(), f"{ORIGIN}, https://evil.example.org",
])
def test_pages_of_other_origins_may_not(browsed: Api, queue: str, origin: str) -> None:
    for response in (
        browsed.request("OPTIONS", messages_path(queue), headers={"Origin": origin, **ASKED}),
        browsed.get("/v2/queues", headers={"Origin": origin}),
    ):
        assert not [name for name in response.headers if name.lower().startswith("access-control-")]


def test_by_default_no_page_may(api: Api) -> None:
    for response in (
        api.request("OPTIONS", "/v2/queues", headers={"Origin": ORIGIN, **ASKED}),
        api.get("/v2/queues", headers={"Origin": ORIGIN}),
    ):
        assert not [name for name in response.headers if name.lower().startswith("access-control-")]
        assert response.status_code in (401, 405)


@pytest.mark.parametrize("path", ["/", "/metrics", "/v2/queues", "/v2/nothing", "/v2/health"])
def test_no_answer_is_kept_or_taken_for_a_page(browsed: Api, path: str) -> None:
    answer = browsed.get(path)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


# Sizes


def test_body_that_is_too_large_is_refused_before_it_is_sent_or_anybody_asked(api: Api, cloud: Cloud) -> None:
    head = [
        "POST /v2/queues/q/messages HTTP/1.1", "Host: h", "Connection: close", f"Client-ID: {api.client_id}",
        "X-Auth-Token: wrong", "Content-Length: 100000000", "Content-Type: application/json",
    ]
    answer = raw.exchange(cloud.gateway.url, "\r\n".join([*head, "", ""]).encode())
    assert answer.status == 400 and "max_body" in json.loads(answer.body)["description"]
