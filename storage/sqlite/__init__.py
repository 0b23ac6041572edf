"""The side-store in one SQLite file: the embedded default, durable and safe for several worker processes."""

from storage.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
