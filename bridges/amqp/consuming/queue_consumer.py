"""One consumer of one queue on the broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridges.amqp.consuming.channel import Channel


class QueueConsumer:
    """``most``: prefetch, the largest number of unsettled messages. A queue that is tried again gets another one.

    ``tag`` is never used again either: to a quorum queue the same tag is the same consumer, and acknowledgements that
    are still on their way would give it credit for more than its limit.
    """

    __slots__ = ("queue", "most", "tag", "channel", "unsettled")

    def __init__(self, queue: str, most: int, number: int):
        self.queue = queue
        self.most = most
        self.tag = f"marconi-{number}"
        #: Where it is, once the broker was told to start it.
        self.channel: Channel | None = None
        #: Delivery tags, in the order of delivery.
        self.unsettled: dict[int, None] = {}
