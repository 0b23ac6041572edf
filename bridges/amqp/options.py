"""What the AMQP bridge adds to the ``[bridge]`` section."""

from __future__ import annotations

from oslo_config import cfg

from bridges.amqp.uri import EXTERNAL, PLAIN
from bridges.options import POOL_SIZE, PREFETCH, TIMEOUT, TLS

OPTS = (
    cfg.ListOpt(
        "hosts", default=[],
        help="AMQP: further brokers of the same cluster, as host:port. Each connection tries all brokers in random"
             " order.",
    ),
    cfg.StrOpt(
        "queue_type", default="quorum", choices=["quorum", "classic"],
        help="AMQP: type of the queues that the gateway declares on RabbitMQ. Existing queues are used as they are."
             " Other brokers have one type of queues, and this option has no effect on them.",
    ),
    TIMEOUT,
    cfg.IntOpt(
        "heartbeat", default=30, min=2, max=600,
        help="AMQP: seconds between heartbeats. A connection that misses two is closed.",
    ),
    POOL_SIZE,
    PREFETCH,
    cfg.StrOpt(
        "login_method", default=PLAIN, choices=[PLAIN, EXTERNAL],
        help="AMQP: how the gateway logs in. PLAIN: with the user and password in uri. EXTERNAL: with the certificate"
             " in tls_cert_file; RabbitMQ needs its plugin rabbitmq_auth_mechanism_ssl for this.",
    ),
    cfg.BoolOpt(
        "fast_confirms", default=True,
        help="AMQP: read the broker's confirms, and the messages that notifications are made of, past the AMQP library,"
             " which takes less CPU. Not done over TLS.",
    ),
    *TLS,
)
