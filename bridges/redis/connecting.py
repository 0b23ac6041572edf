"""Links to the Redis of a URI, or to the master that Sentinels name."""

from __future__ import annotations

from typing import Any

from bridges.addresses import Address
from bridges.redis.link import Link
from bridges.redis.sentinel import Sentinels
from bridges.redis.server import ServerCheck
from bridges.redis.uri import Target


class Connecting:
    """Opens links to ``target``; ``tls``: what tls_options gives, None without TLS; ``sentinel_user`` and
    ``sentinel_password``: the login at the Sentinels, None where they have none.
    """

    def __init__(
        self, target: Target, tls: dict[str, Any] | None, sentinel_user: str | None, sentinel_password: str | None
    ):
        self._target = target
        self._tls = tls
        self._sentinel_login = {"username": sentinel_user, "password": sentinel_password}
        self._sentinels = Sentinels(target.servers, target.service, self._open_sentinel) if target.service else None
        self.check = ServerCheck().check

    def open(self, until: float) -> Link:
        """A link to a server that is fit; ``until``: monotonic seconds. Raises FAILURES and BridgeError."""
        target = self._target
        where: dict[str, Any] = {"username": target.user, "password": target.password, "db": target.db}
        if target.path is not None:
            where["path"] = target.path
        else:
            server = target.servers[0] if self._sentinels is None else self._sentinels.master(until)
            where |= {"host": server.host, "port": server.port}
        link = Link(where, self._tls, until)
        try:
            self.check(link)
        except BaseException:
            link.close()
            raise
        return link

    def _open_sentinel(self, address: Address, until: float) -> Link:
        return Link({"host": address.host, "port": address.port, **self._sentinel_login}, self._tls, until)
