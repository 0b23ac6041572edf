"""What differs between brokers that speak AMQP 0-9-1, chosen by the product that a broker says it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bridges.amqp.dialects.base import Dialect, Refusal
from bridges.amqp.dialects.qpid import Qpid
from bridges.amqp.dialects.qpid_refusals import REFUSALS as QPID_REFUSALS
from bridges.amqp.dialects.qpid_refusals import STOPPED as QPID_STOPPED
from bridges.amqp.dialects.qpid_refusals import TOO_LARGE as QPID_TOO_LARGE
from bridges.amqp.dialects.rabbitmq import RabbitMQ
from bridges.amqp.dialects.rabbitmq_refusals import REFUSALS as RABBITMQ_REFUSALS
from bridges.amqp.dialects.rabbitmq_refusals import TOO_LARGE as RABBITMQ_TOO_LARGE
from bridges.amqp.dialects.unknown import REFUSALS as UNKNOWN_REFUSALS
from bridges.amqp.dialects.unknown import Unknown

UNKNOWN = Unknown()

#: By the beginning of the server property ``product``.
DIALECTS: dict[str, Dialect] = {"RabbitMQ": RabbitMQ(), "Apache Qpid Broker-J": Qpid()}

#: Refusals of all dialects, in the order in which they are searched. They are in one list, because a broker that
#: refuses a login has not said yet which product it is. Where a text fits two brokers, the advice does, too.
REFUSALS: tuple[Refusal, ...] = (*RABBITMQ_REFUSALS, *QPID_REFUSALS, *UNKNOWN_REFUSALS)

#: Texts that say that a message is too large; their group ``limit`` is the largest number of bytes, if any.
TOO_LARGE: tuple[re.Pattern[str], ...] = (RABBITMQ_TOO_LARGE, QPID_TOO_LARGE)

#: Texts of refusals that may pass, whatever their code says.
PASSING: tuple[re.Pattern[str], ...] = (QPID_STOPPED,)


def choose_dialect(server_properties: Mapping[str, Any]) -> Dialect:
    """The dialect of the broker that has said this of itself (connection.start)."""
    product = str(server_properties.get("product", ""))
    return next((dialect for name, dialect in DIALECTS.items() if product.startswith(name)), UNKNOWN)
