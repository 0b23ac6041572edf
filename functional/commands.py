"""What is sent to MongoDB: by its driver, and past it."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from pymongo import monitoring

from storage.mongodb.direct.wire import Connection

#: Commands that make connections or keep house.
HOUSEKEEPING = frozenset({"hello", "ismaster", "endSessions", "ping", "createIndexes", "killCursors"})


class Recorder(monitoring.CommandListener):
    """Keeps the commands of this process, as they are on the wire; ``commands`` may be cleared.

    ``thread``: keep those of this thread alone, by its ident; others keep house, for other gateways too.
    """

    def __init__(self, thread: int | None = None) -> None:
        self.commands: list[dict[str, Any]] = []
        self._thread = thread

    def keep(self, command: Mapping[str, Any]) -> None:
        """A command is sent."""
        if self._thread in (None, threading.get_ident()):
            self.commands.append(dict(command))

    @property
    def names(self) -> list[str]:
        """What the commands are called, but for housekeeping."""
        return [name for name in (next(iter(command)) for command in self.commands) if name not in HOUSEKEEPING]

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.keep(event.command)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


@contextmanager
def watched_directly(keep: Callable[[Mapping[str, Any]], None]) -> Iterator[None]:
    """Gives ``keep`` what stores send past the driver."""
    command = Connection.command

    def sent(connection: Connection, document: Mapping[str, Any]) -> dict[str, Any]:
        keep(document)
        return command(connection, document)

    with patch.object(Connection, "command", sent):
        yield


@contextmanager
def recorded(thread: int | None = None) -> Iterator[Recorder]:
    """Records what stores send past the driver, and what clients and stores send by it that are made from now on."""
    recorder = Recorder(thread)
    # There is no way to unregister a listener.
    listeners = monitoring._LISTENERS._replace(command_listeners=[recorder])
    with (
        patch.object(monitoring, "_LISTENERS", listeners),
        watched_directly(recorder.keep),
    ):
        yield recorder
