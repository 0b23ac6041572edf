"""Bodies of native AMQP messages, as JSON."""

import base64

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.foreign import to_json


@pytest.mark.parametrize("body", [b'{"a": 1}', b"[1,2]", b'"text"', b"1.50", b"null", b" true\n"])
def test_json_is_passed_on_byte_by_byte(body: bytes) -> None:
    assert to_json(body, None) == body


@pytest.mark.parametrize("text", ["hello", "", "grüße", "{broken", "NaN", "'single'", "\ufeff{}", "a\0b"])
def test_other_text_becomes_a_string(text: str) -> None:
    assert orjson.loads(to_json(text.encode(), "text/plain")) == text


def test_binary_becomes_base64_with_its_type() -> None:
    shown = orjson.loads(to_json(b"\xff\xfe\x00", "image/png"))
    assert shown == {"base64": base64.b64encode(b"\xff\xfe\x00").decode(), "content_type": "image/png"}


def test_unknown_type_is_null() -> None:
    assert orjson.loads(to_json(b"\xff", None))["content_type"] is None


@given(st.binary())
def test_every_body_becomes_json(body: bytes) -> None:
    orjson.loads(to_json(body, None))
