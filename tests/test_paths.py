"""Each resource has one path, and links lead there from where the client is."""

import io
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from werkzeug.test import create_environ, run_wsgi_app
from werkzeug.wrappers import Response

from gateway.app import make_app
from gateway.core.core import Core
from gateway.core.ids import usable
from gateway.web.router import App

HEADERS = {"Client-ID": str(uuid4()), "X-Project-ID": "project", "X-Roles": "admin"}

#: Other ways to write the paths of what needs no credentials.
ALIASES = [
    "/metrics/", "//metrics", "///metrics", "/%6detrics", "/%6Detrics", "/metric%73", "/metrics%2F", "/metrics%2f",
    "/./metrics", "/x/../metrics", "/metrics/.", "/metrics/..", "/metrics;x", "/metrics%3Fx", "/metrics%00", "/METRICS",
    "/%2Fmetrics", "/%2e/metrics", "/metrics//", "/metrics%20", "/metrics%23", "\\metrics", "/%5cmetrics",
    "/v2/../metrics", "/v2/queues/../../metrics", "/v2/queues/../metrics", "/messaging/metrics",
    "//healthcheck", "/healthcheck/", "/%68ealthcheck", "/healthcheck%2F",
    "//", "/.", "/..", "/./", "/%2F", "/%2e", "/v2/..", "/v2/.", "/;",
]

#: Detours to a queue, a list of them, and the like.
DETOURS = [
    "//v2/queues", "/v2//queues", "/v2/queues//", "/v2/./queues", "/v2/x/../queues", "/%762/queues", "/v2%2Fqueues",
    "/v2/%71ueues", "/v2/queues/%71", "/v2/queues/q%2Fstats", "/v2/queues/q/%73tats", "/v2/queues/q//stats",
    "/v2/queues/q/./stats", "/v2/queues/x/../q/stats", "/v2/queues/q/stats/..", "/v2/queues/q%2fmessages",
    "/v2/queues/q;x=1", "/v2/queues/q%3bx", "/v2/queues/q%5Cx", "/v2/queues/..", "/v2/queues/.", "/v2/queues/%2e%2e",
    "/v2/queues/../messages", "/v2/queues/./messages", "/v2/queues/q/messages/..", "/v2/queues/q/messages/.",
    "/v2/queues/q/claims/..", "/v2/queues/q/messages/%2e%2e", "/v2/queues/q/messages/x%2Fy",
    "/v2/queues/q/messages/../claims", "/v2/queues/q/..%2fq2",
]


def call(app: App, raw: str, method: str = "GET", body: bytes = b"", **environ: Any) -> Response:
    """A request with a path as a server hands it over: raw, and decoded as waitress does it; None leaves a key out."""
    path, _, query = raw.partition("?")
    decoded = unquote_to_bytes(path).decode("latin-1")
    given = {
        **create_environ(method=method, input_stream=io.BytesIO(body)), "RAW_URI": None,
        "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/json",
        "PATH_INFO": "/" + decoded.lstrip("/") if decoded[:1] == "/" else decoded,
        "QUERY_STRING": query, "REQUEST_URI": raw,
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in HEADERS.items()}, **environ,
    }
    said = {key: value for key, value in given.items() if value is not None}
    return Response(*run_wsgi_app(app, said, buffered=True))


@pytest.fixture
def app(configured: Callable[..., Any], core: Core) -> App:
    return make_app(configured(), core)


@pytest.fixture
def prefixed(configured: Callable[..., Any], core: Core) -> App:
    return make_app(configured(wsgi={"prefix": "/messaging"}, signed_url={"secret_key": "secret"}), core)


@pytest.mark.parametrize("raw", ALIASES)
@pytest.mark.parametrize("prefix", ["", "/messaging"])
def test_what_needs_no_credentials_has_one_path(
    configured: Callable[..., Any], core: Core, prefix: str, raw: str
) -> None:
    app = make_app(configured(wsgi={"prefix": prefix}), core)
    response = call(app, raw)
    assert response.status_code in (400, 404)
    assert b"marconi_" not in response.data
    assert call(app, raw, "HEAD").status_code in (400, 404)
    assert call(app, raw, "POST").status_code in (400, 404, 405)


@pytest.mark.parametrize("raw", ["/metrics", "/metrics?x=/", "http://other/metrics", "HTTP://other:80/metrics?x"])
def test_metrics_are_at_their_path(app: App, raw: str) -> None:
    assert call(app, raw, PATH_INFO="/metrics").status_code == 200


