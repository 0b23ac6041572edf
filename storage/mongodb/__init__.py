"""The side-store in MongoDB: through its driver, and for the commands of the hot path past it."""

from storage.mongodb.store import MongoDBStore

__all__ = ["MongoDBStore"]
