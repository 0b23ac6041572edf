"""Bindings of a queue whose landed messages go from one side-store to another; see landed.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress

from gateway.core.ids import is_remembered
from gateway.core.migration.turns import Turns
from storage.base import SideStore
from storage.errors import QueueGone
from storage.landed import LandedStore
from storage.model import Message


class MovingCopies(LandedStore):
    """The part of both places together that copies, and what all parts use."""

    def __init__(self, old: SideStore, new: SideStore, turns: Turns, lands_in_new: Callable[[], bool]):
        super().__init__(new, max(old.timeout, new.timeout))
        self._old: LandedStore = old.landed
        self._new: LandedStore = new.landed
        self._turns = turns
        self._lands_in_new = lands_in_new

    def _turn(self) -> AbstractContextManager[None]:
        """Our turn. Before messages land in the new side-store nobody takes turns: nothing is there, and the mover
        begins later than any call ends that has begun by then.
        """
        return self._turns.taken() if self._lands_in_new() else nullcontext()

    def land_copied(self, q: str, messages: Sequence[Message], owner: str) -> None:
        """See LandedStore: only a message that may be posted a second time can be in the old side-store."""
        with self._turn():
            if not self._lands_in_new():
                self._old.land_copied(q, messages, owner)
                return
            again = [message.id for message in messages if is_remembered(message.id)]
            known = self._known_in_old(q, again) if again else set()
            if rest := [message for message in messages if message.id not in known]:
                self._new.land_copied(q, rest, owner)

    def _known_in_old(self, q: str, ids: Sequence[str]) -> set[str]:
        """Those of the ids that must not land, because of what the old side-store has of them."""
        try:
            return self._old.landed_or_deleted(q, ids)
        except QueueGone:  # closed; its tombstones have been copied then
            return {message.id for message in self._old.get_messages(q, ids)}

    def bind(self, q: str, copy: str) -> None:
        """See LandedStore: in both, as some may still land in the old one."""
        with suppress(QueueGone):  # closed: nobody lands there
            self._old.bind(q, copy)
        self._new.bind(q, copy)

    def unbind(self, q: str, copy: str) -> None:
        """See LandedStore."""
        self._old.unbind(q, copy)
        self._new.unbind(q, copy)

    def bound(self, q: str) -> list[str]:
        """See LandedStore."""
        return sorted({*self._old.bound(q), *self._new.bound(q)})

    def ready(self, keys: Sequence[str]) -> list[str]:
        """See LandedStore."""
        with self._turn():
            found = {*self._old.ready(keys), *self._new.ready(keys)}
        return [key for key in keys if key in found]

    def edges(self, keys: Sequence[str]) -> dict[str, tuple[int, int]]:
        """See LandedStore."""
        with self._turn():
            old, new = self._old.edges(keys), self._new.edges(keys)
        both = {key: (old.get(key, (0, 0)), new.get(key, (0, 0))) for key in {*old, *new}}
        return {key: (max(a[0], b[0]), max(a[1], b[1])) for key, (a, b) in both.items()}
