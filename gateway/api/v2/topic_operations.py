"""The operations of topics: those of subscriptions are the same as for queues."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from gateway.access.policy import MEMBER, READER
from gateway.api.v2 import messages, parse, queues, render, schemas, subscription_operations, topics
from gateway.web.operations import BOOLEAN, INTEGER, LIST, Operation, Parameter

TOPICS = "Topics"
FILTERS = "Topics whose metadata has this value for each of these keys: a JSON value, or a string as it is."

_TOPIC = "/v2/topics/{topic_name}"
_MESSAGES = f"{_TOPIC}/messages"
_MESSAGE = f"{_MESSAGES}/{{message_id}}"


def _operation(*, handler: Any, render: Any, **values: Any) -> Operation:
    return Operation(handler=topics.handled(handler), render=topics.rendered(render), **values)


_reads = partial(_operation, default_rule=READER)
_writes = partial(_operation, default_rule=MEMBER)


def _of_topics(operation: Operation) -> Operation:
    """An operation on a queue's subscriptions as one on those of a topic, with relations of its own."""
    return replace(
        operation, path=operation.path.replace("/queues/{queue_name}", "/topics/{topic_name}"),
        summary=operation.summary.replace("queue", "topic"),
        description=operation.description.replace("queue", "topic"),
        handler=topics.handled(operation.handler), render=topics.rendered(operation.render),
        id=f"{operation.id}_of_topic", tag=f"{operation.tag} of topics", relation=_relation(operation.relation or ""),
        more_relations=tuple(map(_relation, operation.more_relations)),
    )


def _relation(relation: str) -> str:
    return relation.replace("rel/", "rel/topic_")


#: In the order of the home document and of docs/api.md.
OPERATIONS: tuple[Operation, ...] = (
    _reads(
        name="topics:get_all", method="GET", path="/v2/topics", relation="rel/topics",
        id="list_topics", tag=TOPICS, replies=schemas.queues.LISTED_TOPICS, page="max_queues_per_page",
        filters=FILTERS,
        summary="List topics.",
        description="a page of the project's topics by name, with the parameters of the list of queues",
        parameters=(
            Parameter("marker"), Parameter("limit", INTEGER), Parameter("detailed", BOOLEAN), Parameter("name"),
        ),
        parse=parse.topic_page, handler=queues.list_, render=render.topic_list,
    ),
    _reads(
        name="topics:get", method="GET", path=_TOPIC, relation="rel/topic",
        id="get_topic", tag=TOPICS, replies=schemas.queues.GOT_TOPIC,
        summary="Read a topic's metadata.",
        description="metadata, with the reserved keys about messages; also of a topic that does not exist yet",
        handler=topics.get, render=render.document,
    ),
    _reads(
        name="topics:get", method="HEAD", path=_TOPIC, relation="rel/topic",
        id="topic_exists", tag=TOPICS, replies=schemas.common.THERE,
        summary="Ask whether a topic exists.",
        description="204 it exists, 404 it does not",
        handler=queues.head, render=render.nothing,
    ),
    _writes(
        name="topics:create", method="PUT", path=_TOPIC, relation="rel/topic",
        id="create_topic", tag=TOPICS, body=schemas.queues.METADATA, replies=schemas.queues.CREATED,
        summary="Create a topic, or replace its metadata.",
        description="201 creates the topic, 204 if it was there; a body replaces its metadata",
        parse=parse.metadata, handler=queues.put, render=render.put_queue,
    ),
    _writes(
        name="topics:update", method="PATCH", path=_TOPIC, relation="rel/topic",
        id="update_topic", tag=TOPICS, body=schemas.queues.CHANGES, replies=schemas.queues.GOT_TOPIC,
        summary="Change a topic's metadata.",
        description="changes metadata, as for queues",
        parse=parse.changes, handler=topics.patch, render=render.document,
    ),
    _writes(
        name="topics:delete", method="DELETE", path=_TOPIC, relation="rel/topic",
        id="delete_topic", tag=TOPICS, replies=schemas.common.DONE,
        summary="Delete a topic.",
        description="204: the topic is gone; its subscriptions stay, and serve the next one of its name",
        handler=queues.delete, render=render.nothing,
    ),
    _reads(
        name="topics:stats", method="GET", path=f"{_TOPIC}/stats", relation="rel/topic_stats",
        id="get_topic_stats", tag=TOPICS, replies=schemas.queues.STATS,
        summary="Count a topic's messages, of which there are none.",
        description="all counts are 0",
        handler=topics.stats, render=render.queue_stats,
    ),
    _writes(
        name="topics:purge", method="POST", path=f"{_TOPIC}/purge", relation="rel/topic_purge",
        id="purge_topic", tag=TOPICS, body=schemas.queues.PURGE, replies=schemas.common.DONE,
        summary="Delete all subscriptions of a topic.",
        description='204: its subscriptions are gone, unless `resource_types` is `["messages"]`',
        parse=parse.purge, handler=topics.purge, render=render.nothing,
    ),
    _writes(
        name="messages:create", method="POST", path=_MESSAGES, relation="rel/topic_post_messages",
        id="post_topic_messages", tag=TOPICS, body=schemas.messages.NEW_MESSAGES, replies=schemas.messages.POSTED,
        headers=(schemas.messages.IDEMPOTENCY_KEY,), errors=schemas.messages.KEY_ERRORS,
        summary="Post messages to a topic.",
        description="201: all subscriptions have got the messages. The topic keeps none",
        parse=parse.posts, handler=messages.post, render=render.posted,
    ),
    _reads(
        name="messages:get_all", method="GET", path=_MESSAGES, relation="rel/topic_messages",
        id="list_topic_messages", tag=TOPICS, replies=schemas.messages.LISTED_MESSAGES, page="max_messages_per_page",
        summary="List a topic's messages, of which there are none.",
        description="an empty page; 404 with `ids`",
        parameters=(Parameter("marker"), Parameter("limit", INTEGER), Parameter("ids", LIST)),
        parse=parse.messages_or_page, handler=topics.list_messages, render=render.message_list,
    ),
    _writes(
        name="messages:delete_all", method="DELETE", path=_MESSAGES, relation="rel/topic_messages_delete",
        id="delete_or_pop_topic_messages", tag=TOPICS, replies=schemas.messages.DELETED_OR_POPPED,
        page="max_messages_per_claim_or_pop",
        summary="Delete messages of a topic, which has none.",
        description="204, or with `pop` no messages",
        parameters=(Parameter("ids", LIST), Parameter("pop", INTEGER)),
        parse=parse.ids_or_pop, handler=topics.delete_messages, render=render.deleted_or_popped,
    ),
    _reads(
        name="messages:get", method="GET", path=_MESSAGE, relation="rel/topic_message",
        id="get_topic_message", tag=TOPICS, replies=schemas.messages.GOT_MESSAGE,
        summary="Read a topic's message, which it does not have.",
        description="404",
        handler=topics.get_message, render=render.one_message,
    ),
    _writes(
        name="messages:delete", method="DELETE", path=_MESSAGE, relation="rel/topic_message_delete",
        id="delete_topic_message", tag=TOPICS, replies=schemas.common.DONE,
        summary="Delete a topic's message, which it does not have.",
        description="204",
        parameters=(Parameter("claim_id"),),
        parse=parse.claim_id, handler=topics.delete_message, render=render.nothing,
    ),
    *map(_of_topics, subscription_operations.OPERATIONS),
)
