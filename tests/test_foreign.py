"""Messages of native AMQP clients: their bodies and properties as JSON, and the other way round."""

import base64
import gzip
import zlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.base import Envelope
from gateway.core.foreign import bodies
from gateway.core.foreign.bodies import Poison, from_json
from gateway.core.foreign.properties import native_envelope, properties

#: Maximum size of a body in bytes.
LIMIT = 1000


def to_json(body: bytes, content_type: str | None = None, encoding: str | None = None) -> bytes:
    return bodies.to_json(Envelope(body, content_type=content_type, content_encoding=encoding), LIMIT)


@pytest.mark.parametrize("body", [b'{"a": 1}', b"[1,2]", b'"text"', b"1.50", b"null", b" true\n"])
def test_json_is_passed_on_byte_by_byte(body: bytes) -> None:
    assert to_json(body) == body


@pytest.mark.parametrize("text", ["hello", "", "grüße", "{broken", "NaN", "'single'", "\ufeff{}", "a\0b"])
def test_other_text_becomes_a_string(text: str) -> None:
    assert orjson.loads(to_json(text.encode(), "text/plain")) == text


def test_binary_becomes_base64_with_its_type() -> None:
    shown = orjson.loads(to_json(b"\xff\xfe\x00", "image/png"))
    assert shown == {"base64": base64.b64encode(b"\xff\xfe\x00").decode(), "content_type": "image/png"}


def test_unknown_type_is_null() -> None:
    assert orjson.loads(to_json(b"\xff"))["content_type"] is None


@given(st.binary(max_size=LIMIT))
def test_every_body_becomes_json(body: bytes) -> None:
    orjson.loads(to_json(body))


RAW_DEFLATE = zlib.compressobj(wbits=-zlib.MAX_WBITS)


@pytest.mark.parametrize(("encoding", "body"), [
    ("gzip", gzip.compress(b'{"a": 1}')),
    ("GZIP", gzip.compress(b'{"a": 1}')),
    ("deflate", zlib.compress(b'{"a": 1}')),
    ("deflate", RAW_DEFLATE.compress(b'{"a": 1}') + RAW_DEFLATE.flush()),
    ("utf-8", b'{"a": 1}'),
])
def test_compressed_bodies_are_decompressed(encoding: str, body: bytes) -> None:
    assert to_json(body, "application/json", encoding) == b'{"a": 1}'


@pytest.mark.parametrize(("encoding", "body"), [
    (None, b"x" * (LIMIT + 1)),
    ("gzip", gzip.compress(b"x" * (LIMIT + 1))),
    ("gzip", gzip.compress(b"x" * 100_000_000)),
    ("gzip", b"no gzip at all"),
    ("gzip", gzip.compress(b"something longer than that")[:-12]),
    ("deflate", b"\xff\xff\xff"),
])
def test_what_can_not_be_shown_is_poison(encoding: str | None, body: bytes) -> None:
    with pytest.raises(Poison):
        bodies.to_json(Envelope(body, content_encoding=encoding), max(LIMIT, len(body) - 1) if encoding else LIMIT)


@given(st.binary(max_size=LIMIT))
def test_binary_goes_round(body: bytes) -> None:
    shown = to_json(body, "image/png")
    value = orjson.loads(shown)
    if isinstance(value, dict) and value.keys() == {"base64", "content_type"}:
        assert from_json(shown, None) == (body, "image/png")


def test_text_goes_round_with_its_type() -> None:
    assert from_json(to_json(b"plain text", "text/plain"), "text/plain") == (b"plain text", "text/plain")


def test_json_is_sent_as_json() -> None:
    assert from_json(b'{"a": 1}', None) == (b'{"a": 1}', "application/json")


def test_bad_base64_is_refused() -> None:
    with pytest.raises(ValueError, match="base64"):
        from_json(b'{"base64": "*", "content_type": null}', None)


@pytest.mark.parametrize("wanted", [
    {"delivery_mode": 1}, {"message_id": "mine"}, {"priority": 256}, {"priority": True}, {"priority": "1"},
    {"headers": []}, {"headers": {"a": 2**63}}, {"headers": {"a": [[1]]}}, {"headers": {"k" * 256: 1}},
    {"reply_to": 5}, {"app_id": "x" * 256}, {"type": None}, {"content_type": "a\0b"},
])
def test_properties_that_amqp_can_not_carry_are_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        native_envelope(b"1", wanted, oslo=False, project="p")


def test_properties_are_set() -> None:
    made = native_envelope(
        b"1", {"headers": {"a": 1}, "priority": 3, "reply_to": "r", "content_type": "x/json"}, oslo=False, project="p"
    )
    assert (made.headers, made.priority, made.reply_to, made.content_type) == ({"a": 1}, 3, "r", "x/json")


def test_headers_of_bytes_go_round() -> None:
    headers = {"raw": b"\xff", "nested": {"list": [b"\xfe", "text"]}, "plain": {"base64": 1}}
    shown = orjson.loads(properties(Envelope(b"1", headers=headers)))["headers"]
    assert native_envelope(b"1", {"headers": shown}, oslo=False, project="p").headers == headers


def test_headers_of_bad_base64_are_refused() -> None:
    with pytest.raises(ValueError, match="base64"):
        native_envelope(b"1", {"headers": {"a": {"base64": "*"}}}, oslo=False, project="p")


def test_properties_are_shown_when_they_are_set() -> None:
    envelope = Envelope(b"1", content_type=None, correlation_id="c", ttl=5000, exchange="e", routing_key="k")
    assert orjson.loads(properties(envelope)) == {
        "exchange": "e", "routing_key": "k", "correlation_id": "c", "expiration": "5000",
    }


def test_headers_of_all_amqp_types_are_shown() -> None:
    headers = {"b": b"bytes", "x": b"\xff", "d": Decimal("1.5"), "t": datetime(2026, 1, 2, tzinfo=UTC), "n": None}
    shown = orjson.loads(properties(Envelope(b"1", headers=headers)))["headers"]
    assert shown == {"b": "bytes", "x": {"base64": "/w=="}, "d": "1.5", "t": "2026-01-02T00:00:00+00:00", "n": None}
