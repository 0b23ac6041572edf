"""The outlets of a process: opened for the subscriptions that it has a share of, told of changes, and ended."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any
from uuid import uuid4

import orjson

from gateway.config.mail import MAILTO
from gateway.core.core import Core
from gateway.core.errors import Conflict
from gateway.core.pools.pool import Pool
from gateway.core.queues.names import queue_key
from gateway.core.subscriptions.addresses import Rules
from gateway.core.subscriptions.record import LETTING_GO, Subscription
from gateway.core.subscriptions.retry import RetryPolicy
from gateway.core.subscriptions.slots import slot_of
from gateway.core.taking import Positions
from gateway.notify.alerts import Alerts
from gateway.notify.clock import elapsed
from gateway.notify.counting import Counting
from gateway.notify.dead_letters import DeadLetters
from gateway.notify.fates import Fates
from gateway.notify.http import Sender
from gateway.notify.intake import Intake
from gateway.notify.ledger import Ledger
from gateway.notify.letting_go import let_go
from gateway.notify.mail import Mailer
from gateway.notify.outlet import Outlet
from gateway.notify.pending import Pending
from gateway.notify.retries import Retries
from gateway.notify.settings import DeliverySettings
from gateway.notify.shares import ROUND, Shares
from gateway.notify.tasks import PASSING
from gateway.notify.terms import SourceTerms
from gateway.notify.trust_tokens import FetchToken, TrustTokens
from gateway.notify.watching import LOOK, Watch
from gateway.notify.works import Works
from gateway.observe.metrics import SUBSCRIPTIONS

LOG = logging.getLogger(__name__)

#: Schemes of subscribers that are reached here.
SCHEMES = frozenset({"http", "https", "trust+http", "trust+https", MAILTO})

#: Seconds between two writes of what has changed in the accounts of subscriptions.
FLUSH = 2.0

#: Seconds between two looks at how much waits.
COUNT = 1.0

#: Seconds on top of the deadline of an attempt for which a claim lasts meanwhile.
HOLD_MARGIN = 10.0

#: Seconds after which opening an outlet is tried again.
OPEN_AGAIN = 2.0

#: Seconds that attempts under way have to end, once the process is to stop.
STOPPING = 10.0
STOPPING_STEP = 0.05

#: States of subscriptions that are counted.
STATES = ("unconfirmed", "active", "failing", "resting", "paused", "disabled", "unsubscribed")

#: The part that a subscription is in; each delivery asks several times.
_slot = lru_cache(10_000)(slot_of)


class Serving:
    """All that runs on the loop. Create it there."""

    def __init__(
        self, core: Core, settings: DeliverySettings, rules: Rules, fetch_token: FetchToken | None = None
    ):
        """Raises OSError if the file of certificate authorities can't be read."""
        self._core = core
        self._settings = settings
        self._stop = asyncio.Event()
        #: For looks at the catalogue, which must not wait for pools that don't answer.
        self._control = ThreadPoolExecutor(2, thread_name_prefix="notify-control")
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="notify")
        catalogue = core.pool.store.catalogue
        self._positions = Positions()
        self._watch = Watch(core.subscription_records, SCHEMES)
        self._shares = Shares(catalogue, uuid4().hex, core.now)
        self._sender = Sender(settings.http)
        self._mailer = Mailer(settings.mail, core.confirmations, settings.threads)
        dead_letters = DeadLetters(core.messages, settings.dead_letter_ttl, self._positions)
        self._counting = Counting(Pending(dead_letters, settings.max_pending))
        self._tokens = TrustTokens(fetch_token)
        self._alerts = Alerts(core.messages, self._mailer, self._threads, core.now)
        self._works = Works(
            settings, self._sender, self._mailer, rules, self._threads, core.subscription_records,
            dead_letters, core.sealing, core.now,
            self._is_open, self._read_terms, self._alerts.tell, self._tokens,
            core.subscription_states.agree,
        )
        self._intakes: dict[Pool, Intake] = {}
        #: By the names of subscriptions.
        self._outlets: dict[str, tuple[Outlet, Intake]] = {}
        self._ending: dict[str, tuple[Outlet, Intake]] = {}
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, float] = {}

    def stop(self) -> None:
        """Begin no more attempts, and have ``run`` return. For the thread of the loop."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until ``stop``."""
        rounds = [
            asyncio.create_task(self._again_and_again(work, seconds))
            for work, seconds in (
                (self._look, LOOK), (self._share, ROUND), (self._write, FLUSH), (self._count, COUNT),
            )
        ]
        await self._stop.wait()
        for task in rounds:
            task.cancel()
        await asyncio.wait(rounds)
        await self._end()

    async def _again_and_again(self, work: Any, seconds: float) -> None:
        while True:
            try:
                await work()
            except PASSING as error:
                LOG.warning("notifications: %s", error)
            except Exception:
                LOG.exception("serving notifications has failed")
            await asyncio.sleep(seconds)

    async def _controlled(self, call: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._control, call, *args)

    # -- what outlets ask ---------------------------------------------------------------------------------------

    def _is_open(self, subscription: Subscription) -> bool:
        """May an attempt begin now, as far as this process' rights go?"""
        return not self._stop.is_set() and self._watch.is_fresh and self._shares.holds(_slot(subscription.id))

    def _read_terms(self, subscription: Subscription) -> SourceTerms:
        """What the queue of a subscription says. Blocks."""
        read_at = elapsed()
        project, source = subscription.project, subscription.source
        try:
            info = self._core.directory.find(project, source)
        except Conflict:  # it can't be used at present
            info = None
        found = self._core.pool.store.catalogue.get_queue(queue_key(project, source)) if info else None
        metadata = orjson.loads(found.metadata) if found else {}
        return SourceTerms(
            info or self._core.directory.expected(project, source), RetryPolicy.stored(metadata.get("_retry_policy")),
            read_at,
        )

    # -- rounds -------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Heed what has changed."""
        changed, began = await self._controlled(self._watch.look)
        if changed:
            self._not_before.clear()
        wanted = self._wanted()
        for name, (outlet, _) in list(self._outlets.items()):
            if name in wanted and wanted[name].place == outlet.subscription.place:
                outlet.update(wanted[name])
            else:
                self._let_go(name)
        self._watch.heeded(began)
        for name, subscription in wanted.items():
            if not self._serves(name) and self._not_before.get(name, 0.0) <= elapsed():
                self._opening[name] = asyncio.create_task(self._open(subscription))
        # Before others are closed: what these give back is at the broker by the next look.
        moving = [found for found in self._watch.subscriptions.values() if found.moving == LETTING_GO]
        if moving:
            await self._controlled(let_go, moving, self._core.subscription_records, self._shares, self._serves)
        for name, (outlet, intake) in list(self._ending.items()):
            if outlet.is_idle:
                await self._close(name, outlet, intake)

    def _wanted(self) -> dict[str, Subscription]:
        """The subscriptions that this process has a share of."""
        held, now = self._shares.held(), self._core.now()
        return {
            name: found for name, found in self._watch.subscriptions.items()
            if slot_of(found.id) in held and not found.has_expired(now) and not found.is_let_go
        }

    def _serves(self, name: str) -> bool:
        return name in self._outlets or name in self._ending or name in self._opening

    def _let_go(self, name: str) -> None:
        outlet, intake = self._ending[name] = self._outlets.pop(name)
        outlet.end()

    async def _share(self) -> None:
        """Renew the shares, and give up those of others."""
        await self._controlled(self._shares.renew, self._watch.used_slots())
        busy = {slot_of(outlet.subscription.id) for outlet, _ in (*self._outlets.values(), *self._ending.values())}
        busy |= {slot_of(name.rpartition("/")[2]) for name in self._opening}
        for slot in self._shares.leaving() - busy:
            await self._controlled(self._shares.give_up, slot)
        for pool, intake in list(self._intakes.items()):
            await self._check_pool(pool, intake)

    async def _check_pool(self, pool: Pool, intake: Intake) -> None:
        """Leave a pool that has been changed, so that all is opened again at its new place."""
        if await self._works.run(self._core.all_pools.get, pool.name) is pool:
            return
        for name in [name for name, (_, served_by) in self._outlets.items() if served_by is intake]:
            self._let_go(name)
        if intake.is_empty:
            del self._intakes[pool]
            await intake.close()

    async def _write(self) -> None:
        """Write the accounts that have changed."""
        states: Counter[str] = Counter()
        for outlet, _ in list(self._outlets.values()):
            states[self._state(outlet)] += 1
            await self._write_one(outlet)
        for state in STATES:
            SUBSCRIPTIONS.labels(state).set(states[state])

    async def _write_one(self, outlet: Outlet) -> None:
        ledger = outlet.fates.ledger
        ledger.change(**outlet.counts())
        if ledger.is_changed:
            await self._works.run(self._core.delivery_statuses.put, outlet.subscription.name, ledger.written())

    async def _count(self) -> None:
        await self._counting.go_on(self._outlets, self._works)

    @staticmethod
    def _state(outlet: Outlet) -> str:
        if not outlet.subscription.delivers:
            return outlet.subscription.state
        return "resting" if outlet.pace.resting_until > elapsed() else "failing" if outlet.pace.is_failing else "active"

    # -- outlets ------------------------------------------------------------------------------------------------

    async def _open(self, subscription: Subscription) -> None:
        name = subscription.name
        try:
            pool = await self._works.run(self._core.all_pools.get, subscription.pool)
            status = await self._works.run(self._core.delivery_statuses.get, name)
            source = await self._works.terms_of(subscription)
            hold = self._settings.timeout(subscription.scheme) + HOLD_MARGIN
            ledger = Ledger(status, self._settings.attempt_log)
            if status.last_failure is not None and status.last_failure.at < subscription.since:
                ledger.restarted()
            retries = Retries(pool.store, subscription.key, hold, self._positions)
            intake = self._intakes.get(pool)
            if intake is None:
                intake = self._intakes[pool] = Intake(pool, self._works)
            outlet = Outlet(self._works, intake, subscription, source, Fates(self._works, pool, retries, ledger))
            try:
                await intake.join(outlet)
            except BaseException:
                await outlet.close()
                raise
            self._outlets[name] = outlet, intake
        except PASSING as error:
            LOG.warning("subscription %s can't be served now: %s", name, error)
            self._not_before[name] = elapsed() + OPEN_AGAIN
        except Exception:
            LOG.exception("subscription %s can't be served", name)
            self._not_before[name] = elapsed() + OPEN_AGAIN
        finally:
            del self._opening[name]

    async def _close(self, name: str, outlet: Outlet, intake: Intake) -> None:
        del self._ending[name]
        intake.leave(outlet)
        await outlet.close()
        if name in self._watch.subscriptions:  # else its account is gone
            await self._write_one(outlet)

    async def _end(self) -> None:
        """End all attempts, or give up those that take too long: what they hold comes free by itself."""
        for name in list(self._outlets):
            self._let_go(name)
        deadline = elapsed() + min(STOPPING, self._settings.http.request_timeout)
        while elapsed() < deadline and (self._opening or not all(each.is_idle for each, _ in self._ending.values())):
            await asyncio.sleep(STOPPING_STEP)
        for outlet, _ in self._ending.values():
            outlet.abandon()
        try:
            for name, (outlet, intake) in list(self._ending.items()):
                await self._close(name, outlet, intake)
            for intake in self._intakes.values():
                await intake.close()
            await self._alerts.settle(1.0)
            await self._controlled(self._shares.close)
        except PASSING as error:
            LOG.warning("ending the service of notifications: %s", error)
        await self._sender.close()
        self._mailer.close()
        self._tokens.close()
        for threads in self._threads, self._control:
            threads.shutdown(wait=False, cancel_futures=True)
