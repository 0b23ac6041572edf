"""Whatever clients and receivers send about subscriptions: it is understood, or refused with a sentence."""

import base64
import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.limits import Limits
from gateway.core.subscriptions import webhook_secrets
from gateway.core.subscriptions.addresses import Entry, Rules, parse_ports
from gateway.core.subscriptions.filters import Filter
from gateway.core.subscriptions.options import check
from gateway.core.subscriptions.retry import MAX_COUNT, MAX_LISTED, MAX_STEPS, RetryPolicy, next_wait
from gateway.core.subscriptions.subscriber import TYPES, Subscriber, parse
from gateway.notify.formats import NOTIFICATION, Content, Target, build, webhook_id
from gateway.notify.outcomes import judge
from tests.fuzz.fuzzing import fuzzed, integers, near, parsed, texts

RULES = Rules()
SUBSCRIBERS = [parse("http://fake"), parse("trust+https://fake"), parse("mailto:a@b")]


def attempted(call: Callable[[], Any]) -> Any:
    """What it returns, or None if it refuses with a sentence."""
    try:
        return call()
    except ValueError as error:
        assert type(error) is ValueError and str(error).strip()
        return None


pieces = st.lists(
    st.sampled_from([
        "http", "https", "trust+", "HTTP", "mailto", "marconi", "websocket", ":", "//", "/", "?", "#", "@", ".", "[",
        "]", "%", "%0d%0a", "%00", "\\", "a", "b.c", "127.0.0.1", "10.0.0.1", "::1", "::ffff:10.0.0.1", "fe80::1%25e",
        "0", "8.8.8.8", "80", "99999", "_", "-", " ", "\n", "ü", "①", "。", "\u200d", "xn--", "subject=", "&", ",",
        "=", "\ud800", "10.0.0.0/8", "[fd00::/8]",
    ]) | texts,
    max_size=10,
).map("".join)
uris = st.one_of(pieces, st.builds("{}://{}".format, st.sampled_from(["http", "https", "trust+http"]), pieces),
                 st.builds("mailto:{}@b{}".format, pieces, pieces), parsed)


@fuzzed
@given(uris)
def test_subscribers(text: Any) -> None:
    found = attempted(lambda: parse(text, TYPES, RULES))
    if found is None:
        return
    assert isinstance(found, Subscriber) and found.type in TYPES
    if found.is_http:
        assert re.fullmatch(r"https?://[\x21-\x5b\x5d-\x7e]+", found.url) and "@" not in found.url.split("/")[2]
        assert 0 < found.port < 65536 and re.fullmatch(r"[a-z0-9._:-]+", found.host)
        assert parse(found.url, TYPES, RULES).url == found.url
        try:
            ip_address(found.host)
        except ValueError:
            return
        assert RULES.judge(found.host, found.port).allowed
    for text in (*found.recipients, found.subject or ""):
        assert not re.search(r"[\x00-\x1f\x7f]", text)


@fuzzed
@given(pieces, integers, st.booleans())
def test_addresses(text: str, port: int, trust: bool) -> None:
    verdict = RULES.judge(text, port, trust)
    assert verdict.allowed or verdict.reason
    entry = attempted(lambda: Entry.parse(text))
    if entry is not None:
        assert entry.holds(entry.network[0], entry.port or 1) and Rules([text])
    ports = attempted(lambda: parse_ports(text))
    assert ports is None or all(0 < port < 65536 for port in ports)


@fuzzed
@given(st.ip_addresses(), st.integers(0, 65535), st.booleans())
def test_judging_never_fails_and_mapped_addresses_are_the_same(address: Any, port: int, trust: bool) -> None:
    verdict = RULES.judge(str(address), port, trust)
    if address.version == 4:
        assert RULES.judge(f"::ffff:{address}", port, trust) == verdict
    if verdict.allowed:
        assert address.is_global and not address.is_multicast


policies = near(
    st.dictionaries(
        st.sampled_from([
            "retries_with_no_delay", "minimum_delay_retries", "minimum_delay", "maximum_delay",
            "maximum_delay_retries",
        ]),
        st.integers(0, 100) | st.integers(0, MAX_COUNT) | st.none(),
    ).flatmap(lambda counts: st.fixed_dictionaries({}, optional={
        "retry_backoff_function": st.sampled_from(["linear", "arithmetic", "geometric", "exponential"]),
        "ignore_subscription_override": st.booleans(),
    }).map(lambda more: counts | more)),
    parsed,
)


@fuzzed
@given(policies, st.integers(1, 2**34))
def test_retry_policies(value: Any, attempt: int) -> None:
    policy = attempted(lambda: RetryPolicy.parse(value, "there"))
    old = RetryPolicy.stored(value)
    assert policy is None or policy == old
    if old is None:
        return
    waits = old.waits()
    assert len(waits) <= MAX_LISTED and all(0 <= wait <= MAX_COUNT for wait in waits)
    assert waits == [old.wait(retry) for retry in range(1, len(waits) + 1)]
    counts = old.retries_with_no_delay + old.minimum_delay_retries + old.maximum_delay_retries
    wait = next_wait(attempt, old, ())
    assert (wait is not None) or attempt > counts
    assert wait is None or attempt <= counts + MAX_STEPS
    if policy is not None:
        after = waits[policy.retries_with_no_delay:]
        assert after == sorted(after), "waits grow"


