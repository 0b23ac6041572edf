"""Claims: the right to some messages for a while."""

from __future__ import annotations

from uuid import uuid4

from gateway.config.limits import MIN_CLAIM_GRACE, MIN_CLAIM_TTL, Limits
from gateway.core.dead_letters import DeadLetters
from gateway.core.errors import InvalidInput, NotFound
from gateway.core.queues.directory import Directory
from gateway.core.queues.info import QueueInfo
from gateway.core.sealing import Sealing
from gateway.observe.metrics import MESSAGES
from storage.model import Claim, Message


class Claims:
    """The claims of all queues."""

    def __init__(self, directory: Directory, dead_letters: DeadLetters, sealing: Sealing, limits: Limits):
        self._sealing = sealing
        self._directory = directory
        self._dead_letters = dead_letters
        self._limits = limits

    def create(self, info: QueueInfo, ttl: int | None, grace: int | None, limit: int) -> list[Message]:
        """Claim up to ``limit`` messages for ``ttl`` seconds; they live ``grace`` seconds longer, or more.

        Their bodies are unsealed. Without ``ttl`` or ``grace`` the operator's defaults act.
        """
        ttl, grace = self.check(ttl, grace)
        self._directory.ensure_source(info)
        claim = _claim(info, uuid4().hex, ttl, grace)
        claimed = info.pool.taking.claim(info, claim, limit, self._dead_letters.sort_out)
        MESSAGES.labels("claimed").inc(len(claimed))
        return self._sealing.unsealed(info, claimed)

    def get(self, info: QueueInfo, claim_id: str) -> list[Message]:
        """The messages that a claim still holds, one at least, with their bodies unsealed. Raises NotFound."""
        messages = info.pool.store.landed.get_claim(info.key, claim_id)
        if not messages:
            raise NotFound(f"Claim {claim_id} does not exist, has expired, or has no messages left")
        return self._sealing.found(info, messages)

    @staticmethod
    def age(message: Message, now: int) -> int:
        """Seconds from when the claim that holds the message was created or renewed to ``now`` (ms since the epoch)."""
        return (now - message.hidden_until) // 1000 + message.claim_ttl

    def renew(
        self, info: QueueInfo, claim_id: str, ttl: int | None, grace: int | None, any_grace: bool = False
    ) -> bool:
        """Let a claim begin again; True. Times as for check. Raises NotFound."""
        ttl, grace = self.check(ttl, grace, any_grace)
        if not info.pool.store.landed.renew_claim(info.key, _claim(info, claim_id, ttl, grace)):
            raise NotFound(f"Claim {claim_id} does not exist, has expired, or has no messages left")
        return True

    def release(self, info: QueueInfo, claim_id: str) -> bool:
        """Free a claim's messages; False when there is no such claim."""
        released = info.pool.store.landed.release_claim(info.key, claim_id)
        if released:
            info.pool.arrivals.tell(info.project, info.name, released)
        return released > 0

    def check(self, ttl: int | None, grace: int | None, any_grace: bool = False) -> tuple[int, int]:
        """Ttl and grace (seconds) with their defaults. Raises InvalidInput when one is out of range.

        ``any_grace``: any grace is accepted; it acts as the nearest one from 0 to the operator's maximum.
        """
        limits = self._limits
        ttl = limits.default_claim_ttl if ttl is None else ttl
        grace = limits.default_claim_grace if grace is None else grace
        if not MIN_CLAIM_TTL <= ttl <= limits.max_claim_ttl:
            raise InvalidInput(f"The ttl of a claim must be from {MIN_CLAIM_TTL} to {limits.max_claim_ttl} seconds")
        if any_grace:
            grace = min(max(grace, 0), limits.max_claim_grace)
        elif not MIN_CLAIM_GRACE <= grace <= limits.max_claim_grace:
            raise InvalidInput(
                f"The grace of a claim must be from {MIN_CLAIM_GRACE} to {limits.max_claim_grace} seconds"
            )
        return ttl, grace


def _claim(info: QueueInfo, claim_id: str, ttl: int, grace: int) -> Claim:
    """A claim that begins now; ``ttl`` and ``grace`` are in seconds."""
    expires = info.pool.store.now() + ttl * 1000
    return Claim(claim_id, ttl, expires, expires + grace * 1000)
