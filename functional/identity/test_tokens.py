"""Tokens: good, wrong, expired, revoked, restricted; and a Keystone that is not there."""

import datetime
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from functional import raw
from functional.api.helpers import assert_error, eventually, queue_path
from functional.feed_client import FeedClient
from functional.http import Api
from functional.identity.conftest import PASSWORD, Cloud
from functional.installed import require
from functional.services.gateway import Gateway, find_command
from functional.services.memcached import Memcached

#: Seconds within which there is an answer when Keystone is gone, or hangs: two tries of three seconds and a pause.
PATIENCE = 8.0


def with_token(token: str) -> dict[str, Any]:
    return {"X-Auth-Token": token, "X-Project-ID": None}


def status(api: Api, token: str) -> int:
    return api.get("/v2/queues", headers=with_token(token)).status_code


@pytest.mark.parametrize("path", ["/v2/", "/v2/queues", "/v2/ping", "/v2/health", "/v2/queues/q/messages"])
def test_without_a_token_nobody_gets_in(api: Api, cloud: Cloud, path: str) -> None:
    response = api.get(path)
    assert_error(response, 401)
    assert response.headers["WWW-Authenticate"] == f'Keystone uri="{cloud.keystone.url}"'


def test_versions_need_no_token(api: Api) -> None:
    assert api.get("/", headers={"X-Project-ID": None, "Client-ID": None}).status_code == 300


@pytest.mark.parametrize(
    "token", ["x", "0" * 32, "gAAAAA" + "B" * 177, "../../v3/users", "é", "a b", "x" * 10_000, "%0a", ","]
)
def test_wrong_token_is_refused(api: Api, cloud: Cloud, token: str) -> None:
    assert_error(api.get("/v2/queues", headers={"X-Auth-Token": token.encode("latin-1")}), 401)


def test_token_that_differs_in_one_letter_is_refused(api: Api, tokens: dict[str, str]) -> None:
    good = tokens["member"]
    assert status(api, good) == 200
    for place in (0, 10, len(good) // 2, len(good) - 5):
        assert status(api, good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1:]) == 401, place


def test_token_of_another_kind_of_header_is_none(api: Api, tokens: dict[str, str]) -> None:
    for name in ("Authorization", "X-Subject-Token", "X-Storage-Token", "Cookie"):
        assert api.get("/v2/queues", headers={name: tokens["member"]}).status_code == 401


def credential(cloud: Cloud, lifetime: float | None = None, **properties: Any) -> str:
    """A token of a new application credential of the member's, both good for `lifetime` seconds."""
    member = cloud.token("member")
    connection = cloud.keystone.admin
    user = connection.identity.find_user("member")
    if lifetime is not None:
        ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=lifetime)
        properties["expires_at"] = ends.strftime("%Y-%m-%dT%H:%M:%S")
    answer = connection.session.post(
        f"{cloud.keystone.url}/users/{user.id}/application_credentials",
        json={"application_credential": {"name": uuid.uuid4().hex, **properties}},
        headers={"X-Auth-Token": member}, authenticated=False,
    ).json()["application_credential"]
    return cloud.keystone.issue({"identity": {
        "methods": ["application_credential"],
        "application_credential": {"id": answer["id"], "secret": answer["secret"]},
    }})


def test_expired_token_is_refused_though_it_is_cached(api: Api, cloud: Cloud) -> None:
    token = credential(cloud, lifetime=10)
    assert status(api, token) == 200
    eventually(lambda: status(api, token) == 401, 15)


def test_revoked_token_is_refused_at_once_without_a_cache_and_soon_with_one(
    api: Api, cloud: Cloud, another_gateway: Callable[..., Gateway]
) -> None:
    careful = api.at(another_gateway(keystone_authtoken={"token_cache_time": -1}).url)
    forgetful = api.at(another_gateway(keystone_authtoken={"token_cache_time": 2}).url)
    token, kept = cloud.token("member"), cloud.token("member")
    assert [status(client, token) for client in (careful, forgetful)] == [200, 200]
    cloud.keystone.revoke(token)
    assert status(careful, token) == 401
    eventually(lambda: status(forgetful, token) == 401, 10)
    assert [status(client, kept) for client in (careful, forgetful)] == [200, 200]


def test_application_credential_reaches_what_its_access_rules_say(api: Api, cloud: Cloud, queue: str) -> None:
    rules = [{"service": "messaging", "method": "GET", "path": "/v2/queues"}]
    token = with_token(credential(cloud, access_rules=rules))
    assert api.get("/v2/queues", headers=token).status_code == 200
    assert api.put(queue_path(queue), headers=token).status_code == 401
    assert api.get(queue_path(queue), headers=token).status_code == 401
    assert api.get("/v2/queues", headers=token).status_code == 200


# Keystone is not there


