"""Request bodies."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import InvalidInput
from gateway.web import body

LARGEST = 2**64 - 1
SMALLEST = -(2**63)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(SMALLEST, LARGEST) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@given(JSON)
def test_what_json_can_say_is_read(value: Any) -> None:
    assert body.parse(json.dumps(value).encode()) == value
    assert body.parse(orjson.dumps(value)) == value


@pytest.mark.parametrize("text", ["0", "-0", "18446744073709551615", "-9223372036854775808", "1e308", "1E-5", "0.1"])
def test_number_of_64_bits_is_read(text: str) -> None:
    assert body.parse(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    ["18446744073709551616", "-9223372036854775809", "1" * 400, "1e309", "-1E999", "1.5e400", "NaN", "Infinity",
     "-Infinity"],
)
@pytest.mark.parametrize("form", ["%s", '{"a": %s}', "[1, [%s]]"])
def test_number_beyond_64_bits_is_refused(text: str, form: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        body.parse((form % text).encode())
    assert caught.value.title == "Invalid request body"


@pytest.mark.parametrize(
    "data",
    [b"", b" ", b"{", b"{'a': 1}", b"[1,]", b"\xff", b'"\xff"', b"\xef\xbb\xbf{}", b"{} {}", b"nul", b"01", b'"\n"',
     '{"a": 1}'.encode("utf-16"), b'"\\ud800"', b"[" * 100_000],
)
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="JSON"):
        body.parse(data)


@pytest.mark.parametrize("data", [b"123456789012345678" + b"[" * 2000, b"[1.0e5," + b"[" * 500 + b"]" * 501])
def test_suspicious_numbers_in_deep_bodies_are_no_crash(data: bytes) -> None:
    try:
        body.encode(body.parse(data))
    except InvalidInput as error:
        assert error.title == "Invalid request body"


def test_large_digits_in_strings_are_fine() -> None:
    assert body.parse(b'{"a": "99999999999999999999999"}') == {"a": "9" * 23}


@pytest.mark.parametrize("data", [b"[]", b"1", b"null", b'"{}"', b"true"])
def test_object_is_demanded(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="object"):
        body.parse_object(data)


def test_missing_body_may_be_an_empty_object() -> None:
    assert body.parse_optional_object(b"") == {}
    with pytest.raises(InvalidInput):
        body.parse_optional_object(b" ")


@pytest.mark.parametrize(("document", "value"), [({}, None), ({"a": None}, None), ({"a": 0}, 0), ({"a": -7}, -7)])
def test_integer_member(document: dict[str, Any], value: int | None) -> None:
    assert body.integer(document, "a") == value


@pytest.mark.parametrize("value", ["1", 1.0, True, [], {}])
def test_member_that_is_no_integer_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="'a' must be an integer"):
        body.integer({"a": value}, "a")


def test_part_that_is_too_deep_to_write_is_refused() -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    with pytest.raises(InvalidInput, match="too deeply"):
        body.encode(deep)
