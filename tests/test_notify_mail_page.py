"""``/v2/confirm``: what links in mails show, and what the button and mail programs do."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import orjson
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from gateway.access.signing import EXPIRES, sign
from gateway.app import make_app
from gateway.config.limits import Limits
from gateway.config.notifications import Notifications
from gateway.core.core import Core
from gateway.core.seal import KEY_SIZE, Seal
from gateway.core.subscriptions.record import ACTIVE, UNCONFIRMED, UNSUBSCRIBED, Subscription
from storage.errors import StoreUnavailable
from storage.sqlite import SQLiteStore

KEY = "signing key"
PAGE = "/v2/confirm"
PROJECT = '<b>"p"&amp;\'</b>'
HEADERS = {"Client-ID": str(uuid4()), "X-Project-ID": PROJECT}
LATER = (datetime.now(UTC) + timedelta(hours=1)).strftime(EXPIRES)
EARLIER = (datetime.now(UTC) - timedelta(seconds=1)).strftime(EXPIRES)

ONE_CLICK = {"List-Unsubscribe": "One-Click"}


@pytest.fixture(autouse=True)
def hurried_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("states.HEEDED_AFTER", "removal.HEEDED_AFTER", "sources.KNOWN_FOR", "sources.MARGIN"):
        monkeypatch.setattr(f"gateway.core.subscriptions.{name}", 0.02)


class Site:
    """A gateway, and a subscription that waits to be confirmed."""

    def __init__(self, client: FlaskClient, core: Core):
        self.client = client
        self.core = core
        answer = client.post(
            "/v2/queues/queue/subscriptions", json={"subscriber": "mailto:a@example.org"}, headers=HEADERS
        )
        self.id = answer.json["subscription_id"]

    @property
    def path(self) -> str:
        return f"/v2/queues/queue/subscriptions/{self.id}/confirm"

    @property
    def state(self) -> str:
        found = self.core.subscription_records.get(PROJECT, "queue", self.id)
        assert isinstance(found, Subscription)
        return found.state

    def link(self, expires: str = LATER, **changed: str) -> dict[str, str]:
        """The parameters of a link to confirm; ``changed`` after they were signed."""
        signature = sign(KEY, [self.path], ["PUT"], PROJECT, expires)
        return {
            "Signature": signature, "Methods": "PUT", "Paths": self.path, "Project": PROJECT, "Expires": expires,
            "Url": "https://x/y", "Queue": "queue",
        } | changed

    def get(self, link: dict[str, str]) -> TestResponse:
        return self.client.get(f"{PAGE}?{urlencode(link)}", headers={"Accept": "text/html,*/*;q=0.8"})

    def press(self, page: TestResponse) -> TestResponse:
        """Post the form of a page, as a browser does."""
        action = re.findall(r'<form method="post" action="([^"]*)">', page.text)
        fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
        assert action == ["confirm"]
        return self.client.post(PAGE, data={unescape(name): unescape(value) for name, value in fields})


@pytest.fixture
def site(configured: Callable[..., Any], bridge: Any, store: SQLiteStore, tmp_path: Path) -> Any:
    core = Core(
        bridge, store, Limits(), Seal(bytes(KEY_SIZE)), notifications=Notifications(require_confirmation=True),
        sign=partial(sign, KEY),
    )
    conf = configured(signed_url={"secret_key": KEY}, audit={"file": str(tmp_path / "audit.log")})
    yield Site(make_app(conf, core).test_client(), core)
    core.close()


def test_a_get_shows_a_question_and_changes_nothing(site: Site) -> None:
    page = site.get(site.link())
    assert page.status_code == 200
    assert "Confirm your subscription" in page.text and "<dd>queue</dd>" in page.text
    assert site.client.head(f"{PAGE}?{urlencode(site.link())}").status_code == 200
    assert site.state == UNCONFIRMED


def test_what_others_have_named_is_escaped(site: Site) -> None:
    page = site.get(site.link())
    assert "<b>" not in page.text
    assert "<dd>&lt;b&gt;&quot;p&quot;&amp;amp;&#x27;&lt;/b&gt;</dd>" in page.text


def test_the_button_confirms(site: Site) -> None:
    answer = site.press(site.get(site.link()))
    assert (answer.status_code, site.state) == (200, ACTIVE)
    assert "Subscription confirmed" in answer.text
    assert site.press(site.get(site.link())).status_code == 200


def test_the_button_of_the_other_link_ends_the_subscription(site: Site) -> None:
    link = site.link(Action="unsubscribe")
    page = site.get(link)
    assert "End your subscription" in page.text and site.state == UNCONFIRMED
    assert "Subscription ended" in site.press(page).text
    assert site.state == UNSUBSCRIBED
    site.press(site.get(site.link()))  # and undoes it
    assert site.state == ACTIVE


def test_one_click_of_a_mail_program_ends_the_subscription(site: Site) -> None:
    answer = site.client.post(f"{PAGE}?{urlencode(site.link(Action='unsubscribe'))}", data=ONE_CLICK)
    assert (answer.status_code, site.state) == (200, UNSUBSCRIBED)


def test_one_click_may_be_multipart(site: Site) -> None:
    answer = site.client.post(
        f"{PAGE}?{urlencode(site.link(Action='unsubscribe'))}", data=ONE_CLICK, content_type="multipart/form-data"
    )
    assert (answer.status_code, site.state) == (200, UNSUBSCRIBED)


def test_one_click_does_not_confirm(site: Site) -> None:
    answer = site.client.post(f"{PAGE}?{urlencode(site.link())}", data=ONE_CLICK)
    assert (answer.status_code, site.state) == (400, UNCONFIRMED)


def test_a_post_without_the_form_changes_nothing(site: Site) -> None:
    for data in ({}, {"x": "y"}):
        answer = site.client.post(f"{PAGE}?{urlencode(site.link())}", data=data)
        assert (answer.status_code, site.state) == (404, UNCONFIRMED)


@pytest.mark.parametrize("changed", [
    {"Signature": "0" * 64}, {"Signature": ""}, {"Signature": "é"}, {"Methods": "GET"}, {"Methods": ""},
    {"Paths": "/v2/queues/other/subscriptions/1/confirm"}, {"Paths": ""}, {"Paths": "/v2/queues/queue"},
    {"Project": "other"}, {"Expires": "2999-01-01T00:00:00"}, {"Expires": "never"}, {"Action": "delete"},
])
def test_a_link_that_was_changed_is_refused(site: Site, changed: dict[str, str]) -> None:
    for answer in (site.get(site.link(**changed)), site.client.post(PAGE, data=site.link(**changed))):
        assert answer.status_code == (400 if "Action" in changed else 404)
        assert "<form" not in answer.text and "queue" not in answer.text.lower()
    assert site.state == UNCONFIRMED


def test_a_link_that_is_too_old_is_refused(site: Site) -> None:
    assert site.get(site.link(EARLIER)).status_code == 404
    assert site.client.post(PAGE, data=site.link(EARLIER)).status_code == 404
    assert site.state == UNCONFIRMED


def test_a_signature_for_something_else_is_refused(site: Site) -> None:
    path = "/v2/queues/queue/messages"
    link = site.link(Signature=sign(KEY, [path], ["PUT"], PROJECT, LATER), Paths=path)
    assert site.get(link).status_code == 404
    both = [site.path, path]
    link = site.link(Signature=sign(KEY, both, ["PUT"], PROJECT, LATER), Paths=",".join(both))
    assert site.get(link).status_code == 404


def test_a_subscription_that_is_gone(site: Site) -> None:
    site.client.delete(f"/v2/queues/queue/subscriptions/{site.id}", headers=HEADERS)
    assert site.client.post(PAGE, data=site.link()).status_code == 404


def test_a_side_store_that_is_down(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise StoreUnavailable("inside 10.0.0.1")

    monkeypatch.setattr(site.core.subscription_states, "confirm", fail)
    answer = site.client.post(PAGE, data=site.link())
    assert answer.status_code == 503 and answer.headers["Retry-After"]
    assert answer.mimetype == "text/html" and "10.0.0.1" not in answer.text


def test_a_form_that_is_too_large(site: Site) -> None:
    answer = site.client.post(PAGE, data=site.link(Url="x" * 20_000))
    assert (answer.status_code, site.state) == (400, UNCONFIRMED)


@pytest.mark.parametrize("valid", [True, False])
def test_no_page_is_kept_framed_or_told_of(site: Site, valid: bool) -> None:
    headers = site.get(site.link() if valid else {}).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "form-action 'self'" in policy
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Openstack-Request-Id"]


def test_no_signature_is_in_the_logs(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    link = site.link(Action="unsubscribe")
    site.press(site.get(link))
    site.client.post(f"{PAGE}?{urlencode(link)}", data=ONE_CLICK)
    audit = (tmp_path / "audit.log").read_text()
    assert link["Signature"] not in audit + caplog.text
    lines = [orjson.loads(line) for line in audit.splitlines() if '"/v2/confirm"' in line]
    assert [(line["action"], line["project"], line["status"]) for line in lines] == [
        ("POST /v2/confirm", PROJECT, 200), ("POST /v2/confirm", PROJECT, 200),
    ]


def test_without_a_key_there_is_no_page(configured: Callable[..., Any], core: Core) -> None:
    assert make_app(configured(), core).test_client().get(PAGE).status_code == 404


def test_behind_a_prefix(configured: Callable[..., Any], site: Site) -> None:
    client = make_app(configured(signed_url={"secret_key": KEY}, wsgi={"prefix": "/base"}), site.core).test_client()
    assert client.get(f"/base{PAGE}?{urlencode(site.link())}").status_code == 200
