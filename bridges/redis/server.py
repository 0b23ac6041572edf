"""What a Redis server must be like for messages to be safe in it, as far as it tells."""

from __future__ import annotations

import logging
import threading

from redis.exceptions import ResponseError

from bridges.errors import BridgeUnavailable, BrokerRefused
from bridges.redis.link import Link

LOG = logging.getLogger(__name__)

#: The first version with which the scripts work: XCLAIM forgets removed messages since then.
LEAST_VERSION = (7, 0)


class ServerCheck:
    """Checks servers, and logs once what may cost messages and is the operator's choice.

    ``replicas``: the number of replicas that the gateway waits for.
    """

    def __init__(self) -> None:
        self._warned: set[str] = set()
        self._lock = threading.Lock()

    def check(self, link: Link) -> None:
        """Raises BrokerRefused, or BridgeUnavailable for a state that passes."""
        try:
            told = _info(link)
        except ResponseError as error:
            if type(error) is not ResponseError and "NOPERM" not in (getattr(error, "status_code", None) or ""):
                raise
            return  # the user may not ask
        version = told.get("redis_version", "")
        if told.get("loading") == "1":
            raise BridgeUnavailable("Redis is loading its data")
        if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < LEAST_VERSION:
            raise BrokerRefused(f"Redis {version} is too old: the gateway needs 7.0 or later")
        if told.get("redis_mode") == "cluster":
            raise BrokerRefused("this is a Redis Cluster, which is not supported")
        policy = told.get("maxmemory_policy", "")
        if policy.startswith("allkeys"):
            raise BrokerRefused(
                f"Redis may remove queues when its memory is full: maxmemory-policy is {policy}; set it to noeviction"
            )
        if told.get("role", "master") != "master":
            raise BridgeUnavailable("this Redis is a replica, and takes no messages")
        self._warn(link, told)

    def _warn(self, link: Link, told: dict[str, str]) -> None:
        if told.get("aof_enabled") == "0":
            self._once("Redis loses messages when it dies: appendonly is off; set it to yes, and appendfsync to always")
            return
        try:
            found = link.ask("CONFIG", "GET", "appendfsync")
        except ResponseError:
            return
        if found and found[1] != b"always":
            self._once(
                f"Redis may lose the last messages when its machine dies: appendfsync is {found[1].decode()}; set it to"
                " always"
            )

    def _once(self, text: str) -> None:
        with self._lock:
            known = text in self._warned
            self._warned.add(text)
        if not known:
            LOG.warning("%s", text)


def _info(link: Link) -> dict[str, str]:
    """What INFO says, by name."""
    text = link.ask("INFO").decode(errors="replace")
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))
