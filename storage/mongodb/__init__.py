"""The side-store in MongoDB: through its driver, and directly to the primary for the commands of the hot path."""

from storage.mongodb.store import MongoDBStore

__all__ = ["MongoDBStore"]
