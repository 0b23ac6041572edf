"""``/v2/queues/{queue}/claims``."""

from __future__ import annotations

import orjson

from gateway.api.v2 import render
from gateway.api.v2.queues import path_of
from gateway.core.errors import NotFound
from gateway.web import body, query
from gateway.web.call import Call
from gateway.web.errors import Answer


def post(call: Call, queue: str) -> Answer:
    """Claim messages."""
    document = call.document()
    ttl, grace = body.integer(document, "ttl"), body.integer(document, "grace")
    # openstacksdk sends the limit in the body.
    wanted = query.integer(call.args, "limit")
    wanted = body.integer(document, "limit") if wanted is None else wanted
    limit = query.check_limit(wanted, call.core.limits.max_messages_per_claim_or_pop)
    call.core.claims.check(ttl, grace)
    messages = call.on_queue(queue, lambda info: call.core.claims.create(info, ttl, grace, limit), sure=True)
    if not messages:
        return 204, b"", {}
    path = path_of(call, queue)
    shown = render.messages(path, messages, call.core.now(), call.service.enable_checksum)
    return 201, orjson.dumps({"messages": shown}), {"Location": f"{path}/claims/{messages[0].claim}"}


def get(call: Call, queue: str, claim_id: str) -> Answer:
    """A claim and the messages it still holds."""
    messages = call.on_queue(queue, lambda info: call.core.claims.get(info, claim_id))
    if messages is None:
        raise _no_queue(queue, claim_id)
    path = path_of(call, queue)
    return 200, orjson.dumps({
        "href": f"{path}/claims/{claim_id}",
        "ttl": messages[0].claim_ttl,
        "age": call.core.claims.age(messages[0], call.core.now()),
        "messages": render.messages(path, messages, call.core.now(), call.service.enable_checksum),
    }), {}


def patch(call: Call, queue: str, claim_id: str) -> Answer:
    """Let a claim begin anew."""
    document = call.document()
    ttl, grace = body.integer(document, "ttl"), body.integer(document, "grace")
    call.core.claims.check(ttl, grace)
    if call.on_queue(queue, lambda info: call.core.claims.renew(info, claim_id, ttl, grace)) is None:
        raise _no_queue(queue, claim_id)
    return 204, b"", {}


def delete(call: Call, queue: str, claim_id: str) -> Answer:
    """Release a claim."""
    call.on_queue(queue, lambda info: call.core.claims.release(info, claim_id))
    return 204, b"", {}


def _no_queue(queue: str, claim_id: str) -> NotFound:
    return NotFound(f"Claim {claim_id} does not exist: there is no queue {queue}")
