"""A private Redis: a server, replicas of one, and Sentinels that watch them."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import redis

from functional.services.certificates import Pair
from functional.services.ports import free_port
from functional.services.process import Missing, Service, start_together

INSTALL = "install it: `apt-get install redis-server redis-sentinel` or `brew install redis`"

#: Seconds for one answer of a server of this machine.
CLIENT_TIMEOUT = 2.0

#: An empty value in redis.conf.
NOTHING = '""'

#: How Sentinels call the master.
SERVICE = "marconi"

#: Milliseconds without an answer of the master until Sentinels elect another.
DOWN_AFTER = 1000


def find_server() -> str:
    """The path of redis-server."""
    program = shutil.which("redis-server")
    if program is None:
        raise Missing(f"redis-server is not installed; {INSTALL}")
    return program


class Redis(Service):
    """One server that writes each change to its disk before it answers; ready when it answers.

    `settings` are further options, as in redis.conf. With `replica_of` it copies another one. With `tls`, an
    authority's file and what it has signed for the server, it takes TLS only, and clients must show a certificate.
    """

    start_timeout = 15.0

    def __init__(
        self,
        replica_of: "Redis | None" = None,
        tls: tuple[Path, Pair] | None = None,
        **settings: str,
    ) -> None:
        self._program = find_server()
        super().__init__("redis")
        self.port = free_port()
        self._tls = tls
        self._replica_of = replica_of
        self._settings = settings
        #: The folder of its data.
        self.data = self.folder / "data"
        self.data.mkdir()
        self.socket = self.folder / "redis.sock"

    @property
    def uri(self) -> str:
        """Address of the database 0."""
        return f"{'rediss' if self._tls else 'redis'}://127.0.0.1:{self.port}/0"

    @property
    def socket_uri(self) -> str:
        """The same by its Unix socket."""
        return f"redis+unix://{self.socket}"

    def command(self) -> list[str]:
        settings = {
            "bind": "127.0.0.1", "port": str(self.port), "unixsocket": str(self.socket), "dir": str(self.data),
            "appendonly": "yes", "appendfsync": "always", "save": "", "repl-diskless-sync-delay": "0",
            "repl-ping-replica-period": "1",
        }
        if self._tls is not None:
            ca, pair = self._tls
            settings |= {
                "port": "0", "tls-port": str(self.port), "tls-ca-cert-file": str(ca),
                "tls-cert-file": str(pair.certificate), "tls-key-file": str(pair.key),
            }
        if self._replica_of is not None:
            settings["replicaof"] = f"127.0.0.1 {self._replica_of.port}"
        settings |= {name.replace("_", "-"): value for name, value in self._settings.items()}
        # In a file that it may write, since Sentinels have it write what they change.
        file = self.folder / "redis.conf"
        if not file.exists():
            file.write_text("".join(f"{name} {value or NOTHING}\n" for name, value in settings.items()))
        return [self._program, str(file)]

    def connect(self, **options: Any) -> "redis.Redis":
        """A native client."""
        tls: dict[str, Any] = {}
        if self._tls is not None:
            ca, pair = self._tls
            tls = {
                "ssl": True, "ssl_ca_certs": str(ca), "ssl_certfile": str(pair.certificate),
                "ssl_keyfile": str(pair.key),
            }
        password = self._settings.get("requirepass")
        return redis.Redis(
            "127.0.0.1", self.port, socket_timeout=CLIENT_TIMEOUT, socket_connect_timeout=CLIENT_TIMEOUT,
            **{"password": password, **tls, **options},
        )

    def is_ready(self) -> bool:
        try:
            with self.connect() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def configure(self, name: str, value: str) -> None:
        """Set an option of the running server."""
        with self.connect() as client:
            client.config_set(name, value)

    def until_saved(self, queue: str) -> None:
        """Return when all that was confirmed of a queue is on the disk: it is before it is confirmed."""

    @property
    def role(self) -> str:
        """`master` or `slave`, as Redis calls a replica."""
        with self.connect() as client:
            role: bytes = client.role()[0]
            return role.decode()

    @property
    def is_synchronized(self) -> bool:
        """Does a replica have what its master has?"""
        with self.connect() as client:
            return client.info("replication").get("master_link_status") == "up"


class Sentinel(Service):
    """A Sentinel that watches a master; `quorum` of them must find it dead."""

    start_timeout = 15.0

    def __init__(self, master: Redis, quorum: int) -> None:
        self._program = shutil.which("redis-sentinel")
        if self._program is None:
            raise Missing(f"redis-sentinel is not installed; {INSTALL}")
        super().__init__("sentinel")
        self.port = free_port()
        self._file = self.folder / "sentinel.conf"
        self._file.write_text(
            f"bind 127.0.0.1\nport {self.port}\ndir {self.folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} {quorum}\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}\n"
            f"sentinel failover-timeout {SERVICE} 5000\n"
        )
        os.chmod(self._file, 0o600)

    def command(self) -> list[str]:
        assert self._program is not None
        return [self._program, str(self._file)]

    def connect(self) -> "redis.Redis":
        """A native client."""
        return redis.Redis("127.0.0.1", self.port, socket_timeout=CLIENT_TIMEOUT)

    def is_ready(self) -> bool:
        try:
            with self.connect() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def knows(self, replicas: int, sentinels: int) -> bool:
        """Has it found so many replicas and other Sentinels?"""
        with self.connect() as client:
            state = client.sentinel_master(SERVICE)
            return bool(state["num-slaves"] == replicas and state["num-other-sentinels"] == sentinels)


class WatchedRedis:
    """A master, a replica and three Sentinels; kill, pause and start them yourself."""

    def __init__(self, replicas: int = 1) -> None:
        self.first = Redis()
        self.replicas: Sequence[Redis] = [Redis(self.first) for _ in range(replicas)]
        self.sentinels = [Sentinel(self.first, 2) for _ in range(3)]

    @property
    def uri(self) -> str:
        """Address of the database 0 of the master."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    def start(self) -> Self:
        """Start all of them; the Sentinels may not know each other yet."""
        self.first.start()
        start_together([*self.replicas, *self.sentinels])
        return self

    def close(self) -> None:
        """End all of them and remove their data."""
        for service in (*self.sentinels, *self.replicas, self.first):
            service.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()
