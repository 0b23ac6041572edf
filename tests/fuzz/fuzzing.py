"""What the fuzz tests share: how long they go on, and pieces of hostile input."""

import json
import os
from typing import Any

import orjson
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

#: Examples for each test if somebody wants a long run; a plain run has the same few each time.
EXAMPLES = os.environ.get("MARCONI_FUZZ_EXAMPLES")

fuzzed = settings(
    max_examples=int(EXAMPLES or 60),
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

#: Text with whatever Unicode has, lone surrogates too, and what separates things.
texts = st.one_of(
    st.text(st.characters(), max_size=40),
    st.text("\r\n\0\x1b\x85\u2028/\\,;:=&%@.*?#$[]{}\"' aZ0", max_size=40),
    st.sampled_from(["..", "a" * 300, "9" * 5000, "\ud800", "-0", "1e999", "NaN", "\x00health", "amq.", "marconi.p.q"]),
)

#: The same as it comes out of UTF-8.
unicode_texts = texts.map(lambda text: text.encode("utf-8", "replace").decode())

integers = st.one_of(
    st.integers(), st.sampled_from([0, -1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63) - 1])
)

#: What a WSGI server makes of a header's bytes.
headers = st.one_of(st.binary(max_size=60).map(lambda data: data.decode("latin-1")), texts.map(
    lambda text: text.encode("utf-8", "surrogatepass").decode("latin-1")
))


def nested(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Whatever JSON can hold, of these scalars."""
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=10
    )


#: Values as orjson gives them: what gets past gateway.web.body.
parsed = nested(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40)
).map(lambda value: orjson.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")))


def deep(levels: int, inner: str = "1") -> bytes:
    """JSON nested so deeply, objects and arrays in turn."""
    return b'{"a":[' * (levels // 2) + inner.encode() + b"]}" * (levels // 2)


#: JSON texts, and what nearly is JSON.
json_texts = st.one_of(
    nested(st.none() | st.booleans() | integers | st.floats() | texts).map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
    st.sampled_from([10, 250, 260, 900, 1010, 1030, 5000]).map(deep),
    st.tuples(st.integers(1, 30), st.sampled_from([b"[", b"{", b'"', b"1", b"-", b"e9", b"\\u", b"0x"])).map(
        lambda pair: pair[1] * 10 ** (pair[0] % 5)
    ),
)


def near(good: st.SearchStrategy[Any], bad: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly good values, so that they get past the first check."""
    return st.integers(1, 6).flatmap(lambda choice: bad if choice == 6 else good)
