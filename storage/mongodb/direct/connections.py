"""Connections to the primary that the driver names; as many as there are threads that use them at once."""

from __future__ import annotations

import logging
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from storage.mongodb.direct.credentials import Credentials, Refused, UnknownMechanism
from storage.mongodb.direct.tls import tls_context
from storage.mongodb.direct.wire import Connection

LOG = logging.getLogger(__name__)

#: A connection that was idle for this many seconds is checked before use, because the server may have closed it.
IDLE = 1.0

#: We ask the driver which member is the primary at this interval, in seconds.
LOOK = 1.0

#: Minimum time for a command in seconds, even if less than that is left.
AT_LEAST = 0.1

#: Share of the remaining time that connecting may take. The rest is for the driver, if connecting fails.
CONNECTING = 0.5

#: After a failed attempt to connect, all commands go through the driver for this many seconds.
PAUSE = 5.0

#: Exceptions for a connection that is broken or can't be made.
BROKEN = (OSError, ValueError, KeyError, Refused, PyMongoError)

#: URI options that the direct way supports, or that don't affect commands to the primary. With any other option all
#: commands go through the driver. The names are in lower case (MongoDB's specification "URI Options").
KNOWN_OPTIONS = frozenset({
    "appname", "authmechanism", "authsource", "compressors", "connect", "connecttimeoutms", "directconnection",
    "document_class", "fsync", "heartbeatfrequencyms", "j", "journal", "localthresholdms", "maxconnecting",
    "maxidletimems", "maxpoolsize", "maxstalenessseconds", "minpoolsize", "readpreference", "readpreferencetags",
    "replicaset", "retryreads", "retrywrites", "servermonitoringmode", "serverselectiontimeoutms", "sockettimeoutms",
    "srvmaxhosts", "srvservicename", "ssl", "timeoutms", "tls", "tlsallowinvalidcertificates",
    "tlsallowinvalidhostnames", "tlscafile", "tlscertificatekeyfile", "tlscertificatekeyfilepassword", "tlscrlfile",
    "tlsdisableocspendpointcheck", "tlsinsecure", "uuidrepresentation", "w", "waitqueuetimeoutms", "wtimeout",
    "wtimeoutms", "zlibcompressionlevel",
})


class UnknownOption(Exception):
    """The URI has an option that may change what commands do, and that the direct way does not know."""


class Connections:
    """Takes connections from a pool, and returns none when the driver has to do the work."""

    def __init__(
        self, client: MongoClient[dict[str, Any]], uri: str, timeout: float, left: Callable[[], float], enabled: bool
    ):
        """``timeout``: seconds that a command may take; ``left``: of a call, now. ``enabled``: False never connects."""
        self._client = client
        self._uri = uri
        self._timeout = timeout
        self._left = left
        self._enabled = enabled
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._closed = False
        self._primary: tuple[str, int] | None = None
        self._looked = float("-inf")
        self._paused_until = float("-inf")
        #: Whether the last attempt to connect failed. The log says it only once.
        self._failing = False
        self._access: tuple[Credentials | None, ssl.SSLContext | None] | None = None
        #: Connections that are open now.
        self.open = 0
        #: How often the driver has taken over all commands, because connecting failed or the URI has an unknown option.
        self.fallbacks = 0

    def take(self) -> Connection | None:
        """A connection to the primary; None when there is none."""
        if not self._enabled:
            return None
        now = time.monotonic()
        if now - self._looked > LOOK:
            self._looked = now
            if (primary := self._client.primary) != self._primary:
                self._primary = primary
                self._drop_idle()
        while True:
            with self._lock:
                if not self._idle:
                    break
                connection = self._idle.pop()
            if now - connection.used < IDLE or connection.alive:
                return connection
            self.drop(connection)
        if self._primary is None or self._closed or now < self._paused_until:
            return None
        return self._connect(self._primary)

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next command."""
        with self._lock:
            if not self._closed and connection.address == self._primary:
                self._idle.append(connection)
                return
        self.drop(connection)

    def drop(self, connection: Connection) -> None:
        """Close a connection."""
        connection.close()
        with self._lock:
            self.open -= 1

    def distrust(self, reason: Any) -> None:
        """Ask the driver again who the primary is, and leave the failed command to it. ``reason`` is for the log."""
        LOG.info("MongoDB: a command is repeated through the driver, as the primary said: %s", reason)
        self._looked = float("-inf")
        self._drop_idle()

    def close(self) -> None:
        """Close the idle connections now, and the others as they come back."""
        with self._lock:
            self._closed = True
        self._drop_idle()

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            self.drop(connection)

    def _connect(self, primary: tuple[str, int]) -> Connection | None:
        try:
            if self._access is None:
                self._access = _access(self._uri)
            credentials, tls = self._access
            seconds = max(self._left() * CONNECTING, AT_LEAST)
            until = time.monotonic() + seconds
            connection = Connection(primary, self._timeout, tls, seconds)
            try:
                self._greet(connection, credentials, until)
            except BaseException:
                connection.close()
                raise
        except (UnknownOption, UnknownMechanism) as error:
            with self._lock:
                first, self._enabled = self._enabled, False
                self.fallbacks += first
            if first:
                LOG.warning("MongoDB: all commands go through the driver: %s", error)
            return None
        except BROKEN as error:
            self._paused_until = time.monotonic() + PAUSE
            with self._lock:
                first, self._failing = not self._failing, True
                self.fallbacks += first
            if first:
                LOG.warning("MongoDB: commands go through the driver until a connection can be made: %s", error)
            return None
        with self._lock:
            self.open += 1
            again, self._failing = self._failing, False
        if again:
            LOG.info("MongoDB: commands go straight to the primary again")
        return connection

    @staticmethod
    def _greet(connection: Connection, credentials: Credentials | None, until: float) -> None:
        def ask(document: Mapping[str, Any]) -> dict[str, Any]:
            connection.limit(max(until - time.monotonic(), AT_LEAST))
            return connection.command(document)

        hello: dict[str, Any] = {
            "hello": 1,
            "client": {
                "application": {"name": "marconi"}, "driver": {"name": "marconi-direct", "version": "1"},
                "os": {"type": sys.platform},
            },
            "$db": "admin",
        }
        if credentials is not None:
            hello["saslSupportedMechs"] = credentials.name
        answer = ask(hello)
        if not answer.get("isWritablePrimary"):
            raise ValueError(f"{connection.address[0]}:{connection.address[1]} is not the primary any more")
        if credentials is not None:
            credentials.prove(ask, answer.get("saslSupportedMechs", []))


def _access(uri: str) -> tuple[Credentials | None, ssl.SSLContext | None]:
    """What a URI asks for. Raises UnknownOption and UnknownMechanism, and what BROKEN has."""
    parsed = parse_uri(uri)
    unknown = sorted(name for name in parsed["options"] if name.lower() not in KNOWN_OPTIONS)
    if unknown:
        raise UnknownOption(f"the direct way does not know the URI's {', '.join(unknown)}")
    return Credentials.from_uri(parsed), tls_context(parsed["options"])
