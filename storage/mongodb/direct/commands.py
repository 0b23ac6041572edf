"""Commands straight to the primary. Whatever fails here is repeated through the driver, except for inserts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bson.errors import BSONError
from pymongo import MongoClient, WriteConcern
from pymongo.errors import AutoReconnect, ExecutionTimeout, NetworkTimeout, OperationFailure

from storage.mongodb.direct.connections import AT_LEAST, BROKEN, Connections
from storage.mongodb.direct.wire import Connection

#: If at least this share of the timeout is left, we leave the timeout as it is, because changing it would cost more
#: time.
NEARLY_ALL = 0.9

#: Error codes for a command that took too long: MaxTimeMSExpired, WriteConcernFailed (the wait for a majority took too
#: long), ExceededTimeLimit.
TIMEOUTS = frozenset({50, 64, 262})

#: Error code of a duplicate key.
DUPLICATE_KEY = 11000

#: Error codes after which a write may or may not have been done, and should be tried again (MongoDB's specification
#: "Retryable Writes"). None stands for a broken connection. After any other code, like NotWritablePrimary, nothing was
#: done.
PERHAPS_DONE = frozenset({None, 6, 7, 89, 91, 189, 9001, 11600, 11602})

#: Exceptions for a command that can't be encoded, and the error code that we use for it: BadValue.
UNSENDABLE = (BSONError, OverflowError, UnicodeEncodeError)
NOTHING_DONE = 2


class Direct:
    """Commands to the primary of a client's replica set.

    Each command's method returns None if the driver has to do it. A write may have been done all the same then. They
    raise PyMongoError, ``timeout`` set, when the server takes too long.
    """

    def __init__(
        self, client: MongoClient[dict[str, Any]], uri: str, database: str, concern: WriteConcern, timeout: float,
        left: Callable[[], float], enabled: bool = True,
    ):
        """``concern``: of all writes. ``timeout``: seconds that a command may take; ``left``: of a call, now.

        ``enabled``: False leaves everything to the driver.
        """
        self._client = client
        self._database = database
        self._concern = concern.document
        self._timeout = timeout
        self._left = left
        self._ms = int(timeout * 1000)
        self.connections = Connections(client, uri, timeout, left, enabled)

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return self.connections.open

    @property
    def fallbacks(self) -> int:
        """How often the driver has taken over all commands, see Connections.fallbacks."""
        return self.connections.fallbacks

    def close(self) -> None:
        """Close the idle connections now, and the others as they come back."""
        self.connections.close()

    def find(self, collection: str, query: Mapping[str, Any], most: int, **options: Any) -> list[dict[str, Any]] | None:
        """The documents, up to ``most``. ``options``: of the command, such as ``sort``."""
        answer = self._command(
            {"find": collection, "filter": query, **options, "limit": most, "batchSize": most, "maxTimeMS": self._ms}
        )
        found: list[dict[str, Any]] = answer["cursor"]["firstBatch"] if answer is not None else []
        while answer is not None and (number := answer["cursor"]["id"]):  # more than fits into one answer
            answer = self._command({"getMore": number, "collection": collection})
            found += answer["cursor"]["nextBatch"] if answer is not None else []
        return found if answer is not None else None

    def delete(self, collection: str, queries: Sequence[Mapping[str, Any]], most: int) -> int | None:
        """How many were deleted. ``most``: of each query, 1 or 0 for any number."""
        answer = self._command({
            "delete": collection, "deletes": [{"q": query, "limit": most} for query in queries], "ordered": False,
            "writeConcern": self._concern, "maxTimeMS": self._ms,
        })
        return None if answer is None or "writeErrors" in answer else answer["n"]

    def insert(self, collection: str, documents: Sequence[Mapping[str, Any]]) -> list[int] | None:
        """The indexes of those documents that existed.

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
        """The answer to a command that succeeded. ``once``: it must not be done twice."""
        connection = self.connections.take()
        if connection is None:
            return None
        command["$db"] = self._database
        if once:
            command["lsid"], command["txnNumber"] = connection.next_write()
        answer, failure = self._try(connection, command)
        if answer is not None or not once or failure not in PERHAPS_DONE:
            return answer
        self._client.admin.command("ping")  # the driver waits for the next primary
        connection = self.connections.take()
        answer = self._try(connection, command)[0] if connection is not None else None
        if answer is None:
            raise AutoReconnect("a write's outcome is unknown, as the connection broke and the next one too")
        return answer

    def _try(self, connection: Connection, command: Mapping[str, Any]) -> tuple[dict[str, Any] | None, int | None]:
        """The answer to a command that succeeded; else None and the error's code, if there is one."""
        left = self._left()
        try:
            if left < NEARLY_ALL * self._timeout:
                connection.limit(max(left, AT_LEAST))
            elif connection.limited:
                connection.limit(self._timeout)
            answer = connection.command(command)
        except UNSENDABLE:  # nothing was sent; the driver says what is wrong
            self.connections.give_back(connection)
            return None, NOTHING_DONE
        except TimeoutError as error:
            self.connections.drop(connection)
            raise NetworkTimeout(str(error)) from error
        except BROKEN as error:
            self.connections.drop(connection)
            self.connections.distrust(error)
            return None, None
        except BaseException:
            self.connections.drop(connection)
            raise
        self.connections.give_back(connection)
        failure = answer if answer.get("ok") != 1 else answer.get("writeConcernError")
        if failure is None:
            return answer, None
        if failure.get("code") in TIMEOUTS:
            raise ExecutionTimeout(str(failure.get("errmsg")), failure.get("code"))
        self.connections.distrust(failure.get("errmsg"))
        return None, failure.get("code")
