"""A message as a connection gets it: the notification of an HTTP subscriber in a frame, without its headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack
import orjson

from gateway.core.queues.info import QueueInfo
from gateway.core.subscriptions.record import Subscription
from gateway.notify.formats import Content, Target, build
from gateway.notify.item import Item
from gateway.stream.websocket.frames import pack

#: Options that say what HTTP's headers say.
_OF_HEADERS = frozenset({"_content_type", "post_headers"})


def frame(subscription: Subscription, info: QueueInfo, item: Item, is_binary: bool) -> bytes:
    """The frame for a message of the queue ``info``, in the format that the subscription's options ask for.

    In a binary frame what is JSON becomes MessagePack, and any other text a string.
    """
    message = item.message
    content = Content(
        message.id, item.body, item.ttl, message.posted, info.settings.default_delay or None, item.properties
    )
    options: Mapping[str, Any] = {
        name: value for name, value in subscription.options.items() if name not in _OF_HEADERS
    }
    target = Target(subscription.source, subscription.id, options, subscription.source_path)
    _, text = build(content, target, 1, item.kind)
    if not is_binary:
        return text
    try:
        return pack(text)
    except orjson.JSONDecodeError:  # of ``post_data``
        packed: bytes = msgpack.packb(text.decode())
        return packed
