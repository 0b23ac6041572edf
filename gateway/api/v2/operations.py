"""The table of all operations of version 2. Router, policy, home document and docs/api.md are generated from it."""

from __future__ import annotations

from functools import partial

from gateway.access.policy import ADMINISTRATOR, ANYBODY, MEMBER, READER
from gateway.api.v2 import (
    claims,
    health,
    home,
    messages,
    parse,
    pool_operations,
    queues,
    render,
    root,
    schemas,
    sharing,
    subscription_operations,
    topic_operations,
)
from gateway.web.operations import BOOLEAN, INTEGER, LIST, READING, TAKING, Operation, Parameter

#: Tags, and what parameters that are none of its own mean to the list of queues.
SERVICE, QUEUES, MESSAGES, CLAIMS = "Service", "Queues", "Messages", "Claims"
FILTERS = "Queues whose metadata has this value for each of these keys: a JSON value, or a string as it is."

_QUEUE = "/v2/queues/{queue_name}"
_MESSAGES = f"{_QUEUE}/messages"
_MESSAGE = f"{_MESSAGES}/{{message_id}}"
_CLAIMS = f"{_QUEUE}/claims"
_CLAIM = f"{_CLAIMS}/{{claim_id}}"

_reads = partial(Operation, default_rule=READER)
_writes = partial(Operation, default_rule=MEMBER)

