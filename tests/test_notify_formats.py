"""What receivers get: bodies in each format, and headers."""

import json
from typing import Any
from uuid import UUID, uuid5

import pytest

from gateway.core.ids import FOREIGN_IDS
from gateway.notify.formats import NOTIFICATION, TEST, USER_AGENT, Content, Target, build, webhook_id

ID = "0196f0a0-1234-7000-8000-000000000000"
CONTENT = Content(ID, b'{"a": [1, 2.50, "\xc3\xbc"]}', 3600, 1_700_000_000_123)
WHOLE = {"body": {"a": [1, 2.5, "ü"]}, "ttl": 3600, "queue_name": "q", "Message_Type": "Notification"}
CONFIRMATION = "SubscriptionConfirmation"


def built(options: dict[str, Any] | None = None, content: Content = CONTENT, attempt: int = 1,
          kind: str = NOTIFICATION, **more: Any) -> tuple[dict[str, str], bytes]:
    headers, body = build(content, Target("q", "s-1", options or {}), attempt, kind, **more)
    names = [name.lower() for name, _ in headers]
    assert len(names) == len(set(names)), "a header is there twice"
    return dict(headers), body


def test_zaqars_notification_has_exactly_these_keys() -> None:
    for options in ({}, {"_format": "zaqar"}, {"_format": None, "post_data": None, "post_headers": None}):
        headers, body = built(options)
        assert json.loads(body) == WHOLE
        assert b'"body":{"a": [1, 2.50, "\xc3\xbc"]}' in body  # as it was posted
        assert headers == {
            "Content-Type": "application/json", "User-Agent": USER_AGENT, "Accept-Encoding": "identity",
            "marconi-queue": "q", "marconi-subscription": "s-1", "marconi-message-type": "Notification",
            "marconi-attempt": "1",
        }
    assert USER_AGENT.startswith("marconi/0")


def test_delay_and_properties_come_besides() -> None:
    content = Content(ID, b"1", 60, 0, delay=0, properties=b'{"headers": {}}')
    assert json.loads(built(content=content)[1]) == {
        "body": 1, "ttl": 60, "queue_name": "q", "Message_Type": "Notification", "delay": 0,
        "properties": {"headers": {}},
    }


@pytest.mark.parametrize("body", [b"null", b'"x"', b"[]", b"1e400", b"123456789012345678901234567890", b"0"])
def test_any_json_is_a_body(body: bytes) -> None:
    content = Content(ID, body, 60, 0)
    assert b'"body":' + body + b"," in built(content=content)[1]
    assert built({"_format": "raw"}, content)[1] == body
    assert b'"data":' + body in built({"_format": "cloudevents"}, content)[1]
    assert built({"_format": "cloudevents-binary"}, content)[1] == body


def test_post_data_gets_the_message_in_place_of_the_quoted_name() -> None:
    whole = built()[1]
    for template, expected in (
        ('{"workflow_input": "$zaqar_message$", "a": ["$zaqar_message$"]}',
         b'{"workflow_input": ' + whole + b', "a": [' + whole + b"]}"),
        ("no JSON: \"$zaqar_message$\" ü", b"no JSON: " + whole + " ü".encode()),
        ("$zaqar_message$ '$zaqar_message$'", b"$zaqar_message$ '$zaqar_message$'"),
        ("", b""),
    ):
        headers, body = built({"post_data": template})
        assert body == expected and headers["Content-Type"] == "application/json"


def test_name_within_a_message_is_not_replaced() -> None:
    content = Content(ID, b'"$zaqar_message$"', 60, 0)
    assert built({"post_data": '"$zaqar_message$"'}, content)[1] == built(content=content)[1]


@pytest.mark.parametrize("options", [{}, {"_format": "raw", "_content_type": "text/plain"}, {"_format": "cloudevents"}])
def test_requests_to_confirm_are_complete_json_in_any_format(options: dict[str, Any]) -> None:
    content = Content("confirm-s-1-1", b'{"Message_Type": "SubscriptionConfirmation"}', 3600, 0)
    headers, body = built(options, content, kind=CONFIRMATION)
    assert body == content.body and headers["Content-Type"] == "application/json"
    assert headers["marconi-message-type"] == CONFIRMATION
    _, body = built({**options, "post_data": '["$zaqar_message$"]'}, content, kind=CONFIRMATION)
    assert body == b"[" + content.body + b"]"


def test_tests_look_like_notifications() -> None:
    headers, body = built(kind=TEST)
    assert json.loads(body) == WHOLE | {"Message_Type": "Test"} and headers["marconi-message-type"] == "Test"
    assert built({"_format": "raw"}, kind=TEST)[1] == CONTENT.body


