"""One connection to Redis, used by one thread at a time, all of whose waits end at a deadline.

redis-py's connection does the protocol; its client, pools and retries are not used: a repeated XADD is a second
message, and a pool's wait, the connecting and the commands would each have a timeout of their own.
"""

from __future__ import annotations

import select
import ssl
import time
from collections.abc import Sequence
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.retry import Retry

from bridges.redis.scripts import Script

#: Seconds that a wait has at least: 0 would mean not to wait at all.
LEAST_WAIT = 0.001

#: Seconds after which an idle connection is asked whether it is alive: what drops it silently is seen by nothing else.
IDLE = 15.0

#: Share of the time until the deadline that it has to answer.
ALIVE_WITHIN = 0.3

#: What redis-py raises when Redis is gone, refuses, or is too slow.
FAILURES: tuple[type[Exception], ...] = (RedisError, OSError)

Command = Sequence[bytes | str | int]


class _TimedSocket:
    """A socket whose waits end when its link says."""

    def __init__(self, sock: Any, link: Link):
        self._sock = sock
        self._link = link

    def recv(self, *arguments: Any) -> bytes:
        if self._sock.gettimeout() != 0:  # redis-py looks without waiting, too
            self._sock.settimeout(self._link.left())
        data: bytes = self._sock.recv(*arguments)
        return data

    def recv_into(self, *arguments: Any) -> int:
        if self._sock.gettimeout() != 0:
            self._sock.settimeout(self._link.left())
        count: int = self._sock.recv_into(*arguments)
        return count

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._link.left())
        self._sock.sendall(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _Timed:
    """What is mixed into redis-py's connections: they get such a socket."""

    link: Link

    def _connect(self) -> Any:
        return _TimedSocket(super()._connect(), self.link)  # type: ignore[misc]


class _TCP(_Timed, Connection):
    pass


class _TLS(_Timed, SSLConnection):
    pass


class _Socket(_Timed, UnixDomainSocketConnection):
    host, port = "", 0  # redis-py 8 asks for them when it can't connect in time


class Link:
    """``where``: arguments of redis-py's connection that say where to connect and as whom; ``tls``: those of
    bridges/tls.py, None without TLS. All waits end at ``until`` (monotonic seconds), which each use sets again.

    Raises FAILURES when it can't be opened.
    """

    def __init__(self, where: dict[str, Any], tls: dict[str, Any] | None, until: float):
        self.until = until
        self._used = time.monotonic()
        arguments = {
            **where, "protocol": 2, "retry": Retry(NoBackoff(), 0), "client_name": "marconi",
            "socket_timeout": self.left(), "socket_connect_timeout": self.left(),
        }
        self._redis: Any
        if "path" in where:
            self._redis = _Socket(**arguments)
        elif tls is None:
            self._redis = _TCP(**arguments, socket_keepalive=True)
        else:
            self._redis = _TLS(**arguments, socket_keepalive=True, **_tls_arguments(tls))
        self._redis.link = self
        try:
            self._redis.connect()
        except BaseException:
            self.close()
            raise
        self._poll = select.poll()
        self._poll.register(self.fileno(), select.POLLIN)

    def left(self) -> float:
        """Seconds until the deadline."""
        return max(self.until - time.monotonic(), LEAST_WAIT)

    def close(self) -> None:
        """Close it; in a process that has been forked off, without a word to Redis."""
        self._redis.disconnect()

    def is_alive(self) -> bool:
        """Can it be used? Not one that was closed meanwhile, or that does not answer after a long time."""
        if self._poll.poll(0):
            return False
        if time.monotonic() - self._used < IDLE:
            return True
        until, self.until = self.until, time.monotonic() + self.left() * ALIVE_WITHIN
        try:
            self.ask("PING")
        except ResponseError:
            return True
        except FAILURES:
            return False
        finally:
            self.until = until
        return True

    def call(self, *commands: Command) -> list[Any]:
        """Send commands in one go, and wait for all replies. Those that are errors are in the list.

        Raises FAILURES other than ResponseError; the link is of no use then.
        """
        self.send(packed(commands))
        return [self.receive() for _ in commands]

    def send(self, data: bytes) -> None:
        """Send packed commands; receive all of their replies before anything else is asked."""
        self._redis.send_packed_command([data])

    def receive(self) -> Any:
        """The next reply, also if it is an error. Raises FAILURES other than ResponseError."""
        try:
            return self._redis.read_response()
        except ResponseError as error:
            return error
        finally:
            self._used = time.monotonic()

    def fileno(self) -> int:
        """The socket's, which is readable when a reply has come."""
        number: int = self._redis._sock.fileno()
        return number

    def ask(self, *command: bytes | str | int) -> Any:
        """The reply to one command. Raises FAILURES; after a ResponseError the link can still be used."""
        (reply,) = self.call(command)
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    def run(self, script: Script, key: str, *arguments: bytes | str | int) -> Any:
        """The result of a script for a key; see ask."""
        return self.run_on(script, (key,), *arguments)

    def run_on(self, script: Script, keys: Sequence[str], *arguments: bytes | str | int) -> Any:
        """The result of a script for several keys; see ask."""
        try:
            return self.ask("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # it has not run: Redis forgets scripts when it restarts
            return self.ask("EVAL", script.source, len(keys), *keys, *arguments)


def packed(commands: Sequence[Command]) -> bytes:
    """Commands as Redis reads them (RESP2, "Sending commands to a Redis server").

    redis-py takes about four times the CPU for it, which is most of what a post costs here.
    """
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for argument in command:
            data = argument if isinstance(argument, bytes) else str(argument).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def _tls_arguments(tls: dict[str, Any]) -> dict[str, Any]:
    """As redis-py calls them."""
    verified = tls["cert_reqs"] != ssl.CERT_NONE
    return {
        "ssl_cert_reqs": "required" if verified else "none", "ssl_check_hostname": verified,
        "ssl_ca_certs": tls.get("ca_certs"), "ssl_certfile": tls.get("certfile"), "ssl_keyfile": tls.get("keyfile"),
    }
