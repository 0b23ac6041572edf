"""Commands straight to the primary.

The driver takes four times as much CPU for a command as this (docs/performance.md), and knows all about elections,
retries and sessions. So it is asked first who the primary is, and once more for whatever goes wrong here.
"""

from __future__ import annotations

import logging
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bson.errors import BSONError
from pymongo import MongoClient, WriteConcern
from pymongo.errors import AutoReconnect, ExecutionTimeout, NetworkTimeout, OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from storage.mongodb.credentials import Credentials, Refused
from storage.mongodb.tls import tls_context
from storage.mongodb.wire import Connection

LOG = logging.getLogger(__name__)

#: Seconds of idleness after which a connection is looked at before it is used: the server may have closed it.
IDLE = 1.0

#: Seconds after which the driver is asked again who the primary is.
LOOK = 1.0

#: Part of the timeout of which it does not matter whether it has passed already; seconds of a command at the least.
NEARLY_ALL = 0.9
AT_LEAST = 0.1

#: Part of what is left of the time that making a connection may take: the driver must have some, too.
CONNECTING = 0.5

#: Seconds for which the driver does everything after no connection could be made.
PAUSE = 5.0

#: Error codes that say that the time was up: MaxTimeMSExpired, WriteConcernFailed (which is what the wait for a
#: majority ends with), ExceededTimeLimit.
TIMEOUTS = frozenset({50, 64, 262})

#: Error code of a duplicate key.
DUPLICATE_KEY = 11000

#: Error codes after which a write may have been done, or not yet, and is worth another try (MongoDB's specification
#: "Retryable Writes"); None is a broken connection. After any other, as NotWritablePrimary, nothing was done.
PERHAPS_DONE = frozenset({None, 6, 7, 89, 91, 189, 9001, 11600, 11602})

#: What no document can be made of, and what stands for its error code: that of a bad value.
UNSENDABLE = (BSONError, OverflowError, UnicodeEncodeError)
NOTHING_DONE = 2

#: What goes wrong with a connection, or with making one.
BROKEN = (OSError, ValueError, KeyError, Refused, PyMongoError)


