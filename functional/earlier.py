"""What earlier versions of the gateway have left in MongoDB."""

from storage.mongodb import MongoDBStore


def adopted(store: MongoDBStore, q: str) -> str:
    """A queue from the time when the key of a queue was its name; the key."""
    project, _, name = q.rpartition("/")
    store._database.queues.insert_one({"_id": q, "p": project, "n": name, "m": b"{}", "v": 1})
    store.catalogue.create_queue(q, None)
    return q
