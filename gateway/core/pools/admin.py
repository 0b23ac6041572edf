"""Pools and flavors as administrators manage them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bridges.errors import BridgeError
from gateway.core.errors import Conflict, CoreError, Forbidden, InvalidInput, NotFound
from gateway.core.migration.move import moves
from gateway.core.pools.pool import Pool
from gateway.core.pools.record import FlavorRecord, PoolRecord, PoolRecords
from gateway.core.pools.registry import OpenPool, Pools, place_of
from gateway.core.queues.lock import locked
from gateway.core.subscriptions.records import SubscriptionRecords
from gateway.observe.masking import without_password
from storage.base import SideStore
from storage.errors import StoreError
from storage.model import DEFAULT_POOL

#: Name of the lock under which pools and flavors are changed; no queue can have it.
LOCK = "/pools"

#: How drivers begin to say what is wrong with an option.
_SECTION = re.compile(r"\[(?:bridge|side_store)\] ")

#: Why a change waits in vain.
CHANGING = "pools or flavors are being changed by another request; try again"


class PoolAdmin:
    """Creates, changes and deletes pools. ``open_pool``: see gateway.core.pools.registry."""

    def __init__(
        self, store: SideStore, records: PoolRecords, pools: Pools, open_pool: OpenPool,
        subscriptions: SubscriptionRecords,
    ):
        self._store = store
        self._records = records
        self._pools = pools
        self._open_pool = open_pool
        self._subscriptions = subscriptions
        #: See PoolRecords.
        self.page = records.page

    def get(self, name: str) -> PoolRecord:
        """The pool's record. Raises NotFound."""
        record = self._records.get(name)
        if record is None:
            raise NotFound(f"There is no pool {name}")
        return record

    def put(self, name: str, weight: int, uri: str, flavor: str, options: Mapping[str, Any]) -> None:
        """Create a pool, or replace what is known of it.

        Raises InvalidInput for a URI or options that can't be used or reached, Conflict for a URI that is another
        pool's, and for one that would lead the queues of an existing pool to another place.
        """
        if name == DEFAULT_POOL:
            raise Conflict(
                f"Pool {DEFAULT_POOL} is what [bridge] and [side_store] configure; give the new pool another name"
            )
        with locked(self._store, LOCK, CHANGING):
            found = self._records.get(name)
            record = PoolRecord(name, weight, uri, flavor, options, found.version if found else 0)
            if found is None or (found.uri, found.options) != (uri, options):
                self._check_place(record, is_used=found is not None and self._has_queues(name))
            self._store_record(record)

    def patch(self, name: str, changes: Mapping[str, Any]) -> PoolRecord:
        """Change some of weight, uri, flavor and options; the new record. Raises as put, and NotFound."""
        with locked(self._store, LOCK, CHANGING):
            found = self.get(name)
            record = replace(found, **changes)
            if (found.uri, found.options) != (record.uri, record.options):
                self._check_place(record, is_used=self._has_queues(name))
            self._store_record(record)
        return record

    def delete(self, name: str) -> None:
        """Remove a pool; nothing happens when there is none. Raises Forbidden while a queue or a flavor uses it."""
        if name == DEFAULT_POOL:
            raise Forbidden(f"Pool {DEFAULT_POOL} is what [bridge] and [side_store] configure and can't be deleted")
        with locked(self._store, LOCK, CHANGING):
            found = self._records.get(name)
            if found is None:
                return
            if found.flavor:
                raise Forbidden(
                    f'Pool {name} belongs to flavor {found.flavor}; set the pool\'s flavor to "" before you delete it'
                )
            self._check_unused(name)
            self._records.delete(name)
            try:
                # Who creates a queue looks for the pool's record afterwards; so one of the two sees the other.
                self._check_unused(name)
            except Forbidden:
                self._store_record(replace(found, version=0))
                raise
            self._records.delete_evacuation(name)  # another pool of this name is not being emptied
        self._pools.forget()

    def _store_record(self, record: PoolRecord) -> None:
        if not self._records.put(record):
            raise Conflict(f"Pool {record.name} is being changed by others; try again")
        self._pools.forget()

    def _has_queues(self, name: str) -> bool:
        return bool(self._store.catalogue.list_in_pool(name, "", 1))

    def _check_unused(self, name: str) -> None:
        if self._has_queues(name):
            raise Forbidden(f"Pool {name} has queues; move them to another pool first (marconi evacuate)")
        if any(found.pool == name for found in self._subscriptions.all()):
            raise Forbidden(f"Pool {name} keeps messages of subscriptions; delete these first")
        if any(move.target == name for _, move in moves(self._store)):
            raise Forbidden(f"Queues are on their way to pool {name}")
        if name in self._records.evacuations().values():
            raise Forbidden(f"The queues of another pool, which is being emptied, go to pool {name}")

    def _check_place(self, record: PoolRecord, is_used: bool) -> None:
        """Raises InvalidInput or Conflict unless the pool can be used, and is no other pool's place."""
        try:
            pool = self._open_pool(record)
        except CoreError:
            raise
        except Exception as error:  # whatever a driver finds wrong with a URI
            raise InvalidInput(f"Pool {record.name}: {_reason(error)}", "Invalid pool") from error
        try:
            self._check_alone(record.name, pool)
            if is_used and place_of(pool) != place_of(self._pools.get(record.name)):
                raise Conflict(
                    f"Pool {record.name} has queues, whose messages are where its URI leads to; create another pool for"
                    " the new place and move them there"
                )
            try:
                if not pool.shares_store:
                    pool.store.prepare()
                    pool.store.ping()
                pool.bridge.ping()
            except (BridgeError, StoreError) as error:
                raise InvalidInput(f"Pool {record.name} can't be reached: {_reason(error)}", "Invalid pool") from error
        finally:
            pool.close()

    def _check_alone(self, name: str, pool: Pool) -> None:
        """Raises Conflict for the place of another pool: what a queue has there is found by its name."""
        for other, opened in self._pools.each():
            if other != name and opened is not None and place_of(opened) == place_of(pool):
                raise Conflict(f"Pool {other} is at this place already; two pools must not share their queues")


