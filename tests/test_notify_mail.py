"""Notifications and requests to confirm from the post to a mail server, as the workers send them."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from bridges.loopback import LoopbackBridge
from functional.services.mail import MailServer
from gateway.access.signing import covers, sign
from gateway.config.limits import Limits
from gateway.config.mail import SELF_LOCAL, MailSettings, Template
from gateway.config.notifications import Notifications
from gateway.core.core import Core
from gateway.core.messages.post import Post
from gateway.core.seal import KEY_SIZE, Seal
from gateway.core.subscriptions.addresses import Rules
from gateway.core.subscriptions.letters import Death
from gateway.core.subscriptions.record import PAUSED, Subscription
from gateway.notify import tester
from gateway.notify.notifier import Notifier
from gateway.notify.settings import DeliverySettings
from storage.sqlite import SQLiteStore
from tests.notify_receiver import wait_for

KEY = "signing key"
PUBLIC = "https://messaging.example.org"


@pytest.fixture(autouse=True)
def hurried_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sources.KNOWN_FOR", "sources.MARGIN"):
        monkeypatch.setattr(f"gateway.core.subscriptions.{name}", 0.02)


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


class Bench:
    """A core with a notifier, and what tests do with them."""

    def __init__(self, store: SQLiteStore, mail: MailSettings, confirmed: bool = False):
        bridge = LoopbackBridge("loopback://", SimpleNamespace(timeout=5.0))
        options = Notifications(require_confirmation=confirmed, public_url=mail.public_url)
        self.core = Core(
            bridge, store, Limits(), Seal(bytes(KEY_SIZE)), notifications=options, sign=partial(sign, KEY)
        )
        self.store, self.mail = store, mail
        settings = DeliverySettings(mail=mail, retry_schedule=(0, 0))
        self.notifier = Notifier(self.core, settings, Rules)

    def subscribe(self, subscriber: str, source: str = "q", **options: Any) -> Subscription:
        id_ = self.core.subscriptions.create("p", source, subscriber, None, options).id
        self.notifier.start()
        return self.get(source, id_)

    def get(self, source: str, id_: str) -> Subscription:
        found = self.core.subscription_records.get("p", source, id_)
        assert found is not None
        return found

    def post(self, *bodies: Any, source: str = "q", ttl: int = 600) -> list[str]:
        return self.core.messages.post("p", source, "c", [Post(orjson.dumps(body), ttl) for body in bodies], 100)

    def left(self, subscription: Subscription) -> int:
        return len(self.store.landed.list_messages(subscription.key, 0, 1000, claimed=True, delayed=True))

    def dead(self, subscription: Subscription) -> list[Death]:
        return [Death.of(message) for message in self.store.landed.list_messages(subscription.dead_key, 0, 100)]

    def attempts(self, subscription: Subscription) -> list[Any]:
        return list(self.core.delivery_statuses.get(subscription.name).attempts)

    def close(self) -> None:
        self.notifier.close()
        self.core.close()


@pytest.fixture
def start(store: SQLiteStore, server: MailServer) -> Iterator[Callable[..., Bench]]:
    """Start a bench whose mail goes to the server; keywords are fields of MailSettings, and ``confirmed``."""
    benches = []

    def begin(confirmed: bool = False, **fields: Any) -> Bench:
        mail = MailSettings(
            SELF_LOCAL, host="127.0.0.1", port=server.port, security="none", sender="no-reply@example.org", timeout=3.0
        )
        benches.append(Bench(store, replace(mail, **fields), confirmed))
        return benches[-1]

    yield begin
    for bench in benches:
        bench.close()


def test_what_is_posted_arrives_as_mail(start: Callable[..., Bench], server: MailServer) -> None:
    bench = start(public_url=PUBLIC)
    subscription = bench.subscribe("mailto:a@example.com,b@example.com?subject=S%C3%A4tze", **{"from": "me@x.org"})
    (id_,) = bench.post({"n": "ü"})
    (mail,) = server.wait()
    assert mail.recipients == ["a@example.com", "b@example.com"]
    assert orjson.loads(mail.text) == {
        "body": {"n": "ü"}, "ttl": 600, "queue_name": "q", "Message_Type": "Notification",
    }
    message = mail.message
    assert (message["From"], message["To"], message["Subject"]) == (
        "me@x.org", "a@example.com, b@example.com", "Sätze",
    )
    assert message["Message-ID"] == f"<{id_}.{subscription.id}@messaging.example.org>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert mail.sender == "no-reply@example.org"
    wait_for(lambda: bench.left(subscription) == 0)


def test_post_data_is_the_text(start: Callable[..., Bench], server: MailServer) -> None:
    start_text = 'About "$zaqar_message$" of q'
    bench = start()
    bench.subscribe("mailto:a@example.com", post_data=start_text)
    bench.post(1)
    (mail,) = server.wait()
    assert mail.text == (
        'About {"body":1,"ttl":600,"queue_name":"q","Message_Type":"Notification"} of q'
    )
    assert mail.message["List-Unsubscribe"] is None


def test_the_link_in_the_header_is_signed_for_the_subscription(
    start: Callable[..., Bench], server: MailServer
) -> None:
    bench = start(public_url=PUBLIC)
    subscription = bench.subscribe("mailto:a@example.com")
    bench.post(1)
    (mail,) = server.wait()
    assert mail.message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    url = urlsplit(mail.message["List-Unsubscribe"].strip("<>"))
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{PUBLIC}/v2/confirm"
    link = {name: values[0] for name, values in parse_qs(url.query).items()}
    path = f"/v2/queues/q/subscriptions/{subscription.id}/confirm"
    assert link["Action"] == "unsubscribe"
    assert covers(KEY, link["Signature"], [link["Paths"]], ["PUT"], "p", link["Expires"], "PUT", path)


def test_4xx_is_tried_again_and_5xx_is_not(start: Callable[..., Bench], server: MailServer) -> None:
    replies = ["450 later", "421 later", "250 OK", "550 no"]
    server.on_data = lambda: replies.pop(0)
    bench = start()
    subscription = bench.subscribe("mailto:a@example.com")
    (first,) = bench.post("first")
    (mail,) = server.wait()
    assert mail.message["Message-ID"].startswith(f"<{first}.")
    bench.post("second")
    wait_for(lambda: bench.dead(subscription))
    (death,) = bench.dead(subscription)
    assert (death.reason, death.status, death.attempts) == ("refused", 550, 1)
    assert server.attempts == 4
    wait_for(lambda: len(bench.attempts(subscription)) == 4)
    found = [(attempt.status, attempt.reason) for attempt in bench.attempts(subscription)]
    assert sorted(found) == [(250, ""), (421, "deferred"), (450, "deferred"), (550, "refused")]


def test_those_who_have_it_do_not_get_it_again(start: Callable[..., Bench], server: MailServer) -> None:
    replies = ["450 later", "250 OK"]
    server.on_recipient = lambda address: replies.pop(0) if address == "b@example.com" else "250 OK"
    bench = start()
    subscription = bench.subscribe("mailto:a@example.com,b@example.com")
    bench.post(1)
    mails = server.wait(2)
    assert [mail.recipients for mail in mails] == [["a@example.com"], ["b@example.com"]]
    wait_for(lambda: bench.left(subscription) == 0)
    assert not bench.dead(subscription)


def test_a_server_that_is_down_is_tried_until_the_schedule_ends(start: Callable[..., Bench]) -> None:
    bench = start(host="127.0.0.1", port=1)
    subscription = bench.subscribe("mailto:a@example.com")
    bench.post(1)
    wait_for(lambda: bench.dead(subscription))
    assert [(death.reason, death.attempts) for death in bench.dead(subscription)] == [("exhausted", 3)]


def test_an_address_gets_so_many_mails_an_hour(start: Callable[..., Bench], server: MailServer) -> None:
    bench = start(per_hour=2)
    subscription = bench.subscribe("mailto:A@example.com")
    other = bench.subscribe("mailto:a@example.com", source="other")
    bench.post(1, 2, 3, ttl=7200)
    server.wait(2)
    bench.post(4, source="other", ttl=7200)
    wait_for(lambda: bench.core.delivery_statuses.get(other.name).resting_until)
    assert len(server.mails) == 2
    wait_for(lambda: bench.left(subscription) == 1)
    (resting,) = [attempt for attempt in bench.attempts(other) if attempt.outcome == "rest"]
    assert resting.reason == "mails_per_hour"
    until = bench.core.delivery_statuses.get(other.name).resting_until
    assert 3590_000 < until - bench.core.now() <= 3600_000
    assert not bench.dead(subscription) and not bench.dead(other)


def test_a_mail_that_did_not_go_does_not_count(start: Callable[..., Bench], server: MailServer) -> None:
    replies = ["450 later", "450 later", "250 OK"]
    server.on_data = lambda: replies.pop(0)
    bench = start(per_hour=1)
    bench.subscribe("mailto:a@example.com")
    bench.post(1)
    server.wait()


def test_encrypted_messages_are_not_mailed(start: Callable[..., Bench], server: MailServer) -> None:
    bench = start()
    bench.core.queues.create("p", "q", {"_enable_encrypt_messages": True})
    subscription = bench.subscribe("mailto:a@example.com")
    bench.post("secret")
    wait_for(lambda: bench.dead(subscription))
    assert [death.reason for death in bench.dead(subscription)] == ["encrypted"]
    assert server.mails == []


def test_nothing_is_mailed_while_paused(start: Callable[..., Bench], server: MailServer) -> None:
    bench = start()
    subscription = bench.subscribe("mailto:a@example.com")
    bench.core.subscription_states.set("p", "q", subscription.id, PAUSED)
    bench.post(1)
    time.sleep(0.7)
    assert server.mails == []
    bench.core.subscription_states.set("p", "q", subscription.id, "active")
    server.wait()


def test_a_request_to_confirm_has_the_link_of_the_template(start: Callable[..., Bench], server: MailServer) -> None:
    template = Template("Hi {0}", "{0}|{1}|{2}|{3}", "Asker <ask@example.org>")
    bench = start(confirmed=True, public_url=PUBLIC, confirmation=template)
    subscription = bench.subscribe("mailto:a@example.com", subject="ours", post_data="x")
    bench.post("before it is confirmed")
    (mail,) = server.wait()
    queue, project, link, rest = mail.text.split("|")
    assert (queue, project, rest) == ("q", "p", "{3}")
    assert (mail.message["Subject"], mail.message["From"]) == ("Hi q", "Asker <ask@example.org>")
    path = f"/v2/queues/q/subscriptions/{subscription.id}/confirm"
    assert re.fullmatch(
        rf"{PUBLIC}/v2/confirm\?Signature=[0-9a-f]{{64}}&Methods=PUT&Paths={path}&Project=p&Expires=[0-9T:-]{{19}}"
        rf"&Url={PUBLIC}{path}&Queue=q", link
    )
    assert mail.message["Message-ID"].startswith(f"<confirm-{subscription.id}-")


def test_the_end_of_a_subscription_is_mailed(start: Callable[..., Bench], server: MailServer) -> None:
    bench = start(
        confirmed=True, external_url="https://x/page", public_url=PUBLIC, unsubscription=Template("End", "{2}")
    )
    subscription = bench.subscribe("mailto:a@example.com")
    server.wait()
    states = bench.core.subscription_states
    states.confirm("p", "q", subscription.id, True)
    states.confirm("p", "q", subscription.id, False)
    mail = server.wait(2)[1]
    assert mail.message["Subject"] == "End"
    assert mail.text.startswith("https://x/page?Signature=")


def test_without_a_page_no_link_is_mailed(
    start: Callable[..., Bench], server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    bench = start(confirmed=True)
    subscription = bench.subscribe("mailto:a@example.com")
    wait_for(lambda: bench.attempts(subscription))
    assert [(each.outcome, each.reason) for each in bench.attempts(subscription)] == [("dead", "public_url")]
    assert bench.left(subscription) == 0
    assert "external_confirmation_url" in caplog.text
    assert server.mails == []


def test_a_command_sends_the_mail(start: Callable[..., Bench], tmp_path: Path) -> None:
    script, kept = tmp_path / "sendmail.py", tmp_path / "mail"
    script.write_text(
        f"import os, sys\nkept = {str(kept)!r}\n"
        "if not os.path.exists(kept + '.first'):\n    open(kept + '.first', 'w'); raise SystemExit(75)\n"
        "open(kept + '.new', 'wb').write(sys.stdin.buffer.read()); os.rename(kept + '.new', kept)\n"
    )
    bench = start(mode="third_part", command=f"{sys.executable} {script}", timeout=10.0)
    bench.subscribe("mailto:a@example.com")
    bench.post({"a": 1})
    wait_for(kept.exists)
    head, _, body = kept.read_text().partition("\n\n")
    assert "To: a@example.com" in head.splitlines()
    assert orjson.loads(body)["body"] == {"a": 1}


def test_owners_test_a_mail_subscriber(start: Callable[..., Bench], server: MailServer) -> None:
    bench = start(per_hour=2)
    subscription = bench.subscribe("mailto:a@example.com")
    tests = bench.core.subscription_tests
    tests.send = tester.Tester(bench.core, DeliverySettings(mail=bench.mail), Rules).send
    tested = tests.run("p", "q", subscription.id, b'{"a":1}')
    assert (tested.status, tested.reason) == (250, "")
    assert orjson.loads(server.mails[0].text) == {
        "body": {"a": 1}, "ttl": 3600, "queue_name": "q", "Message_Type": "Test",
    }
    server.on_data = lambda: "550 no"
    assert tests.run("p", "q", subscription.id, None).reason == "refused"
    server.on_data = lambda: "250 OK"
    assert tests.run("p", "q", subscription.id, None).status == 250
    assert tests.run("p", "q", subscription.id, None).reason == "mails_per_hour"
    assert len(server.mails) == 2


def test_alerts_are_mailed_and_count_for_the_limit(start: Callable[..., Bench], server: MailServer) -> None:
    server.on_recipient = lambda address: "550 unknown" if address == "a@example.com" else "250 OK"
    bench = start(per_hour=2)
    subscription = bench.subscribe("mailto:a@example.com", _alert="mailto:owner@example.com")
    bench.post(1, 2, 3)
    wait_for(lambda: len(bench.dead(subscription)) == 3)
    mails = server.wait(2)
    alert = orjson.loads(mails[0].text)
    assert (alert["Message_Type"], alert["event"], alert["reason"]) == ("Alert", "exhausted", "refused")
    assert (alert["queue_name"], alert["subscription_id"]) == ("q", subscription.id)
    assert mails[0].recipients == ["owner@example.com"]
    assert mails[0].message["Subject"] == "Subscription to q: exhausted"
    bench.close()
    assert len(server.mails) == 2


def test_an_alert_that_can_not_be_sent_harms_nothing(
    start: Callable[..., Bench], server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.on_data = lambda: "554 no"
    bench = start()
    subscription = bench.subscribe("mailto:a@example.com", _alert="mailto:owner@example.com")
    bench.post(1)
    wait_for(lambda: bench.dead(subscription) and "have not got a mail" in caplog.text)
    server.on_data = lambda: "250 OK"
    bench.post(2)
    server.wait()
