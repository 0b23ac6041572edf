"""What RabbitMQ's refusals mean, and what its operator or ours has to do about them.

The texts are those of RabbitMQ 3.10 to 4.3 (rabbit_reader, rabbit_channel, rabbit_access_control, rabbit_amqqueue) and
of Amazon MQ. Of what other brokers say at a login some rows fit, too.
"""

from __future__ import annotations

import re

from bridges.amqp.dialects.base import refusal_like
from bridges.errors import BrokerRefused, LimitReached, ObjectLocked

#: A message is too large: with the limit, where the broker tells it.
TOO_LARGE = re.compile(
    r"message size .*larger than (?:configured )?max size (?P<limit>\d+)|message too large", re.IGNORECASE
)

#: The first that matches counts.
REFUSALS = (
    # Logging in.
    refusal_like(
        r"login (was )?refused.*\bEXTERNAL\b|\bEXTERNAL login refused", BrokerRefused,
        "make a user of the name in the gateway's certificate (the broker's ssl_cert_login_from says which part of it):"
        " rabbitmqctl add_user, then clear_password",
    ),
    refusal_like(
        r"can only connect via localhost", BrokerRefused,
        "make a user for the gateway: rabbitmqctl add_user; guest may not come from other machines",
    ),
    refusal_like(
        r"login (was )?refused", BrokerRefused,
        "correct user and password in [bridge] uri, or make the user: rabbitmqctl add_user",
    ),
    refusal_like(
        r"appropriate auth mechanism", BrokerRefused,
        "the broker does not offer [bridge] login_method; for EXTERNAL enable its plugin rabbitmq_auth_mechanism_ssl,"
        " list EXTERNAL in auth_mechanisms, and have it ask for certificates: ssl_options.verify = verify_peer",
    ),
    # Limits, before the permissions whose words some of their texts have.
    refusal_like(
        r"connection limit( \(.*\) is reached| cannot be queried)|connections? .*has reached", LimitReached,
        "raise the limit (rabbitmqctl set_vhost_limits, set_user_limits, or connection_max), or lower [bridge]"
        " pool_size",
    ),
    refusal_like(
        r"number of channels opened", LimitReached,
        "raise the limit of channels (rabbitmqctl set_user_limits, or channel_max), or lower [bridge] pool_size",
    ),
    refusal_like(
        r"queue limit in (vhost|cluster)", LimitReached,
        "raise the limit: rabbitmqctl set_vhost_limits, or delete queues",
    ),
    refusal_like(
        r"limit .*is reached|reached (the )?maximum|limit .*exceeded", LimitReached, "raise the broker's limit",
    ),
    # Virtual hosts.
    refusal_like(
        r"vhost .*not found", BrokerRefused,
        "correct the virtual host, in [bridge] uri or in a queue's _bridge, or make it: rabbitmqctl add_vhost",
    ),
    refusal_like(
        r"access to vhost .*refused", BrokerRefused,
        "let the user into the virtual host: rabbitmqctl set_permissions --vhost",
    ),
    # Permissions.
    refusal_like(
        r"internal exchange", BrokerRefused,
        "bridge the queue to another exchange: only the broker itself publishes to internal ones",
    ),
    refusal_like(
        r"access to topic .*refused", BrokerRefused,
        "give the user the permission for the topic: rabbitmqctl set_topic_permissions",
    ),
    refusal_like(
        r"access to .*refused for user", BrokerRefused, "give the user the permission: rabbitmqctl set_permissions",
    ),
    refusal_like(
        r"reserved prefix|operation not permitted on the default exchange|deletion of system", BrokerRefused,
        "the broker keeps this to itself: bridge the queue to something else",
    ),
    # Queues of others.
    refusal_like(
        r"single active consumer", ObjectLocked,
        "let the gateway's user configure the queue, so that it can be read by a consumer",
    ),
    refusal_like(
        r"exclusive|RESOURCE_LOCKED", ObjectLocked,
        "bridge a queue that is not exclusive to a connection or consumer of others",
    ),
    # Queues of ours.
    refusal_like(
        r"queue type|x-queue-type|feature flag|deprecated|not permitted", BrokerRefused,
        "the broker does not make queues of this type: set [bridge] queue_type to one that it does",
    ),
    refusal_like(
        r"inequivalent arg", BrokerRefused,
        "there is one of this name that was made otherwise: delete it, or make it as the gateway would",
    ),
)