@pytest.mark.parametrize("raw", DETOURS)
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_detours_lead_nowhere(app: App, core: Core, raw: str, method: str) -> None:
    core.queues.create("project", "q", None)
    assert call(app, raw, method).status_code in (400, 404, 405)
    assert call(app, raw, method, REQUEST_URI=None, RAW_URI=raw).status_code in (400, 404, 405)
    assert core.queues.exists("project", "q")
    assert core.pool.store.catalogue.list_names("project", "", 10) == ["q"]


@pytest.mark.parametrize("raw", ["//metrics", "/v2//queues", "/v2/queues/..", "//"])
def test_detours_lead_nowhere_when_the_server_does_not_say_what_was_sent(app: App, raw: str) -> None:
    assert call(app, raw, PATH_INFO=raw, REQUEST_URI=None).status_code in (400, 404)


@pytest.mark.parametrize("name", [".", ".."])
def test_no_queue_has_a_name_that_no_client_can_ask_for(app: App, name: str) -> None:
    for method, path in (("PUT", ""), ("GET", ""), ("DELETE", ""), ("GET", "/messages"), ("POST", "/claims")):
        response = call(app, f"/v2/queues/{name}{path}", method)
        assert response.status_code == 400
        assert response.json["title"] == "Invalid queue identification"
    metadata = f'{{"_dead_letter_queue": "{name}", "_max_claim_count": 1}}'.encode()
    assert call(app, "/v2/queues/q", "PUT", metadata).status_code == 400


def test_no_message_has_an_id_that_no_client_can_ask_for() -> None:
    assert {usable(id_) for id_ in (".", "..")}.isdisjoint({".", ".."})
    assert usable("...") == "..."


@pytest.mark.parametrize("name", [".q", "q.", "..q", "...", "a..b", "-", "_"])
def test_dots_in_names_are_fine(app: App, name: str) -> None:
    assert call(app, f"/v2/queues/{name}", "PUT").status_code == 201
    assert call(app, f"/v2/queues/{name}/stats").status_code == 200
    assert call(app, f"/v2/queues/{name}/").status_code == 200


def test_encoded_characters_that_must_be_are_fine(app: App) -> None:
    """Some clients encode the colon, which an id of a native producer may have."""
    assert call(app, "/v2/queues/q/messages/a%3Ab").status_code == 404
    assert b"a:b" in call(app, "/v2/queues/q/messages/a%3Ab").data
    assert call(app, "/v2/queues/%C3%BC").json["title"] == "Invalid queue identification"


# -- below a path of a proxy's or of another application's -------------------------------------------------------------

#: How a request arrives: with the prefix taken off, with it, with it twice (see paths.locate), or from a WSGI mount.
WAYS: dict[str, Callable[[str], dict[str, Any]]] = {
    "stripped": lambda path: {"PATH_INFO": path, "REQUEST_URI": path},
    "not stripped": lambda path: {"PATH_INFO": f"/messaging{path}", "REQUEST_URI": f"/messaging{path}"},
    "twice": lambda path: {"PATH_INFO": f"/messaging/messaging{path}", "REQUEST_URI": f"/messaging/messaging{path}"},
    "twice, taken off once": lambda path: {"PATH_INFO": f"/messaging{path}", "REQUEST_URI": f"/messaging{path}"},
    "after the version": lambda path: {
        "PATH_INFO": f"/messaging/v2/messaging{path}", "REQUEST_URI": f"/messaging/v2/messaging{path}",
    },
    "after the version, taken off": lambda path: {
        "PATH_INFO": f"/v2/messaging{path}", "REQUEST_URI": f"/v2/messaging{path}",
    },
    "rewritten": lambda path: {"PATH_INFO": path, "REQUEST_URI": f"/messaging{path}"},
    "unknown": lambda path: {"PATH_INFO": path, "REQUEST_URI": None},
    "mounted": lambda path: {"SCRIPT_NAME": "/messaging", "PATH_INFO": path, "REQUEST_URI": f"/messaging{path}"},
    "mounted, twice": lambda path: {
        "SCRIPT_NAME": "/messaging", "PATH_INFO": f"/messaging{path}", "REQUEST_URI": f"/messaging/messaging{path}",
    },
}

PATHS = re.compile(r'"(/[^"]*)"')


