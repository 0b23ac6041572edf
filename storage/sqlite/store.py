"""The side-store in one SQLite file: its options, and its two parts on one database."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from oslo_config import cfg

from storage.base import SideStore
from storage.sqlite.catalogue import SQLiteCatalogue
from storage.sqlite.database import Database
from storage.sqlite.landed import SQLiteLanded
from storage.sqlite.path import PREFIX, read_path


class SQLiteStore(SideStore):
    """``sqlite:///relative/path`` or ``sqlite:////absolute/path``."""

    OPTS = (
        cfg.FloatOpt(
            "timeout", default=5.0, min=0.1, max=60.0,
            help="Maximum time in seconds of a call to the side-store. After that the request is answered 503.",
        ),
    )

    def __init__(self, uri: str, options: Any):
        self.timeout = options.timeout
        self._database = Database(read_path(uri), self.timeout)
        self.catalogue: SQLiteCatalogue = SQLiteCatalogue(self._database, self)
        self.landed: SQLiteLanded = SQLiteLanded(self._database, self)

    def ping(self) -> None:
        def change(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM leases WHERE q = ''")

        self._database.write(change)

    def prepare(self) -> None:
        self._database.try_to_open()

    def describe(self) -> str:
        return f"{PREFIX}{self._database.path}"

    def close(self) -> None:
        self._database.close()

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def maintain(self) -> int:
        now = self.now()

        def change(db: sqlite3.Connection) -> int:
            self.catalogue.remove_expired(db, now)
            return self.landed.remove_expired(db, now)

        return self._database.write(change)

    def connections(self) -> int:
        return self._database.open_connections
