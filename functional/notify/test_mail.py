"""Mail end to end: REST, broker and side-store, and a real mail server with TLS and a login."""

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from functional.http import Api
from functional.notify.receivers import fast, receiving
from functional.notify.subscribers import Subscriber
from functional.services.certificates import Authority
from functional.services.gateway import Gateway, find_command
from functional.services.mail import PASSWORD, USER, MailServer
from functional.services.ports import free_port
from functional.wait import wait_until

TIMEOUT = 30

#: Where gateways are said to be.
PUBLIC = "https://messaging.example.org"

Start = Callable[..., Gateway]


class Mailing:
    """A gateway that sends mail to a server, and a subscriber's view of it."""

    def __init__(self, gateway: Gateway, server: MailServer) -> None:
        self.gateway = gateway
        self.server = server
        self.subscriber = Subscriber(Api(gateway.url))

    def here(self, url: str) -> str:
        """A link in a mail as it leads to the gateway under test."""
        assert url.startswith(f"{PUBLIC}/v2/")
        return self.gateway.url + url.removeprefix(PUBLIC)

    def state(self, subscription: str) -> str:
        return str(self.subscriber.of(subscription, "status")["state"])


@pytest.fixture
def mailing(start: Start, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Mailing]]:
    """Start a gateway with mail over TLS; keywords are options of [notification]."""
    with contextlib.ExitStack() as stack:

        def begin(security: str = "ssl", **more: Any) -> Mailing:
            authority = Authority(tmp_path)
            server = stack.enter_context(MailServer(security, authority.sign("mail"), login=True))
            options = {
                "smtp_mode": "self_local", "smtp_host": "127.0.0.1", "smtp_port": server.port,
                "smtp_security": security, "smtp_user_name": USER, "smtp_user_password": PASSWORD,
                "smtp_from": "Gateway <no-reply@example.org>", "ca_file": authority.file,
                "public_url": PUBLIC, **more,
            }
            return Mailing(start(notification=options, signed_url={"secret_key": "key"}), server)

        yield begin


@pytest.mark.parametrize("security", ["ssl", "starttls"])
def test_each_message_is_mailed_once(mailing: Callable[..., Mailing], security: str) -> None:
    site = mailing(security, mails_per_hour=0)
    site.subscriber.subscribe("mailto:a@example.com", subject="Grüße", **{"from": "me@example.org"})
    ids = site.subscriber.post(*({"n": n} for n in range(10)))
    mails = site.server.wait(10)
    assert sorted(json.loads(mail.text)["body"]["n"] for mail in mails) == list(range(10))
    assert {mail.message["Message-ID"][1:37] for mail in mails} == set(ids)
    assert {(mail.message["Subject"], mail.message["From"]) for mail in mails} == {("Grüße", "me@example.org")}
    assert all(mail.user == USER.encode() for mail in mails)
    time.sleep(1)
    assert len(site.server.mails) == 10


def test_confirmation_by_the_page(mailing: Callable[..., Mailing]) -> None:
    site = mailing(require_confirmation=True)
    subscription = site.subscriber.subscribe("mailto:a@example.com")
    site.subscriber.post("too early")
    (mail,) = site.server.wait()
    link = site.here(mail.text.split()[-1])
    page = requests.get(link, timeout=TIMEOUT)
    assert page.status_code == 200 and site.subscriber.queue in page.text and site.subscriber.api.project in page.text
    assert site.state(subscription) == "unconfirmed"
    fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
    form = {unescape(name): unescape(value) for name, value in fields}
    answer = requests.post(link.partition("?")[0], form, timeout=TIMEOUT)
    assert answer.status_code == 200, answer.text
    site.subscriber.post("now")
    mails = site.server.wait(2)
    assert json.loads(mails[1].text)["body"] == "now"


def test_one_click_ends_a_subscription(mailing: Callable[..., Mailing]) -> None:
    site = mailing()
    subscription = site.subscriber.subscribe("mailto:a@example.com")
    site.subscriber.post(1)
    (mail,) = site.server.wait()
    assert mail.message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    url = site.here(mail.message["List-Unsubscribe"].strip("<>"))
    assert requests.get(url, timeout=TIMEOUT).status_code == 200
    assert site.state(subscription) == "active"
    answer = requests.post(url, {"List-Unsubscribe": "One-Click"}, timeout=TIMEOUT)
    assert answer.status_code == 200, answer.text
    assert site.state(subscription) == "unsubscribed"
    site.subscriber.post(2)
    time.sleep(2)
    assert len(site.server.mails) == 1


