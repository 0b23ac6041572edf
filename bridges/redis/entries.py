"""Envelopes as entries of a stream, and back.

An entry has a field for each property of a message that is set, by the property's name: ``body`` always, ``ttl`` in
milliseconds, ``timestamp`` in seconds, and ``headers`` as a JSON object. So native clients need no library to read or
write them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from bridges.base import Envelope

#: Properties that are text, and those that are numbers, by the names of fields.
TEXTS = ("message_id", "content_type", "content_encoding", "correlation_id", "reply_to", "type", "app_id")
NUMBERS = ("ttl", "timestamp", "priority")


def fields_of(envelope: Envelope) -> list[bytes | str]:
    """Names and values of an entry's fields, in turns."""
    fields: list[bytes | str] = ["body", envelope.body]
    for name in TEXTS:
        if (text := getattr(envelope, name)) is not None:
            fields += name, text
    for name in NUMBERS:
        if (number := getattr(envelope, name)) is not None:
            fields += name, str(number)
    if envelope.headers:
        fields += "headers", orjson.dumps(envelope.headers, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    return fields


def _plain(value: Any) -> Any:
    """A value of another broker's header that JSON does not know, as a text."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def envelope_of(fields: Sequence[bytes], deliveries: int) -> Envelope:
    """The message of an entry that has been handed out ``deliveries`` times before.

    What a native producer has set and can't be read is left out, and the message is not readable then. So is one that
    has no ``body``.
    """
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    read: dict[str, Any] = {"content_type": None}
    readable = b"body" in values
    for name in (*TEXTS, *NUMBERS, "headers"):
        if (value := values.get(name.encode())) is None:
            continue
        try:
            read[name] = _headers(value) if name == "headers" else _number(value) if name in NUMBERS else value.decode()
        except ValueError:
            readable = False
    return Envelope(
        values.get(b"body", b""), **read, redelivered=deliveries > 0, deliveries=deliveries, readable=readable,
    )


def _headers(value: bytes) -> dict[str, Any]:
    headers = orjson.loads(value)
    if not isinstance(headers, dict):
        raise ValueError("headers are an object")
    return headers


def _number(value: bytes) -> int:
    """Raises ValueError for what is no whole number from 0 up that fits into 63 bits."""
    if not value.isdigit() or len(value) > 18:
        raise ValueError("not a number")
    return int(value)
