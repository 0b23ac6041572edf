"""Tokens of Keystone, as far as there needs to be none; functional/identity has one."""

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from functional.services.ports import free_port
from gateway.access.auth import create_strategy
from gateway.access.auth.base import Identity, IdentityUnavailable, Unauthenticated
from gateway.access.auth.keystone import IDENTITY, TOKEN_INFO, TokenCache, _take_identity
from gateway.core.errors import Busy

Configured = Callable[..., Any]


def options(**more: object) -> dict[str, dict[str, object]]:
    return {
        "DEFAULT": {"auth_strategy": "keystone"},
        "keystone_authtoken": {
            "auth_type": "password", "auth_url": f"http://127.0.0.1:{free_port()}/v3", "username": "marconi",
            "password": "secret", "project_name": "service", "user_domain_id": "default",
            "project_domain_id": "default", "http_request_max_retries": 0, **more,
        },
    }


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"auth_type": ""}, "auth_type is not set"),
        ({"auth_type": "carrier-pigeon"}, "carrier-pigeon"),
        ({"cafile": "/none.pem"}, "cafile: .*/none.pem"),
        ({"memcached_servers": "127.0.0.1:1", "memcache_security_strategy": "MAC"}, "memcache_secret_key"),
    ],
)
def test_wrong_options_are_refused(configured: Configured, more: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        create_strategy(configured(**options(**more)))


def test_request_without_a_token_says_where_to_get_one(configured: Configured) -> None:
    auth = create_strategy(configured(**options(www_authenticate_uri="https://keystone.example.org/v3")))
    for environ in ({}, {"HTTP_X_AUTH_TOKEN": ""}, {"HTTP_X_AUTH_TOKEN": "\xe9"}, {"HTTP_X_AUTH_TOKEN": "a b"}):
        with pytest.raises(Unauthenticated) as caught:
            auth.identify(environ)
        assert caught.value.challenge == 'Keystone uri="https://keystone.example.org/v3"'


def test_keystone_that_is_down_is_told_apart(configured: Configured) -> None:
    auth = create_strategy(configured(**options()))
    with pytest.raises(IdentityUnavailable, match="can't be reached"):
        auth.identify({"REQUEST_METHOD": "GET", "HTTP_X_AUTH_TOKEN": "token"})
    with pytest.raises(ValueError, match="Keystone at http://127.0.0.1") as caught:
        auth.ping()
    assert "secret" not in str(caught.value)


def test_new_tokens_leave_threads_for_known_ones(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    auth: Any = create_strategy(configured(wsgi={"threads": 4}, **options()))
    asking, go_on = threading.Semaphore(0), threading.Event()

    def slow(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["HTTP_X_AUTH_TOKEN"] != "known":
            asking.release()
            go_on.wait(10)
        environ[IDENTITY] = Identity("project")
        return []

    monkeypatch.setattr(auth, "_filter", slow)
    auth.identify({"HTTP_X_AUTH_TOKEN": "known"})
    waiting = [threading.Thread(target=auth.identify, args=({"HTTP_X_AUTH_TOKEN": f"new-{n}"},)) for n in range(3)]
    for thread in waiting:
        thread.start()
    try:
        for _ in waiting:
            assert asking.acquire(timeout=10)
        with pytest.raises(Busy, match="tokens are being checked"):
            auth.identify({"HTTP_X_AUTH_TOKEN": "one-more"})
        assert auth.identify({"HTTP_X_AUTH_TOKEN": "known"}).project == "project"
    finally:
        go_on.set()
        for thread in waiting:
            thread.join()
    assert auth.identify({"HTTP_X_AUTH_TOKEN": "one-more"}).project == "project"


def test_operators_delay_auth_decision_changes_nothing(configured: Configured) -> None:
    auth = create_strategy(configured(**options(delay_auth_decision=True)))
    with pytest.raises(IdentityUnavailable):
        auth.identify({"REQUEST_METHOD": "GET", "HTTP_X_AUTH_TOKEN": "token", "HTTP_X_IDENTITY_STATUS": "Confirmed"})


@pytest.mark.parametrize(("seconds", "kept"), [(60, b"data"), (0, None), (-1, None)])
def test_tokens_are_remembered_if_asked_for(seconds: int, kept: bytes | None) -> None:
    cache = TokenCache(seconds)
    cache.set("key", b"data", time=seconds)
    assert cache.get("key") == kept


def test_remembered_tokens_do_not_fill_the_memory() -> None:
    cache = TokenCache(60)
    for number in range(3000):
        cache.set(str(number), b"data")
    assert cache.get("0") is None and cache.get("2999") == b"data"
    assert len(cache._tokens) == 1000


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("https://m.example.org:8888", "https://m.example.org:8888"), ("https://m.example.org/x/v2/", "https://m.example.org/x"),
        (None, ""),
    ],
)
def test_the_public_url_is_that_of_the_catalogue(
    configured: Configured, monkeypatch: pytest.MonkeyPatch, endpoint: str | None, url: str
) -> None:
    auth: Any = create_strategy(configured(**options(region_name="north")))
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(auth._session, "get_endpoint", lambda **wanted: asked.append(wanted) or endpoint)
    assert [auth.find_public_url(), auth.find_public_url()] == [url, url]
    (wanted,) = asked  # the second time it is remembered, also that there is none
    assert (wanted["service_type"], wanted["interface"], wanted["region_name"]) == ("messaging", "public", "north")


def test_without_keystone_there_is_no_public_url(configured: Configured, caplog: pytest.LogCaptureFixture) -> None:
    auth = create_strategy(configured(**options()))
    assert auth.find_public_url() == ""
    assert "catalogue can't be read" in caplog.text and "secret" not in caplog.text


@pytest.mark.parametrize("info, expires", [
    ({"token": {"expires_at": "2026-11-24T04:00:00.000000Z"}}, 1795492800.0),
    ({"token": {"expires_at": "soon"}}, math.inf), ({"token": {}}, math.inf), ({}, math.inf), (None, math.inf),
])
def test_end_of_a_token_is_what_keystone_says(info: Any, expires: float) -> None:
    environ: dict[str, Any] = {TOKEN_INFO: info}
    _take_identity(environ, lambda *args: None)
    assert environ[IDENTITY].expires == expires
