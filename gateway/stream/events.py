"""Bytes of Server-Sent Events (WHATWG HTML, 9.2), and the head of the answer that they are in."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import orjson

from gateway.api.v2.render import message as shown
from gateway.core.messages.markers import marker_after
from gateway.web.call import FEED
from storage.model import Message

#: What keeps a connection alive on which nothing happens: a comment.
KEEP_ALIVE = b":\n\n"

#: Milliseconds after which a client opens a feed again that has ended, from and to: not all at once.
RETRY = 1000, 4000

#: Line ends may be in the bodies of native messages, between JSON's tokens; in an event they would end the data.
_IN_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")


def head(headers: Sequence[tuple[str, str]]) -> bytes:
    """The head of a feed's answer, and the time after which the client may open it again."""
    lines = ["HTTP/1.1 200 OK", f"Content-Type: {FEED}"]
    lines += [f"{name}: {value}" for name, value in headers]
    # nginx buffers no answer that says so. The end of the answer is that of the connection.
    lines += ["X-Accel-Buffering: no", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + _retry() + b"\n"


def message_event(path: str, item: Message, now: int, checksum: bool) -> bytes:
    """A message as lists show it; see render.message."""
    data = orjson.dumps(shown(path, item, now, checksum)).translate(_IN_ONE_LINE)
    return b"id: %b\nevent: message\ndata: %b\n\n" % (marker_after(item).encode(), data)


def end_event(reason: str, more: dict[str, Any], forget: bool = False) -> bytes:
    """What a feed ends with. ``forget``: have the client forget its place, as there is none any more."""
    return b"%b%bevent: end\ndata: %b\n\n" % (
        b"id:\n" if forget else b"", _retry(), orjson.dumps({"reason": reason, **more}).translate(_IN_ONE_LINE)
    )


def _retry() -> bytes:
    lowest, highest = RETRY
    return b"retry: %d\n" % (lowest + secrets.randbelow(highest - lowest + 1))
