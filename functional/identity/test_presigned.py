"""Pre-signed requests with each auth_strategy: who has the signature needs nothing else, and gets nothing else.

functional/api/test_share.py has the rest, on every deployment.
"""

import base64
import datetime
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import requests

from functional import raw
from functional.api.helpers import bodies, eventually, messages_path, queue_path
from functional.deployments import embedded
from functional.http import Api
from functional.identity.conftest import Cloud
from functional.installed import require
from functional.services.gateway import Gateway, merge

Headers = dict[str, str | None]


@dataclass(frozen=True)
class Owner:
    """Somebody with credentials for a project, and a queue `shared` with messages in it; others have one too."""

    url: str
    project: str
    credentials: Headers
    stranger: str
    strangers_credentials: Headers

    def api(self) -> Api:
        """A client of the project that sends no credentials."""
        return Api(self.url, self.project)

    def share(self, queue: str, **document: Any) -> Headers:
        """Make a signature; what a client sends that was handed it."""
        answer = self.api().post(f"{queue_path(queue)}/share", json=document, headers=self.credentials)
        assert answer.status_code == 200, answer.text
        shared = answer.json()
        return {
            "URL-Signature": shared["signature"], "URL-Expires": shared["expires"],
            "URL-Methods": ",".join(shared["methods"]), "URL-Paths": ",".join(shared["paths"]),
        }