conditions = near(
    st.one_of(
        st.text(max_size=3), st.integers(-3, 3), st.booleans(), st.none(),
        st.builds(lambda x: {"prefix": x}, st.text(max_size=2)),
        st.builds(lambda x: {"anything-but": x}, st.lists(st.integers(-3, 3) | st.text(max_size=2), max_size=3)),
        st.builds(lambda x: {"exists": x}, st.booleans()),
        st.builds(lambda x, y: {"numeric": [x, y]}, st.sampled_from(["<", "<=", "=", ">=", ">"]), st.integers(-3, 3)),
    ),
    parsed,
)
keys = st.sampled_from(["a", "b", "c"])
filters = near(
    st.recursive(
        st.dictionaries(keys, st.lists(conditions, max_size=3), max_size=3),
        lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=4,
    ),
    parsed,
)
bodies = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8,
).map(orjson.dumps) | st.text(max_size=5).map(lambda text: orjson.dumps({"base64": text, "content_type": None}))


@fuzzed
@given(filters, bodies | st.binary(max_size=30))
def test_filters(value: Any, body: bytes) -> None:
    found = attempted(lambda: Filter.parse(value))
    assert found is None or found.matches(body) in (True, False)


NAMES = [
    "post_data", "post_headers", "subject", "from", "trust_id", "_format", "_content_type", "_ce_type", "_filter",
    "_retry_policy", "_retry_client_errors", "_retry_budget", "_max_in_flight", "_rate_limit", "_dead_letter_queue",
    "_alert", "_confirmation", "_unknown", "unknown",
]
options = near(
    st.fixed_dictionaries({}, optional={
        "post_data": near(st.sampled_from(["", '"$zaqar_message$"', '{"a": "$zaqar_message$"}']), parsed),
        "post_headers": near(st.dictionaries(st.sampled_from(["X-A", "User-Agent"]), st.text()), parsed),
        "_format": near(st.sampled_from(["zaqar", "raw", "cloudevents", "cloudevents-binary"]), parsed),
        "_content_type": near(st.sampled_from(["text/plain", "image/png"]), parsed),
        "_ce_type": st.text(max_size=10),
        "_filter": filters,
        "_retry_policy": policies,
    }),
    st.dictionaries(st.sampled_from(NAMES), parsed, max_size=5) | parsed,
)


@fuzzed
@given(options, st.sampled_from(SUBSCRIBERS), bodies, texts)
def test_options_that_are_taken_make_a_request(value: Any, subscriber: Subscriber, body: bytes, id_: str) -> None:
    kept = attempted(lambda: check(value, subscriber, "q", Limits(), max_in_flight=10))
    if kept is None:
        return
    assert kept == (value or {})
    headers, sent = build(Content("a", body, 60, 0), Target("q", "s", kept), 1, NOTIFICATION)
    assert isinstance(sent, bytes)
    for name, text in headers:
        assert re.fullmatch(r"[!-9;-~]+", name) and not re.search(r"[\x00-\x1f\x7f]", text)
    if "\ud800" not in id_:
        assert "." not in webhook_id(id_)


@fuzzed
@given(st.one_of(
    texts.map("whsec_{}".format), parsed,
    st.binary(max_size=80).map(lambda key: "whsec_" + base64.b64encode(key).decode()),
))
def test_secrets(value: Any) -> None:
    found = attempted(lambda: webhook_secrets.check(value))
    assert found is None or 24 <= len(webhook_secrets.decode(found)) <= 64


@fuzzed
@given(
    st.integers(100, 999),
    st.dictionaries(st.sampled_from(["Retry-After", "Date", "webhook-delivery", "retry-after"]), st.one_of(
        texts, st.sampled_from(["disable", "abort-message", "60", "Tue, 14 Nov 2023 22:13:20 GMT"]),
        st.datetimes().map(lambda when: when.strftime("%a, %d %b %Y %H:%M:%S GMT")), integers.map(str),
    )),
    st.integers(0, 2**42), st.integers(0, 10**6),
)
def test_answers(status: int, headers: dict[str, str], now: int, most: int) -> None:
    outcome = judge(status, headers, now, retry_after_max=most)
    assert outcome.rest_until == 0 or now < outcome.rest_until + 1 <= now + 1000 * most + 1


@pytest.mark.parametrize("text", ["http://" + "a" * 10**6, "mailto:" + "a@b," * 10**5, "http://" + "ä." * 10**5])
def test_huge_subscribers_are_refused_before_they_are_read(text: str) -> None:
    with pytest.raises(ValueError, match="too long"):
        parse(text)
