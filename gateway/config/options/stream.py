"""Options of those who wait without a thread."""

from __future__ import annotations

from oslo_config import cfg

STREAM_OPTS = (
    cfg.FloatOpt(
        "keep_alive", default=15.0, min=1.0, max=300.0,
        help="Time in seconds between two signs of life on a live feed, so that proxies and clients don't take it for"
             " dead. Proxies must allow at least this much silence.",
    ),
    cfg.FloatOpt(
        "max_feed_seconds", default=3600.0, min=1.0, max=86400.0,
        help="Maximum time in seconds that a live feed lasts. Then it ends, and its client opens it again where it was,"
             " with the rights that it has by then. A feed ends sooner when its token or its signature does.",
    ),
)

#: The section that Zaqar has for its WebSocket server.
ZAQARS = "drivers:transport:websocket"

WEBSOCKET_OPTS = (
    cfg.HostAddressOpt(
        "bind", deprecated_opts=[cfg.DeprecatedOpt("bind", group=ZAQARS)],
        help="Address of a separate listener for WebSocket, as Zaqar has one: there every path is that of a WebSocket."
             " Unset: WebSocket is at /v2/websocket of the service alone.",
    ),
    cfg.PortOpt(
        "port", default=9000, deprecated_opts=[cfg.DeprecatedOpt("port", group=ZAQARS)],
        help="TCP port of that listener.",
    ),
    cfg.IntOpt(
        "max_message", min=1024, max=64 * 1024 * 1024,
        help="Size of the largest request in bytes. Unset: that of the largest body over HTTP and 16384 bytes more.",
    ),
    cfg.IntOpt(
        "max_connections", default=1000, min=1, max=10000,
        help="Number of WebSocket connections that one worker process has at the same time. More are answered 503.",
    ),
    cfg.FloatOpt(
        "ping_interval", default=30.0, min=0.1, max=3600.0,
        help="Time in seconds between two pings to a client. After two of them without any answer the connection is"
             " closed.",
    ),
    cfg.FloatOpt(
        "lease", default=60.0, min=3.0, max=3600.0,
        help="Time in seconds after which other gateways remove the subscriptions of the connections of a gateway that"
             " has died.",
    ),
)
