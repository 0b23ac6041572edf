"""Options of the ``[bridge]`` section that several drivers share: they mean the same to each of them."""

from __future__ import annotations

from oslo_config import cfg

TIMEOUT = cfg.FloatOpt(
    "timeout", default=5.0, min=0.1, max=60.0,
    help="AMQP, Redis: maximum time in seconds of a call to the broker. After that the request is answered 503.",
)

POOL_SIZE = cfg.IntOpt(
    "pool_size", default=16, min=1, max=1000,
    help="AMQP: maximum number of connections for publishing in one gateway process, and again for fetching. Redis:"
         " maximum number of connections in one gateway process. More than [wsgi] threads are never used for each.",
)

PREFETCH = cfg.IntOpt(
    "prefetch", default=100, min=1, max=2000,
    help="AMQP, Redis: maximum number of messages that one fetch takes from a broker queue.",
)

TLS = (
    cfg.StrOpt(
        "tls_ca_file",
        help="AMQP and Redis over TLS: file of CA certificates (PEM) that verify the broker's certificate.",
    ),
    cfg.StrOpt("tls_cert_file", help="AMQP and Redis over TLS: file of the gateway's own certificate (PEM)."),
    cfg.StrOpt("tls_key_file", help="AMQP and Redis over TLS: file of the private key of tls_cert_file (PEM)."),
    cfg.BoolOpt(
        "tls_insecure", default=False, help="AMQP and Redis over TLS: don't verify the broker's certificate."
    ),
)
