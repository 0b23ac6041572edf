"""Which subscriptions this process serves: a subscription is served by one process at a time.

Each part of the subscriptions has a lock in the catalogue. Processes that live share the parts that are in use; each
puts a record of its own there from time to time, so that all know how many there are.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.subscriptions.slots import slot_lock
from gateway.notify.clock import elapsed
from storage.catalogue import Catalogue

#: Seconds between two rounds.
ROUND = 2.0

#: Seconds that a lock lasts unless it is renewed.
LASTS = 10.0

#: Seconds before its end from which on a lock counts as lost: the clocks of this machine and of the catalogue's may
#: run at different rates.
MARGIN = 1.0

#: Kind of the records of processes, and seconds for which one counts.
NOTIFIER = "notifier"
ALIVE_FOR = 8.0

#: Processes that are counted.
MOST_PROCESSES = 1000


class Shares:
    """The parts that this process holds. All methods but ``holds`` and ``held`` ask the catalogue: see its errors.

    ``owner``: unique among processes. ``now``: the clock of the catalogue, in ms.
    """

    def __init__(
        self, catalogue: Catalogue, owner: str, now: Callable[[], int], clock: Callable[[], float] = elapsed
    ):
        self._catalogue = catalogue
        self._owner = owner
        self._now = now
        self._clock = clock
        self._until: dict[int, float] = {}
        self._leaving: set[int] = set()

    def holds(self, slot: int) -> bool:
        """May an attempt begin for a subscription in this part?"""
        return slot not in self._leaving and self._until.get(slot, 0.0) > self._clock()

    def held(self) -> set[int]:
        """The parts held, without those that are to be given up."""
        return {slot for slot in list(self._until) if self.holds(slot)}

    def leaving(self) -> set[int]:
        """The parts that are to be given up, see ``give_up``."""
        return set(self._leaving)

    def renew(self, used: set[int]) -> None:
        """Do a round. ``used``: the parts that have subscriptions.

        Parts that others should have are among those of ``leaving`` afterwards.
        """
        processes = self._count_processes()
        for slot in list(self._until):
            began = self._clock()
            if self._catalogue.renew_lock(slot_lock(slot), self._owner, LASTS):
                self._until[slot] = began + LASTS - MARGIN
            else:
                self._forget(slot)
        fair = -(-len(used) // processes)
        wanted = [slot for slot in sorted(self._until) if slot in used]
        unwanted = set(self._until) - set(wanted)
        # Those given up already stay so: it has been said.
        surplus = sorted(wanted, key=lambda slot: slot in self._leaving)[fair:]
        self._leaving |= unwanted | set(surplus)
        missing = fair - len(set(wanted) - self._leaving)
        for slot in self._in_turn(used - set(self._until)):
            if missing <= 0:
                return
            began = self._clock()
            if self._catalogue.lock(slot_lock(slot), self._owner, LASTS) is not None:
                self._until[slot] = began + LASTS - MARGIN
                missing -= 1

    def _in_turn(self, slots: set[int]) -> list[int]:
        """In another order in each process, so that not all of them try the same ones first."""
        return sorted(slots, key=lambda slot: hash((self._owner, slot)))

    def _count_processes(self) -> int:
        """How many processes live, this one included."""
        now = self._now()
        self._catalogue.put_record(NOTIFIER, self._owner, str(now + int(ALIVE_FOR * 1000)).encode())
        living = 0
        for record in self._catalogue.list_records(NOTIFIER, "", MOST_PROCESSES):
            if int(record.data) > now:
                living += 1
            else:
                self._catalogue.delete_record(NOTIFIER, record.name)
        return max(1, living)

    def give_up(self, slot: int) -> None:
        """Let others have a part: nothing is under way in it any more."""
        self._catalogue.unlock(slot_lock(slot), self._owner)
        self._forget(slot)

    def _forget(self, slot: int) -> None:
        self._until.pop(slot, None)
        self._leaving.discard(slot)

    def close(self) -> None:
        """Give everything up."""
        for slot in list(self._until):
            self.give_up(slot)
        self._catalogue.delete_record(NOTIFIER, self._owner)
