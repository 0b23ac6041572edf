"""What the refusals of Qpid Broker-J mean, and what its operator or ours has to do about them.

The texts are those of Broker-J 10.1 (AMQChannel, AMQPConnection_0_8Impl, AbstractVirtualHost). It closes the connection
in most cases, whatever the code.
"""

from __future__ import annotations

import re

from bridges.amqp.dialects.base import refusal_like
from bridges.errors import BrokerRefused, ObjectLocked

#: A message is too large, with the limit.
TOO_LARGE = re.compile(r"message size of \d+ greater than allowed maximum of (?P<limit>\d+)", re.IGNORECASE)

#: A channel was closed because it went on while it was stopped; with the code of messages that are too large.
STOPPED = re.compile(r"channel flow control was requested", re.IGNORECASE)

#: The first that matches counts.
REFUSALS = (
    # Logging in.
    refusal_like(
        r"authentication failed", BrokerRefused,
        "correct user and password in [bridge] uri, or add the user to the broker's authentication provider",
    ),
    refusal_like(
        r"unknown virtual ?host", BrokerRefused,
        "correct the virtual host, in [bridge] uri or in a queue's _bridge, or add it to the broker; / is the broker's"
        " default one",
    ),
    # Permissions.
    refusal_like(
        r"permission .*is denied|permission denied", BrokerRefused,
        "give the user the permission in the broker's access control list",
    ),
    refusal_like(
        r"reserved prefix|default exchange", BrokerRefused,
        "the broker keeps this to itself: bridge the queue to something else",
    ),
    # Queues of others.
    refusal_like(
        r"exclusive consumer|exclusivity policy|is exclusive, but not created on this connection", ObjectLocked,
        "bridge a queue that is not exclusive to a connection, session or consumer of others",
    ),
    # Exchanges and arguments.
    refusal_like(
        r"attempt to redeclare exchange", BrokerRefused,
        "there is an exchange of this name and of another type: correct the type in the queue's _bridge",
    ),
    refusal_like(
        r"error creating (queue|exchange)|invalid argument", BrokerRefused,
        "the broker does not know these arguments, or not these values: correct the queue's _bridge",
    ),
)
