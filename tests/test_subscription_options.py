"""The options of a subscription: which are taken, and which are refused with a sentence."""

from typing import Any

import orjson
import pytest

from gateway.config.limits import Limits
from gateway.core.subscriptions.options import MAX_HEADER, check
from gateway.core.subscriptions.subscriber import parse

HTTP, TRUST, MAIL = parse("http://fake"), parse("trust+https://fake"), parse("mailto:a@b")
LIMITS = Limits()


def checked(options: Any, subscriber: Any = HTTP, **more: Any) -> dict[str, Any]:
    return check(options, subscriber, "source", LIMITS, **{"max_in_flight": 10} | more)


GOOD: list[tuple[str, Any]] = [
    ("post_data", ""), ("post_data", 'no JSON {"a": "$zaqar_message$"'), ("post_data", '"$zaqar_message$"' * 10),
    ("post_headers", {}), ("post_headers", {"X-Mine": "", "Content-Type": "text/plain", "user-agent": "me"}),
    ("post_headers", {"X-Auth-Token": "t", "Authorization": "Basic x", "X-Ü".encode().hex(): "grüße"}),
    ("post_headers", {f"X-{i}": "v" for i in range(32)}), ("post_headers", {"X": "v" * (MAX_HEADER - 1)}),
    ("subject", "Grüße"), ("from", "a@b"), ("subject", ""),
    ("_format", "zaqar"), ("_format", "raw"), ("_format", "cloudevents"), ("_format", "cloudevents-binary"),
    ("_content_type", "text/plain"), ("_content_type", 'text/plain; charset="utf-8"'), ("_ce_type", "com.example.ü"),
    ("_filter", {"a": ["b"]}), ("_retry_policy", {}), ("_retry_policy", {"minimum_delay": 1, "mine": 1}),
    ("_retry_client_errors", False), ("_retry_budget", 1), ("_max_in_flight", 1), ("_max_in_flight", 10),
    ("_rate_limit", 5), ("_rate_limit", 0.5), ("_dead_letter_queue", "dead"), ("_alert", "mailto:a@b?subject=x"),
    ("_alert", "marconi:alerts"), ("_confirmation", "cloudevents"), ("_unknown", [1]), ("mine", {"a": None}),
    ("trust_id", None), ("post_data", None), ("_filter", None), ("_format", None), ("_retry_policy", None),
]


@pytest.mark.parametrize(("key", "value"), GOOD)
def test_good_option_is_kept_as_it_is(key: str, value: Any) -> None:
    assert checked({key: value, "else": 1}) == {key: value, "else": 1}