def _reason(error: Exception) -> str:
    """What a driver finds wrong, without passwords, and without the section of the configuration that it supposes."""
    return _SECTION.sub("", without_password(str(error)))


class FlavorAdmin:
    """Creates, changes and deletes flavors. A pool belongs to one flavor at most."""

    def __init__(self, store: SideStore, records: PoolRecords, pools: Pools):
        self._store = store
        self._records = records
        self._pools = pools
        #: See PoolRecords.
        self.page = records.flavor_page

    def get(self, name: str) -> FlavorRecord:
        """The flavor's record. Raises NotFound."""
        record = self._records.get_flavor(name)
        if record is None:
            raise NotFound(f"There is no flavor {name}")
        return record

    def put(self, name: str, pools: Sequence[str], capabilities: Sequence[str]) -> None:
        """Create a flavor, or replace it. Raises InvalidInput for pools that do not exist."""
        with locked(self._store, LOCK, CHANGING):
            self._set(name, pools, capabilities)

    def patch(self, name: str, pools: Sequence[str] | None, capabilities: Sequence[str] | None) -> FlavorRecord:
        """Change what is given; the new flavor. Raises NotFound, and InvalidInput for pools that do not exist."""
        with locked(self._store, LOCK, CHANGING):
            found = self.get(name)
            self._set(
                name, found.pools if pools is None else pools,
                found.capabilities if capabilities is None else capabilities,
            )
        return self.get(name)

    def delete(self, name: str) -> None:
        """Remove a flavor; nothing happens when there is none. Its pools have no flavor any more, its queues stay."""
        with locked(self._store, LOCK, CHANGING):
            if self._records.get_flavor(name) is not None:
                self._assign(name, [])
                self._records.delete_flavor(name)
        self._pools.forget()

    def _set(self, name: str, pools: Sequence[str], capabilities: Sequence[str]) -> None:
        known = {record.name for record in self._records.all()}
        if unknown := [pool for pool in pools if pool not in known]:
            raise InvalidInput(
                f"Flavor {name}: there is no pool {', '.join(unknown)}", "Invalid flavor"
            )
        self._records.put_flavor(FlavorRecord(name, tuple(pools), tuple(capabilities)))
        self._assign(name, pools)
        self._pools.forget()

    def _assign(self, name: str, pools: Sequence[str]) -> None:
        """Let exactly these pools belong to the flavor."""
        for record in self._records.all():
            flavor = name if record.name in pools else "" if record.flavor == name else record.flavor
            if flavor != record.flavor and not self._records.put(replace(record, flavor=flavor)):
                raise Conflict(f"Pool {record.name} is being changed by others; try again")
