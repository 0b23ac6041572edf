"""Actions on claims."""

from __future__ import annotations

from gateway.api.v2 import claims
from gateway.stream.websocket.actions import show
from gateway.stream.websocket.actions.action import Action, Answer, Asked, like
from gateway.stream.websocket.actions.fields import QUEUE, integer, string
from gateway.web import query


def create(asked: Asked) -> Answer:
    """Claim messages."""
    limit = query.check_limit(asked.get("limit"), asked.core.limits.max_messages_per_claim_or_pop)
    found = claims.post(asked, asked.queue, ttl=asked.get("ttl"), grace=asked.get("grace"), limit=limit)
    if not found:
        return 204, {"claim_id": None}
    return 201, {"claim_id": found[0].claim, "messages": show.messages(asked, found)}


def get(asked: Asked) -> Answer:
    """A claim and the messages that it still holds."""
    held = claims.get(asked, asked.queue, asked.body["claim_id"])
    return 200, {"age": held.age, "ttl": held.ttl, "messages": show.messages(asked, held.messages)}


def update(asked: Asked) -> Answer:
    """Let a claim begin again."""
    claim_id = asked.body["claim_id"]
    claims.patch(asked, asked.queue, claim_id, ttl=asked.get("ttl"), grace=asked.get("grace"))
    return 204, f"Claim {claim_id} updated."


def delete(asked: Asked) -> Answer:
    """Release a claim."""
    claim_id = asked.body["claim_id"]
    claims.delete(asked, asked.queue, claim_id)
    return 204, f"Claim {claim_id} deleted."


_CLAIM = string("claim_id", required=True)
_TIMES = (integer("ttl"), integer("grace"))

ACTIONS = (
    Action(
        "claim_create", like(claims.post), "claims messages (201); 204 if there are none",
        (QUEUE, *_TIMES, integer("limit")), create,
    ),
    Action(
        "claim_get", like(claims.get), "the claim and the messages that it still holds", (QUEUE, _CLAIM), get
    ),
    Action("claim_update", like(claims.patch), "the claim begins again", (QUEUE, _CLAIM, *_TIMES), update),
    Action("claim_delete", like(claims.delete), "releases the claim", (QUEUE, _CLAIM), delete),
)
