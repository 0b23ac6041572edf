"""Mails as they are sent: headers, bodies, templates and links."""

import email
import email.policy
from email.message import EmailMessage
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.mail import MailSettings, Template
from gateway.notify.mail_limit import HOUR, MailLimit
from gateway.notify.mail_links import MailLinks
from gateway.notify.mail_message import LONGEST_LINE, Mail, MailMaker, recipients_of

AT = 1_700_000_000_000
SETTINGS = MailSettings(sender="Gateway <no-reply@example.org>", public_url="https://messaging.example.org/base")

DOCUMENT = {
    "URL-Signature": "ab12", "URL-Methods": "PUT", "URL-Paths": "/v2/queues/q/subscriptions/1/confirm",
    "X-Project-ID": "p", "URL-Expires": "2026-11-25T22:35:51", "queue_name": "q",
    "WSGISubscribeURL": "https://messaging.example.org/base/v2/queues/q/subscriptions/1/confirm",
}


def made(
    text: str = "{}", settings: MailSettings = SETTINGS, subject: str | None = None, unsubscribe: str = "",
    to: tuple[str, ...] = ("a@example.com",), **options: Any,
) -> Mail:
    return MailMaker(settings).notification(to, subject, options, text, "id.sub", AT, unsubscribe)


def read(mail: Mail) -> EmailMessage:
    message = email.message_from_bytes(mail.data(), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert message.defects == []
    return message


def content(message: EmailMessage) -> str:
    return str(message.get_content()).replace("\r\n", "\n")


def test_a_notification_has_the_headers_of_an_automatic_mail() -> None:
    message = read(made('{"body": 1}'))
    assert dict(message.items()) == {
        "From": "Gateway <no-reply@example.org>",
        "To": "a@example.com",
        "Subject": "",
        "Date": "Tue, 14 Nov 2023 22:13:20 +0000",
        "Message-ID": "<id.sub@messaging.example.org>",
        "Auto-Submitted": "auto-generated",
        "MIME-Version": "1.0",
        "Content-Type": 'text/plain; charset="us-ascii"',
        "Content-Transfer-Encoding": "7bit",
    }
    assert content(message) == '{"body": 1}\n'


@pytest.mark.parametrize("text", [
    "", "x", "\n.\nFrom me\n", "ü" * 500, "a=b " * 500, "x" * LONGEST_LINE, "\x00\x07 \n",
])
def test_bodies_come_as_they_are_but_for_the_end_of_the_line(text: str) -> None:
    mail = made(text)
    assert content(read(mail)).rstrip("\n") == text.rstrip("\n")
    assert max(map(len, mail.data().split(b"\r\n"))) <= LONGEST_LINE
    assert mail.data().isascii()


def test_short_ascii_bodies_are_readable_without_decoding() -> None:
    assert made('{"body": "a=b"}' * 10).data(b"\n").endswith(b'\n\n' + b'{"body": "a=b"}' * 10 + b"\n")


def test_the_subject_of_the_uri_wins() -> None:
    assert read(made(subject="uri"))["Subject"] == "uri"
    for of_uri, shown in ((None, "option"), ("", ""), ("uri", "uri")):
        mail = MailMaker(SETTINGS).notification(("a@b",), of_uri, {"subject": "option"}, "", "i", AT)
        assert read(mail)["Subject"] == shown


@pytest.mark.parametrize("subject", ["Grüße " * 60, "=?utf-8?q?x?=", "long " * 190, "x" * 998])
def test_any_subject_arrives(subject: str) -> None:
    mail = made(subject=subject)
    assert str(read(mail)["Subject"]).strip() == subject.strip()
    assert max(map(len, mail.data().split(b"\r\n"))) <= LONGEST_LINE


@pytest.mark.parametrize(("domains", "given", "sender", "reply_to"), [
    (None, "A <a@x.org>", "A <a@x.org>", None),
    (("x.org",), "A <a@X.org>", "A <a@X.org>", None),
    (("x.org",), "a@y.org", "Gateway <no-reply@example.org>", "a@y.org"),
    (("x.org",), "a@sub.x.org", "Gateway <no-reply@example.org>", "a@sub.x.org"),
    (("x.org",), "a@x.org, b@y.org", "Gateway <no-reply@example.org>", "a@x.org, b@y.org"),
    (None, "zaqar", "Gateway <no-reply@example.org>", None),
    (None, "", "Gateway <no-reply@example.org>", None),
    (None, None, "Gateway <no-reply@example.org>", None),
])
def test_nobody_sends_in_anothers_name(
    domains: tuple[str, ...] | None, given: str | None, sender: str, reply_to: str | None
) -> None:
    settings = MailSettings(sender=SETTINGS.sender, domains=domains)
    mail = made(settings=settings, **{"from": given})
    assert (read(mail)["From"], read(mail)["Reply-To"]) == (sender, reply_to)
    assert mail.sender == "no-reply@example.org"


def test_without_a_sender_the_host_of_the_public_url_has_one() -> None:
    settings = MailSettings(public_url="https://messaging.example.org:8443/x")
    assert read(made(settings=settings))["From"] == "marconi@messaging.example.org"
    assert made(settings=settings, **{"from": "a@x.org"}).sender == "a@x.org"


def test_a_link_ends_the_subscription_by_one_click_over_https_alone() -> None:
    message = read(made(unsubscribe="https://x/" + "y" * 500))
    assert message["List-Unsubscribe"] == f"<https://x/{'y' * 500}>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    message = read(made(unsubscribe="http://x/y"))
    assert (message["List-Unsubscribe"], message["List-Unsubscribe-Post"]) == ("<http://x/y>", None)


def test_many_and_long_recipients_are_on_lines_of_their_own() -> None:
    to = tuple(f"{'a' * 60}{n}@{'b' * 60}.example.com" for n in range(20))
    message = read(made(to=to))
    assert [address.addr_spec for address in message["To"].addresses] == list(to)


def test_recipients_are_written_as_dns_has_them() -> None:
    assert recipients_of(("a@bücher.example", "b@x", "b@x", "c@x"), {"c@x"}) == ("a@xn--bcher-kva.example", "b@x")
    assert made(to=("ü@x.org",)).is_international
    assert not made(to=("a@x.org",)).is_international
    with pytest.raises(ValueError, match="odepoint"):
        recipients_of(("a@☃.example",), ())


def test_of_a_template_only_three_places_are_replaced() -> None:
    template = Template("About {0}", "{0} {1} {2} {3} {} {x} {{0}} {0:>9} %s", "Other <other@x.org>")
    values = "queue", "{2}", "https://x/?a=b&c"
    mail = MailMaker(SETTINGS).from_template(template, ("a@b",), values, "id", AT)
    message = read(mail)
    assert (message["From"], message["Subject"], mail.sender) == ("Other <other@x.org>", "About queue", "other@x.org")
    assert content(message) == "queue {2} https://x/?a=b&c {3} {} {x} {queue} {0:>9} %s\n"


def test_a_template_without_a_sender_has_that_of_all_mail() -> None:
    message = read(MailMaker(SETTINGS).from_template(Template("t", "b"), ("a@b",), ("", "", ""), "id", AT))
    assert message["From"] == "Gateway <no-reply@example.org>"


def links(settings: MailSettings, can_sign: bool = True) -> MailLinks:
    confirmations: Any = SimpleNamespace(can_sign=can_sign, document=lambda subscription, kind, expires: DOCUMENT)
    return MailLinks(settings, confirmations)


def test_the_link_to_an_external_page_is_as_existing_pages_expect_it() -> None:
    assert links(MailSettings(external_url="https://x/page", public_url="https://y")).confirm(DOCUMENT) == (
        "https://x/page?Signature=ab12&Methods=PUT&Paths=/v2/queues/q/subscriptions/1/confirm&Project=p"
        "&Expires=2026-11-25T22:35:51"
        "&Url=https://messaging.example.org/base/v2/queues/q/subscriptions/1/confirm&Queue=q"
    )


def test_values_that_would_break_the_link_are_escaped() -> None:
    document = {**DOCUMENT, "X-Project-ID": "a&b #%+=?"}
    link = links(MailSettings(external_url="https://x/page?lang=en")).confirm(document)
    assert link.startswith("https://x/page?lang=en&Signature=ab12&")
    assert "&Project=a%26b%20%23%25%2B%3D%3F&Expires" in link


def test_without_an_external_page_there_is_our_own() -> None:
    assert links(SETTINGS).confirm(DOCUMENT).startswith("https://messaging.example.org/base/v2/confirm?Signature=ab12&")
    # Without a URL of the configuration it is on that of the request, which may have been found elsewhere.
    assert links(MailSettings()).confirm(DOCUMENT) == links(SETTINGS).confirm(DOCUMENT)
    nowhere = {name: value for name, value in DOCUMENT.items() if name != "WSGISubscribeURL"}
    assert links(MailSettings()).confirm(nowhere) == ""


def test_the_link_that_ends_a_subscription_is_always_our_own() -> None:
    subscription: Any = SimpleNamespace(expires=AT)
    link = links(MailSettings(external_url="https://x", public_url="https://y")).unsubscribe(subscription)
    assert link.startswith("https://y/v2/confirm?Signature=ab12&") and link.endswith("&Action=unsubscribe")
    assert links(MailSettings(external_url="https://x")).unsubscribe(subscription) == ""
    assert links(SETTINGS, can_sign=False).unsubscribe(subscription) == ""


def test_an_address_gets_so_many_mails_in_any_hour() -> None:
    limit = MailLimit(2)
    assert [limit.take(["a@x"], now) for now in (0.0, 10.0)] == [0.0, 0.0]
    assert limit.take(["A@X"], 20.0) == HOUR - 20.0
    assert limit.take(["b@x"], 20.0) == 0.0
    assert limit.take(["b@x", "a@x"], 30.0) == HOUR - 30.0
    assert limit.take(["b@x"], 40.0) == 0.0  # what was refused has not counted
    assert limit.take(["a@x"], HOUR) == 0.0
    assert limit.take(["a@x"], HOUR + 1) == 9.0


def test_a_mail_that_has_not_gone_does_not_count() -> None:
    limit = MailLimit(1)
    assert limit.take(["a@x", "b@x"], 5.0) == 0.0
    limit.give_back(["a@x"], 5.0)
    assert limit.take(["a@x"], 6.0) == 0.0
    assert limit.take(["b@x"], 6.0) > 0


def test_without_a_limit_nothing_is_remembered() -> None:
    limit = MailLimit(0)
    assert not any(limit.take(["a@x"], 0.0) for _ in range(100))
    assert not limit._sent


def test_addresses_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.notify.mail_limit.REMEMBERED", 3)
    limit = MailLimit(1)
    for n in range(10):
        assert limit.take([f"{n}@x"], float(n)) == 0.0
    assert len(limit._sent) == 3
    assert limit.take(["9@x"], 10.0) > 0


@given(st.text("<>@,;:\"\\()[] .aü=?_utf8qb-x%'☃\t", max_size=30), st.text(max_size=30))
def test_whatever_clients_write_no_header_is_added(text: str, body: str) -> None:
    settings = MailSettings(sender="n@x.org", domains=("x.org",))
    mail = MailMaker(settings).notification(("a@b.c",), None, {"from": text, "subject": text}, body, "i", AT)
    message = email.message_from_bytes(mail.data(), policy=email.policy.default)
    names = [name for name in message if name != "Reply-To"]
    assert names == [
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
        "Content-Transfer-Encoding",
    ]
    assert message["To"] == "a@b.c"
    assert {address.domain.lower() for address in message["From"].addresses} <= {"x.org"}
