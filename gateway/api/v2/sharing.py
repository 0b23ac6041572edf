"""Shares: pre-signed rights to some calls on a queue."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.access.signing import EXPIRES, SEPARATOR, sign, signed_url
from gateway.core.errors import Forbidden, InvalidInput, NotFound
from gateway.web.body import TITLE
from gateway.web.context import Context
from gateway.web.operations import Operation

#: How long a share lasts when the request does not say.
SHARE_FOR = timedelta(days=1)


def check(context: Context) -> str:
    """The key to sign with. Raises NotFound without one, and InvalidInput for a project that can't share."""
    key = context.service.signing_key
    if key is None:
        raise NotFound("This service has no key to sign with; ask its operator to set [signed_url] secret_key")
    if SEPARATOR in context.project:
        raise InvalidInput("The queues of a project with a backslash in its id can't be shared")
    return key


def share(
    context: Context, queue: str, *, base: str, names: list[str], methods: list[str], expires: Any, url: bool = False
) -> dict[str, Any]:
    """Sign the right to call ``methods`` on ``names`` below a queue, for anybody who gets the signature.

    ``base``: where the caller's links begin. ``expires``: an ISO 8601 time; None: a day from now. ``url``: also give
    the URL of GET of messages with the signature in its query. Raises Forbidden if the caller may not do what is to be
    shared.
    """
    key = check(context)
    if refused := [rule for rule in rules_of(context.service.operations, names, methods) if not context.allows(rule)]:
        raise Forbidden(f"Your roles don't allow what you want to share ({', '.join(refused)})")
    paths = [f"{base}/v2/queues/{queue}/{name}" for name in names]
    until = _expiry(expires).strftime(EXPIRES)
    signature = sign(key, paths, methods, context.project, until)
    shared = {
        "project": context.project, "paths": paths, "methods": methods, "expires": until, "signature": signature,
    }
    if url:
        path = f"{base}/v2/queues/{queue}/messages"
        shared["url"] = signed_url(path, context.project, paths, methods, until, signature)
    return shared


def rules_of(operations: Iterable[Operation], names: list[str], methods: list[str]) -> list[str]:
    """The policy's rules for what a share of these names and methods covers."""
    shared = tuple(f"/v2/queues/{{queue_name}}/{name}" for name in names)
    wanted = {"GET" if method == "HEAD" else method for method in methods}
    return sorted({
        operation.rule for operation in operations
        if operation.rule is not None and operation.shareable and operation.method in wanted
        and operation.path.startswith(shared)
    })


def _expiry(text: Any) -> datetime:
    """The time at which a share ends, in UTC."""
    now = datetime.now(UTC)
    if text is None:
        return now + SHARE_FOR
    try:
        if not isinstance(text, str):
            raise ValueError
        expires = datetime.fromisoformat(text)
        expires = expires.replace(tzinfo=UTC) if expires.tzinfo is None else expires.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput("expires must be a time in ISO 8601, like 2030-01-31T12:00:00", TITLE) from None
    if expires <= now:
        raise InvalidInput("expires is in the past", TITLE)
    return expires