def test_confirmation_by_an_external_page_as_zaqars_sample_does_it(mailing: Callable[..., Mailing]) -> None:
    site = mailing(require_confirmation=True, external_confirmation_url="https://page.example.org/confirm")
    subscription = site.subscriber.subscribe("mailto:a@example.com")
    (mail,) = site.server.wait()
    link = re.search(r"https://page\S+", mail.text)
    assert link is not None
    given = {name: values[0] for name, values in parse_qs(urlsplit(link[0]).query).items()}
    assert list(given) == ["Signature", "Methods", "Paths", "Project", "Expires", "Url", "Queue"]
    answer = requests.put(site.here(given["Url"]), json={"confirmed": True}, timeout=TIMEOUT, headers={
        "URL-Signature": given["Signature"], "URL-Methods": given["Methods"], "URL-Paths": given["Paths"],
        "X-Project-ID": given["Project"], "URL-Expires": given["Expires"],
        "Client-ID": "3381af92-2b9e-11e3-b191-71861300734c",
    })
    assert answer.status_code == 204, answer.text
    assert site.state(subscription) == "active"


def test_greylisting_is_waited_for(mailing: Callable[..., Mailing]) -> None:
    site = mailing()
    replies = ["451 greylisted", "451 greylisted"]
    site.server.on_recipient = lambda address: replies.pop() if replies else "250 OK"
    site.subscriber.subscribe("mailto:a@example.com")
    site.subscriber.post("x")
    site.server.wait()


def test_an_unknown_recipient_is_a_dead_letter(mailing: Callable[..., Mailing]) -> None:
    site = mailing()
    site.server.on_recipient = lambda address: "550 unknown"
    subscription = site.subscriber.subscribe("mailto:a@example.com")
    (id_,) = site.subscriber.post("x")
    (letter,) = wait_until(
        lambda: site.subscriber.of(subscription, "dead_letters")["dead_letters"], 20, "the dead letter"
    )
    assert (letter["id"], letter["reason"]) == (id_, "refused")


def test_a_dead_mail_server_delays_no_webhook(mailing: Callable[..., Mailing]) -> None:
    site = mailing(smtp_host="127.0.0.1", smtp_timeout=20)
    site.server.on_recipient = lambda address: time.sleep(2) or "451 later"  # type: ignore[func-returns-value]
    for n in range(12):
        site.subscriber.subscribe(f"mailto:a{n}@example.com")
    with receiving(fast) as receiver:
        site.subscriber.subscribe(receiver.url)
        site.subscriber.post("mail first")
        start = time.monotonic()
        site.subscriber.post(*range(20))
        wait_until(lambda: len(receiver.requests) >= 21, 10, "the webhooks")
        assert time.monotonic() - start < 5


def test_a_mail_server_that_comes_back_gets_what_has_waited(mailing: Callable[..., Mailing]) -> None:
    port = free_port()
    site = mailing(smtp_port=port, smtp_security="none", smtp_user_name="", retry_schedule=[1] * 20)
    site.subscriber.subscribe("mailto:a@example.com")
    site.subscriber.post("x")
    time.sleep(2)
    later = MailServer()
    later.port = later._controller.port = port
    with later:
        later.wait()


def test_no_secret_is_in_the_log(mailing: Callable[..., Mailing]) -> None:
    site = mailing(require_confirmation=True, smtp_user_password="wrong-secret")
    site.subscriber.subscribe("mailto:a@example.com")
    wait_until(lambda: "the login was refused" in site.gateway.log, 20, "the line about the login")
    assert "wrong-secret" not in site.gateway.log


def test_a_command_sends_mail(start: Start, tmp_path: Path) -> None:
    kept = tmp_path / "mails"
    kept.mkdir()
    script = tmp_path / "sendmail.py"
    script.write_text(
        "import os, sys, uuid\n"
        f"name = os.path.join({str(kept)!r}, uuid.uuid4().hex)\n"
        "open(name + '.part', 'wb').write(sys.stdin.buffer.read())\nos.rename(name + '.part', name + '.eml')\n"
    )
    subscriber = Subscriber(Api(start(notification={"smtp_command": f"{sys.executable} {script} -t"}).url))
    subscriber.subscribe("mailto:a@example.com,b@example.com")
    subscriber.post({"a": 1})
    (mail,) = wait_until(lambda: list(kept.glob("*.eml")), 20, "the mail")
    head, _, body = mail.read_text().partition("\n\n")
    assert "To: a@example.com,\n b@example.com" in head
    assert json.loads(body)["body"] == {"a": 1}


def test_check_logs_in_to_the_server(mailing: Callable[..., Mailing]) -> None:
    site = mailing()
    command = [find_command(), "check", "--config-file", str(site.gateway.config_file)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert re.search(rf"^mail +ok +127.0.0.1:{site.server.port}, as {USER}$", found.stdout, re.M), found.stdout
