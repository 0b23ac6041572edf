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
