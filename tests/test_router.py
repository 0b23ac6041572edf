"""Paths that are not the API's are Flask's, with all that Flask can do; the API's own go a shorter way, or Flask's."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import flask
import orjson
import pytest
from flask.testing import FlaskClient
from prometheus_client import REGISTRY
from werkzeug.test import TestResponse

from gateway.api.v2.operations import OPERATIONS
from gateway.app import make_app
from gateway.core.core import Core
from gateway.observe.logs import REQUEST_ID
from gateway.web.router import App
from tests.test_paths import call

Configured = Callable[..., Any]

HEADERS = {"Client-ID": str(uuid4()), "X-Project-ID": "project", "X-Roles": "admin"}

#: What differs from one answer to the next: ids, signatures, positions, durations and times.
VARIABLE = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{64}|[0-9a-f]{32}|\d{19}|fast|slow|\"seconds\":[0-9.e-]+"
    r'|"age":\d+|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d'
)


def blueprint(templates: Path) -> flask.Blueprint:
    """What a console may be: a template, a session, hooks, and an answer of its own to errors."""
    console = flask.Blueprint("console", __name__, url_prefix="/console", template_folder=str(templates))
    (templates / "console.html").write_text(
        "<p>{{ visits }} visits to {{ url_for('console.page') }}, {{ flask_says }}</p>"
    )

    @console.record_once
    def set_up(state: Any) -> None:
        state.app.secret_key = "secret"

    @console.before_request
    def visit() -> None:
        flask.g.visits = flask.session["visits"] = flask.session.get("visits", 0) + 1

    @console.after_request
    def sign(response: flask.Response) -> flask.Response:
        response.headers["X-Console"] = "yes"
        return response

    @console.get("/")
    def page() -> str:
        return flask.render_template("console.html", visits=flask.g.visits, flask_says="<hi>")

    @console.post("/echo")
    def echo() -> bytes:
        return flask.request.get_data()

    @console.get("/items/<int:number>")
    def item(number: int) -> str:
        return REQUEST_ID.get()

    @console.get("/stream")
    def stream() -> flask.Response:
        return flask.Response(REQUEST_ID.get() for _ in range(2))

    @console.get("/missing")
    def missing() -> None:
        flask.abort(404)

    @console.get("/broken")
    def broken() -> None:
        raise LookupError("broken")

    @console.errorhandler(404)
    def not_found(error: Exception) -> tuple[str, int]:
        return "no such page of the console", 404

    @console.errorhandler(LookupError)
    def failed(error: LookupError) -> tuple[str, int]:
        return f"the console is {error}", 500

    return console


@pytest.fixture(params=[True, False], ids=["fast", "through Flask"])
def app(request: pytest.FixtureRequest, configured: Configured, core: Core, tmp_path: Path) -> App:
    app = make_app(configured(wsgi={"fast_dispatch": request.param}), core)
    app.register_blueprint(blueprint(tmp_path))
    return app


# -- Flask's paths ----------------------------------------------------------------------------------------------------


def test_blueprint_has_templates_sessions_and_hooks(app: App) -> None:
    client = app.test_client()
    for visits in (1, 2, 3):
        response = client.get("/console/")
        assert (response.status_code, response.mimetype) == (200, "text/html")
        assert response.text == f"<p>{visits} visits to /console/, &lt;hi&gt;</p>"
        assert response.headers["X-Console"] == "yes"
    assert app.test_client().get("/console/").text.startswith("<p>1 visits")


def test_blueprint_answers_its_errors(app: App) -> None:
    client = app.test_client()
    assert (client.get("/console/missing").status_code, client.get("/console/missing").text) == (
        404, "no such page of the console",
    )
    assert (client.get("/console/broken").status_code, client.get("/console/broken").text) == (
        500, "the console is broken",
    )


def test_methods_of_a_blueprint_are_flasks(app: App) -> None:
    client = app.test_client()
    assert client.post("/console/echo", data=b"x").data == b"x"
    wrong = client.get("/console/echo")
    assert (wrong.status_code, wrong.mimetype) == (405, "text/html")
    assert set(wrong.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}
    assert client.options("/console/echo").status_code == 200
    assert client.head("/console/").data == b""
    redirect = client.get("/console")
    assert (redirect.status_code, redirect.headers["Location"]) == (308, "http://localhost/console/")


def counted(route: str, method: str, status: int) -> float:
    labels = {"route": route, "method": method, "status": str(status)}
    return REGISTRY.get_sample_value("marconi_request_seconds_count", labels) or 0.0


@pytest.mark.parametrize(("method", "path", "route", "status"), [
    ("GET", "/console/", "/console/", 200),
    ("HEAD", "/console/", "/console/", 200),
    ("GET", "/console", "/console/", 308),
    ("GET", "/console/items/7", "/console/items/<int:number>", 200),
    ("POST", "/console/echo", "/console/echo", 200),
    ("GET", "/console/echo", "/console/echo", 405),
    ("OPTIONS", "/console/echo", "/console/echo", 200),
    ("STRANGE", "/console/echo", "/console/echo", 405),
    ("GET", "/console/missing", "/console/missing", 404),
    ("GET", "/console/broken", "/console/broken", 500),
])
def test_requests_of_a_blueprint_are_recorded(
    configured: Configured, core: Core, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    method: str, path: str, route: str, status: int,
) -> None:
    file = tmp_path / "audit"
    app = make_app(configured(audit={"file": file, "reads": True}), core)
    app.register_blueprint(blueprint(tmp_path))
    shown = method if method != "STRANGE" else "OTHER"
    before = counted(route, shown, status)
    with caplog.at_level(logging.DEBUG, "gateway.web.serving"):
        answer = app.test_client().open(path, method=method)
    assert answer.status_code == status
    assert counted(route, shown, status) == before + 1
    assert f"{shown} {path} {status}" in caplog.messages
    (line,) = map(orjson.loads, file.read_text().splitlines())
    assert (line["action"], line["method"], line["path"], line["status"]) == (f"{shown} {route}", method, path, status)
    assert [line["request_id"]] == answer.headers.getlist("X-Openstack-Request-Id")
    assert (line["user"], line["project"]) == (None, None)


def test_blueprint_logs_with_the_requests_id_while_it_streams_too(app: App) -> None:
    client = app.test_client()
    for path, times in (("/console/items/7", 1), ("/console/stream", 2)):
        answer = client.get(path)
        assert answer.text == answer.headers["X-Openstack-Request-Id"] * times
    assert REQUEST_ID.get() == "-"


def test_blueprint_that_redirects_to_a_path_of_its_own_choice(app: App) -> None:
    app.add_url_rule("/old", "old", lambda: "", redirect_to="/console/")
    before = counted("", "GET", 308)
    assert app.test_client().get("/old").headers["Location"].endswith("/console/")
    assert counted("", "GET", 308) == before + 1


def test_exception_that_flask_lets_through_counts_too(app: App) -> None:
    def fail() -> str:
        raise LookupError

    app.add_url_rule("/failing", "failing", fail)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    before = counted("/failing", "GET", 500)
    with pytest.raises(LookupError):
        app.test_client().get("/failing")
    assert counted("/failing", "GET", 500) == before + 1
    assert REQUEST_ID.get() == "-"


def test_body_for_a_blueprint_is_limited_too(app: App) -> None:
    assert app.test_client().post("/console/echo", data=b"x" * (262144 + 1)).status_code == 413


@pytest.mark.parametrize("path", ["/consol", "/console/nothing", "/v1", "/v2/console/", "/static/x"])
def test_path_that_neither_knows_is_not_found(app: App, path: str) -> None:
    response = app.test_client().get(path)
    assert (response.status_code, response.get_json()["title"]) == (404, "Not found")


@pytest.mark.parametrize("raw", [
    "//console/", "/console//", "/%63onsole/", "/console%2F", "/./console/", "/x/../console/", "/console/../console/",
])
def test_aliases_of_a_blueprints_paths_lead_nowhere(app: App, raw: str) -> None:
    response = call(app, raw)
    assert (response.status_code, response.json["title"]) == (404, "Not found")


@pytest.mark.parametrize("raw", ["/messaging/console/", "/console/"])
@pytest.mark.parametrize("fast", [True, False])
def test_links_of_a_blueprint_begin_with_the_prefix(
    configured: Configured, core: Core, tmp_path: Path, fast: bool, raw: str
) -> None:
    app = make_app(configured(wsgi={"prefix": "/messaging", "fast_dispatch": fast}), core)
    app.register_blueprint(blueprint(tmp_path))
    assert "visits to /messaging/console/," in call(app, raw).get_data(as_text=True)


# -- the API's paths ---------------------------------------------------------------------------------------------------


def answers(client: FlaskClient, project: str) -> list[tuple[str, int, list[tuple[str, str]], str]]:
    """What each operation answers, and what is refused, without what differs each time."""
    headers = HEADERS | {"X-Project-ID": project}
    found = []

    def ask(method: str, path: str, **more: Any) -> TestResponse:
        response = client.open(path, method=method, headers=headers | more.pop("headers", {}), **more)
        fields = sorted(
            (name, VARIABLE.sub("", value)) for name, value in response.headers
            if name != "Content-Length" or "health" not in path
        )
        what = f"{method} {VARIABLE.sub('', path)}"
        found.append((what, response.status_code, fields, VARIABLE.sub("", response.text)))
        return response

    queue = "/v2/queues/q"
    ask("PUT", queue, json={"a": 1})
    ask("POST", f"{queue}/messages", json={"messages": [{"body": number} for number in range(5)]})
    claim = ask("POST", f"{queue}/claims?limit=2", json={"ttl": 300})
    for path in ("", f"{queue}/messages?echo=true&limit=2", claim.headers["Location"]):
        ask("GET", path)
        ask("HEAD", path)
    for operation in OPERATIONS:
        path = operation.path.format(
            queue_name="q", topic_name="t", message_id="m", claim_id="c", pool_name="p", flavor_name="f",
            subscription_id="s",
        )
        for method in (operation.method, "STRANGE", "OPTIONS"):
            ask(method, path)
    ask("GET", "/healthcheck")
    ask("GET", queue, headers={"Accept": "text/html"})
    ask("POST", f"{queue}/messages", data=b"x" * (262144 + 1))
    ask("GET", "/v2/queues/%C3%BC")
    return found


def test_short_way_and_flasks_answer_the_same(configured: Configured, core: Core) -> None:
    options: dict[str, Any] = {"signed_url": {"secret_key": "k"}, "DEFAULT": {"admin_mode": True}}
    fast, slow = (
        make_app(configured(wsgi={"fast_dispatch": way}, **options), core).test_client() for way in (True, False)
    )
    for one, other in zip(answers(fast, "fast"), answers(slow, "slow"), strict=True):
        assert one == other


def test_hooks_see_calls_of_the_api_only_through_flask(configured: Configured, core: Core) -> None:
    for fast in (True, False):
        app = make_app(configured(wsgi={"fast_dispatch": fast}), core)
        seen: list[str] = []
        app.before_request(lambda seen=seen: seen.append(flask.request.endpoint))
        for path in ("/v2/queues", "/healthcheck", "/nothing"):
            app.test_client().get(path, headers=HEADERS)
        assert seen == ([] if fast else ["/v2/queues", "/healthcheck"])


def test_call_counts_once_on_either_way(app: App) -> None:
    before = counted("/v2/queues", "GET", 200)
    app.test_client().get("/v2/queues", headers=HEADERS)
    assert counted("/v2/queues", "GET", 200) == before + 1