@pytest.mark.parametrize("way", ["killed", "hung"])
def test_keystone_down_is_a_503_while_cached_tokens_pass(
    api: Api, cloud: Cloud, another_gateway: Callable[..., Gateway], queue: str, way: str
) -> None:
    api = api.at(another_gateway(keystone_authtoken={"http_connect_timeout": 3}).url)
    known, unknown = cloud.token("member"), cloud.token("member")
    assert status(api, known) == 200
    cloud.keystone.kill() if way == "killed" else cloud.keystone.pause()
    try:
        start = time.monotonic()
        response = api.get("/v2/queues", headers=with_token(unknown))
        assert time.monotonic() - start < PATIENCE
        assert_error(response, 503)
        assert int(response.headers["Retry-After"]) > 0
        assert str(cloud.keystone.port) not in response.text
        assert api.put(queue_path(queue), headers=with_token(known)).status_code == 201
        assert api.get("/v2/queues").status_code == 401  # nobody has to be asked about no token
    finally:
        cloud.keystone.start() if way == "killed" else cloud.keystone.resume()
    eventually(lambda: status(api, unknown) == 200, 20)


def test_gateway_starts_without_keystone(cloud: Cloud, another_gateway: Callable[..., Gateway], api: Api) -> None:
    token = cloud.token("member")
    cloud.keystone.kill()
    try:
        own = api.at(another_gateway().url)
        assert status(own, token) == 503
    finally:
        cloud.keystone.start()
    eventually(lambda: status(own, token) == 200, 20)


@pytest.fixture
def memcached() -> Iterator[Memcached]:
    with require(Memcached) as service:
        yield service


def test_memcached_is_a_cache_for_all_gateways_and_nothing_more(
    api: Api, cloud: Cloud, memcached: Memcached, another_gateway: Callable[..., Gateway]
) -> None:
    options = {
        "memcached_servers": memcached.address, "memcache_security_strategy": "ENCRYPT",
        "memcache_secret_key": "a secret of the functional tests", "memcache_pool_socket_timeout": 1,
    }
    first, second = (api.at(another_gateway(keystone_authtoken=options).url) for _ in range(2))
    token, unknown = cloud.token("member"), cloud.token("member")
    assert status(first, token) == 200
    cloud.keystone.kill()
    try:
        assert status(second, token) == 200  # which has never seen it
        assert status(second, unknown) == 503
    finally:
        cloud.keystone.start()
    memcached.kill()
    eventually(lambda: status(second, unknown) == 200, 20)
    assert status(first, token) == 200


# What operators see


def check(gateway: Gateway) -> subprocess.CompletedProcess[str]:
    command = [find_command(), "check", "--config-file", str(gateway.config_file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_check_gets_a_token_itself(cloud: Cloud) -> None:
    done = check(cloud.gateway)
    assert done.returncode == 0, done.stdout
    assert f"authentication  ok      keystone at {cloud.keystone.url}" in done.stdout


def test_check_says_what_is_wrong_and_no_secret(cloud: Cloud, another_gateway: Callable[..., Gateway]) -> None:
    gateway = another_gateway(keystone_authtoken={"password": "wrong-and-secret"})
    done = check(gateway)
    assert done.returncode == 1
    assert "authentication  FAILED" in done.stdout and "401" in done.stdout
    assert "wrong-and-secret" not in done.stdout + done.stderr


def test_wrong_password_of_the_service_is_not_the_callers_fault(
    api: Api, cloud: Cloud, another_gateway: Callable[..., Gateway]
) -> None:
    own = api.at(another_gateway(keystone_authtoken={"password": "wrong-and-secret"}).url)
    assert_error(own.get("/v2/queues", headers=with_token(cloud.token("member"))), 503)


def test_no_secret_is_in_the_log_at_debug_level(api: Api, cloud: Cloud) -> None:
    token = cloud.token("member")
    assert status(api, token) == 200
    assert status(api, token[:-3] + "xyz") == 401
    log = cloud.gateway.log
    assert "GET /v2/queues 200" in log
    assert token not in log and token[:-3] not in log
    assert PASSWORD not in log and cloud.keystone.service_password not in log


def test_hostile_tokens_write_no_lines(api: Api, cloud: Cloud) -> None:
    before = len(cloud.gateway.log)
    for separator in (b"\x0b", b"\x1b[2J", b"\x85", b"\xe2\x80\xa8", b"\0", b"\r"):
        raw.exchange(cloud.gateway.url, b"".join([
            b"GET /v2/queues HTTP/1.1\r\nHost: h\r\nConnection: close\r\nClient-ID: ", b"0" * 32,
            b"\r\nX-Auth-Token: a", separator, b"2030-01-01 00:00:00.000 1 ERROR gateway.app [-] forged\r\n\r\n",
        ]), half_close=True)
    for line in cloud.gateway.log[before:].splitlines():
        assert line.isprintable() and not line.startswith("2030"), line


def test_feed_ends_with_its_token(api: Api, cloud: Cloud, queue: str) -> None:
    token = credential(cloud, lifetime=45)  # most of which a busy Keystone may need
    headers = {"X-Auth-Token": token, "Client-ID": api.client_id, "Accept": "text/event-stream"}
    feed = FeedClient(cloud.gateway.port, f"/v2/queues/{queue}/messages", headers, timeout=90)
    assert feed.status == 200
    event = feed.next()
    assert event.name == "end" and event.value == {"reason": "expired"}
    assert FeedClient(cloud.gateway.port, f"/v2/queues/{queue}/messages", headers).status == 401
