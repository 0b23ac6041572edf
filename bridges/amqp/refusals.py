"""What a broker's failures and refusals become, as errors of a bridge."""

from __future__ import annotations

import re
from typing import Any

from amqp.exceptions import AMQPError

from bridges.amqp.dialects import PASSING, REFUSALS, TOO_LARGE
from bridges.errors import BridgeError, BridgeUnavailable, BrokerRefused, MessageTooLarge

#: Exceptions of py-amqp for a broker that is gone, refuses, or is too slow.
CONNECTION_ERRORS: tuple[type[Exception], ...] = (AMQPError, OSError)

#: Reply codes (AMQP 0-9-1, 1.2) that are a refusal, whatever the text says: content too large; no access, locked,
#: precondition; what the broker does not understand or allow, such as arguments (542, Broker-J). All other codes are
#: for faults that may pass: 320 connection forced (a shutdown), 404 not found (callers expect it), 504 channel error,
#: 506 resource error, 541 internal error.
REFUSED = frozenset({311, 402, 403, 405, 406, 501, 502, 503, 505, 530, 540, 542})


def refusal(error: BaseException) -> BridgeError | None:
    """What it means if the broker has refused something; None for what may pass. kombu may have wrapped the error."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, AMQPError):
        cause = cause.__cause__
    if cause is None:
        return None
    text, code = str(cause), cause.reply_code
    if any(pattern.search(text) for pattern in PASSING):
        return None
    if code == 311 or (code == 406 and _too_large(text)):
        return too_large(text)
    row = next((row for row in REFUSALS if row.pattern.search(text)), None)
    if code not in REFUSED and (row is None or not _while_connecting(text)):
        return None
    if row is None:
        return BrokerRefused(f"the broker refuses: {text}")
    return row.kind(f"the broker refuses: {text}" + (f"; {row.advice}" if row.advice else ""))


def _while_connecting(text: str) -> bool:
    """Said without a reply code, or with that of something missing, when a connection is opened."""
    return bool(re.search(r"auth mechanism|unknown virtual ?host", text, re.IGNORECASE))


def too_large(text: str) -> MessageTooLarge:
    """With the limit, where the broker tells it."""
    found = _too_large(text)
    limit = int(found["limit"]) if found and found["limit"] else None
    return MessageTooLarge(f"the broker refuses: {text}", limit)


def _too_large(text: str) -> re.Match[str] | None:
    return next(filter(None, (pattern.search(text) for pattern in TOO_LARGE)), None)


class translated:
    """Turn what a connection raises into errors of a bridge. A class, since a generator costs more in each call."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, CONNECTION_ERRORS):
            if (refused := refusal(error)) is not None:
                raise refused from error
            raise BridgeUnavailable(f"the broker failed or did not answer: {error}") from error
