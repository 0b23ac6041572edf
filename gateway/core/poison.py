"""Poison: messages that can't be shown or stored, and so must not be in the way of others."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256

from bridges.base import Batch, Bridge, Envelope
from bridges.errors import BridgeError, PropertiesTooLarge
from gateway.core.foreign.bodies import Poison
from gateway.core.foreign.properties import ROUTING_HEADERS
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.names import poison_name
from gateway.observe.metrics import MESSAGES
from storage.base import SideStore
from storage.errors import Unstorable
from storage.model import Message

LOG = logging.getLogger(__name__)

#: AMQP header that says why a message was put aside.
REASON_HEADER = "marconi-reason"

#: Bytes that a message may have in the side-store: its body as JSON, which may be six times as long as a text, and its
#: properties. MongoDB's documents have 16 MiB, and the id and a claim need some of it.
LARGEST = 15 * 1024 * 1024

#: Seconds for which it is remembered that a message was put aside but could not be acknowledged, and how many are.
REMEMBERED_FOR = 60.0
REMEMBERED_AT_MOST = 10_000

#: A message to put aside, and why.
Aside = tuple[Envelope, str]


def check_size(message: Message) -> None:
    """Raises Poison for a message that no side-store would take."""
    size = len(message.body) + len(message.properties or b"") + len(message.client)
    if size > LARGEST:
        raise Poison(f"it would have {size} bytes as JSON, over the limit of {LARGEST}")


def land_storable(
    store: SideStore,
    key: str,
    landing: Sequence[tuple[Message, Envelope]],
    land: Callable[[str, Sequence[Message]], set[str]],
) -> tuple[set[str], dict[str, Aside]]:
    """Land messages; the ids left out, and by id those that can never be stored. ``land``: LandedStore.land.

    These keep none of the others from landing.
    """
    messages = [message for message, _ in landing]
    try:
        return land(key, messages) if messages else set(), {}
    except Unstorable as error:
        LOG.warning("queue %s: storing its messages one by one: %s", key, error)
    # The first try may have stored some of them. Nobody else gives a message the same position.
    ids = [message.id for message in messages]
    stored = {message.id: message.seq for message in store.landed.get_messages(key, ids)}
    left_out: set[str] = set()
    refused: dict[str, Aside] = {}
    for message, envelope in landing:
        if stored.get(message.id) == message.seq:
            continue
        try:
            left_out |= land(key, [message])
        except Unstorable as error:
            refused[message.id] = envelope, f"the side-store can't hold it: {error}"
    return left_out, refused


class PoisonQueues:
    """Ends batches that have poison in them: it goes to a queue for the operator's eyes, ``marconi-poison.…``."""

    def __init__(self, bridge: Bridge):
        self._bridge = bridge
        #: By digest of a message that was put aside and not acknowledged: how often, and until when that matters.
        self._unacknowledged: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()

    def settle(self, info: QueueInfo, batch: Batch, poison: Sequence[Aside]) -> None:
        """Put poison aside and acknowledge the whole batch. Call it when the rest of the batch is stored: what is done
        before that is done again each time that the side-store fails.

        What can't be put aside now goes back to its queue; raises the BridgeError if there was nothing else in the
        batch.
        """
        try:
            moved, failure = self._move(info, poison)
            if failure is not None and not moved and len(poison) == len(batch.envelopes):
                raise failure
        except BaseException:
            info.bridge.requeue(batch)
            raise
        try:
            if failure is not None:
                info.bridge.settle_others(batch, [envelope for envelope, _ in poison[moved:]])
            else:
                info.bridge.settle(batch)
        except BridgeError as error:
            self._remember(info, [envelope for envelope, _ in poison[:moved]])
            LOG.warning("queue %s: acknowledging %d messages failed: %s", info.key, len(batch.envelopes), error)

    def _move(self, info: QueueInfo, poison: Sequence[Aside]) -> tuple[int, BridgeError | None]:
        """Put poison aside until that fails: how many are, and the failure."""
        for moved, (envelope, reason) in enumerate(poison):
            try:
                if not self._was_put_aside(info, envelope):
                    self.put_aside(info, envelope, reason)
            except BridgeError as error:
                LOG.warning("queue %s: poison stays in the queue, as it can't be put aside: %s", info.key, error)
                return moved, error
        return len(poison), None

    def put_aside(self, info: QueueInfo, envelope: Envelope, reason: str) -> None:
        """Copy a message to the queue for poison, with the reason in a header. Raises BridgeError."""
        aside = poison_name(info.project, info.name)
        LOG.warning("queue %s: a message goes to %s: %s", info.key, aside, reason)
        headers = {key: value for key, value in envelope.headers.items() if key not in ROUTING_HEADERS}
        moved = replace(envelope, headers={**headers, REASON_HEADER: reason}, ttl=None)
        try:
            self._bridge.deposit(aside, [moved])
        except PropertiesTooLarge:  # they did fit into a frame, but not together with the reason
            self._bridge.deposit(aside, [replace(moved, headers={REASON_HEADER: reason})])
        MESSAGES.labels("poison").inc()

    def _was_put_aside(self, info: QueueInfo, envelope: Envelope) -> bool:
        """Is this one that could not be acknowledged, and so comes again?"""
        if not self._unacknowledged or not envelope.redelivered:
            return False
        digest = _digest(info, envelope)
        with self._lock:
            count, until = self._unacknowledged.pop(digest, (0, 0.0))
            if count > 1:
                self._unacknowledged[digest] = count - 1, until
        return count > 0 and time.monotonic() < until

    def _remember(self, info: QueueInfo, envelopes: Sequence[Envelope]) -> None:
        until = time.monotonic() + REMEMBERED_FOR
        counts = Counter(_digest(info, envelope) for envelope in envelopes)
        with self._lock:
            for digest, count in counts.items():
                self._unacknowledged[digest] = self._unacknowledged.pop(digest, (0, 0.0))[0] + count, until
            while len(self._unacknowledged) > REMEMBERED_AT_MOST:
                self._unacknowledged.popitem(last=False)


def _digest(info: QueueInfo, envelope: Envelope) -> bytes:
    """What tells a message from others, as far as a message can be told."""
    what = (info.key, envelope.message_id, envelope.routing_key, envelope.timestamp, sorted(envelope.headers, key=str))
    return sha256(repr(what).encode(errors="backslashreplace") + envelope.body).digest()
