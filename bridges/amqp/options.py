"""What the AMQP bridge adds to the ``[bridge]`` section."""

from __future__ import annotations

from oslo_config import cfg

from bridges.amqp.uri import EXTERNAL, PLAIN

OPTS = (
    cfg.ListOpt(
        "hosts", default=[],
        help="AMQP: further brokers of the same cluster, as host:port; tried in turn when one can't be reached.",
    ),
    cfg.StrOpt(
        "queue_type", default="quorum", choices=["quorum", "classic"],
        help="AMQP: type of the queues that the gateway declares. Existing queues are used as they are.",
    ),
    cfg.FloatOpt(
        "timeout", default=5.0, min=0.1, max=60.0,
        help="AMQP: seconds that one call to the broker may take before the request is answered 503.",
    ),
    cfg.IntOpt(
        "heartbeat", default=30, min=2, max=600,
        help="AMQP: seconds between heartbeats; a connection that misses two is dropped.",
    ),
    cfg.IntOpt(
        "pool_size", default=16, min=1, max=1000,
        help="AMQP: largest number of connections for publishing that one gateway process keeps; it keeps as many"
             " more for fetching. More than [wsgi] threads is of no use.",
    ),
    cfg.IntOpt(
        "prefetch", default=100, min=1, max=2000,
        help="AMQP: largest number of messages that are fetched from a broker queue in one go.",
    ),
    cfg.StrOpt(
        "login_method", default=PLAIN, choices=[PLAIN, EXTERNAL],
        help="AMQP: how the gateway logs in: PLAIN with user and password of uri, or EXTERNAL by the certificate"
             " in tls_cert_file (RabbitMQ needs its plugin rabbitmq_auth_mechanism_ssl).",
    ),
    cfg.BoolOpt(
        "fast_confirms", default=True,
        help="AMQP: read the broker's confirms past the AMQP library, which takes less CPU. Not done over TLS.",
    ),
    cfg.StrOpt("tls_ca_file", help="AMQP over TLS: CA certificates (PEM) that the broker's is checked against."),
    cfg.StrOpt("tls_cert_file", help="AMQP over TLS: the gateway's own certificate (PEM)."),
    cfg.StrOpt("tls_key_file", help="AMQP over TLS: key of the gateway's own certificate (PEM)."),
    cfg.BoolOpt("tls_insecure", default=False, help="AMQP over TLS: don't check the broker's certificate."),
)
