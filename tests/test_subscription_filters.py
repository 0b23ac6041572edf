"""Filters: which bodies get through, and which filters are refused."""

from typing import Any

import orjson
import pytest

from gateway.core.subscriptions.filters import MAX_LEVELS, Filter


def matches(wanted: Any, body: Any) -> bool:
    return Filter.parse(wanted).matches(orjson.dumps(body))


@pytest.mark.parametrize(("condition", "good", "bad"), [
    ("a", ["a", ["b", "a"], [["a"]]], ["b", "A", "", 1, None, True, [], ["b"], {"a": "a"}]),
    (1, [1, 1.0, [2, 1]], [True, "1", 2, None]),
    (1.5, [1.5], [1, "1.5"]),
    (0, [0, 0.0, -0.0], [False, None, ""]),
    (True, [True, [True]], [1, "true", False]),
    (False, [False], [0, None, ""]),
    (None, [None, [None]], [0, False, "", [], "null"]),
    ("", [""], [None, [], "a"]),
    ({"prefix": "x"}, ["x", "xy", ["a", "xb"]], ["ax", "X", "", 1, None, ["a"]]),
    ({"anything-but": ["b", 1]}, ["a", 2, None, True, ["b", "a"], []], ["b", 1, 1.0, ["b", 1]]),
    ({"anything-but": "b"}, ["a"], ["b"]),
    ({"anything-but": [{"prefix": "x"}]}, ["a", 1], ["xa"]),
    ({"exists": True}, [1, None, False, "", [], {}, {"a": 1}], []),
    ({"numeric": [">", 0]}, [1, 0.1, [0, 1]], [0, -1, "1", True, None, []]),
    ({"numeric": [">=", 0]}, [0, 1], [-0.5]),
    ({"numeric": ["<", 5]}, [4, -1], [5]),
    ({"numeric": ["<=", 5]}, [5], [5.1]),
    ({"numeric": ["=", 5]}, [5, 5.0], [4, "5", True]),
    ({"numeric": [">", 0, "<=", 5]}, [1, 5], [0, 6, [0, 6]]),
])
def test_conditions(condition: Any, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert matches({"key": [condition]}, {"key": value, "else": 1}), value
        assert matches({"key": ["never", condition]}, {"key": value}), value
    for value in bad:
        assert not matches({"key": [condition]}, {"key": value}), value
    for body in ({}, {"else": 1}, [], None, "key", 1, [{"key": "a"}]):
        assert not matches({"key": [condition]}, body), body


def test_missing_key_is_wanted() -> None:
    for body in ({}, {"else": 1}):
        assert matches({"key": [{"exists": False}]}, body)
        assert matches({"key": [{"exists": False}, "a"]}, body)
        assert matches({"outer": {"key": [{"exists": False}]}}, body)
    assert not matches({"key": [{"exists": False}]}, {"key": None})
    assert not matches({"outer": {"key": [{"exists": False}]}}, {"outer": 1})
    assert not matches({"key": [{"exists": False}]}, "text")


def test_every_key_must_match() -> None:
    wanted = {"a": ["x"], "b": [1, 2]}
    assert matches(wanted, {"a": "x", "b": 2})
    assert not matches(wanted, {"a": "x", "b": 3}) and not matches(wanted, {"a": "x"})


def test_nested_keys() -> None:
    wanted = {"a": {"b": ["x"], "c": {"d": [1]}}}
    assert matches(wanted, {"a": {"b": "x", "c": {"d": 1}}})
    assert matches(wanted, {"a": [{"b": "y"}, {"b": "x", "c": [{"d": 1}]}]})
    for body in ({"a": {"b": "x"}}, {"a": "x"}, {"a": {"b": "x", "c": 1}}, {"a": [{"b": "x"}, {"c": {"d": 1}}]}):
        assert not matches(wanted, body)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"key": 1} x', b"[" * 2000, b'{"key": NaN}'])
def test_what_is_no_json_does_not_get_through(body: bytes) -> None:
    assert Filter.parse({"key": [{"exists": False}]}).matches(body) is False


def test_deep_bodies_get_through() -> None:
    assert Filter.parse({"key": ["x"]}).matches(b'{"key": ' + b"[" * 900 + b'"x"' + b"]" * 900 + b"}")
    deep: Any = ["x"]
    for _ in range(6):
        deep = {"a": deep}
    assert Filter.parse(deep).matches(b'{"a":' * 6 + b'"x"' + b"}" * 6)


@pytest.mark.parametrize("wanted", [
    {f"k{i}": ["a"] for i in range(5)},
    {"a": list(range(150))},
    {"a": list(range(15)), "b": list(range(10))},
    {"a": {"b": list(range(75))}},
    {"a": {"b": {"c": ["1", "2", "3", "4"]}}, "d": {"e": ["1", "2", "3"]}},
])
def test_filters_within_the_limits(wanted: Any) -> None:
    Filter.parse(wanted)


def nested(levels: int) -> Any:
    wanted: Any = ["x"]
    for _ in range(levels):
        wanted = {"a": wanted}
    return wanted


@pytest.mark.parametrize(("wanted", "sentence"), [
    ({f"k{i}": ["a"] for i in range(6)}, "at most 5 keys"),
    ({"a": list(range(151))}, "at most 150 value combinations"),
    ({"a": list(range(16)), "b": list(range(10))}, "at most 150 value combinations"),
    ({"a": {"b": list(range(76))}}, "at most 150 value combinations"),
    (nested(MAX_LEVELS + 1), f"at most {MAX_LEVELS} levels"), (nested(900), "levels"),
    ({}, "at least one key"), ([], "object"), ("x", "object"), (None, "object"),
    ({"a": []}, "array"), ({"a": {}}, "array"), ({"a": "x"}, "array"), ({"a": 1}, "array"), ({"a": None}, "array"),
    ({"a": [["x"]]}, "value must be"), ({"a": [{}]}, "one key"), ({"a": [{"prefix": "x", "exists": True}]}, "one key"),
    ({"a": [{"suffix": "x"}]}, "prefix, anything-but"), ({"a": [{"prefix": ""}]}, "prefix"),
    ({"a": [{"prefix": 1}]}, "prefix"), ({"a": [{"anything-but": []}]}, "anything-but"),
    ({"a": [{"anything-but": list(range(151))}]}, "anything-but"),
    ({"a": [{"anything-but": [{"exists": True}]}]}, "value must be"), ({"a": [{"exists": 1}]}, "exists"),
    ({"a": [{"exists": "true"}]}, "exists"),
    *(({"a": [{"numeric": operand}]}, "numeric") for operand in (
        [], [">"], [">", "0"], [">", True], ["!", 0], [0, ">"], [">", 0, "<"], ">0", 1, None, [">", 0] * 3, [[">"], 0],
    )),
])
def test_bad_filter_is_refused_with_a_sentence(wanted: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Filter.parse(wanted)
