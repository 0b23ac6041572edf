"""What the Redis bridge adds to the ``[bridge]`` section."""

from __future__ import annotations

from oslo_config import cfg

from bridges.options import POOL_SIZE, PREFETCH, TIMEOUT, TLS

OPTS = (
    TIMEOUT,
    POOL_SIZE,
    PREFETCH,
    cfg.StrOpt(
        "key_prefix", default="",
        help="Redis: what the names of all keys begin with, so that several services can share a Redis database. All"
             " gateways of one service need the same value.",
    ),
    cfg.IntOpt(
        "lease", default=60, min=1, max=86400,
        help="Redis: seconds after which messages that a gateway has fetched, and neither stored nor given back, go to"
             " others, because that gateway is taken to be dead. It must be longer than storing a batch may take: set"
             " it to more than ten times [side_store] timeout.",
    ),
    cfg.IntOpt(
        "min_replicas", default=0, min=0, max=100,
        help="Redis: number of replicas that must have a message, too, before a post is answered 201. If they don't"
             " confirm it in time the post is answered 503, and the message may have been enqueued.",
    ),
    cfg.StrOpt("sentinel_user", help="Redis Sentinel: user to log in as at the Sentinels."),
    cfg.StrOpt("sentinel_password", secret=True, help="Redis Sentinel: password to log in with at the Sentinels."),
    *TLS,
)
