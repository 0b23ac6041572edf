"""OpenStack notifications, wrapped and unwrapped."""

import orjson
import pytest

from gateway.core.foreign.oslo import unwrap, wrap

INNER = {
    "message_id": "1", "publisher_id": "compute.host", "event_type": "instance.create", "priority": "INFO",
    "payload": {"a": 1}, "timestamp": "2026-01-01 00:00:00.000000",
}
WITH_CONTEXT = {**INNER, "_unique_id": "2", "_context_auth_token": "secret"}


@pytest.mark.parametrize("body", [
    orjson.dumps(WITH_CONTEXT),
    orjson.dumps({"oslo.version": "2.0", "oslo.message": orjson.dumps(WITH_CONTEXT).decode()}),
])
def test_notification_is_shown_without_its_senders_context(body: bytes) -> None:
    assert orjson.loads(unwrap(body)) == INNER


@pytest.mark.parametrize("body", [
    b"1", b'"text"', b"[]", b'{"event_type": "a"}', b'{"oslo.version": "2.0", "oslo.message": "{broken"}',
    b'{"oslo.version": "2.0", "oslo.message": "[1]"}', b'{"oslo.version": "2.0", "oslo.message": 5}',
])
def test_what_is_no_notification_stays_as_it_is(body: bytes) -> None:
    assert unwrap(body) == body


def test_wrapped_notification_can_be_unwrapped() -> None:
    assert orjson.loads(unwrap(wrap(orjson.dumps(INNER), "p"))) == INNER


def test_what_is_missing_is_filled_in() -> None:
    made = orjson.loads(unwrap(wrap(b'{"event_type": "a", "payload": null}', "shop")))
    assert made["publisher_id"] == "marconi.shop"
    assert made["priority"] == "INFO"
    assert made["timestamp"] and made["message_id"]


@pytest.mark.parametrize("body", [b"1", b"{}", b'{"event_type": 1, "payload": {}}', b'{"event_type": "a"}'])
def test_body_that_is_no_notification_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="event_type"):
        wrap(body, "p")