class Direct:
    """Connections to the primary of a client's replica set; as many as there are threads that use them at once.

    Each command's method returns None if the driver has to do it. A write may have been done all the same then. They
    raise PyMongoError, ``timeout`` set, when the server takes too long.
    """

    def __init__(
        self, client: MongoClient[dict[str, Any]], uri: str, database: str, concern: WriteConcern, timeout: float,
        left: Callable[[], float],
    ):
        """``concern``: of all writes. ``timeout``: seconds that a command may take; ``left``: of a call, now."""
        self._client = client
        self._uri = uri
        self._database = database
        self._concern = concern.document
        self._timeout = timeout
        self._left = left
        self._ms = int(timeout * 1000)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._open = 0
        self._closed = False
        self._primary: tuple[str, int] | None = None
        self._looked = float("-inf")
        self._paused_until = float("-inf")
        self._access: tuple[Credentials | None, ssl.SSLContext | None] | None = None

    # -- commands -----------------------------------------------------------------------------------------------

    def find(self, collection: str, query: Mapping[str, Any], most: int, **options: Any) -> list[dict[str, Any]] | None:
        """The documents, ``most`` at the most. ``options``: of the command, as ``sort``."""
        answer = self._command(
            {"find": collection, "filter": query, **options, "limit": most, "batchSize": most, "maxTimeMS": self._ms}
        )
        found: list[dict[str, Any]] = answer["cursor"]["firstBatch"] if answer is not None else []
        while answer is not None and (number := answer["cursor"]["id"]):  # more than goes into one answer
            answer = self._command({"getMore": number, "collection": collection})
            found += answer["cursor"]["nextBatch"] if answer is not None else []
        return found if answer is not None else None

    def delete(self, collection: str, query: Mapping[str, Any], most: int) -> int | None:
        """How many were deleted. ``most``: 1, or 0 for any number."""
        answer = self._command({
            "delete": collection, "deletes": [{"q": query, "limit": most}], "writeConcern": self._concern,
            "maxTimeMS": self._ms,
        })
        return None if answer is None or "writeErrors" in answer else answer["n"]

    def insert(self, collection: str, documents: Sequence[Mapping[str, Any]]) -> list[int] | None:
        """The indexes of those documents that were there already.

        Unlike other commands it is never left to the driver once it may have been done: the driver would insert again
        what somebody has found and deleted meanwhile. The second try has the number of the first, by which the server
        knows that it is the same (MongoDB's specification "Retryable Writes").
        """
        answer = self._command({
            "insert": collection, "documents": documents, "ordered": False, "writeConcern": self._concern,
            "maxTimeMS": self._ms,
        }, once=True)
        if answer is None:
            return None
        errors = answer.get("writeErrors", ())
        if failure := next((error for error in errors if error["code"] != DUPLICATE_KEY), None):
            if not answer["n"]:
                return None
            raise OperationFailure(str(failure.get("errmsg")), failure["code"])
        return [error["index"] for error in errors]

    def _command(self, command: dict[str, Any], once: bool = False) -> dict[str, Any] | None:
        """The answer to a command that went well. ``once``: it must not be done twice."""
        connection = self._take()
        if connection is None:
            return None
        command["$db"] = self._database
        if once:
            command["lsid"], command["txnNumber"] = connection.next_write()
        answer, failure = self._try(connection, command)
        if answer is not None or not once or failure not in PERHAPS_DONE:
            return answer
        self._client.admin.command("ping")  # the driver waits for the next primary
        connection = self._take()
        answer = self._try(connection, command)[0] if connection is not None else None
        if answer is None:
            raise AutoReconnect("a write's outcome is unknown, as the connection broke and the next one too")
        return answer

    def _try(self, connection: Connection, command: Mapping[str, Any]) -> tuple[dict[str, Any] | None, int | None]:
        """The answer to a command that went well; else None and the error's code, as far as there is one."""
        left = self._left()
        try:
            if left < NEARLY_ALL * self._timeout:
                connection.limit(max(left, AT_LEAST))
            elif connection.limited:
                connection.limit(self._timeout)
            answer = connection.command(command)
        except UNSENDABLE:  # nothing was sent; the driver says what is wrong
            self._put(connection)
            return None, NOTHING_DONE
        except TimeoutError as error:
            self._drop(connection)
            raise NetworkTimeout(str(error)) from error
        except BROKEN as error:
            self._drop(connection)
            self._leave(error)
            return None, None
        except BaseException:
            self._drop(connection)
            raise
        self._put(connection)
        failure = answer if answer.get("ok") != 1 else answer.get("writeConcernError")
        if failure is None:
            return answer, None
        if failure.get("code") in TIMEOUTS:
            raise ExecutionTimeout(str(failure.get("errmsg")), failure.get("code"))
        self._leave(failure.get("errmsg"))
        return None, failure.get("code")

    # -- connections --------------------------------------------------------------------------------------------

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return self._open

    def close(self) -> None:
        """Close the idle connections now, and the others as they come back."""
        with self._lock:
            self._closed = True
        self._drop_idle()

    def _take(self) -> Connection | None:
        """A connection to the primary; None when there is none to be had."""
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
            self._drop(connection)
        if self._primary is None or self._closed or now < self._paused_until:
            return None
        return self._connect(self._primary)

    def _put(self, connection: Connection) -> None:
        with self._lock:
            if not self._closed and connection.address == self._primary:
                self._idle.append(connection)
                return
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        connection.close()
        with self._lock:
            self._open -= 1

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            self._drop(connection)

    def _leave(self, reason: Any) -> None:
        """Let the driver do it; the primary may be another one now."""
        LOG.info("MongoDB: asking the driver, as the primary said: %s", reason)
        self._looked = float("-inf")
        self._drop_idle()

    def _connect(self, primary: tuple[str, int]) -> Connection | None:
        try:
            if self._access is None:
                uri = parse_uri(self._uri)
                self._access = Credentials.from_uri(uri), tls_context(uri["options"])
            credentials, tls = self._access
            seconds = max(self._left() * CONNECTING, AT_LEAST)
            until = time.monotonic() + seconds
            connection = Connection(primary, self._timeout, tls, seconds)
            try:
                self._greet(connection, credentials, until)
            except BaseException:
                connection.close()
                raise
        except BROKEN as error:
            self._paused_until = time.monotonic() + PAUSE
            LOG.info("MongoDB: the driver does everything for %d s: %s", PAUSE, error)
            return None
        with self._lock:
            self._open += 1
        return connection

    def _greet(self, connection: Connection, credentials: Credentials | None, until: float) -> None:
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
