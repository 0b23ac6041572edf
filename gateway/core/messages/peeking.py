"""Looking at the front of somebody else's queue: the messages stay there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from uuid import UUID, uuid5

from bridges.base import Envelope
from gateway.core.demand import Count, Selection
from gateway.core.foreign.bodies import Poison
from gateway.core.messages.markers import peeked_by, position_of
from gateway.core.queues.info import QueueInfo
from gateway.core.sealing import Sealing
from storage.model import Message

#: How deep into somebody else's queue a list looks, always: what has been given back before is in front, and would go
#: to the end of it if fewer were taken and given back again.
PEEK_DEPTH = 100

#: Bytes of bodies, and seconds, after which a look ends with the messages that it has found so far.
LOOK_BYTES = 16 * 1024 * 1024
LOOK_TIME = 2.0

#: Times that a message may come back from a look before it is landed instead: RabbitMQ 4 drops it from a quorum queue
#: at the 20th, and several gateways may look at once.
LOOKS_AT_MOST = 10

#: Messages without an id that are only looked at get one made from their body, in this namespace.
PEEKED_IDS = UUID("a3c9b0e6-9d0c-5a55-8d6e-7065656b6564")


class Peeking:
    """Lists queues of others."""

    def __init__(self, sealing: Sealing):
        self._sealing = sealing

    def list(self, info: QueueInfo, marker: str | None, selection: Selection) -> Sequence[Message]:
        """A page of somebody else's queue: what is landed, claims given up for one, then what waits at its front.

        The latter stays there. Its positions are those in the queue, negative, counted from the front.
        """
        skip = peeked_by(marker)
        after = 0 if skip is not None else position_of(info, marker)
        if after is None:
            return []
        page = [] if skip is not None else self._sealing.page(info, selection, after)
        if len(page) == selection.limit:
            return page
        look = Look(self._shown(info), skip=skip or 0, count=selection.limit - len(page))
        info.bridge.peek(info.broker, PEEK_DEPTH, look.see)
        if look.must_land:
            # What was taken and not seen has come back as often.
            info.pool.landing.land_free(info, Count(PEEK_DEPTH if look.ended_early else look.seen))
            return self._sealing.page(info, selection, after)
        return [*page, *look.found]

    def _shown(self, info: QueueInfo) -> Callable[[Envelope], Message | None]:
        """Makes messages to show of what waits in a broker queue; None of poison, which a claim puts aside."""
        now = info.pool.store.now()

        def shown(envelope: Envelope) -> Message | None:
            try:
                message = info.pool.reader.message(info, envelope, now)
            except Poison:
                return None
            if envelope.message_id is None:
                message.id = str(uuid5(PEEKED_IDS, sha256(envelope.body).hexdigest()))
            return message

        return shown


class Look:
    """A look at the front of a broker queue: ``count`` messages after the first ``skip``.

    ``show`` makes a message of an envelope, None of one that can't be shown.
    """

    def __init__(self, show: Callable[[Envelope], Message | None], skip: int, count: int):
        self.found: list[Message] = []
        #: How many have been seen, and whether the look ended before all that it may see.
        self.seen = 0
        self.ended_early = False
        #: Has one of them come back from too many looks? Those of an unreadable one can't be counted.
        self.must_land = False
        self._show = show
        self._skip = skip
        self._count = count
        self._size = 0
        self._until = time.monotonic() + LOOK_TIME

    def see(self, envelope: Envelope) -> bool:
        """The next one; whether to go on. What is not found is not kept."""
        self.seen += 1
        self.must_land = self.must_land or envelope.deliveries >= LOOKS_AT_MOST or not envelope.readable
        if self.seen <= self._skip:
            return True
        message = self._show(envelope) if len(self.found) < self._count else None
        self._size += max(len(envelope.body), len(message.body) if message else 0)
        if message:
            message.seq = -self.seen
            self.found.append(message)
        # With one found the next page begins after it, so nothing is out of reach.
        self.ended_early = bool(self.found) and (self._size >= LOOK_BYTES or time.monotonic() > self._until)
        return not self.ended_early
