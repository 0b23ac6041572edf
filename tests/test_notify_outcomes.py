"""What receivers' answers mean."""

from typing import Any

import pytest

from gateway.notify.outcomes import Kind, Outcome, failure, judge, retry_after

NOW = 1_700_000_000_000
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"  # NOW
MINUTE_LATER = "Tue, 14 Nov 2023 22:14:20 GMT"


@pytest.mark.parametrize(("statuses", "outcome"), [
    ((200, 201, 202, 204, 299), Outcome(Kind.DELIVERED)),
    ((300, 301, 302, 303, 304, 307, 308, 399), Outcome(Kind.FAILED, "redirect")),
    ((410,), Outcome(Kind.STOPPED, "gone", disables=True)),
    ((413, 415, 431, 501, 505), Outcome(Kind.DEAD, "unacceptable")),
    ((429, 502, 503, 504), Outcome(Kind.FAILED, "overloaded", overloaded=True)),
    ((400, 401, 403, 404, 408, 409, 422, 499), Outcome(Kind.FAILED, "client-error")),
    ((500, 506, 511, 599), Outcome(Kind.FAILED, "server-error")),
    ((101, 199, 600, 999), Outcome(Kind.FAILED, "response")),
])
def test_statuses(statuses: tuple[int, ...], outcome: Outcome) -> None:
    for status in statuses:
        assert judge(status, {}, NOW) == outcome, status


@pytest.mark.parametrize(("reason", "outcome"), [
    ("timeout", Outcome(Kind.FAILED, "timeout", overloaded=True)),
    ("address", Outcome(Kind.FAILED, "address", at_once=False)),
    ("connection", Outcome(Kind.FAILED, "connection")),
    ("tls", Outcome(Kind.FAILED, "tls")),
    ("dns", Outcome(Kind.FAILED, "dns")),
])
def test_no_answer(reason: str, outcome: Outcome) -> None:
    assert failure(reason) == outcome


def test_client_errors_are_not_retried_if_so_asked() -> None:
    dead = Outcome(Kind.DEAD, "client-error")
    assert [judge(status, {}, NOW, client_errors=False) for status in (400, 404)] == [dead, dead]
    for status in (429, 500, 503, 302, 410, 200):
        assert judge(status, {}, NOW, client_errors=False) == judge(status, {}, NOW)


def test_receivers_can_say_that_they_want_no_more() -> None:
    for status in (302, 400, 410, 413, 429, 500, 503):
        for headers in ({"webhook-delivery": "disable"}, {"Webhook-Delivery": " Disable ", "Retry-After": "5"}):
            assert judge(status, headers, NOW) == Outcome(Kind.STOPPED, "gone", disables=True)
    assert judge(200, {"webhook-delivery": "disable"}, NOW) == Outcome(Kind.DELIVERED, "gone", disables=True)


def test_receivers_can_say_that_they_dont_want_this_message() -> None:
    for status in (302, 400, 429, 500, 503):
        for more in ({}, {"Retry-After": "5"}):
            headers = {"Webhook-Delivery": "abort-message", **more}
            assert judge(status, headers, NOW) == Outcome(Kind.DEAD, "aborted")
    assert judge(200, {"webhook-delivery": "abort-message"}, NOW) == Outcome(Kind.DELIVERED)
    assert judge(500, {"webhook-delivery": "something"}, NOW) == judge(500, {}, NOW)


@pytest.mark.parametrize("status", [429, 503])
def test_whole_subscription_rests_as_long_as_it_is_asked_to(status: int) -> None:
    for headers in (
        {"retry-after": "60"}, {"Retry-After": " 60 "}, {"Retry-After": MINUTE_LATER, "Date": DATE},
        {"Retry-After": MINUTE_LATER},
    ):
        assert judge(status, headers, NOW) == Outcome(Kind.RESTS, "retry-after", NOW + 60_000)


def test_rest_is_bounded() -> None:
    for value in ("3601", "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT"):
        assert judge(503, {"Retry-After": value}, NOW).rest_until == NOW + 3_600_000
        assert judge(503, {"Retry-After": value}, NOW, retry_after_max=5).rest_until == NOW + 5000


@pytest.mark.parametrize("status", [200, 301, 400, 413, 500, 502, 504])
def test_retry_after_counts_with_two_statuses_alone(status: int) -> None:
    assert judge(status, {"Retry-After": "60"}, NOW) == judge(status, {}, NOW)


@pytest.mark.parametrize(("value", "date", "milliseconds"), [
    ("1", None, 1000), ("0060", None, 60_000), ("120", "nonsense", 120_000),
    (MINUTE_LATER, DATE, 60_000), (MINUTE_LATER, None, 60_000), (MINUTE_LATER, "nonsense", 60_000),
    ("Tue, 14 Nov 2023 23:14:20 GMT", "Tue, 14 Nov 2023 23:13:50 GMT", 30_000),  # its clock is an hour ahead
    ("Tuesday, 14-Nov-23 22:14:20 GMT", None, 60_000), ("Tue Nov 14 22:14:20 2023", None, 60_000),
    (DATE, DATE, None), (DATE, None, None), (DATE, MINUTE_LATER, None),
    *((value, None, None) for value in (
        None, "", " ", "0", "000", "-5", "+5", "60.5", "60s", "1e3", "0x10", "٦٠", "²", "soon", "Tue, 14 Nov", "GMT",
        "60, 120", "Tue, 99 Nov 2023 22:14:20 GMT", "Tue, 14 Nov 99999 22:14:20 GMT", "\ud800",
    )),
])
def test_forms_of_retry_after(value: Any, date: str | None, milliseconds: int | None) -> None:
    assert retry_after(value, date, NOW) == milliseconds
    if milliseconds is None and value is not None:
        for status in (429, 503):
            headers = {"Retry-After": value} | ({"Date": date} if date else {})
            assert judge(status, headers, NOW) == judge(status, {}, NOW)
