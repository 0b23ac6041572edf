"""What requests about subscriptions say, as values for the handlers. All raise InvalidInput for what breaks a rule.

Texts that clients of OpenStack Zaqar compare are Zaqar's.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gateway.core.errors import InvalidInput
from gateway.web import body, query
from gateway.web.call import Call

#: What PATCH may change. Null leaves it as it is, and other keys are ignored.
CHANGEABLE = ("subscriber", "ttl", "options")

STATES = ("active", "paused")


def page(call: Call) -> dict[str, Any]:
    """Which page of a queue's subscriptions, and how much of each."""
    return {
        "limit": query.limit(call.args, call.core.limits.max_subscriptions_per_page),
        "marker": call.args.get("marker"),
        **detailed(call),
    }


def detailed(call: Call) -> dict[str, Any]:
    """How much of a subscription to show."""
    return {"detailed": query.boolean(call.args, "detailed")}


def subscription(call: Call) -> dict[str, Any]:
    """A subscription to create."""
    document = _parsed(call)
    if not document and not isinstance(document, list):
        raise InvalidInput("Missing parameter subscriber")
    if not isinstance(document, dict):
        raise InvalidInput("A subscription must be a JSON object")
    if "subscriber" not in document:
        raise InvalidInput("Missing parameter subscriber")
    return {
        "subscriber": document["subscriber"], "ttl": _ttl(document), "options": document.get("options"),
    }


def changes(call: Call) -> dict[str, Any]:
    """What to change of a subscription."""
    document = _parsed(call)
    if document is not None and not isinstance(document, dict):
        raise InvalidInput("Subscriptions must be a dict.")
    wanted = {key: document[key] for key in CHANGEABLE if document and document.get(key) is not None}
    if not wanted:
        raise InvalidInput(f"Missing parameter: one of {', '.join(CHANGEABLE)}")
    _ttl(wanted)
    return {"changes": wanted}


def confirmed(call: Call) -> dict[str, Any]:
    """Whether a subscription is confirmed or ended."""
    document = _parsed(call)
    value = document.get("confirmed") if isinstance(document, dict) else None
    if not isinstance(value, bool):
        raise InvalidInput("The 'confirmed' should be boolean.")
    return {"confirmed": value}


def state(call: Call) -> dict[str, Any]:
    """The state that a subscription is to be in."""
    document = _object(call, frozenset({"state"}))
    if document.get("state") not in STATES:
        raise InvalidInput(f"'state' must be one of {', '.join(STATES)}")
    return {"state": document["state"]}


def deliveries(call: Call) -> dict[str, Any]:
    """Which part of the log of attempts."""
    return {
        "limit": query.limit(call.args, call.core.limits.max_messages_per_page),
        "marker": call.args.get("marker"),
        "status": query.integer(call.args, "status"),
    }


def letters(call: Call) -> dict[str, Any]:
    """Which page of the dead letters."""
    return {
        "limit": query.limit(call.args, call.core.limits.max_messages_per_page), "marker": call.args.get("marker"),
    }


def letter_ids(call: Call) -> dict[str, Any]:
    """Ids of the dead letters to delete, None for all."""
    ids = query.strings(call.args, "ids")
    highest = call.core.limits.max_messages_per_page
    if ids is not None and not 1 <= len(ids) <= highest:
        raise InvalidInput(f"Name 1 to {highest} ids", query.TITLE)
    return {"ids": ids}


def replay(call: Call) -> dict[str, Any]:
    """Which messages to deliver once more."""
    document = _object(call, frozenset({"ids", "since", "until", "all", "only"}))
    only = document.get("only", "dead")
    if only not in ("dead", "delivered"):
        raise InvalidInput("'only' must be one of dead, delivered")
    ids, everything = document.get("ids"), document.get("all")
    has_range = "since" in document or "until" in document
    if (ids is not None) + (everything is not None) + has_range != 1:
        raise InvalidInput("Give one of 'ids', 'all' or a range with 'since' and 'until'")
    if everything is not None and everything is not True:
        raise InvalidInput("'all' must be true")
    highest = call.core.limits.max_messages_per_page
    if ids is not None and not (isinstance(ids, list) and 1 <= len(ids) <= highest and all(
        isinstance(each, str) for each in ids
    )):
        raise InvalidInput(f"'ids' must be a list of 1 to {highest} ids")
    return {
        "ids": ids, "since": _time(document, "since"), "until": _time(document, "until"), "only": only,
    }


def test(call: Call) -> dict[str, Any]:
    """The body to send as a test, None for one of ours."""
    document = _object(call, frozenset({"body"}))
    return {"body": body.encode(document["body"]) if "body" in document else None}


def secret(call: Call) -> dict[str, Any]:
    """The secret to sign with."""
    return {"secret": _object(call, frozenset({"secret"})).get("secret")}


def rotation(call: Call) -> dict[str, Any]:
    """For how many seconds the last secret goes on signing."""
    return {"keep": _integer(_object(call, frozenset({"keep"})), "keep")}


# -- parts of bodies ------------------------------------------------------------------------------------------------


def _parsed(call: Call, missing: Any = None) -> Any:
    """The value in the body, ``missing`` without a body."""
    data = call.body()
    body.check_size(data, call.core.limits.max_messages_post_size, "A subscription")
    try:
        return body.parse(data) if data else missing
    except InvalidInput as error:
        raise InvalidInput(f"Request body could not be parsed: {error.description}", body.TITLE) from error


def _object(call: Call, known: frozenset[str]) -> dict[str, Any]:
    """The object in the body, empty without a body; it has only keys of ours."""
    document = _parsed(call, {})
    if not isinstance(document, dict):
        raise InvalidInput("The body must be a JSON object")
    body.check_keys(document, known)
    return document


def _ttl(document: dict[str, Any]) -> int | None:
    return _integer(document, "ttl")


def _integer(document: dict[str, Any], key: str) -> int | None:
    value = document.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise InvalidInput(f"{key} must be an integer")
    return value


def _time(document: dict[str, Any], key: str) -> int | None:
    """A time in ISO 8601, as milliseconds."""
    value = document.get(key)
    if value is None:
        return None
    try:
        if not isinstance(value, str):
            raise ValueError
        read = datetime.fromisoformat(value)
        read = read.replace(tzinfo=UTC) if read.tzinfo is None else read
        return int(read.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise InvalidInput(f"{key!r} must be a time in ISO 8601, like 2030-01-31T12:00:00") from None
