"""Landing in claims: what comes out of the broker, and may be handed out at once, need not land free first."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gateway.core.batches import Lander
from gateway.core.fifo.lines import Caller, Late
from gateway.core.fifo.sharing import share_out
from gateway.core.lease import LandingLease
from storage.errors import LeaseLost
from storage.model import Claim, Message


class DirectLander(Lander):
    """Lands under a lease. Each caller gets some messages in its claim, in the same write; the others land free.

    It is for a queue in which nothing is left that may be handed out: what has landed belongs to groups that are
    ``held``. Callers that have come ``late`` get what is left over.
    """

    def __init__(self, lease: LandingLease, callers: Sequence[Caller], late: Late, held: Collection[str]):
        self.claims: list[tuple[Caller, Claim]] = []
        self._lease = lease
        self._callers = callers
        self._late = late
        self._held = set(held)

    def number(self, messages: Sequence[Message]) -> None:
        """See Lander."""
        self._lease.number(messages)
        if self.claims:
            return  # these come in addition, and nobody knows whether they are the first of their groups
        callers = [*self._callers, *self._late.take()]
        self.claims = [(caller, caller.claim()) for caller in callers]
        shares = share_out(self._not_held(messages), [caller.limit for caller in callers])
        for (_, claim), share in zip(self.claims, shares, strict=True):
            for message in share:
                message.hidden_until, message.claim, message.claim_ttl = claim.expires, claim.id, claim.ttl
                message.expires = max(message.expires, claim.keep_until)
                message.claims = 1

    def _not_held(self, messages: Sequence[Message]) -> list[Message]:
        """Those that may be handed out: not what comes after a delayed message, or after one that is sealed."""
        free = []
        for message in messages:
            if message.hidden_until or message.encrypted:  # whether it can be unsealed is seen when it has landed
                self._held.add(message.group)
            if message.group not in self._held:
                free.append(message)
        return free

    def land(self, key: str, messages: Sequence[Message]) -> set[str]:
        """See Lander. Raises LeaseLost."""
        return self._lease.land(key, messages)

    def take_again(self, lost: LeaseLost) -> None:
        """See Lander."""
        raise lost