@pytest.mark.parametrize(("key", "value"), [
    ("post_data", 1), ("post_data", {"a": 1}), ("post_data", []), ("post_data", '"$zaqar_message$"' * 11),
    ("post_headers", []), ("post_headers", "X: y"), ("post_headers", {"X": 1}), ("post_headers", {"X": None}),
    ("post_headers", {"X": ["y"]}), ("post_headers", {f"X-{i}": "v" for i in range(33)}),
    ("post_headers", {"X": "v" * MAX_HEADER}), ("post_headers", {"X": "ü" * (MAX_HEADER // 2)}),
    ("post_headers", {"X-a": "1", "x-A": "2"}),
    *(("post_headers", {name: "v"}) for name in (
        "Host", "host", "Content-Length", "Transfer-Encoding", "CONNECTION", "TE", "Trailer", "Upgrade", "Expect",
        "Proxy-Authorization", "proxy-x", "webhook-id", "Webhook-Signature", "marconi-queue", "Marconi-Anything",
        "", "a b", "a:", "a\r\n", "ü", "X\0", " X",
    )),
    *(("post_headers", {"X": value}) for value in ("a\r\nb", "a\n", "\0", "a\x1fb", "\x7f", "\x85", "a\tb")),
    ("subject", 1), ("subject", "a\nb"), ("subject", "a\r"), ("subject", "a\u2028b"), ("subject", "a" * 999),
    ("from", ["a@b"]), ("from", "a@b\r\nBcc: c@d"),
    ("_format", "xml"), ("_format", 1), ("_format", []), ("_content_type", "text"), ("_content_type", 1),
    ("_content_type", "text/plain\r\nX: y"), ("_content_type", "text/plain; ü"), ("_content_type", "a/b/c"),
    ("_ce_type", ""), ("_ce_type", 1), ("_ce_type", "a\nb"), ("_filter", {}), ("_filter", "x"),
    ("_retry_policy", {"minimum_delay": 25}), ("_retry_policy", []), ("_retry_client_errors", 0),
    ("_retry_client_errors", "false"), ("_retry_budget", 0), ("_retry_budget", True), ("_retry_budget", 1.5),
    ("_retry_budget", 2**31), ("_max_in_flight", 0), ("_max_in_flight", 11), ("_max_in_flight", True),
    ("_rate_limit", 0), ("_rate_limit", -1), ("_rate_limit", "5"), ("_rate_limit", True), ("_rate_limit", 2**32),
    ("_dead_letter_queue", "source"), ("_dead_letter_queue", "a/b"), ("_dead_letter_queue", 1),
    ("_alert", "http://fake"), ("_alert", "marconi:source"), ("_alert", "mailto:"), ("_alert", 1),
    ("_confirmation", True), ("_confirmation", "zaqar"), ("trust_id", "theirs"), ("trust_id", ""), ("trust_id", 1),
])
def test_bad_option_is_refused_by_its_name(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^Subscription option {key}: ") as caught:
        checked({key: value})
    assert type(caught.value) is ValueError and not str(caught.value).endswith(": ")


@pytest.mark.parametrize("options", ["x", "", 0, 1, [], [1], True, False, 1.5])
def test_options_must_be_an_object(options: Any) -> None:
    with pytest.raises(ValueError, match="must be a dict"):
        checked(options)


def test_null_is_no_options() -> None:
    assert checked(None) == checked({}) == {}


def test_token_of_a_trust_cant_be_replaced() -> None:
    for name in ("X-Auth-Token", "x-auth-token"):
        with pytest.raises(ValueError, match="post_headers"):
            checked({"post_headers": {name: "t"}}, TRUST)


def test_secrets_in_headers_are_not_repeated() -> None:
    with pytest.raises(ValueError, match="Authorization") as caught:
        checked({"post_headers": {"Authorization": "s3cret\n"}})
    assert "s3cret" not in str(caught.value)


def test_only_the_stored_trust_may_be_sent_again() -> None:
    assert checked({"trust_id": "ours"}, TRUST, trust_id="ours") == {"trust_id": "ours"}
    with pytest.raises(ValueError, match="trust_id"):
        checked({"trust_id": "other"}, TRUST, trust_id="ours")


def test_limits_of_the_operator_can_only_be_lowered() -> None:
    assert checked({"_rate_limit": 5}, rate_limit=5) and checked({"_max_in_flight": 2}, max_in_flight=2)
    with pytest.raises(ValueError, match=r"_rate_limit: .* 5$"):
        checked({"_rate_limit": 5.1}, rate_limit=5)
    with pytest.raises(ValueError, match=r"_max_in_flight: .* 2$"):
        checked({"_max_in_flight": 3}, max_in_flight=2)


def test_options_that_dont_go_together() -> None:
    with pytest.raises(ValueError, match="post_data"):
        checked({"post_data": "x", "_format": "raw"})
    with pytest.raises(ValueError, match="_confirmation"):
        checked({"_confirmation": "cloudevents"}, MAIL)
    assert checked({"_confirmation": "cloudevents"}, TRUST)


def test_size_is_that_of_metadata() -> None:
    fits = {"a": "x" * (LIMITS.max_queue_metadata - 8)}
    assert len(orjson.dumps(fits)) == LIMITS.max_queue_metadata and checked(fits) == fits
    with pytest.raises(ValueError, match="too large: 65537 bytes, at most 65536"):
        checked({"a": fits["a"] + "x"})


def test_depth_is_bounded() -> None:
    with pytest.raises(ValueError, match="too deeply"):
        checked(orjson.loads(b'{"a":' * 252 + b"1" + b"}" * 252))
    assert checked(orjson.loads(b'{"a":' * 240 + b"1" + b"}" * 240))