@pytest.mark.parametrize(("body", "content_type", "sent_type", "sent"), [
    (b'"Gr\\u00fc\xc3\x9fe"', None, "application/json", b'"Gr\\u00fc\xc3\x9fe"'),
    (b'"Gr\\u00fc\xc3\x9fe"', "text/plain", "text/plain", "Grüße".encode()),
    (b'{"a": 1}', "text/plain", "text/plain", b'{"a": 1}'),
    (b'{"a": 1}', "application/vnd.a+json", "application/vnd.a+json", b'{"a": 1}'),
    (b'"x"', "application/json; charset=utf-8", "application/json; charset=utf-8", b'"x"'),
    (b'{"base64": "//8=", "content_type": "image/png"}', "image/png", "image/png", b"\xff\xff"),
    (b'{"base64": "//8=", "content_type": null}', "a/b", "a/b", b"\xff\xff"),
    (b'{"base64": "//8=", "content_type": "image/png"}', None, "application/json",
     b'{"base64": "//8=", "content_type": "image/png"}'),
    (b'{"base64": "!", "content_type": "image/png"}', "image/png", "image/png",
     b'{"base64": "!", "content_type": "image/png"}'),
    (b'{"base64": "\xc3\xbc", "content_type": "image/png"}', "image/png", "image/png",
     b'{"base64": "\xc3\xbc", "content_type": "image/png"}'),
])
def test_raw(body: bytes, content_type: str | None, sent_type: str, sent: bytes) -> None:
    headers, found = built({"_format": "raw", "_content_type": content_type}, Content(ID, body, 60, 0))
    assert (headers["Content-Type"], found) == (sent_type, sent)


def test_structured_cloudevent() -> None:
    headers, body = built({"_format": "cloudevents"})
    assert headers["Content-Type"] == "application/cloudevents+json"
    assert json.loads(body) == {
        "specversion": "1.0", "id": ID, "source": "/v2/queues/q", "type": "marconi.message",
        "time": "2023-11-14T22:13:20.123Z", "datacontenttype": "application/json", "data": {"a": [1, 2.5, "ü"]},
    }
    assert json.loads(built({"_format": "cloudevents", "_ce_type": "com.ü"})[1])["type"] == "com.ü"


def test_binary_cloudevent() -> None:
    headers, body = built({"_format": "cloudevents-binary", "_ce_type": 'a b"c%d\u20ac~!/:'})
    assert body == CONTENT.body and headers["Content-Type"] == "application/json"
    assert {name: value for name, value in headers.items() if name.startswith("ce-")} == {
        "ce-specversion": "1.0", "ce-id": ID, "ce-source": "/v2/queues/q", "ce-time": "2023-11-14T22:13:20.123Z",
        "ce-type": "a%20b%22c%25d%E2%82%AC~!/:",
    }


@pytest.mark.parametrize("options", [
    {}, {"_format": "raw", "_content_type": "text/plain"}, {"_format": "cloudevents"},
    {"_format": "cloudevents-binary"},
])
def test_headers_of_the_subscription_win_over_two_of_ours(options: dict[str, Any]) -> None:
    theirs = {
        "content-type": "a/b", "USER-AGENT": "me", "X-Mine": "1", "Accept-Encoding": "gzip", "Marconi-Attempt": "9",
        "X-Auth-Token": "theirs", "CE-ID": "9",
    }
    headers, _ = built({**options, "post_headers": theirs}, token="ours")
    assert headers["content-type"] == "a/b" and headers["USER-AGENT"] == "me" and headers["X-Mine"] == "1"
    assert headers["Accept-Encoding"] == "identity" and headers["marconi-attempt"] == "1"
    assert headers["X-Auth-Token"] == "ours" and headers.get("ce-id", ID) == ID
    assert built({"post_headers": theirs})[0]["X-Auth-Token"] == "theirs"


def test_headers_that_are_not_always_there() -> None:
    headers, _ = built(attempt=7, replay=True, origin="gateway.example")
    assert headers["marconi-attempt"] == "7" and headers["marconi-replay"] == "true"
    assert headers["WebHook-Request-Origin"] == "gateway.example"


def test_webhook_id_is_a_uuid_without_dots() -> None:
    assert webhook_id(ID) == ID and webhook_id(ID.upper()) == ID.upper()
    for id_ in ("a.b", "order:1", "", "x" * 64, ID.replace("-", ""), ID + "\n"):
        made = webhook_id(id_)
        assert made == str(uuid5(FOREIGN_IDS, id_)) == webhook_id(id_) and UUID(made).version == 5
    assert webhook_id("confirm-s-1-1", CONFIRMATION) == "confirm-s-1-1"
    assert webhook_id(f"test-{ID}", TEST) == f"test-{ID}"
