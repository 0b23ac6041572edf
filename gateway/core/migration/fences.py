"""Is a broker's FIFO queue empty for certain? An empty batch may also mean that another gateway has its messages.

A gateway that was stopped may hold the first messages of the queue in its hands, and a broker need not tell how many
that are. But it gives the messages of such a queue to one client at a time, in order: who gets a message that was
published last gets it after all others were acknowledged.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from bridges.errors import QueueMissing
from gateway.core.envelopes import fence, is_fence
from gateway.core.errors import Busy
from gateway.core.queues.info import QueueInfo

#: Milliseconds after which the broker drops a fence.
LIVES = 60_000

#: Messages that are taken at once to see whether others than fences are among them.
LOOKED_AT = 100


def is_certainly_empty(info: QueueInfo) -> bool:
    """Has everything been acknowledged that was published to a FIFO queue, which nobody publishes to any more?

    False if that is not known now. Raises BridgeError.
    """
    bridge: Any = info.bridge
    name = uuid4().hex
    try:
        with info.pool.landing.interrupted(info):
            bridge.publish(info.broker, [fence(name, LIVES)])
            batch = bridge.fetch(info.broker, LOOKED_AT, in_order=True)
            taken = batch.envelopes
            if taken and all(map(is_fence, taken)) and any(envelope.message_id == name for envelope in taken):
                bridge.settle(batch)
                return True
            bridge.requeue(batch)  # the fence is dropped when what is in front of it lands
            return False
    except QueueMissing:
        return True
    except Busy:
        return False
