"""What differs between brokers that speak AMQP 0-9-1, chosen by the product that a broker says it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridges.amqp.dialects.base import Dialect, Refusal
from bridges.amqp.dialects.rabbitmq import RabbitMQ
from bridges.amqp.dialects.rabbitmq_refusals import REFUSALS as RABBITMQ_REFUSALS
from bridges.amqp.dialects.unknown import REFUSALS as UNKNOWN_REFUSALS
from bridges.amqp.dialects.unknown import Unknown

UNKNOWN = Unknown()

#: By the server property ``product``.
DIALECTS: dict[str, Dialect] = {"RabbitMQ": RabbitMQ()}

#: Refusals of all dialects, in the order in which they are looked through. They are not kept apart, because a broker
#: that refuses a login has not said its product yet; the texts of different brokers differ.
REFUSALS: tuple[Refusal, ...] = (*RABBITMQ_REFUSALS, *UNKNOWN_REFUSALS)


def choose(server_properties: Mapping[str, Any]) -> Dialect:
    """The dialect of the broker that has said this of itself (connection.start)."""
    return DIALECTS.get(server_properties.get("product", ""), UNKNOWN)
