"""What becomes of a message that comes: it lines up, is not for this receiver, is too late, or can't be opened."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from bridges.consuming import Consumer, Delivery
from gateway.core.poison import Poison
from gateway.notify.item import Item

if TYPE_CHECKING:
    from gateway.notify.outlet import Outlet
    from gateway.notify.works import Works

LOG = logging.getLogger(__name__)

#: Seconds until somebody looks again at a sealed message that can't be opened here.
SEALED_WAIT = 60.0


class Admission:
    """For the messages of one outlet. Its methods belong to the loop."""

    def __init__(self, works: Works, outlet: Outlet):
        self._works = works
        self._outlet = outlet

    def arrived(self, delivery: Delivery, consumer: Consumer) -> None:
        """The broker has handed out a message."""
        outlet, now = self._outlet, self._works.now()
        try:
            message = outlet.intake.pool.reader.message(outlet.source.info, delivery.envelope, now)
        except Poison as error:  # a native producer's; the source's own copy of it is put aside for the operator
            LOG.warning("subscription %s: a message is dropped: %s", outlet.subscription.name, error)
            outlet.fates.dropped()
            consumer.settle(delivery)
            return
        item = Item(message, message.expires, properties=message.properties, delivery=delivery, consumer=consumer)
        if message.hidden_until:  # of a FIFO queue, where delayed messages go through the broker
            wait = (message.hidden_until - now) / 1000
            outlet.start(outlet.fates.put_off(outlet.subscription, item, wait, counts=False))
            return
        self.admit(item)

    def admit(self, item: Item) -> None:
        """A message has come from the broker or the side-store."""
        if item.message.encrypted:
            self._outlet.start(self._open(item))
        else:
            item.body = item.message.body
            self._line_up(item)

    async def _open(self, item: Item) -> None:
        """Unseal a message; only those who are reached by TLS get what was sealed."""
        outlet = self._outlet
        if outlet.terms.scheme != "https":
            await outlet.fates.bury(outlet.subscription, item, "encrypted", item.attempt - 1)
            return
        info = replace(outlet.source.info, key=outlet.key)
        opened = await self._works.run(self._works.sealing.unsealed, info, [item.message])
        if opened:
            item.body = opened[0].body
            self._line_up(item)
        else:  # another gateway may have the key
            await outlet.fates.put_off(outlet.subscription, item, SEALED_WAIT, counts=False)

    def _line_up(self, item: Item) -> None:
        outlet = self._outlet
        wanted = outlet.terms.filter
        if item.is_request and not outlet.subscription.may_ask(item.kind):
            outlet.start(outlet.fates.forget(item))
        elif not item.is_request and wanted is not None and not wanted.matches(item.body):
            outlet.fates.filtered(outlet.terms.scheme)
            if item.consumer is not None and item.delivery is not None:
                item.consumer.settle(item.delivery)
            else:
                outlet.start(outlet.fates.forget(item))
        elif self._works.now() >= outlet.terms.deadline(item):
            outlet.start(outlet.fates.bury(outlet.subscription, item, "expired", item.attempt - 1))
        else:
            outlet.enqueue(item)
