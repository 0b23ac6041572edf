"""The ``options`` of a subscription. Those of ours begin with ``_``, but for the ones that OpenStack Zaqar has too."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from gateway.config.limits import Limits
from gateway.core.queues.metadata import QUEUE_NAME
from gateway.core.subscriptions.filters import Filter
from gateway.core.subscriptions.retry import MAX_COUNT, RetryPolicy
from gateway.core.subscriptions.subscriber import Subscriber
from gateway.core.subscriptions.subscriber import parse as parse_subscriber

#: Values of ``_format``; the first is the default.
ZAQAR, RAW, CLOUDEVENTS, CLOUDEVENTS_BINARY = FORMATS = ("zaqar", "raw", "cloudevents", "cloudevents-binary")

#: What ``post_data`` has in place of the message, and how often at most: each becomes a whole message.
PLACEHOLDER = '"$zaqar_message$"'
MAX_PLACEHOLDERS = 10

#: Headers of ``post_headers``, and bytes of each, its name included.
MAX_HEADERS = 32
MAX_HEADER = 4096

#: Headers that clients can't set, in lower case: they frame the request, belong to the connection, or are ours.
REFUSED_HEADERS = frozenset((
    "host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect",
))
REFUSED_PREFIXES = ("proxy-", "webhook-", "marconi-")

#: Where the token goes that ``trust+`` subscribers get.
TOKEN_HEADER = "x-auth-token"  # nosec B105  # the name of a header

#: Lowest ``_rate_limit``, per second: one message in a quarter of an hour.
MIN_RATE = 0.001

#: Characters of other texts, which become headers: a line of mail (RFC 5322, 2.1.1).
MAX_TEXT = 998

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: RFC 9110, 5.6.2 and 8.3.1.
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # nosec B105  # what HTTP calls a token
_HEADER_NAME = re.compile(_TOKEN + r"\Z")
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?:[ \t]*;[\x20-\x7e]*)?\Z")


def check(
    options: Any, subscriber: Subscriber, source: str, limits: Limits, *,
    max_in_flight: int, rate_limit: float = 0, trust_id: str | None = None,
) -> dict[str, Any]:
    """The options to store, as the client sent them; null is ``{}``. Raises ValueError with a sentence for the client.

    Unknown keys are kept. Known ones may be null, which is as good as absent. ``source``: the queue; ``max_in_flight``
    and ``rate_limit`` (per second, 0 for none): the operator's, which subscriptions may only lower; ``trust_id``: the
    one that is stored.
    """
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise ValueError("The options of a subscription must be a dict")
    checks: dict[str, Callable[[Any], object]] = {
        "post_data": lambda value: _post_data(value, options.get("_format")),
        "post_headers": lambda value: _post_headers(value, subscriber.trust),
        "subject": _text,
        "from": _text,
        "trust_id": lambda value: _trust_id(value, trust_id),
        "_format": _one_of(*FORMATS),
        "_content_type": _media_type,
        "_ce_type": _text_with_content,
        "_filter": Filter.parse,
        "_retry_policy": RetryPolicy.parse,
        "_retry_client_errors": _boolean,
        "_retry_budget": _integer(1, MAX_COUNT),
        "_max_in_flight": _integer(1, max_in_flight),
        "_rate_limit": lambda value: _rate(value, rate_limit),
        "_dead_letter_queue": lambda value: _other_queue(value, source),
        "_alert": lambda value: _alert(value, source),
        "_confirmation": lambda value: _confirmation(value, subscriber),
    }
    for key, value in options.items():
        if value is not None and key in checks:
            try:
                checks[key](value)
            except ValueError as error:
                raise ValueError(f"Subscription option {key}: {error}") from error
    _check_size(options, limits.max_queue_metadata)
    return options


def _check_size(options: Mapping[str, Any], most: int) -> None:
    try:
        # Six levels deeper than they are: a page of subscriptions and a letter must have room around them.
        size = len(orjson.dumps([[[[[[options]]]]]])) - 12
    except TypeError as error:
        raise ValueError("The options of a subscription are nested too deeply") from error
    if size > most:
        raise ValueError(f"The options of a subscription are too large: {size} bytes, at most {most} are allowed")


def _post_data(value: Any, format_: Any) -> None:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    if format_ not in (None, ZAQAR):
        raise ValueError(f"goes with the _format {ZAQAR} only")
    if value.count(PLACEHOLDER) > MAX_PLACEHOLDERS:
        raise ValueError(f"may hold {PLACEHOLDER} {MAX_PLACEHOLDERS} times at most")


def _post_headers(value: Any, trust: bool) -> None:
    if not isinstance(value, dict):
        raise ValueError("must be an object of strings")
    if len(value) > MAX_HEADERS:
        raise ValueError(f"must have at most {MAX_HEADERS} headers")
    seen = set()
    for name, text in value.items():
        lower = name.lower()
        if not _HEADER_NAME.match(name):
            raise ValueError(f"{name!r} can't be the name of a header")
        if lower in REFUSED_HEADERS or lower.startswith(REFUSED_PREFIXES) or (trust and lower == TOKEN_HEADER):
            raise ValueError(f"the header {name} can't be set")
        if lower in seen:
            raise ValueError(f"the header {name} is there twice")
        if not isinstance(text, str) or _CONTROL.search(text):
            raise ValueError(f"the header {name} must be a string without control characters")
        if len(name) + len(text.encode()) > MAX_HEADER:
            raise ValueError(f"the header {name} has more than {MAX_HEADER} bytes")
        seen.add(lower)


def _text(value: Any) -> None:
    if not isinstance(value, str) or _CONTROL.search(value):
        raise ValueError("must be a string without line breaks and control characters")
    if len(value) > MAX_TEXT:
        raise ValueError(f"must have at most {MAX_TEXT} characters")


def _text_with_content(value: Any) -> None:
    _text(value)
    if not value:
        raise ValueError("must not be empty")


def _trust_id(value: Any, stored: str | None) -> None:
    if stored is None or value != stored:
        raise ValueError("is set by the service alone")


def _media_type(value: Any) -> None:
    _text(value)
    if not _MEDIA_TYPE.match(value):
        raise ValueError("must be a media type such as text/plain")


def _one_of(*values: str) -> Callable[[Any], None]:
    def check_value(value: Any) -> None:
        if not isinstance(value, str) or value not in values:
            raise ValueError(f"must be {' or '.join(values)}")

    return check_value


def _boolean(value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")


def _integer(lowest: int, highest: int) -> Callable[[Any], None]:
    def check_value(value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise ValueError(f"must be an integer from {lowest} to {highest}")

    return check_value


def _rate(value: Any, most: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not MIN_RATE <= value <= (most or MAX_COUNT):
        raise ValueError(f"must be a number of messages per second from {MIN_RATE} to {most or MAX_COUNT}")


def _other_queue(value: Any, source: str) -> None:
    if not isinstance(value, str) or not QUEUE_NAME.match(value):
        raise ValueError("must be the name of a queue: 1 to 64 characters of A-Z a-z 0-9 _ - .")
    if value == source:
        raise ValueError("must be another queue than the one that is subscribed to")


def _alert(value: Any, source: str) -> None:
    try:
        found = parse_subscriber(value, ("mailto", "marconi"))
    except ValueError as error:
        raise ValueError("must be mailto:<name>@<domain> or marconi:<queue>") from error
    if found.queue and found.queue == source:
        raise ValueError("must be another queue than the one that is subscribed to")


def _confirmation(value: Any, subscriber: Subscriber) -> None:
    _one_of(CLOUDEVENTS)(value)
    if not subscriber.is_http:
        raise ValueError("is for subscribers that are reached by HTTP")
