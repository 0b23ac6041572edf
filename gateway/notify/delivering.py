"""One message goes out to its receiver, and what was decided of it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.config.mail import MAILTO
from gateway.core.subscriptions.addresses import Verdict
from gateway.notify.attempts import Tried, attempt
from gateway.notify.connecting import NotNow
from gateway.notify.item import Item

if TYPE_CHECKING:
    from gateway.notify.outlet import Outlet
    from gateway.notify.works import Works


class Delivering:
    """For the messages of one outlet. Its methods belong to the loop."""

    def __init__(self, works: Works, outlet: Outlet):
        self._works = works
        self._outlet = outlet
        self._line = works.sender.line(self._judge)

    def _judge(self, address: str, port: int) -> Verdict:
        terms = self._outlet.terms
        return self._works.rules.judge(address, port, terms.trust, plain=terms.is_plain_trust)

    async def deliver(self, item: Item) -> None:
        """Attempt it, and do what follows. The pace has counted it as begun."""
        outlet = self._outlet
        try:
            outlet.source = await self._works.terms_of(outlet.subscription, outlet.source)
            if not outlet.may_begin(item):
                raise NotNow
            await self._decide(item, await self._attempt(item))
        except NotNow:
            await self.give_back(item)
        finally:
            outlet.pace.end()

    async def _attempt(self, item: Item) -> Tried:
        works, outlet = self._works, self._outlet
        terms, subscription, info = outlet.terms, outlet.subscription, outlet.source.info
        if terms.scheme == MAILTO:
            return await works.mailer.attempt(subscription, info, item, works.now, lambda: outlet.may_begin(item))
        tried = await attempt(
            self._line, terms.url, subscription, info, item, works.settings, works.now,
            lambda: outlet.may_begin(item), works.tokens if terms.trust else None,
        )
        if tried.allowed_rate is not None:
            await works.run(works.agree, subscription, tried.allowed_rate)
        return tried

    async def _decide(self, item: Item, tried: Tried) -> None:
        """See gateway.notify.fates: what becomes of the message, and of the subscription."""
        outlet = self._outlet
        fate = outlet.fates.decide(outlet.subscription, outlet.terms, outlet.source, item, tried, outlet.pace)
        if fate.disables:
            outlet.halt()
        if fate.waits or item.claim:
            outlet.has_landed()
        await outlet.fates.carry_out(outlet.subscription, item, fate)
        if fate.disables:
            await outlet.fates.disable(outlet.subscription, fate.reason)

    async def give_back(self, item: Item) -> None:
        """It was not its time; it has not counted."""
        if item.claim:
            await self._outlet.fates.put_off(self._outlet.subscription, item, 0.0, counts=False)
        elif item.hands is not None and item.delivery is not None:
            item.hands.requeue(item.delivery)

    async def close(self) -> None:
        """Close the connections. Nothing may be under way."""
        await self._line.close()
