"""What the catalogue knows of pools and flavors."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.core.errors import Busy
from gateway.core.seal import NotUnsealed, Seal
from storage.base import SideStore
from storage.model import Record

#: Kinds of records in the catalogue.
POOL, FLAVOR, EVACUATION = "pool", "flavor", "evacuation"

#: Records read at once.
PAGE = 100


@dataclass(frozen=True, slots=True)
class PoolRecord:
    """A pool as an administrator has described it.

    ``weight``: share of the new queues, 0 for none. ``flavor``: the one that it belongs to, empty for none.
    ``version``: of the record, 0 for a new one.
    """

    name: str
    weight: int
    uri: str
    flavor: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0


@dataclass(frozen=True, slots=True)
class FlavorRecord:
    """A kind of queues. ``pools``: names of the pools that they are put into; ``capabilities``: what these can do."""

    name: str
    pools: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    version: int = 0


class PoolRecords:
    """The records of pools and flavors. URI and options of a pool are encrypted if there is a key: they hold passwords.

    Which pools a flavor has is part of the pools' records.
    """

    def __init__(self, store: SideStore, seal: Seal):
        self._store = store
        self._seal = seal

    # -- pools --------------------------------------------------------------------------------------------------

    def get(self, name: str) -> PoolRecord | None:
        """The pool's record. Raises Busy if this gateway lacks the key that it is encrypted with."""
        found = self._store.catalogue.get_record(POOL, name)
        return self._opened(found) if found else None

    def page(self, after: str, limit: int) -> list[PoolRecord]:
        """Up to ``limit`` pools by name, after the name ``after``."""
        return [self._opened(found) for found in self._store.catalogue.list_records(POOL, after, limit)]

    def all(self) -> list[PoolRecord]:
        """All pools, by name."""
        records: list[PoolRecord] = []
        while page := self.page(records[-1].name if records else "", PAGE):
            records += page
        return records

    def put(self, record: PoolRecord) -> bool:
        """Store a record in place of the one with its version, 0 for a new one; False if others have changed it."""
        return self._store.catalogue.put_record(POOL, record.name, self._closed(record), record.version)

    def delete(self, name: str) -> None:
        """Remove a pool's record."""
        self._store.catalogue.delete_record(POOL, name)

    def _closed(self, record: PoolRecord) -> bytes:
        """A record as it is stored."""
        place: Any = {"uri": record.uri, "options": record.options}
        if self._seal.key:
            sealed = self._seal.seal(orjson.dumps(place), _context(record.name))
            place = {"key": self._seal.key, "sealed": base64.b64encode(sealed).decode()}
        return orjson.dumps({
            "weight": record.weight, "flavor": record.flavor, "place": place,
        })

    def _opened(self, found: Record) -> PoolRecord:
        stored = orjson.loads(found.data)
        place = stored["place"]
        if "sealed" in place:
            try:
                _, opened = self._seal.unseal(base64.b64decode(place["sealed"]), _context(found.name), place["key"])
            except NotUnsealed as error:
                raise Busy(f"The URI of pool {found.name} can't be decrypted: {error}") from error
            place = orjson.loads(opened)
        return PoolRecord(
            found.name, stored["weight"], place["uri"], stored["flavor"], place["options"], found.version
        )

    # -- evacuations --------------------------------------------------------------------------------------------

    def evacuations(self) -> dict[str, str]:
        """The pools that are being emptied, each with the pool that its queues go to, or with an empty text where each
        queue is placed like a new one.
        """
        found = self._store.catalogue.list_records(EVACUATION, "", PAGE)
        return {record.name: orjson.loads(record.data)["to"] for record in found}

    def put_evacuation(self, name: str, target: str) -> None:
        """Record that a pool is being emptied."""
        self._store.catalogue.put_record(EVACUATION, name, orjson.dumps({"to": target}))

    def delete_evacuation(self, name: str) -> bool:
        """Record that it is not any more; False if it was not."""
        return self._store.catalogue.delete_record(EVACUATION, name)

    # -- flavors ------------------------------------------------------------------------------------------------

    def get_flavor(self, name: str) -> FlavorRecord | None:
        """The flavor's record, with its pools."""
        found = self._store.catalogue.get_record(FLAVOR, name)
        return self._with_pools(found, self.all()) if found else None

    def has_flavor(self, name: str) -> bool:
        """Is there a flavor of this name?"""
        return self._store.catalogue.get_record(FLAVOR, name) is not None

    def flavor_page(self, after: str, limit: int) -> list[FlavorRecord]:
        """Up to ``limit`` flavors by name, after the name ``after``."""
        found = self._store.catalogue.list_records(FLAVOR, after, limit)
        pools = self.all() if found else []
        return [self._with_pools(record, pools) for record in found]

    def put_flavor(self, record: FlavorRecord) -> None:
        """Store a flavor's capabilities; an existing one is replaced."""
        self._store.catalogue.put_record(
            FLAVOR, record.name, orjson.dumps({"capabilities": list(record.capabilities)})
        )

    def delete_flavor(self, name: str) -> None:
        """Remove a flavor's record."""
        self._store.catalogue.delete_record(FLAVOR, name)

    @staticmethod
    def _with_pools(found: Record, pools: list[PoolRecord]) -> FlavorRecord:
        capabilities = tuple(orjson.loads(found.data)["capabilities"])
        names = tuple(pool.name for pool in pools if pool.flavor == found.name)
        return FlavorRecord(found.name, names, capabilities, found.version)


def _context(name: str) -> str:
    """What the place of a pool is sealed for: it opens under this name only."""
    return f"pool {name}"
