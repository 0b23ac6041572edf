"""Tables of the file, and words for its columns.

Files have short column names in the tables ``messages`` and ``tombstones``, and keep them: two versions of the gateway
may use a file at the same time. Statements are written with words, which :func:`sql` translates.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from functools import lru_cache

#: Columns in a file, by the word that statements have for them. ``sealed`` is 0 or 1 for a message that is not
#: encrypted, or with an unknown key, and else text: the ``key`` of the message.
COLUMNS = {
    "position": "s", "hidden_until": "h", "claim": "c", "claim_ttl": "ct", "claims": "n", "posted": "p",
    "expires": "e", "client": "u", "sealed": "x", "body": "b", "properties": "r",
}

#: Statements that are kept translated; the lists of ids in them have many lengths.
KEPT = 512

_WORDS = re.compile(rf"\b(?:{'|'.join(COLUMNS)})\b")


@lru_cache(KEPT)
def sql(statement: str) -> str:
    """A statement on messages or tombstones with the columns as they are called in the file."""
    return _WORDS.sub(lambda word: COLUMNS[word[0]], statement)


#: Statements are put together from constants and question marks, never from input: hence nosec B608.
def marks(values: Sequence[str]) -> str:
    """A question mark for each of the values. SQLite takes 32766 in a statement since 3.32; pages are far smaller."""
    return ",".join("?" * len(values))


SCHEMA = sql("""
CREATE TABLE IF NOT EXISTS queues (
    q TEXT PRIMARY KEY, project TEXT NOT NULL, name TEXT NOT NULL, metadata BLOB NOT NULL, version INTEGER NOT NULL,
    incarnation TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS queues_by_name ON queues (project, name);
CREATE TABLE IF NOT EXISTS messages (
    q TEXT NOT NULL, id TEXT NOT NULL, position INTEGER NOT NULL, hidden_until INTEGER NOT NULL, claim TEXT,
    claim_ttl INTEGER NOT NULL, claims INTEGER NOT NULL, posted INTEGER NOT NULL, expires INTEGER NOT NULL,
    client TEXT NOT NULL, sealed INTEGER NOT NULL, body BLOB NOT NULL, properties BLOB
);
CREATE UNIQUE INDEX IF NOT EXISTS messages_by_id ON messages (q, id);
CREATE INDEX IF NOT EXISTS messages_by_visibility ON messages (q, hidden_until, position);
CREATE INDEX IF NOT EXISTS messages_by_position ON messages (q, position);
CREATE INDEX IF NOT EXISTS messages_by_claim ON messages (claim) WHERE claim IS NOT NULL;
CREATE INDEX IF NOT EXISTS messages_by_expiry ON messages (expires);
CREATE TABLE IF NOT EXISTS tombstones (q TEXT, id TEXT, expires INTEGER NOT NULL, PRIMARY KEY (q, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tombstones_by_expiry ON tombstones (expires);
CREATE TABLE IF NOT EXISTS bridged (q TEXT PRIMARY KEY, mark TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (
    q TEXT PRIMARY KEY, last INTEGER NOT NULL, owner TEXT, until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS locks (name TEXT PRIMARY KEY, owner TEXT, until INTEGER NOT NULL) WITHOUT ROWID;
""")

#: Columns that files of earlier versions of the gateway lack: table, column, definition.
ADDED = (("queues", "incarnation", "TEXT NOT NULL DEFAULT ''"),)


def prepare_tables(db: sqlite3.Connection) -> None:
    """Create what is missing in a new file, and in one of an earlier version. Raises sqlite3.Error."""
    db.executescript(SCHEMA)
    for table, column, definition in ADDED:
        if column not in {row[1] for row in db.execute(f"PRAGMA table_info({table})")}:
            try:
                db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {definition}")
            except sqlite3.OperationalError as error:
                if "duplicate column" not in str(error):  # another process has just added it
                    raise
