"""The table of all operations of version 1.1: those of version 2, and what is different about them."""

from __future__ import annotations

from functools import partial

from gateway.api.derived import derived
from gateway.api.v1_1 import home, parse, pool_operations, queues, render
from gateway.api.v1_1.version import V1_1
from gateway.api.v2 import claims, messages
from gateway.api.v2 import queues as queues_v2
from gateway.api.v2 import render as render_v2
from gateway.web.operations import BOOLEAN, INTEGER, LIST, Operation, Parameter

_QUEUE = "/queues/{queue_name}"
_MESSAGES = f"{_QUEUE}/messages"
_MESSAGE = f"{_MESSAGES}/{{message_id}}"
_CLAIMS = f"{_QUEUE}/claims"
_CLAIM = f"{_CLAIMS}/{{claim_id}}"

_as_v2 = partial(derived, V1_1)

#: In the order of the home document and of docs/api-v1.md.
OPERATIONS: tuple[Operation, ...] = (
    _as_v2("GET", "/", handler=home.home, render=render.home),
    _as_v2(
        "GET", "/queues",
        description="a page of the project's queues by name: `limit`, `marker`, `detailed`",
        parameters=(Parameter("marker"), Parameter("limit", INTEGER), Parameter("detailed", BOOLEAN)),
        parse=parse.queue_page,
    ),
    _as_v2(
        "GET", _QUEUE, heads=False,
        description="metadata as it was set; `{}` for a queue that does not exist yet. `HEAD` is a 405",
        handler=queues.get,
    ),
    _as_v2(
        "PUT", _QUEUE,
        description="201 creates the queue, 204 if it was there, which keeps its metadata whatever the body is",
        handler=partial(queues_v2.put, keep=True),
    ),
    _as_v2("DELETE", _QUEUE),
    Operation(
        name="queues:options", method="OPTIONS", path=queues.PATH, version=V1_1, needs=frozenset(), shareable=False,
        summary="Ask what can be done with a queue.",
        description="204, and in `Allow` the methods of this path",
        handler=queues.methods, render=render.allowed,
    ),
    _as_v2("GET", f"{_QUEUE}/stats"),
    _as_v2(
        "GET", _MESSAGES,
        description="a page of messages: `limit`, `marker`, `echo`, `include_claimed`; or those of `ids`",
        parameters=(
            Parameter("marker"), Parameter("limit", INTEGER), Parameter("echo", BOOLEAN),
            Parameter("include_claimed", BOOLEAN), Parameter("ids", LIST),
        ),
        parse=parse.messages_or_page, render=render.of_messages(render_v2.message_list),
    ),
    _as_v2(
        "POST", _MESSAGES,
        description="201: posted, in this order; each with `body` and optionally `ttl`",
        parse=parse.posts, handler=messages.post,
    ),
    _as_v2(
        "DELETE", _MESSAGES,
        description="deletes `ids`, or takes out the oldest with `pop=<n>`",
        parameters=(Parameter("ids", LIST), Parameter("pop", INTEGER)),
        parse=parse.ids_or_pop, render=render.of_messages(render_v2.deleted_or_popped),
    ),
    _as_v2("GET", _MESSAGE, relation=None, render=render.of_messages(render_v2.one_message)),
    _as_v2("DELETE", _MESSAGE),
    _as_v2("GET", _CLAIM, render=render.of_messages(render_v2.claim)),
    _as_v2(
        "POST", _CLAIMS,
        description="201: claims up to `limit` messages for `ttl` seconds; 204 when there is nothing",
        parameters=(Parameter("limit", INTEGER),),
        parse=parse.claim, render=render.of_messages(render_v2.claimed),
    ),
    _as_v2(
        "PATCH", _CLAIM,
        description="the claim begins again, with `ttl` and `grace` or their defaults; a body is needed, `{}` will do",
        parse=parse.renewal, handler=partial(claims.patch, any_grace=True),
    ),
    _as_v2("DELETE", _CLAIM),
    _as_v2("GET", "/ping"),
    _as_v2(
        "GET", "/health", admin_mode=True,
        description="for each pool how many messages it has, and one of each operation, with timings",
    ),
    *pool_operations.OPERATIONS,
)