@pytest.mark.parametrize(
    ("way", "option"), [*((way, True) for way in WAYS), ("mounted", False), ("mounted, twice", False)]
)
def test_every_link_begins_with_the_prefix(
    configured: Callable[..., Any], core: Core, way: str, option: bool
) -> None:
    app = make_app(
        configured(wsgi={"prefix": "/messaging"} if option else {}, signed_url={"secret_key": "secret"}), core
    )

    def ask(method: str, target: str, body: bytes = b"") -> Any:
        return call(app, target, method, body, **WAYS[way](target.partition("?")[0]))

    queue = "/v2/queues/q"
    message = b'{"messages": [{"body": "v2"}, {"body": 2}]}'
    answers = [
        ask("GET", ""), ask("GET", "/"), ask("GET", "/v2"), ask("GET", "/v2/"), ask("PUT", queue),
        posted := ask("POST", f"{queue}/messages", message), ask("GET", f"{queue}/messages?echo=true&limit=1"),
        ask("GET", f"{queue}/messages?ids={posted.json['resources'][0].rpartition('/')[2]}"),
        ask("GET", posted.json["resources"][0].removeprefix("/messaging")), ask("GET", "/v2/queues?detailed=true"),
        ask("GET", f"{queue}/stats"), claimed := ask("POST", f"{queue}/claims", b"{}"),
        ask("GET", claimed.headers["Location"].removeprefix("/messaging")), ask("POST", f"{queue}/share", b"{}"),
    ]

    for answer in answers:
        assert answer.status_code in (200, 201, 300), answer.data
        links = [*PATHS.findall(answer.get_data(as_text=True)), *answer.headers.getlist("Location")]
        assert links and all(link.startswith("/messaging/v2/") for link in links), links


@pytest.mark.parametrize("way", WAYS)
def test_signed_paths_are_those_that_the_client_sees(prefixed: App, way: str) -> None:
    path = "/v2/queues/q/messages"
    shared = call(prefixed, "/v2/queues/q/share", "POST", **WAYS[way]("/v2/queues/q/share")).json
    assert shared["paths"] == [f"/messaging{path}"]
    signed = {
        "HTTP_URL_SIGNATURE": shared["signature"], "HTTP_URL_PATHS": ",".join(shared["paths"]),
        "HTTP_URL_METHODS": "GET", "HTTP_URL_EXPIRES": shared["expires"],
    }
    assert call(prefixed, path, **WAYS[way](path), **signed).status_code == 200
    assert call(prefixed, path, **WAYS[way]("/v2/queues/q/claims/1"), **signed).status_code == 404
    assert call(prefixed, path, **WAYS[way]("/v2/queues/other/messages"), **signed).status_code == 404


def test_signature_from_before_the_prefix_still_holds(
    configured: Callable[..., Any], core: Core, prefixed: App
) -> None:
    path = "/v2/queues/q/messages"
    shared = call(make_app(configured(signed_url={"secret_key": "secret"}), core), "/v2/queues/q/share", "POST").json
    assert shared["paths"] == [path]
    signed = {
        "HTTP_URL_SIGNATURE": shared["signature"], "HTTP_URL_PATHS": path, "HTTP_URL_METHODS": "GET",
        "HTTP_URL_EXPIRES": shared["expires"],
    }
    assert call(prefixed, path, **WAYS["not stripped"](path), **signed).status_code == 200


@pytest.mark.parametrize("raw", [
    "/messagingx/v2/queues", "/messaging//v2/queues", "/messaging%2Fv2/queues", "/other/v2/",
])
def test_what_only_looks_like_the_prefix_is_none(prefixed: App, raw: str) -> None:
    assert call(prefixed, raw).status_code == 404


@pytest.mark.parametrize("prefix", ["/queues", "/queues/q", "/ping"])
def test_prefix_like_a_part_of_the_api_hides_none_of_it(
    configured: Callable[..., Any], core: Core, prefix: str
) -> None:
    app = make_app(configured(wsgi={"prefix": prefix}), core)
    core.queues.create("project", "v2", None)
    assert call(app, "/v2/queues/v2").status_code == 200
    assert b'"claimed"' in call(app, "/v2/queues/v2/stats").data
    assert call(app, f"{prefix}/v2/queues/v2/messages").status_code == 200


def test_audit_has_the_path_that_was_sent(configured: Callable[..., Any], core: Core, tmp_path: Any) -> None:
    file = tmp_path / "audit"
    app = make_app(configured(audit={"file": file}, wsgi={"prefix": "/messaging"}), core)
    call(app, "/messaging/v2/queues/q", "PUT")
    call(app, "/v2/queues/a%20b?x", "PUT")
    lines = file.read_text().splitlines()
    assert ['"path":"/messaging/v2/queues/q"' in lines[0], '"path":"/v2/queues/a%20b"' in lines[1]] == [True, True]


def test_flask_client_works_as_before(app: App) -> None:
    client: FlaskClient = app.test_client()
    assert client.get("/v2/queues?limit=1", headers=HEADERS).status_code == 200
