"""The interface of the catalogue: what the service knows. Queues, marks of bridged queues, and locks."""

from __future__ import annotations

from abc import ABC, abstractmethod

from storage.model import MOST_METADATA, Queue


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
    def unlock(self, name: str, owner: str, after: float = 0.0) -> None:
        """Give the lock up in ``after`` seconds, if ``owner`` still holds it."""

    # -- queues -------------------------------------------------------------------------------------------------

    @abstractmethod
    def create_queue(self, q: str, metadata: bytes | None) -> bool:
        """Create the queue's document; True if it is new. An existing one gets ``metadata`` unless that is None.

        Messages can land under its key from now on, even if that was impossible before.
        """

    @abstractmethod
    def get_queue(self, q: str) -> Queue | None:
        """The queue's document; None if there is no such queue."""

    @abstractmethod
    def replace_metadata(self, q: str, metadata: bytes, version: int) -> bool:
        """Store new metadata if the document still has ``version``; False if not."""

    @abstractmethod
    def delete_queue(self, q: str) -> None:
        """Remove the document and all landed messages. Messages on their way can't land any more."""

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
