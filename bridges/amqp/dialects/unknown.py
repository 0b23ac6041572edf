"""A broker of which nothing is known but that it speaks AMQP 0-9-1: it is asked for nothing that it might not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from amqp.exceptions import ResourceLocked

from bridges.amqp import queues
from bridges.amqp.dialects.base import Dialect, refusal_like
from bridges.bridging import Binding
from bridges.errors import BrokerRefused, QueueMissing

if TYPE_CHECKING:
    from bridges.amqp.connection import Connection
    from bridges.amqp.fetcher import Fetcher

#: Words that brokers with access control lists, like Qpid and ActiveMQ, use in refusals.
REFUSALS = (
    refusal_like(
        r"permission .*is denied|access denied|not authori[sz]ed", BrokerRefused,
        "give the user the permission in the broker's access control list",
    ),
)


class Unknown(Dialect):
    """Queues of the broker's own kind; others' queues are read by gets, which end nobody's queue."""

    def deliveries(self, headers: Mapping[str, Any]) -> int:
        return 0  # a header of whatever name may be the producer's

    def queue_arguments(self, queue_type: str, in_order: bool = False) -> dict[str, Any]:
        return {}  # an argument that the broker does not know may be refused

    def may_consume(self, fetcher: Fetcher, queue: str) -> bool | None:
        try:
            if queues.depth(fetcher, queue) is None:
                raise QueueMissing(queue)
        except ResourceLocked as error:
            fetcher.channel_reopened()
            raise queues.locked(queue) from error
        return False

    def check_exchange(self, connection: Connection, binding: Binding) -> None:
        pass  # the only way to ask would be to declare an exchange
