"""What an attempt means for its message and its subscription, by what the receiver answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum

#: Header by which receivers say what is to become of the message or the subscription: a proposal for Standard Webhooks.
DELIVERY = "webhook-delivery"

#: Statuses after which the same bytes are not sent again: too large, unknown media type, too many headers, unknown
#: method, unknown version.
UNACCEPTABLE = frozenset((413, 415, 431, 501, 505))

#: Statuses of a receiver, or of a proxy before it, that has too much to do.
OVERLOADED = frozenset((429, 502, 503, 504))

#: Statuses whose Retry-After is heeded.
RESTING = frozenset((429, 503))

#: Digits of a Retry-After in seconds that are read; more is longer than any limit.
MAX_DIGITS = 12


class Kind(Enum):
    """What becomes of the message."""

    #: It has arrived.
    DELIVERED = "delivered"
    #: The attempt counts; the retry policy says what follows.
    FAILED = "failed"
    #: No further attempt.
    DEAD = "dead"
    #: The attempt does not count; the whole subscription waits.
    RESTS = "rests"
    #: The subscription is over for now; the message waits for somebody to end that, or for its ttl.
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """``reason``: a class for people and metrics, empty if all went well.

    ``rest_until``: when the subscription may go on (ms since the epoch), 0 for no rest. ``overloaded``: halve the rate.
    ``at_once``: retries without delay make sense. ``disables``: nothing is sent to this subscriber any more.
    """

    kind: Kind
    reason: str = ""
    rest_until: int = 0
    overloaded: bool = False
    at_once: bool = True
    disables: bool = False


def judge(
    status: int, headers: Mapping[str, str], now: int, *, retry_after_max: int = 3600, client_errors: bool = True,
) -> Outcome:
    """The outcome of an attempt that was answered.

    ``headers``: of the answer, names in any case. ``now``: in ms. ``retry_after_max``: the longest rest in seconds.
    ``client_errors``: does the subscription retry after a 4xx.
    """
    found = {name.lower(): value for name, value in headers.items()}
    said = found.get(DELIVERY, "").strip().lower()
    if 200 <= status < 300:
        return Outcome(Kind.DELIVERED, "gone", disables=True) if said == "disable" else Outcome(Kind.DELIVERED)
    if status == 410 or said == "disable":
        return Outcome(Kind.STOPPED, "gone", disables=True)
    if status in UNACCEPTABLE:
        return Outcome(Kind.DEAD, "unacceptable")
    if said == "abort-message":
        return Outcome(Kind.DEAD, "aborted")
    if status in RESTING:
        wait = retry_after(found.get("retry-after"), found.get("date"), now)
        if wait is not None:
            return Outcome(Kind.RESTS, "retry-after", now + min(wait, 1000 * retry_after_max))
    if status in OVERLOADED:
        return Outcome(Kind.FAILED, "overloaded", overloaded=True)
    if 300 <= status < 400:
        return Outcome(Kind.FAILED, "redirect")
    if 400 <= status < 500:
        return Outcome(Kind.FAILED if client_errors else Kind.DEAD, "client-error")
    return Outcome(Kind.FAILED, "server-error" if 500 <= status < 600 else "response")


def failure(reason: str) -> Outcome:
    """The outcome of an attempt without an answer.

    ``reason``: ``address`` if no address of the receiver may be connected to, ``timeout``, or another class such as
    ``dns``, ``connection``, ``tls``.
    """
    return Outcome(Kind.FAILED, reason, overloaded=reason == "timeout", at_once=reason != "address")


def retry_after(value: str | None, date: str | None, now: int) -> int | None:
    """Milliseconds that a Retry-After (RFC 9110, 10.2.3) asks for; None if it is absent, past or unreadable.

    ``value``: seconds, or a date, which counts from the answer's own ``date`` (else from ``now``, in ms), so that the
    receiver's clock may be wrong.
    """
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        digits = value.lstrip("0")
        wait = 1000 * (int(digits or 0) if len(digits) <= MAX_DIGITS else 10**MAX_DIGITS)
    else:
        until, since = _milliseconds(value), _milliseconds(date)
        if until is None:
            return None
        wait = until - (now if since is None else since)
    return wait if wait > 0 else None


def _milliseconds(date: str | None) -> int | None:
    """A date of HTTP (RFC 9110, 5.6.7) in ms since the epoch."""
    try:
        found = parsedate_to_datetime(date or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return round(1000 * (found - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
