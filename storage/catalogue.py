"""The interface of the catalogue: what the service knows. Queues, bridged ones, records, reservations, and locks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from storage.model import DEFAULT_POOL, MOST_METADATA, Queue, Record


class Catalogue(ABC):
    """What the service knows. Methods take the name of a queue as ``<project>/<queue>``.

    All methods are thread-safe. They raise StoreUnavailable within the side-store's ``timeout``.
    """

    # -- locks --------------------------------------------------------------------------------------------------

    @abstractmethod
    def lock(self, name: str, owner: str, seconds: float) -> int | None:
        """Take a lock that all gateways share, for up to ``seconds``; None if another owner holds it.

        Returns when it was last given up (ms since the epoch), as far as that is still known; else 0.
        """

    @abstractmethod
    def renew_lock(self, name: str, owner: str, seconds: float) -> bool:
        """Let the lock last ``seconds`` from now, if ``owner`` still holds it; False if not."""

    @abstractmethod
    def unlock(self, name: str, owner: str, after: float = 0.0) -> None:
        """Give the lock up in ``after`` seconds, if ``owner`` still holds it."""

    # -- queues -------------------------------------------------------------------------------------------------

    @abstractmethod
    def create_queue(
        self, q: str, metadata: bytes | None, pool: str = DEFAULT_POOL, copies: Sequence[str] = ()
    ) -> bool:
        """Create the queue's document; True if it is new. An existing one gets ``metadata`` unless that is None.

        ``copies``: of the subscriptions that the queue has from the start. With any the document of a new queue
        ``notifies``, and a key that is opened here is bound to them as it is opened, see LandedStore.open_queue.

        ``pool`` counts for a new queue alone. The key of a new queue is opened in this side-store. That of an existing
        one is opened too, even if landing was impossible before, while the queue is in the default pool and has no
        move; otherwise its messages may have left this side-store for good. Landed stores of other pools open keys by
        LandedStore.open_queue.
        """

    @abstractmethod
    def get_queue(self, q: str) -> Queue | None:
        """The queue's document; None if there is no such queue."""

    @abstractmethod
    def replace_metadata(self, q: str, metadata: bytes, version: int) -> bool:
        """Store new metadata if the document still has ``version``; False if not."""

    @abstractmethod
    def set_notifies(self, q: str, notifies: bool = True) -> bool:
        """Record that the queue has subscriptions, or none; False if there is no such queue. It may be repeated.

        No other change of the queue takes it back, and its ``version`` stays. It ends with the queue: one that is
        created again has none of it.
        """

    @abstractmethod
    def delete_queue(self, q: str) -> None:
        """Remove the document and, of this side-store, all landed messages. Messages on their way can't land any more.

        What other pools have of the queue is removed by LandedStore.remove_queue.
        """

    @abstractmethod
    def list_queues(
        self, project: str, after: str, limit: int, part: str = "", most_bytes: int = MOST_METADATA
    ) -> list[Queue]:
        """Up to ``limit`` queues of a project by name, after the name ``after``. ``part`` as for count_queues.

        The list ends early, after one queue at least, at ``most_bytes`` of metadata: no more is held in memory.
        """

    @abstractmethod
    def list_names(self, project: str, after: str, limit: int, part: str = "") -> list[str]:
        """Like list_queues, but only the names: no metadata is read."""

    @abstractmethod
    def count_queues(self, project: str, part: str = "") -> int:
        """Number of the project's queues whose name contains ``part``, of characters allowed in queue names."""

    @abstractmethod
    def queue_keys(self, after: str, limit: int) -> list[str]:
        """Up to ``limit`` names ``<project>/<queue>`` of all projects, in order, after ``after``."""

    # -- pools --------------------------------------------------------------------------------------------------

    @abstractmethod
    def change_move(self, q: str, before: bytes | None, move: bytes | None, pool: str | None = None) -> bool:
        """Replace what is recorded of the queue's move if that is still ``before``, and set its pool if one is given.

        Both change at once. None is no move. True also if everything is already as wanted: a call may be repeated
        after StoreUnavailable. Each ``move`` must contain something unique, so that nobody else wants the same one.
        False if something else is recorded, or if there is no such queue; then nothing has changed.
        """

    @abstractmethod
    def list_moving(self, after: str, limit: int) -> list[str]:
        """Up to ``limit`` names ``<project>/<queue>`` of queues that have a move, in order, after ``after``.

        Costs next to nothing when there are none.
        """

    @abstractmethod
    def list_in_pool(self, pool: str, after: str, limit: int) -> list[str]:
        """Up to ``limit`` names ``<project>/<queue>`` of the queues in a pool, in order, after ``after``."""

    # -- records ------------------------------------------------------------------------------------------------

    @abstractmethod
    def put_record(self, kind: str, name: str, data: bytes, version: int | None = None) -> bool:
        """Store a record; False if the condition of ``version`` does not hold, and then nothing has changed.

        ``version`` None: insert or replace it. 0: insert it, if there is none. Otherwise replace it, if it still has
        that version. ``kind`` is a word of letters.
        """

    @abstractmethod
    def get_record(self, kind: str, name: str) -> Record | None:
        """A record; None if there is none of that kind and name."""

    @abstractmethod
    def list_records(self, kind: str, after: str, limit: int) -> list[Record]:
        """Up to ``limit`` records of a kind by name, after the name ``after``."""

    @abstractmethod
    def delete_record(self, kind: str, name: str) -> bool:
        """Remove a record; False if there was none. Its versions are not used again."""

    # -- reservations -------------------------------------------------------------------------------------------

    @abstractmethod
    def reserve(self, scope: str, entries: Mapping[str, bytes], expires: int, version: int) -> dict[str, Record]:
        """Record the entries that are not there yet, each under its name, until ``expires`` (ms).

        Returns the others as they are. Of many callers with the same name one records its own. What has expired is
        not there, as for all calls about reservations. New ones get ``version``, one of storage.model.new_version.

        Names are unique in all scopes; a scope, such as a project, only counts them. After StoreUnavailable some of
        them may be recorded, with that version.
        """

    @abstractmethod
    def change_reserved(self, name: str, version: int, data: bytes, expires: int) -> int | None:
        """Replace what is recorded if it still has ``version``; the new version, None if it has not."""

    def change_all_reserved(self, changes: Mapping[str, tuple[int, bytes]], expires: int) -> None:
        """Replace what is recorded under each name if it still has the version that is given with the new data.

        Drivers may do it in one go. After StoreUnavailable some may be replaced.
        """
        for name, (version, data) in changes.items():
            self.change_reserved(name, version, data, expires)

    @abstractmethod
    def unreserve(self, name: str, version: int) -> bool:
        """Remove what is recorded if it still has ``version``; False if it has not."""

    @abstractmethod
    def count_reserved(self, scope: str, most: int) -> int:
        """Number of reservations of a scope; counting ends at ``most``."""

    # -- queues that read from an exchange of other applications -------------------------------------------------

    @abstractmethod
    def mark_bridged(self, q: str) -> str:
        """Add the queue to list_bridged, with the new mark that is returned."""

    @abstractmethod
    def list_bridged(self, after: str, limit: int) -> list[tuple[str, str]]:
        """Up to ``limit`` marked queues with their marks, by name, after the name ``after``."""

    @abstractmethod
    def unmark_bridged(self, q: str, mark: str) -> None:
        """Remove the queue from list_bridged, if it still has this mark."""
