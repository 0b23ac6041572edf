"""Options that choose the broker and the side-store; their drivers add their own options to the same sections."""

from __future__ import annotations

from oslo_config import cfg

BRIDGE_OPTS = (
    cfg.StrOpt(
        "uri", default="loopback://", secret=True,
        help="Broker that holds the messages until they are claimed: amqp://user:password@host:5672/vhost or amqps://"
             " for RabbitMQ or Qpid Broker-J, redis://, rediss://, redis+sentinel:// or redis+unix:// for Redis, or"
             " loopback:// to work without a broker.",
    ),
)

SIDE_STORE_OPTS = (
    cfg.StrOpt(
        "uri", default="sqlite:///marconi.db", secret=True,
        help="Database for claims, TTLs and queue metadata: sqlite:///relative/path, sqlite:////absolute/path or"
             " mongodb://host[,host...]/database?replicaSet=name.",
    ),
)
