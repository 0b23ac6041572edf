"""The table of all operations of version 1: those of version 2, and what is different about them."""

from __future__ import annotations

from functools import partial

from gateway.api.derived import derived
from gateway.api.v1 import home, messages, parse, queues, render
from gateway.api.v1.version import V1
from gateway.api.v1_1.located import path_alone, path_and_query
from gateway.api.v1_1.parse import queue_page
from gateway.api.v1_1.parse_pools import pool_changes, pool_page
from gateway.api.v1_1.render import changed_pool
from gateway.api.v2 import claims
from gateway.api.v2 import messages as messages_v2
from gateway.api.v2 import queues as queues_v2
from gateway.api.v2 import render as render_v2
from gateway.web.operations import BOOLEAN, CLIENT, INTEGER, LIST, PROJECT, Operation, Parameter

_QUEUE = "/queues/{queue_name}"
_METADATA = f"{_QUEUE}/metadata"
_STATS = f"{_QUEUE}/stats"
_MESSAGES = f"{_QUEUE}/messages"
_MESSAGE = f"{_MESSAGES}/{{message_id}}"
_CLAIMS = f"{_QUEUE}/claims"
_CLAIM = f"{_CLAIMS}/{{claim_id}}"
_POOL = "/pools/{pool_name}"

#: Only what says a relation is in the home document.
_call = partial(derived, V1, needs=frozenset({PROJECT}), relation=None)

#: In the order of the home document and of docs/api-v1.md.
OPERATIONS: tuple[Operation, ...] = (
    _call("GET", "/", needs=frozenset(), handler=home.home, render=render.home),
    _call(
        "GET", "/ping", at="/health", needs=frozenset(),
        description="204 when broker and side-store of the default pool answer, else 503",
    ),
    _call(
        "GET", "/queues", relation="rel/queues",
        description="a page of the project's queues by name: `limit`, `marker`, `detailed`; 204 if it is empty",
        parameters=(Parameter("marker"), Parameter("limit", INTEGER), Parameter("detailed", BOOLEAN)),
        parse=queue_page, render=render.queue_list, content_location=path_and_query(200),
    ),
    _call(
        "GET", _QUEUE, relation="rel/queue",
        summary="Ask whether a queue exists.",
        description="204 it exists, 404 it does not",
        handler=queues_v2.head, render=render_v2.nothing, content_location=path_alone(204, 404),
    ),
    _call(
        "PUT", _QUEUE, relation="rel/queue", body=None,
        summary="Create a queue.",
        description="201 creates the queue, 204 if it was there; a body is ignored",
        parse=parse.no_metadata, render=render.put_queue,
    ),
    _call("DELETE", _QUEUE, relation="rel/queue"),
    _call(
        "GET", _QUEUE, at=_METADATA, relation="rel/queue-metadata",
        description="metadata as it was set; 404 if there is no queue",
        handler=queues.get_metadata, content_location=path_alone(200),
    ),
    _call(
        "PUT", _QUEUE, at=_METADATA, relation="rel/queue-metadata",
        summary="Replace a queue's metadata.",
        description="204: all of the metadata is replaced; 404 if there is no queue, 400 for keys that begin with `_`",
        parse=parse.metadata, handler=queues.put_metadata, render=render.put_metadata,
    ),
    _call(
        "GET", _STATS, relation="rel/queue-stats",
        description="how many messages are free, claimed, there; the oldest and the newest; 404 if there is no queue",
        handler=queues.stats, content_location=path_alone(200),
    ),
    _call(
        "GET", _MESSAGES, relation="rel/messages",
        description="a page of messages: `limit`, `marker`, `echo`, `include_claimed`, for which `Client-ID` is needed;"
                    " or a list of those of `ids`; 204 if there are none",
        parameters=(
            Parameter("marker"), Parameter("limit", INTEGER), Parameter("echo", BOOLEAN),
            Parameter("include_claimed", BOOLEAN), Parameter("ids", LIST),
        ),
        parse=parse.messages_or_page, handler=messages.list_, render=render.message_list,
        content_location=path_and_query(),
    ),
    _call(
        "POST", _MESSAGES, relation="rel/post-messages", needs=frozenset({PROJECT, CLIENT}),
        description="201: posted, in this order; the body is a list, each with `ttl` and `body`; 404 if there is no"
                    " queue",
        parse=parse.posts, handler=partial(messages_v2.post, create=False), render=render.posted,
    ),
    _call(
        "DELETE", _MESSAGES,
        summary="Delete several messages by their ids.",
        description="204: deletes `ids`",
        parameters=(Parameter("ids", LIST),), parse=parse.ids,
    ),
    _call("GET", _MESSAGE, render=render.one_message, content_location=path_and_query(200)),
    _call("DELETE", _MESSAGE),
    _call(
        "POST", _CLAIMS, relation="rel/claim",
        description="201: claims up to `limit` messages for `ttl` seconds, `grace` is needed too; 204 when there is"
                    " nothing",
        parameters=(Parameter("limit", INTEGER),), parse=parse.claim, render=render.claimed,
    ),
    _call("GET", _CLAIM, render=render.claim, content_location=path_and_query(200)),
    _call(
        "PATCH", _CLAIM,
        description="the claim begins again, with a new `ttl`; without `grace` that is 0",
        parse=parse.renewal, handler=partial(claims.patch, any_grace=True),
    ),
    _call("DELETE", _CLAIM),
    _call(
        "GET", "/pools",
        parse=pool_page, render=render.pool_list, content_location=path_and_query(200),
    ),
    _call("GET", _POOL, content_location=path_and_query(200)),
    _call("PUT", _POOL, render=render.created_pool),
    _call(
        "PATCH", _POOL,
        description="200 without a body: changes some of `weight`, `uri`, `options`, and `flavor` with them",
        parse=pool_changes, render=changed_pool,
    ),
    _call("DELETE", _POOL),
)
