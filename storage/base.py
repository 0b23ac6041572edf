"""The side-store: what a driver makes of ``[side_store] uri``. It has two parts, a catalogue and a landed store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from storage.catalogue import Catalogue
from storage.landed import LandedStore


class SideStore(ABC):
    """Base class of side-stores. All methods are thread-safe and raise StoreUnavailable within ``timeout``.

    A driver is made from a URI and its options (an object with one attribute for each of :attr:`OPTS`, an oslo.config
    group in the service) and must not need the server to be up at that moment: it connects on first use.

    Both parts take the time from :meth:`now`, at each call.
    """

    #: oslo.config options that this driver adds to the ``[side_store]`` section.
    OPTS: ClassVar[Sequence[Any]] = ()

    #: Seconds that one call may take.
    timeout: float = 5.0

    #: What the service knows: queues, marks of bridged queues, locks.
    catalogue: Catalogue

    #: Landed messages with claims, tombstones and the landing lease.
    landed: LandedStore

    @abstractmethod
    def ping(self) -> None:
        """Return when the side-store can serve writes; raise StoreUnavailable otherwise."""

    @abstractmethod
    def close(self) -> None:
        """Give all connections back. The object is not used afterwards."""

    @abstractmethod
    def now(self) -> int:
        """Milliseconds since the epoch on the clock that all users of this side-store share. Never blocks."""

    def maintain(self) -> int:
        """Housekeeping, called about once a minute by every gateway; returns the number of messages removed."""
        return 0

    def connections(self) -> int:
        """Number of open connections, for the metrics."""
        return 0

    def fallbacks(self) -> int:
        """How often this process had to leave a fast way of the driver for a slower one, for the metrics."""
        return 0

    def prepare(self) -> None:
        """Called once at the start. Raises StoreMisconfigured for what can't get better by itself."""
        return None

    def describe(self) -> str:
        """Where the data are, for the operator: the URI without its secrets."""
        return ""
