"""Groups: many who claim, renew, release, delete and post at the same time."""

import threading
import time

from storage.base import SideStore
from storage.errors import StoreError
from storage.model import Claim, Message
from storage.suite.grouping import LEASED, add_groups, lease
from storage.suite.support import CROWD, MINUTE, SuiteFixtures, new_claim, together

#: Groups and messages in each of them.
GROUPS, MESSAGES = 4, 8


class GroupCrowdTests(SuiteFixtures):
    """Many who claim, renew, release, delete and post at the same time."""

    def test_of_many_claimers_one_at_a_time_works_at_a_group_and_in_order(self, store: SideStore, q: str) -> None:
        GroupCrowd(q, store).check()

    def test_renewals_at_the_end_of_claims_leave_one_claim_in_a_group(self, store: SideStore, q: str) -> None:
        """Some renew a claim just when it ends, or a little later, while others put its messages back."""
        add_groups(store, q, *(f"a{number}" for number in range(6)))
        stopped = threading.Event()
        claims: list[Claim] = []

        def renew() -> None:
            while not stopped.is_set():
                for claim in claims[-3:]:
                    expires = store.now() + 20
                    store.landed.renew_claim(q, Claim(claim.id, 60, expires, expires + MINUTE))

        def claim_again_and_again() -> int:
            taken = 0
            try:
                for number in range(30):
                    lease(store, q)
                    messages = store.landed.find_in_groups(q, 3).messages
                    claims.append(new_claim(store, f"claim-{number}", lasts=10))
                    (got,) = store.landed.claim_in_groups(q, "us", [(claims[-1], messages)])
                    taken += bool(got)
                    assert len({message.claim for message in store.landed.export(q, 0, 10)} - {None}) <= 1
                    store.landed.release_lease(q, "us", 0)
            finally:
                stopped.set()
            return taken

        *_, taken = together(renew, renew, claim_again_and_again)
        assert taken > 0


class GroupCrowd:
    """Workers at the groups of a queue, each with claims of its own, and what they see of the order."""

    groups = [chr(ord("a") + number) for number in range(GROUPS - 1)] + ["-"]

    def __init__(self, q: str, *stores: SideStore):
        """``stores``: one database, as several gateways use it."""
        self._stores = stores
        self._q = q
        self._lock = threading.Lock()
        #: Who works at a group, what was deleted, and what went wrong.
        self._working: dict[str, int] = {}
        self.done: dict[str, list[str]] = {group: [] for group in self.groups}
        self.faults: list[str] = []

    def check(self) -> None:
        """Let all of them work, till each message has been deleted once, in order."""
        together(*[lambda n=n: self.work(n) for n in range(CROWD)], self.post)
        assert self.faults == []
        assert self.done == {group: [f"{group}{number:02}" for number in range(MESSAGES)] for group in self.groups}

    def post(self) -> None:
        """Post in rounds, as the landing of a FIFO queue does: under the lease."""
        for number in range(MESSAGES):
            add_groups(self._stores[0], self._q, *(f"{group}{number:02}" for group in self.groups))

    def work(self, worker: int) -> None:
        """Claim and delete, or release, until all is done."""
        rounds = 0
        while sum(map(len, self.done.values())) < MESSAGES * GROUPS and not self.faults:
            rounds += 1
            try:
                self._work(worker, rounds)
            except StoreError as error:
                self.faults.append(repr(error))

    def _work(self, worker: int, rounds: int) -> None:
        store = self._stores[worker % len(self._stores)]
        claim = new_claim(store, f"claim-{worker}-{rounds}")
        messages = self._claim(store, f"worker-{worker}", claim)
        self._begin(worker, messages)
        time.sleep(0.001)
        given_up = (worker + rounds) % 3 == 0
        self._end(messages, given_up)
        if not given_up:
            for message in messages:
                store.landed.delete_claimed(self._q, [message.id], [claim.id])
        store.landed.release_claim(self._q, claim.id)

    def _claim(self, store: SideStore, owner: str, claim: Claim) -> list[Message]:
        landed = store.landed
        if landed.acquire_lease(self._q, owner, LEASED) is None:
            return []
        messages = landed.find_in_groups(self._q, 3).messages
        (got,) = landed.claim_in_groups(self._q, owner, [(claim, messages)], 0)
        return got

    def _begin(self, worker: int, messages: list[Message]) -> None:
        with self._lock:
            expected = {group: len(done) for group, done in self.done.items()}
            for message in messages:
                group = message.id[0]
                if self._working.setdefault(group, worker) != worker:
                    self.faults.append(f"{message.id} went to {worker} beside {self._working[group]}")
                if message.id != f"{group}{expected[group]:02}":
                    self.faults.append(f"{message.id} came after {self.done[group]}")
                expected[group] += 1

    def _end(self, messages: list[Message], given_up: bool) -> None:
        """Noted before the messages are deleted or released: others may have the groups from then on."""
        with self._lock:
            for message in messages:
                self._working.pop(message.id[0], None)
                if not given_up:
                    self.done[message.id[0]].append(message.id)