def basic(user: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:password'.encode()).decode()}"


@pytest.fixture(scope="module", params=["keystone", "basic", "noauth"])
def owner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    """An owner for each auth_strategy."""
    if request.param == "keystone":
        cloud: Cloud = request.getfixturevalue("cloud")
        yield Owner(
            cloud.gateway.url, cloud.shop, cloud.headers("member"), cloud.bank, cloud.headers("banker", "bank")
        )
        return
    folder: Path = tmp_path_factory.mktemp("presigned")
    hash_ = bcrypt.hashpw(b"password", bcrypt.gensalt(4)).decode()
    (folder / "users").write_text(f"alice:{hash_}:shop\nbob:{hash_}:bank\n")
    options = merge(
        embedded(folder), {"DEFAULT": {"auth_strategy": request.param}, "basic": {"htpasswd_file": folder / "users"}}
    )
    with require(lambda: Gateway(options)) as gateway:
        if request.param == "basic":
            alice, bob = ({"Authorization": basic(user), "X-Project-ID": None} for user in ("alice", "bob"))
            yield Owner(gateway.url, "shop", alice, "bank", bob)
        else:
            yield Owner(gateway.url, "shop", {}, "bank", {"X-Project-ID": "bank"})


@pytest.fixture
def filled(owner: Owner, queue: str) -> tuple[str, str]:
    """A queue of the owner's and one whose name begins like it, and the stranger's of the same name; and a claim."""
    for name, text in ((queue, "shared"), (f"{queue}b", "secret")):
        messages = {"messages": [{"body": text}, {"body": text}]}
        for headers in (owner.credentials, owner.strangers_credentials):
            assert owner.api().post(messages_path(name), json=messages, headers=headers).status_code == 201
    claimed = owner.api().post(f"{queue_path(queue)}/claims?limit=1", json={}, headers=owner.credentials)
    return queue, claimed.headers["Location"]


def get(owner: Owner, path: str, headers: Headers) -> requests.Response:
    return owner.api().get(path, headers=headers)


def test_signature_needs_no_other_credentials(owner: Owner, filled: tuple[str, str]) -> None:
    queue, claim_path = filled
    headers = owner.share(queue, paths=["messages", "claims"], methods=["GET", "POST"])
    assert bodies(get(owner, f"{messages_path(queue)}?echo=true", headers).json()["messages"]) == ["shared"]
    assert owner.api().post(messages_path(queue), json={"messages": [{"body": 1}]}, headers=headers).status_code == 201
    assert get(owner, claim_path, headers).status_code == 200


def test_signature_opens_no_other_path(owner: Owner, filled: tuple[str, str]) -> None:
    queue, claim_path = filled
    headers = owner.share(queue)
    for path in (
        queue_path(queue), f"{queue_path(queue)}/stats", claim_path, f"{messages_path(queue)}x",
        messages_path(f"{queue}b"), messages_path(queue[:-1]), messages_path(queue.upper()), "/v2/queues", "/v2/ping",
        "/v2/health", "/v2/", f"/v1/queues/{queue}/messages",
    ):
        assert get(owner, path, headers).status_code == 404, path


@pytest.mark.parametrize("detour", [
    "{q}/messages/../../{q}b/messages", "{q}/messages/%2e%2e/%2e%2e/{q}b/messages",
    "{q}/messages/..%2f..%2f{q}b%2fmessages",
    "{q}/messages/..;/stats", "{q}/messages/../stats", "{q}/messages/%2e%2e/stats", "{q}/messages%2f..%2fstats",
    "{q}/messages/.%2e/stats", "{q}/messages/%252e%252e/stats", "{q}/messages/..%5cstats", "{q}/messages//../stats",
    "{q}/messages/%00/../stats", "{q}/messages%00", "{q}/messages%20", "{q}/messages;x=/stats", "{q}/messages%3f/stats",
    "{q}/messages%23/stats", "{q}%62/messages", "{q}b/messages", "{q}b%2fmessages", "{q}/messagesx", "{q}/messages.",
    "./{q}/messages", "./{q}b/messages", "{q}/../{q}b/messages", "{q}b/messages#/v2/queues/{q}/messages",
    "{q}b/messages?/v2/queues/{q}/messages", "{q}/\u217f", "{q}/stats?x=/messages", "{q}/stats/../messages",
])
def test_detours_lead_to_nothing_else(owner: Owner, filled: tuple[str, str], detour: str) -> None:
    queue, _ = filled
    fields = {
        "Host": "h", "Connection": "close", "Client-ID": str(uuid.uuid4()), "X-Project-ID": owner.project,
        "Accept": "application/json", **owner.share(queue),
    }
    for scheme in ("", "http://h", "//h"):
        target = f"{scheme}/v2/queues/{detour.format(q=queue)}"
        lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        answer = raw.exchange(owner.url, "\r\n".join([*lines, "", ""]).encode())
        assert 400 <= answer.status < 500, target
        assert b"secret" not in answer.body and b"claimed" not in answer.body


def test_signature_opens_no_other_method(owner: Owner, filled: tuple[str, str]) -> None:
    queue, claim_path = filled
    headers = owner.share(queue, paths=["messages", "claims"], methods=["GET"])
    api = owner.api()
    more = {"X-HTTP-Method-Override": "DELETE", "X-HTTP-Method": "DELETE", "X-Method-Override": "DELETE"}
    for method, path in (
        ("POST", messages_path(queue)), ("DELETE", f"{messages_path(queue)}?pop=1"), ("PATCH", claim_path),
        ("DELETE", claim_path), ("POST", f"{queue_path(queue)}/claims"),
    ):
        response = api.request(method, path, json={}, headers=headers | more)
        assert response.status_code in (404, 405), (method, path)
    assert get(owner, f"{messages_path(queue)}?_method=DELETE&echo=true", headers | more).status_code == 200
    assert get(owner, claim_path, headers).status_code == 200


def test_signature_opens_no_other_project(owner: Owner, filled: tuple[str, str]) -> None:
    queue, _ = filled
    headers = owner.share(queue)
    own, other = owner.project, owner.stranger
    for project in (other, f"{own} x", own.upper(), f"{own},{other}", "", None):
        named = headers | {"X-Project-ID": project}
        assert get(owner, messages_path(queue), named).status_code == 404, project
        # Credentials of one's own don't help: a signature is for the project that it says.
        both = owner.strangers_credentials | named
        assert get(owner, messages_path(queue), both).status_code == 404, project


def test_signature_gives_no_role(owner: Owner, filled: tuple[str, str]) -> None:
    queue, _ = filled
    headers = owner.share(queue, methods=["GET", "POST", "PUT", "PATCH", "DELETE"], paths=["messages", "claims"])
    roles = {"X-Roles": "admin", "X-Identity-Status": "Confirmed"}
    api = owner.api()
    for method, path in (("PUT", queue_path(queue)), ("DELETE", queue_path(queue)), ("GET", "/v2/health"),
                         ("POST", f"{queue_path(queue)}/share"), ("POST", f"{queue_path(queue)}/purge")):
        assert api.request(method, path, json={}, headers=headers | roles).status_code == 404, (method, path)


def test_signature_ends_when_it_says(owner: Owner, filled: tuple[str, str]) -> None:
    queue, _ = filled
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=3)
    headers = owner.share(queue, expires=ends.strftime("%Y-%m-%dT%H:%M:%S"))
    assert get(owner, messages_path(queue), headers).status_code == 200
    eventually(lambda: get(owner, messages_path(queue), headers).status_code == 404, 8)
    later = (ends + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S")
    assert get(owner, messages_path(queue), headers | {"URL-Expires": later}).status_code == 404


def test_signature_with_one_bit_changed_opens_nothing(owner: Owner, filled: tuple[str, str]) -> None:
    queue, _ = filled
    headers = owner.share(queue)
    signature = headers["URL-Signature"] or ""
    assert len(signature) == 64
    for bit in range(256):
        changed = f"{int(signature, 16) ^ 1 << bit:064x}"
        assert get(owner, messages_path(queue), headers | {"URL-Signature": changed}).status_code == 404, bit
    for changed in (signature[:-1], f"{signature}0", signature.upper(), signature[:32], f"0x{signature}"):
        if changed != signature:
            assert get(owner, messages_path(queue), headers | {"URL-Signature": changed}).status_code == 404, changed
    assert get(owner, messages_path(queue), headers).status_code == 200


def test_what_is_signed_can_not_be_moved_about(owner: Owner, filled: tuple[str, str]) -> None:
    """Between the parts, or from one signature to another."""
    queue, _ = filled
    headers, other = owner.share(queue), owner.share(queue, paths=["claims"], methods=["POST"])
    for name in ("URL-Paths", "URL-Methods"):
        assert get(owner, messages_path(queue), headers | {name: other[name]}).status_code == 404, name
        both = f"{headers[name]},{other[name]}"
        assert get(owner, messages_path(queue), headers | {name: both}).status_code == 404, name
        assert get(owner, messages_path(queue), headers | {name: rf"{headers[name]}\n{other[name]}"}).status_code == 404
    swapped = headers | {"URL-Paths": headers["URL-Methods"], "URL-Methods": headers["URL-Paths"]}
    assert get(owner, messages_path(queue), swapped).status_code == 404


def test_to_share_needs_credentials(owner: Owner, filled: tuple[str, str]) -> None:
    queue, _ = filled
    anonymous = {"X-Project-ID": None} if owner.credentials == {} else {}
    response = owner.api().post(f"{queue_path(queue)}/share", json={}, headers=anonymous)
    assert response.status_code == (400 if owner.credentials == {} else 401)