#: In the order of the home document and of docs/api.md.
OPERATIONS: tuple[Operation, ...] = (
    Operation(
        name="home:get", method="GET", path="/v2/",
        id="get_home", tag=SERVICE, replies=schemas.service.HOME,
        summary="Read the home document.",
        description="the home document: calls by relation (`application/json-home`)",
        handler=root.home, render=home.home,
    ),
    _reads(
        name="queues:get_all", method="GET", path="/v2/queues", relation="rel/queues",
        id="list_queues", tag=QUEUES, replies=schemas.queues.LISTED_QUEUES, page="max_queues_per_page",
        filters=FILTERS,
        summary="List queues.",
        description="a page of the project's queues by name: `limit`, `marker`, `detailed`, `with_count`, `name` (a"
                    " part of it); other keys filter by metadata. Pages of large metadata are shorter than `limit`",
        parameters=(
            Parameter("marker"), Parameter("limit", INTEGER), Parameter("detailed", BOOLEAN), Parameter("name"),
            Parameter("with_count", BOOLEAN),
        ),
        parse=parse.queue_page, handler=queues.list_, render=render.queue_list,
    ),
    _reads(
        name="queues:get", method="GET", path=_QUEUE, relation="rel/queue",
        id="get_queue", tag=QUEUES, replies=schemas.queues.GOT_QUEUE,
        summary="Read a queue's metadata.",
        description="metadata, reserved keys filled in; also of a queue that does not exist yet",
        handler=queues.get, render=render.document,
    ),
    _reads(
        name="queues:get", method="HEAD", path=_QUEUE, relation="rel/queue",
        id="queue_exists", tag=QUEUES, replies=schemas.common.THERE,
        summary="Ask whether a queue exists.",
        description="204 it exists, 404 it does not",
        handler=queues.head, render=render.nothing,
    ),
    _writes(
        name="queues:create", method="PUT", path=_QUEUE, relation="rel/queue",
        id="create_queue", tag=QUEUES, body=schemas.queues.METADATA, replies=schemas.queues.CREATED,
        summary="Create a queue, or replace its metadata.",
        description="201 creates the queue, 204 if it was there; a body replaces its metadata",
        parse=parse.metadata, handler=queues.put, render=render.put_queue,
    ),
    _writes(
        name="queues:update", method="PATCH", path=_QUEUE, relation="rel/queue",
        id="update_queue", tag=QUEUES, body=schemas.queues.CHANGES, replies=schemas.queues.GOT_QUEUE,
        summary="Change a queue's metadata.",
        description="changes metadata: a list of `add`, `remove`, `replace` on `/metadata/<key>`",
        parse=parse.changes, handler=queues.patch, render=render.document,
    ),
    _writes(
        name="queues:delete", method="DELETE", path=_QUEUE, relation="rel/queue",
        id="delete_queue", tag=QUEUES, replies=schemas.common.DONE,
        summary="Delete a queue.",
        description="204: the queue and all its messages are gone",
        handler=queues.delete, render=render.nothing,
    ),
    _reads(
        name="queues:stats", method="GET", path=f"{_QUEUE}/stats", relation="rel/queue_stats",
        id="get_queue_stats", tag=QUEUES, replies=schemas.queues.STATS,
        summary="Count a queue's messages.",
        description="how many messages are free, claimed, there; the oldest and the newest",
        handler=queues.stats, render=render.queue_stats,
    ),
    _writes(
        name="queues:share", method="POST", path=f"{_QUEUE}/share", relation="rel/queue_share",
        id="share_queue", tag=QUEUES, body=schemas.queues.SHARE, replies=schemas.queues.SHARED,
        summary="Pre-sign requests, of which each must be allowed too.",
        description="a signature for some calls on this queue",
        parse=parse.share, handler=sharing.share, render=render.document,
    ),
    _writes(
        name="queues:purge", method="POST", path=f"{_QUEUE}/purge", relation="rel/queue_purge",
        id="purge_queue", tag=QUEUES, body=schemas.queues.PURGE, replies=schemas.common.DONE,
        summary="Delete everything in a queue.",
        description='204: its messages and subscriptions are gone; `{"resource_types": ["messages"]}` deletes messages'
                    " alone; any other key is a 400",
        parse=parse.purge, handler=queues.purge, render=render.nothing,
    ),
    _reads(
        name="messages:get_all", method="GET", path=_MESSAGES, relation="rel/messages",
        id="list_messages", tag=MESSAGES, replies=schemas.messages.LISTED_MESSAGES, page="max_messages_per_page",
        summary="List messages, or read several by their ids.",
        description="a page of messages: `limit`, `marker`, `echo`, `include_claimed`, `include_delayed`; or those of"
                    " `ids`. `wait=<seconds>` waits for a page that is not empty. With `Accept: text/event-stream` a"
                    " [live feed](feeds.md)",
        parameters=(
            Parameter("marker"), Parameter("limit", INTEGER), Parameter("echo", BOOLEAN),
            Parameter("include_claimed", BOOLEAN), Parameter("include_delayed", BOOLEAN), Parameter("ids", LIST),
            Parameter("wait", INTEGER),
        ),
        waits=READING,
        parse=parse.messages_or_page, handler=messages.list_, render=render.message_list, feed=parse.message_feed,
    ),
    _writes(
        name="messages:create", method="POST", path=_MESSAGES, relation="rel/post_messages",
        id="post_messages", tag=MESSAGES, body=schemas.messages.NEW_MESSAGES, replies=schemas.messages.POSTED,
        headers=(schemas.messages.IDEMPOTENCY_KEY,), errors=schemas.messages.KEY_ERRORS,
        summary="Post messages.",
        description="201: posted, in this order; each with `body` and optionally `ttl` and `delay`, in a queue with"
                    " `_fifo` also `group` and `dedup_id`. `resources` names all messages, `Location` as many as one"
                    " `GET` takes. With an `Idempotency-Key` a request that is sent again gets the same answer",
        parse=parse.posts, handler=messages.post, render=render.posted,
    ),
    _writes(
        name="messages:delete_all", method="DELETE", path=_MESSAGES, relation="rel/messages_delete",
        id="delete_or_pop_messages", tag=MESSAGES, replies=schemas.messages.DELETED_OR_POPPED,
        page="max_messages_per_claim_or_pop",
        summary="Delete several messages by their ids, or pop.",
        description="deletes `ids` (with `claim_ids`, those they hold), or takes out the oldest with `pop=<n>`, and"
                    " waits for them with `wait=<seconds>`",
        parameters=(
            Parameter("ids", LIST), Parameter("claim_ids", LIST), Parameter("pop", INTEGER), Parameter("wait", INTEGER),
        ),
        waits=TAKING,
        parse=parse.ids_or_pop, handler=messages.delete_many, render=render.deleted_or_popped,
    ),
    _reads(
        name="messages:get", method="GET", path=_MESSAGE, relation="rel/message",
        id="get_message", tag=MESSAGES, replies=schemas.messages.GOT_MESSAGE,
        summary="Read a message.",
        description="one message",
        handler=messages.get, render=render.one_message,
    ),
    _writes(
        name="messages:delete", method="DELETE", path=_MESSAGE, relation="rel/message_delete",
        id="delete_message", tag=MESSAGES, replies=schemas.common.DONE, errors=schemas.messages.CLAIMED_BY_OTHERS,
        summary="Delete a message.",
        description="204; a claimed one needs its `claim_id`",
        parameters=(Parameter("claim_id"),),
        parse=parse.claim_id, handler=messages.delete, render=render.nothing,
    ),
    _reads(
        name="claims:get", method="GET", path=_CLAIM, relation="rel/claim",
        id="get_claim", tag=CLAIMS, replies=schemas.messages.CLAIM,
        summary="Read a claim and its messages.",
        description="the claim and the messages it still holds",
        handler=claims.get, render=render.claim,
    ),
    _writes(
        name="claims:create", method="POST", path=_CLAIMS, relation="rel/post_claim",
        id="claim_messages", tag=CLAIMS, body=schemas.messages.NEW_CLAIM, replies=schemas.messages.CLAIMED,
        page="max_messages_per_claim_or_pop",
        summary="Claim messages.",
        description="201: claims up to `limit` messages for `ttl` seconds; 204 when there is nothing, also after"
                    " `wait=<seconds>`",
        parameters=(Parameter("limit", INTEGER), Parameter("wait", INTEGER)),
        waits=TAKING,
        parse=parse.claim, handler=claims.post, render=render.claimed,
    ),
    _writes(
        name="claims:update", method="PATCH", path=_CLAIM, relation="rel/patch_claim",
        id="renew_claim", tag=CLAIMS, body=schemas.messages.RENEWAL, replies=schemas.common.DONE,
        summary="Renew a claim.",
        description="the claim begins again, with a new `ttl` and `grace`",
        parse=parse.renewal, handler=claims.patch, render=render.nothing,
    ),
    _writes(
        name="claims:delete", method="DELETE", path=_CLAIM, relation="rel/delete_claim",
        id="release_claim", tag=CLAIMS, replies=schemas.common.DONE,
        summary="Release a claim.",
        description="204: what the claim still holds is free at once",
        handler=claims.delete, render=render.nothing,
    ),
    *subscription_operations.OPERATIONS,
    *topic_operations.OPERATIONS,
    Operation(
        name="ping:get", method="GET", path="/v2/ping", relation="rel/ping", more_methods=("HEAD",),
        id="ping", tag=SERVICE, replies=schemas.service.PING,
        summary="Ask whether the service works.",
        description="204 when broker and side-store of the default pool answer, else 503",
        default_rule=ANYBODY, handler=root.ping, render=render.nothing,
    ),
    Operation(
        name="health:get", method="GET", path="/v2/health", relation="rel/health",
        id="get_health", tag=SERVICE, replies=schemas.service.HEALTH,
        summary="Try every kind of operation in each pool; needs admin_mode too.",
        description="for each pool how many messages it has, and one of each operation on a queue created for it, with"
                    " timings; `admin_mode` only, else 404; role `admin` only",
        default_rule=ADMINISTRATOR, handler=health.health, render=render.document,
    ),
    *pool_operations.OPERATIONS,
)
