"""The records of subscriptions in the catalogue, and how others get to know that one of them has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import orjson

from gateway.core.errors import Busy
from gateway.core.seal import Seal
from gateway.core.subscriptions.record import LET_GO, LETTING_GO, Subscription, subscription_name
from storage.catalogue import Catalogue

#: Kinds of records in the catalogue.
SUBSCRIPTION, SUBSCRIBER, NOTIFY = "subscription", "subscriber", "notify"

#: Name of the record of kind NOTIFY that gets a new version with each change of a subscription.
CHANGES = "changes"

#: Records read at once.
PAGE = 200

#: Times that a change is tried again because somebody else has changed the record meanwhile.
TRIES = 10


class SubscriptionRecords:
    """Reads and writes the records. One of kind SUBSCRIBER makes a subscriber unique in a source: its data is the id.

    Workers look at ``version`` and read all records again when it has changed; so each write is followed by one of
    CHANGES. A crash between the two delays the effect until the next change, and no answer was given then.
    """

    def __init__(self, catalogue: Catalogue, seal: Seal):
        self._catalogue = catalogue
        self._seal = seal
        #: Called after each change that is made through this object, to tell workers in the same process.
        self.told: Callable[[], None] = lambda: None

    # -- reading ------------------------------------------------------------------------------------------------

    def version(self) -> int:
        """A number that changes whenever a subscription does; 0 before the first one."""
        found = self._catalogue.get_record(NOTIFY, CHANGES)
        return found.version if found else 0

    def get(self, project: str, source: str, id_: str) -> Subscription | None:
        """The subscription, also one that has expired; None if there is none."""
        found = self._catalogue.get_record(SUBSCRIPTION, subscription_name(project, source, id_))
        return Subscription.read(found, self._seal) if found else None

    def all(self) -> Iterator[Subscription]:
        """All subscriptions of all projects, by name, also those that have expired; read a page at a time."""
        return self._from("")

    def of_project(self, project: str) -> Iterator[Subscription]:
        """All subscriptions of a project."""
        return (found for found in self._from(f"{project}/") if found.project == project)

    def of_source(self, project: str, source: str, after: str = "") -> Iterator[Subscription]:
        """A source's subscriptions after the id ``after``, oldest first."""
        found = self._from(subscription_name(project, source), after)
        return (each for each in found if (each.project, each.source) == (project, source))

    def _from(self, prefix: str, after: str = "") -> Iterator[Subscription]:
        """Those whose names begin with a prefix, after the name that ``after`` makes with it."""
        last = prefix + after
        while page := self._catalogue.list_records(SUBSCRIPTION, last, PAGE):
            for record in page:
                if not record.name.startswith(prefix):
                    return
                yield Subscription.read(record, self._seal)
            last = page[-1].name

    # -- writing ------------------------------------------------------------------------------------------------

    def put(self, subscription: Subscription) -> bool:
        """Store a subscription in place of the one with its version; False if others have changed it since."""
        data = subscription.record(self._seal)
        if not self._catalogue.put_record(SUBSCRIPTION, subscription.name, data, subscription.version):
            return False
        self.touch()
        return True

    def change(
        self, project: str, source: str, id_: str, change: Callable[[Subscription], Subscription | None]
    ) -> Subscription | None:
        """Store what ``change`` makes of a subscription, and return that; None if there is no such subscription.

        ``change`` may be called again with a newer one, and may return None to leave it as it is; then that is
        returned. The version of what is returned is that of the record as it was read. Raises Busy.
        """
        for _ in range(TRIES):
            found = self.get(project, source, id_)
            if found is None:
                return None
            changed = change(found)
            if changed is None:
                return found
            if self.put(replace(changed, version=found.version)):
                return changed
        raise Busy(f"Subscription {id_} is being changed by others; try again")

    def let_go(self, subscription: Subscription) -> None:
        """Record that nobody has anything more of a subscription, if it is to be let go of. Raises Busy."""
        self.change(
            subscription.project, subscription.source, subscription.id,
            lambda found: replace(found, moving=LET_GO) if found.moving == LETTING_GO else None,
        )

    def delete(self, subscription: Subscription) -> None:
        """Remove the record."""
        self._catalogue.delete_record(SUBSCRIPTION, subscription.name)
        self.touch()

    def touch(self) -> None:
        """Have all workers read the subscriptions again."""
        self._catalogue.put_record(NOTIFY, CHANGES, b"")
        self.told()

    # -- subscribers --------------------------------------------------------------------------------------------

    def find(self, project: str, source: str, subscriber: str) -> Subscription | None:
        """The subscription of a subscriber, also one that has expired."""
        found = self._catalogue.get_record(SUBSCRIBER, _subscriber_name(project, source, subscriber))
        held = self.get(project, source, orjson.loads(found.data)["id"]) if found else None
        return held if held is not None and held.subscriber == subscriber else None

    def hold(self, project: str, source: str, subscriber: str, id_: str, now: int) -> bool:
        """Let a subscriber belong to the subscription ``id_`` alone; False if it is that of another one that lives.

        What a subscription has left that is gone, expired, or another subscriber's by now, is taken over. Raises Busy.
        """
        name = _subscriber_name(project, source, subscriber)
        for _ in range(TRIES):
            found = self._catalogue.get_record(SUBSCRIBER, name)
            if found is not None:
                holder = orjson.loads(found.data)["id"]
                if holder == id_:
                    return True
                held = self.get(project, source, holder)
                if held is not None and held.subscriber == subscriber and not held.has_expired(now):
                    return False
            if self._catalogue.put_record(SUBSCRIBER, name, orjson.dumps({"id": id_}), found.version if found else 0):
                return True
        raise Busy("This subscriber is being subscribed by others; try again")

    def release(self, project: str, source: str, subscriber: str, id_: str) -> None:
        """Give up what ``hold`` has got, unless another subscription has it."""
        name = _subscriber_name(project, source, subscriber)
        found = self._catalogue.get_record(SUBSCRIBER, name)
        if found is not None and orjson.loads(found.data)["id"] == id_:
            self._catalogue.delete_record(SUBSCRIBER, name)


def _subscriber_name(project: str, source: str, subscriber: str) -> str:
    """Name of the record that makes a subscriber unique: its exact text counts."""
    return subscription_name(project, source, hashlib.sha256(subscriber.encode()).hexdigest())
