"""Bodies of messages from native AMQP producers, as JSON."""

from __future__ import annotations

import base64

import orjson


def to_json(body: bytes, content_type: str | None) -> bytes:
    """The body itself if it is JSON; UTF-8 text as a JSON string; anything else as base64 with its content type."""
    try:
        orjson.loads(body)
        return body
    except orjson.JSONDecodeError:
        pass
    try:
        return orjson.dumps(body.decode())
    except UnicodeDecodeError:
        return orjson.dumps({"base64": base64.b64encode(body).decode(), "content_type": content_type})
