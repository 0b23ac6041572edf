"""Claims: the right to some messages for a while."""

from __future__ import annotations

import logging
from uuid import uuid4

from gateway.config.limits import MIN_CLAIM_GRACE, MIN_CLAIM_TTL, Limits
from gateway.core.dead_letters import DeadLetters
from gateway.core.errors import InvalidInput, NotFound
from gateway.core.landing import Landing
from gateway.core.queues import QueueInfo, Queues
from gateway.observe.metrics import MESSAGES
from storage.base import SideStore
from storage.model import Claim, Message

LOG = logging.getLogger(__name__)


class Claims:
    """The claims of all queues."""

    def __init__(
        self, store: SideStore, queues: Queues, landing: Landing, dead_letters: DeadLetters, limits: Limits
    ):
        self._store = store
        self._queues = queues
        self._landing = landing
        self._dead_letters = dead_letters
        self._limits = limits

    def create(self, info: QueueInfo, ttl: int | None, grace: int | None, limit: int) -> list[Message]:
        """Claim up to ``limit`` messages for ``ttl`` seconds; they live ``grace`` seconds longer than that at least."""
        ttl, grace = self.check(ttl, grace)
        return self.take(info, uuid4().hex, ttl, grace, limit)

    def take(
        self, info: QueueInfo, claim_id: str, ttl: int, grace: int, limit: int, *, consume: bool = False
    ) -> list[Message]:
        """Claim up to ``limit`` messages under a given id; bodies are as stored. For ``consume`` see Landing.claim."""
        self._queues.attend(info)

        def accept(found: list[Message]) -> list[Message]:
            return self._dead_letters.sort_out(info, found)

        claimed = self._landing.claim(info, self._claim(claim_id, ttl, grace), limit, accept, consume=consume)
        MESSAGES.labels("claimed").inc(len(claimed))
        return claimed

    def get(self, info: QueueInfo, claim_id: str) -> list[Message]:
        """The messages that a claim still holds; at least one."""
        messages = self._store.landed.get_claim(info.key, claim_id)
        if not messages:
            raise NotFound(f"Claim {claim_id} does not exist, has expired, or has no messages left")
        return messages

    def age(self, message: Message) -> int:
        """Seconds since the claim that holds the message was made or renewed."""
        return (self._store.now() - message.hidden_until) // 1000 + message.claim_ttl

    def renew(self, info: QueueInfo, claim_id: str, ttl: int | None, grace: int | None) -> bool:
        """Let a claim begin again; True. Raises NotFound."""
        ttl, grace = self.check(ttl, grace)
        if not self._store.landed.renew_claim(info.key, self._claim(claim_id, ttl, grace)):
            raise NotFound(f"Claim {claim_id} does not exist, has expired, or has no messages left")
        return True

    def release(self, info: QueueInfo, claim_id: str) -> bool:
        """Free a claim's messages; False when there is no such claim."""
        return self._store.landed.release_claim(info.key, claim_id) > 0

    def _claim(self, claim_id: str, ttl: int, grace: int) -> Claim:
        expires = self._store.now() + ttl * 1000
        return Claim(claim_id, ttl, expires, expires + grace * 1000)

    def check(self, ttl: int | None, grace: int | None) -> tuple[int, int]:
        """Ttl and grace (seconds) with their defaults. Raises InvalidInput when one is out of range."""
        limits = self._limits
        ttl = limits.default_claim_ttl if ttl is None else ttl
        grace = limits.default_claim_grace if grace is None else grace
        if not MIN_CLAIM_TTL <= ttl <= limits.max_claim_ttl:
            raise InvalidInput(f"The ttl of a claim must be from {MIN_CLAIM_TTL} to {limits.max_claim_ttl} seconds")
        if not MIN_CLAIM_GRACE <= grace <= limits.max_claim_grace:
            raise InvalidInput(
                f"The grace of a claim must be from {MIN_CLAIM_GRACE} to {limits.max_claim_grace} seconds"
            )
        return ttl, grace
