"""Actions on messages."""

from __future__ import annotations

from typing import Any

from gateway.api.v2 import messages
from gateway.api.v2.idempotency import read_key
from gateway.api.v2.parse import post_of, usable_ids
from gateway.core.errors import InvalidInput
from gateway.stream.websocket.actions import show
from gateway.stream.websocket.actions.action import Action, Answer, Asked, like
from gateway.stream.websocket.actions.fields import QUEUE, array, boolean, integer, string
from gateway.web import body, query

#: Header by which a post that is sent again is recognized, as over HTTP.
KEY = "Idempotency-Key"


def post(asked: Asked) -> Answer:
    """Post messages. The limit of the size is that of the same request over HTTP."""
    wanted = asked.body["messages"]
    data = body.encode({"messages": wanted})
    if asked.service.byte_rate is not None:
        asked.service.byte_rate.take(asked.project, len(data))
    if not wanted:
        raise InvalidInput("'messages' must be a list of messages and not empty", body.TITLE)
    key = asked.headers.get(KEY)
    if key is not None and not isinstance(key, str):
        raise InvalidInput(f"The header {KEY} must be a string", body.TITLE)
    ids = messages.post(
        asked, asked.queue, posts=[post_of(message) for message in wanted], size=len(data),
        key=None if key is None else read_key(key, data),
    )
    return 201, {"message_ids": ids}


def list_(asked: Asked) -> Answer:
    """A page of messages."""
    found = messages.list_(
        asked, asked.queue, marker=asked.get("marker"),
        limit=query.check_limit(asked.get("limit"), asked.core.limits.max_messages_per_page),
        echo=asked.get("echo", False), claimed=asked.get("include_claimed", False),
        delayed=asked.get("include_delayed", False),
    )
    return 200, {"messages": show.messages(asked, found)}


def get(asked: Asked) -> Answer:
    """One message."""
    found = messages.get(asked, asked.queue, asked.body["message_id"])
    return 200, {"messages": show.message(asked, found, asked.now())}


def get_many(asked: Asked) -> Answer:
    """Those of some messages that there are."""
    ids = usable_ids(asked, asked.strings("message_ids") or [])
    return 200, {"messages": show.messages(asked, messages.list_(asked, asked.queue, ids=ids))}


def delete(asked: Asked) -> Answer:
    """Delete one message."""
    messages.delete(asked, asked.queue, asked.body["message_id"], claim_id=asked.get("claim_id"))
    return 204, {}


def delete_many(asked: Asked) -> Answer:
    """Delete some messages, or pop the oldest ones."""
    ids, pop = asked.strings("message_ids"), asked.get("pop")
    if (ids is None) == (pop is None):
        raise InvalidInput("Give either message_ids or pop", body.TITLE)
    limits = asked.core.limits
    if ids is None:
        wanted = query.check_limit(pop, limits.max_messages_per_claim_or_pop, "pop")
        found = messages.delete_many(asked, asked.queue, pop=wanted) or ()
        return 200, {"messages": [_popped(asked, each) for each in found]}
    claim_ids = asked.strings("claim_ids")
    usable = usable_ids(asked, ids)
    if limits.message_delete_with_claim_id and claim_ids is None:
        raise InvalidInput("This service wants claim_ids together with message_ids", body.TITLE)
    messages.delete_many(asked, asked.queue, ids=usable, claim_ids=claim_ids)
    return 204, {}


def _popped(asked: Asked, item: Any) -> dict[str, Any]:
    shown = show.message(asked, item, asked.now())
    shown["claim_id"] = item.claim
    shown["claim_count"] = item.claims
    return shown


_MESSAGE = string("message_id", required=True)

ACTIONS = (
    Action(
        "message_post", like(messages.post),
        "posts messages, each with `body` and optionally `ttl` and `delay`, in a queue with `_fifo` also `group` and"
        " `dedup_id`; their ids in order. The header `Idempotency-Key` is as over HTTP",
        (QUEUE, array("messages", required=True)), post, is_signable=True,
    ),
    Action(
        "message_list", like(messages.list_),
        "a page of messages, oldest first; go on after the id of the last one",
        (
            QUEUE, string("marker"), integer("limit"), boolean("echo"), boolean("include_claimed"),
            boolean("include_delayed"),
        ),
        list_, is_signable=True,
    ),
    Action(
        "message_get", like(messages.get), "one message, which is the value of `messages` itself",
        (QUEUE, _MESSAGE), get, is_signable=True,
    ),
    Action(
        "message_get_many", like(messages.list_), "those of up to 20 messages that are there; 404 if none is",
        (QUEUE, array("message_ids", required=True)), get_many, is_signable=True,
    ),
    Action(
        "message_delete", like(messages.delete), "deletes a message; a claimed one needs its `claim_id`",
        (QUEUE, _MESSAGE, string("claim_id")), delete, is_signable=True,
    ),
    Action(
        "message_delete_many", like(messages.delete_many),
        "deletes messages by their ids (204), or takes out the oldest ones (200)",
        (QUEUE, array("message_ids"), integer("pop"), array("claim_ids")), delete_many, is_signable=True,
    ),
)
