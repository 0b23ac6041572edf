"""Blueprints of Flask that others have installed, served by `marconi serve` beside the API."""

import pytest
import requests

from functional.http import Api
from functional.test_metrics import value_of

TIMEOUT = 10

#: What an operator may install: a page of a template, with a session and a hook, and an answer that is streamed.
MODULE = """
from pathlib import Path
import flask

pages = flask.Blueprint("pages", __name__, url_prefix="/pages", template_folder=str(Path(__file__).parent))
pages.record_once(lambda state: setattr(state.app, "secret_key", "secret"))

@pages.before_request
def count():
    flask.session["visits"] = flask.session.get("visits", 0) + 1

@pages.before_app_request
def see():
    flask.g.seen = flask.request.path

@pages.after_app_request
def tell(response):
    response.headers["X-Seen"] = flask.g.seen
    return response

@pages.get("/")
def page():
    return flask.render_template("page.html", visits=flask.session["visits"])

@pages.get("/stream")
def stream():
    return flask.Response((f"{number}\\n" for number in range(1000)), mimetype="text/plain")
"""


@pytest.fixture(params=[1, 2])
def serve(request, start_gateway, monkeypatch, tmp_path):
    """Start a gateway that has the module installed: the files, and the metadata that pip would write."""
    (tmp_path / "marconi_pages.py").write_text(MODULE)
    (tmp_path / "page.html").write_text("<p>{{ visits }} visits of {{ request.path }}</p>")
    metadata = tmp_path / "marconi_pages-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: marconi-pages\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[marconi.blueprints]\npages = marconi_pages:pages\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return lambda **wsgi: start_gateway(wsgi={"workers": request.param, **wsgi})


@pytest.mark.parametrize("fast", [True, False])
def test_blueprint_is_served_beside_the_api(serve, queue, fast):
    gateway = serve(fast_dispatch=fast)
    with requests.Session() as browser:
        for visits in (1, 2, 3):
            page = browser.get(f"{gateway.url}/pages/", timeout=TIMEOUT)
            assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
            assert page.text == f"<p>{visits} visits of /pages/</p>"
            assert page.headers["X-Openstack-Request-Id"].startswith("req-")
        streamed = browser.get(f"{gateway.url}/pages/stream", timeout=TIMEOUT)
        assert streamed.text.split() == [str(number) for number in range(1000)]
        assert browser.get(f"{gateway.url}/pages//", timeout=TIMEOUT).json()["title"] == "Not found"
        assert browser.get(f"{gateway.url}/page", timeout=TIMEOUT).json()["title"] == "Not found"

    shown = requests.get(f"{gateway.url}/metrics", timeout=TIMEOUT).text
    assert value_of(shown, 'marconi_request_seconds_count{method="GET",route="/pages/",status="200"}') == 3
    assert value_of(shown, 'marconi_request_seconds_count{method="GET",route="/pages/stream",status="200"}') == 1

    answer = Api(gateway.url).put(f"/v2/queues/{queue}")
    assert answer.status_code == 201
    assert answer.headers.get("X-Seen") == (None if fast else f"/v2/queues/{queue}")


def test_links_of_a_blueprint_begin_with_the_prefix(serve):
    gateway = serve(prefix="/messaging")
    page = requests.get(f"{gateway.url}/messaging/pages/", timeout=TIMEOUT)
    redirected = requests.get(f"{gateway.url}/messaging/pages", timeout=TIMEOUT, allow_redirects=False)
    assert page.text == "<p>1 visits of /pages/</p>"
    assert (redirected.status_code, redirected.headers["Location"]) == (308, f"{gateway.url}/messaging/pages/")
