"""Messages as entries of streams."""

from typing import Any

import pytest

from bridges.base import Envelope
from bridges.redis.entries import envelope_of, fields_of


def stored(envelope: Envelope) -> list[bytes]:
    """The fields as Redis gives them back."""
    return [field if isinstance(field, bytes) else field.encode() for field in fields_of(envelope)]


@pytest.mark.parametrize(
    "envelope",
    [
        Envelope(b"", content_type=None),
        Envelope(b"\xff", "id", 1, 2, "text/plain", "gzip", {"a": [1, {"b": None}]}, 0, "c", "r", "t", "a"),
    ],
)
def test_envelope_comes_back(envelope: Envelope) -> None:
    assert envelope_of(stored(envelope), 0) == envelope


def test_what_was_delivered_before_is_marked() -> None:
    again = envelope_of(stored(Envelope(b"x")), 3)
    assert (again.redelivered, again.deliveries) == (True, 3)


def test_headers_of_other_brokers_become_json() -> None:
    headers: dict[Any, Any] = {"bytes": b"\xffx", "set": {1}, 5: "number"}
    assert envelope_of(stored(Envelope(b"", headers=headers)), 0).headers == {
        "bytes": "\ufffdx", "set": "{1}", "5": "number",
    }


@pytest.mark.parametrize(
    "fields",
    [
        [b"other", b"x"], [b"body", b"", b"ttl", b"-1"], [b"body", b"", b"ttl", b"1e3"],
        [b"body", b"", b"timestamp", b"9" * 19], [b"body", b"", b"message_id", b"\xff"],
        [b"body", b"", b"headers", b"[]"], [b"body", b"", b"headers", b"{"], [b"body", b"", b"priority", b""],
    ],
)
def test_what_can_not_be_read_is_left_out(fields: list[bytes]) -> None:
    assert envelope_of(fields, 0) == Envelope(b"", content_type=None, readable=False)
