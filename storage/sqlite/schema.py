"""Tables of the file, and words for its columns.

Files have short column names in the tables ``messages`` and ``tombstones``, and keep them: two versions of the gateway
may use a file at the same time. Statements are written with words, which :func:`sql` translates.

Earlier versions insert queues without naming the columns, so the table ``queues`` must not get any more of them. Pools
and moves are in ``placements``, which has a row for a queue that is in another pool than the default one, or moves;
``notifying`` has a row for a queue that has had a subscription. A row whose ``incarnation`` is not the queue's says
nothing: an earlier version has deleted the queue that it was about.

Nor must ``messages`` get any more columns. ``grouped`` has a row for a message with a group or a dedup id. A trigger
removes it with its message, also when an earlier version deletes that.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from functools import lru_cache

#: Names of columns in the file, by their names in statements. ``sealed`` is 0 for a message that is not encrypted, 1
#: for one whose key is unknown, and otherwise a text: the ``key`` of the message.
COLUMNS = {
    "position": "s", "hidden_until": "h", "claim": "c", "claim_ttl": "ct", "claims": "n", "posted": "p",
    "expires": "e", "client": "u", "sealed": "x", "body": "b", "properties": "r",
}

#: How many statements we cache. There are many, because lists of ids in them differ in length.
KEPT = 512

_WORDS = re.compile(rf"\b(?:{'|'.join(COLUMNS)})\b")


@lru_cache(KEPT)
def sql(statement: str) -> str:
    """A statement on messages or tombstones with the columns as they are called in the file."""
    return _WORDS.sub(lambda word: COLUMNS[word[0]], statement)


#: Statements consist of constants and question marks, and never of input. That is why B608 is switched off here.
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
CREATE TABLE IF NOT EXISTS grouped (
    q TEXT, id TEXT, group_name TEXT NOT NULL, dedup_id TEXT NOT NULL, PRIMARY KEY (q, id)
) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS grouped_till_deleted AFTER DELETE ON messages BEGIN
    DELETE FROM grouped WHERE q = OLD.q AND id = OLD.id;
END;
CREATE TABLE IF NOT EXISTS tombstones (q TEXT, id TEXT, expires INTEGER NOT NULL, PRIMARY KEY (q, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tombstones_by_expiry ON tombstones (expires);
CREATE TABLE IF NOT EXISTS bridged (q TEXT PRIMARY KEY, mark TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (
    q TEXT PRIMARY KEY, last INTEGER NOT NULL, owner TEXT, until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS placements (
    q TEXT PRIMARY KEY, incarnation TEXT NOT NULL, pool TEXT NOT NULL, move BLOB
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS placements_by_pool ON placements (pool, q);
CREATE INDEX IF NOT EXISTS placements_moving ON placements (q) WHERE move IS NOT NULL;
CREATE TABLE IF NOT EXISTS notifying (q TEXT PRIMARY KEY, incarnation TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bindings (q TEXT, copy TEXT, PRIMARY KEY (q, copy)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    kind TEXT, name TEXT, data BLOB NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reservations (
    name TEXT PRIMARY KEY, scope TEXT NOT NULL, data BLOB NOT NULL, version INTEGER NOT NULL, until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS reservations_by_scope ON reservations (scope, until);
CREATE INDEX IF NOT EXISTS reservations_by_end ON reservations (until);
CREATE TABLE IF NOT EXISTS locks (name TEXT PRIMARY KEY, owner TEXT, until INTEGER NOT NULL) WITHOUT ROWID;
""")

#: Columns that files of earlier versions don't have: table, column, definition.
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
