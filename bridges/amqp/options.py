"""What the AMQP bridge adds to the ``[bridge]`` section."""

from __future__ import annotations

from oslo_config import cfg

from bridges.amqp.uri import EXTERNAL, PLAIN

OPTS = (
    cfg.ListOpt(
        "hosts", default=[],
        help="AMQP: further brokers of the same cluster, as host:port. Each connection tries all brokers in random"
             " order.",
    ),
    cfg.StrOpt(
        "queue_type", default="quorum", choices=["quorum", "classic"],
        help="AMQP: type of the queues that the gateway declares. Existing queues are used as they are.",
    ),
    cfg.FloatOpt(
        "timeout", default=5.0, min=0.1, max=60.0,
        help="AMQP: maximum time in seconds of a call to the broker. After that the request is answered 503.",
    ),
    cfg.IntOpt(
        "heartbeat", default=30, min=2, max=600,
        help="AMQP: seconds between heartbeats. A connection that misses two is closed.",
    ),
    cfg.IntOpt(
        "pool_size", default=16, min=1, max=1000,
        help="AMQP: maximum number of connections for publishing in one gateway process, and again for fetching."
             " More than [wsgi] threads are never used.",
    ),
    cfg.IntOpt(
        "prefetch", default=100, min=1, max=2000,
        help="AMQP: maximum number of messages that one fetch takes from a broker queue.",
    ),
    cfg.StrOpt(
        "login_method", default=PLAIN, choices=[PLAIN, EXTERNAL],
        help="AMQP: how the gateway logs in. PLAIN: with the user and password in uri. EXTERNAL: with the certificate"
             " in tls_cert_file; RabbitMQ needs its plugin rabbitmq_auth_mechanism_ssl for this.",
    ),
    cfg.BoolOpt(
        "fast_confirms", default=True,
        help="AMQP: read the broker's confirms past the AMQP library, which takes less CPU. Not done over TLS.",
    ),
    cfg.StrOpt(
        "tls_ca_file", help="AMQP over TLS: file of CA certificates (PEM) that verify the broker's certificate.",
    ),
    cfg.StrOpt("tls_cert_file", help="AMQP over TLS: file of the gateway's own certificate (PEM)."),
    cfg.StrOpt("tls_key_file", help="AMQP over TLS: file of the private key of tls_cert_file (PEM)."),
    cfg.BoolOpt("tls_insecure", default=False, help="AMQP over TLS: don't verify the broker's certificate."),
)
