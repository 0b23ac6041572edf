"""Batches: what was fetched from a broker is stored, each message once, and then acknowledged."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence

from bridges.base import Batch, Bridge, Envelope
from bridges.errors import BridgeError
from gateway.core.envelopes import EnvelopeReader, is_fence, is_ours
from gateway.core.foreign.bodies import Poison
from gateway.core.ids import IdMaker
from gateway.core.poison import Aside, PoisonQueues, land_storable
from gateway.core.queues.info import QueueInfo
from gateway.observe.metrics import MESSAGES
from storage.base import SideStore
from storage.errors import LeaseLost
from storage.model import Message

LOG = logging.getLogger(__name__)


class Lander(ABC):
    """Says under which positions and how messages of a batch land."""

    @abstractmethod
    def number(self, messages: Sequence[Message]) -> None:
        """Give messages that are to land their positions."""

    @abstractmethod
    def land(self, key: str, messages: Sequence[Message]) -> set[str]:
        """Store them; see LandedStore.land."""

    def take_again(self, lost: LeaseLost) -> None:
        """Take the lease again that ``land`` has found lost. A lander without a lease can't lose one."""
        raise lost


class Batches:
    """Ends batches: what is in them is in the side-store then, or on its way to a client."""

    def __init__(self, bridge: Bridge, store: SideStore, ids: IdMaker, reader: EnvelopeReader):
        self._store = store
        self._ids = ids
        self._reader = reader
        self._poison = PoisonQueues(bridge)

    def land(self, info: QueueInfo, batch: Batch, lander: Lander) -> list[Message]:
        """Store a batch, then acknowledge it (rule 2); the messages that are landed now."""
        with GivenBack(info, batch):
            now = self._store.now()
            landing, poison = self._messages(info, batch.envelopes, now)
            messages = [message for message, _ in landing]
            lander.number(messages)
            left_out, refused = self._stored(info, landing, lander)
            if left_out:
                namesakes = self._namesakes(info, [entry for entry in landing if entry[0].id in left_out])
                if namesakes:
                    for (message, _), id_ in zip(namesakes, self._ids.make(now, len(namesakes)), strict=True):
                        message.id = id_
                    left_out |= self._stored(info, namesakes, lander)[0]
        self._settle(info, batch, [*poison, *refused.values()])
        return [message for message in messages if message.id not in left_out and message.id not in refused]

    def consume(self, info: QueueInfo, batch: Batch) -> list[Message]:
        """The messages of a batch that live and have not landed before; the broker forgets all of it."""
        with GivenBack(info, batch):
            landing, poison = self._messages(info, batch.envelopes, self._store.now())
            messages = [message for message, _ in landing]
            ids = [message.id for message in messages]
            known = self._store.landed.landed_or_deleted(info.key, ids) if ids else set()
        self._settle(info, batch, poison)
        return [message for message in messages if message.id not in known]

    def _stored(
        self, info: QueueInfo, landing: Sequence[tuple[Message, Envelope]], lander: Lander
    ) -> tuple[set[str], dict[str, Aside]]:
        """As land_storable; a lease that was lost is taken again."""
        while True:
            try:
                return land_storable(self._store, info.key, landing, lander.land)
            except LeaseLost as lost:
                lander.take_again(lost)
                lander.number([message for message, _ in landing])

    def _settle(self, info: QueueInfo, batch: Batch, poison: Sequence[Aside]) -> None:
        """Acknowledge what is stored or on its way to a client. If that fails the broker delivers it again: what has
        landed lands only once, and what was consumed comes twice, as after any crash. Raises the BridgeError if all of
        it is poison that can't be put aside.
        """
        if poison:
            self._poison.settle(info, batch, poison)
            return
        try:
            info.bridge.settle(batch)
        except BridgeError as error:
            LOG.warning("queue %s: acknowledging %d messages failed: %s", info.key, len(batch.envelopes), error)

    def _messages(
        self, info: QueueInfo, envelopes: Sequence[Envelope], now: int
    ) -> tuple[list[tuple[Message, Envelope]], list[Aside]]:
        """The living messages in a batch, each id once, and the poison in it."""
        landing: dict[str, tuple[Message, Envelope]] = {}
        poison: list[Aside] = []
        for envelope in envelopes:
            if info.settings.fifo and is_fence(envelope):
                continue
            try:
                message = self._reader.message(info, envelope, now)
            except Poison as error:
                poison.append((envelope, str(error)))
                continue
            if message.id in landing:
                other = landing[message.id][0]
                again = message.encrypted or _comes_again(info, envelope)  # no two sealed bodies are alike
                if is_ours(info, envelope) or (again and other.body == message.body):
                    continue
                message.id = self._ids.make(now)[0]
            if message.expires > now:
                landing[message.id] = (message, envelope)
            else:
                MESSAGES.labels("expired").inc()
        return list(landing.values()), poison

    def _namesakes(
        self, info: QueueInfo, left_out: Sequence[tuple[Message, Envelope]]
    ) -> list[tuple[Message, Envelope]]:
        """Those of the messages left out that are others than the ones that have landed under their ids.

        Ours have unique ids, so these are the same message again. A native producer may use an id twice, and that is
        no reason to lose a message: its ids count only when the broker delivers again, and the body is the same.
        """
        foreign = [(message, envelope) for message, envelope in left_out if not is_ours(info, envelope)]
        if not foreign:
            return []
        ids = [message.id for message, _ in foreign]
        there = {m.id: m.body for m in self._store.landed.get_messages(info.key, ids)}
        return [
            (message, envelope) for message, envelope in foreign
            if not (message.encrypted or _comes_again(info, envelope))
            or there.get(message.id, message.body) != message.body
        ]


class GivenBack:
    """Gives a batch back if what is done for it, in a ``with`` statement, fails."""

    __slots__ = ("_batch", "_info")

    def __init__(self, info: QueueInfo, batch: Batch):
        self._info = info
        self._batch = batch

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._info.bridge.requeue(self._batch)


def _comes_again(info: QueueInfo, envelope: Envelope) -> bool:
    """Has the broker delivered this native message before? Of somebody else's queue that says nothing: it is what a
    look at the queue, or another consumer, leaves behind. A crash makes a duplicate there rather than a loss.
    """
    return envelope.redelivered and not info.reads.is_foreign
