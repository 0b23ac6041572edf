"""Claims in an SQLite file: of any free messages, and of those of FIFO queues, which respect groups."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing

from storage.grouping import Held
from storage.model import Claim, InGroups, Message, Ring
from storage.sqlite.landing import check_alive, check_lease, release_lease
from storage.sqlite.moving import SQLiteMoving
from storage.sqlite.rows import MESSAGE, MESSAGES, OWN, to_message
from storage.sqlite.schema import marks, sql

#: Groups that the statement itself leaves out. It has room for 32766 values.
SKIPPED_BY_SQL = 10_000

HIDDEN = sql(
    "SELECT coalesce(group_name, ''), position, hidden_until, claim_ttl, posted, claim IS NOT NULL, expires"  # nosec B608
    f" FROM {MESSAGES} WHERE q = ? AND hidden_until > 0"
)

CLAIM = sql(
    "UPDATE messages SET hidden_until = ?, claim = ?, claim_ttl = ?, claims = claims + 1,"  # nosec B608
    f" expires = max(expires, ?) WHERE q = ? AND id = ? AND hidden_until = 0 RETURNING {OWN}"
)


class SQLiteGrouping(SQLiteMoving):
    """The fourth part of the landed store: claims in FIFO queues. The table ``grouped`` has the groups."""

    def find_in_groups(
        self, q: str, limit: int, ring: Ring | None = None, stops: Mapping[str, int] | None = None
    ) -> InGroups:
        while True:
            now = self.clock.now()
            held = Held(stops)
            with self._database.read() as db:
                # First what is hidden: what becomes free between the two reads is left out.
                hidden = db.execute(HIDDEN, (q,)).fetchall()
                if not any(until <= now for _, _, until, *_ in hidden):
                    for group, seq, until, claim_ttl, posted, claimed, expires in hidden:
                        if expires > now:
                            held.add(group, seq, until, claim_ttl, posted, claimed=bool(claimed))
                    return held.result(_free(db, q, limit, ring, held, now))
            self._database.write(lambda db, now=now: put_back(db, q, now))  # type: ignore[misc]

    def claim_in_groups(
        self, q: str, owner: str, wants: Sequence[tuple[Claim, Sequence[Message]]], release: int | None = None
    ) -> list[list[Message]]:
        def change(db: sqlite3.Connection) -> list[list[Message]]:
            check_alive(db, q)
            check_lease(db, q, owner, self.clock.now())
            claimed = [claim_free(db, q, messages, claim) for claim, messages in wants]
            if release is not None:
                release_lease(db, q, owner, release)
            return claimed

        return self._database.write(change)


def put_back(db: sqlite3.Connection, q: str, now: int) -> None:
    """Put messages whose claim or delay is over at ``now`` (ms) back among the free ones."""
    db.execute(
        sql(
            "UPDATE messages SET hidden_until = 0, claim = NULL, claim_ttl = 0"
            " WHERE q = ? AND hidden_until > 0 AND hidden_until <= ?"
        ),
        (q, now),
    )


def claim_free(db: sqlite3.Connection, q: str, messages: Sequence[Message], claim: Claim) -> list[Message]:
    """Claim those of the messages that are free; as they are now."""
    got = []
    for message in messages:
        row = db.execute(CLAIM, (claim.expires, claim.id, claim.ttl, claim.keep_until, q, message.id)).fetchone()
        if row:
            got.append(to_message((*row, message.group, message.dedup_id)))
    return got


def _free(db: sqlite3.Connection, q: str, limit: int, ring: Ring | None, held: Held, now: int) -> list[Message]:
    """Free messages that groups don't hold up. Adds to ``held`` what the ring leaves out."""
    found: list[str] = []
    stopped = held.stopped_after(0)[:SKIPPED_BY_SQL]
    # Only those that are found are read with their bodies.
    with closing(db.execute(
        sql(
            f"SELECT id, position, coalesce(group_name, '') AS name, sealed FROM {MESSAGES}"  # nosec B608
            f" WHERE q = ? AND hidden_until = 0 AND expires > ? AND name NOT IN ({marks(stopped)}) ORDER BY position"
        ),
        (q, now, *stopped),
    )) as rows:
        for id_, seq, group, sealed in rows:
            if len(found) >= limit:
                break
            if ring is not None and isinstance(sealed, str) and ring.leaves_out(sealed):
                held.stop(group, seq)
            elif not held.stops_at(group, seq):
                found.append(id_)
    read = db.execute(
        sql(f"SELECT {MESSAGE} FROM {MESSAGES} WHERE q = ? AND id IN ({marks(found)})"), (q, *found)  # nosec B608
    )
    # Sorted here: in SQL it might go through the whole queue to find them in order.
    return sorted((m for m in map(to_message, read) if m.hidden_until == 0), key=lambda m: m.seq)
