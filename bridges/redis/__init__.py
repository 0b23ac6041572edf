"""Bridge to Redis: queues are streams."""

from bridges.redis.bridge import RedisBridge

__all__ = ["RedisBridge"]
