"""One attempt for one message by mail: a notification, or a request to confirm."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import orjson

from gateway.config.mail import THIRD_PART, MailSettings
from gateway.core.queues.info import QueueInfo
from gateway.core.subscriptions.confirming import Confirmations
from gateway.core.subscriptions.record import CONFIRMATION, Subscription
from gateway.core.subscriptions.subscriber import Subscriber, parse
from gateway.notify.attempts import Tried, request
from gateway.notify.clock import elapsed
from gateway.notify.connecting import NotNow
from gateway.notify.formats import webhook_id
from gateway.notify.http import Answer
from gateway.notify.item import Item
from gateway.notify.mail_command import send_by_command
from gateway.notify.mail_limit import MailLimit
from gateway.notify.mail_links import MailLinks
from gateway.notify.mail_message import Mail, MailMaker, recipients_of
from gateway.notify.mail_result import MailResult
from gateway.notify.outcomes import Kind, Outcome, failure
from gateway.notify.smtp import send_by_smtp

LOG = logging.getLogger(__name__)

#: Messages of which is remembered who of several recipients has got them.
REMEMBERED = 1000

#: Reasons: too many mails to an address; there is no public URL for a link to lead to; no mail can be made.
TOO_MANY, NO_LINK, NO_MAIL = "mails_per_hour", "public_url", "request"


class Mailer:
    """Sends for all subscriptions of a process. Belongs to the loop; ``threads`` of its own send the mails."""

    def __init__(
        self, settings: MailSettings, confirmations: Confirmations, threads: int, limit: MailLimit | None = None
    ):
        """``limit``: that of another mailer, None for one of its own."""
        self._settings = settings
        self._links = MailLinks(settings, confirmations)
        self._maker = MailMaker(settings)
        self._limit = limit or MailLimit(settings.per_hour)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="notify-mail")
        self._free = asyncio.Semaphore(threads)
        #: Recipients that have a message while others have not, by subscription and message.
        self._done: OrderedDict[tuple[str, str], frozenset[str]] = OrderedDict()

    async def attempt(
        self, subscription: Subscription, info: QueueInfo, item: Item, now: Callable[[], int],
        may_begin: Callable[[], bool],
    ) -> Tried:
        """Send a message once. ``info``: the source as it is now; ``now``: the side-store's clock, in ms.

        Raises NotNow if ``may_begin`` becomes false before anything is sent.
        """
        async with self._free:
            at = now()
            if not may_begin() or elapsed() + self._settings.timeout > item.good_until:
                raise NotNow
            try:
                mail = self._mail(subscription, info, item, at)
            except Exception as error:  # of one message and one subscription: it must not hold up others
                LOG.error("subscription %s: no mail can be made: %s", subscription.name, type(error).__name__)
                return _tried(Outcome(Kind.DEAD, NO_MAIL), at)
            if mail is None:
                LOG.error("a request to confirm by mail needs [notification] public_url or external_confirmation_url")
                return _tried(Outcome(Kind.DEAD, NO_LINK), at)
            if not mail.recipients:  # all that are left have got it
                return _tried(Outcome(Kind.DELIVERED), at)
            began = elapsed()
            wait = self._limit.take(mail.recipients, began)
            if wait > 0:
                return _tried(Outcome(Kind.RESTS, TOO_MANY, now() + int(wait * 1000) + 1), at)
            accepted: frozenset[str] = frozenset()
            try:
                result, seconds = await self._sent(mail, may_begin)
                accepted = result.accepted
            finally:
                self._limit.give_back(set(mail.recipients) - accepted, began)
        self._remember(subscription, item, result)
        return Tried(_outcome(result), Answer(result.status, seconds, result.reason), at)

    def _mail(self, subscription: Subscription, info: QueueInfo, item: Item, at: int) -> Mail | None:
        """The mail to those who have not got it; None for a request to confirm that no link can be made for."""
        subscriber = parse(subscription.subscriber)
        done = self._done.get((subscription.id, item.message.id), frozenset())
        recipients = recipients_of(subscriber.recipients, done)
        id_ = f"{webhook_id(item.message.id, item.kind)}.{subscription.id}"
        if item.is_request:
            document = orjson.loads(item.body)
            link = self._links.confirm(document)
            template = self._settings.confirmation if item.kind == CONFIRMATION else self._settings.unsubscription
            values = subscription.source, subscription.client_project, link
            return self._maker.from_template(template, recipients, values, id_, at) if link else None
        _, body = request(subscription, info, item, at)
        return self._maker.notification(
            recipients, subscriber.subject, subscription.options, body.decode(errors="replace"), id_, at,
            self._links.unsubscribe(subscription),
        )

    async def tell(self, target: Subscriber, subject: str, text: str, at: int) -> None:
        """Send a mail of our own once. Failures are in the log."""
        async with self._free:
            try:
                recipients = recipients_of(target.recipients, ())
                mail = self._maker.notification(recipients, target.subject, {"subject": subject}, text, uuid4().hex, at)
                began = elapsed()
                if self._limit.take(recipients, began) > 0:
                    LOG.warning("a mail is left out, as its address has got too many: %s", subject)
                    return
                accepted: frozenset[str] = frozenset()
                try:
                    accepted = (await self._sent(mail, lambda: True))[0].accepted
                finally:
                    self._limit.give_back(set(recipients) - accepted, began)
                if len(accepted) < len(recipients):
                    LOG.warning("%d recipients have not got a mail: %s", len(recipients) - len(accepted), subject)
            except Exception as error:  # nobody waits for it
                LOG.error("a mail can't be sent: %s: %s", subject, type(error).__name__)

    async def _sent(self, mail: Mail, may_begin: Callable[[], bool]) -> tuple[MailResult, float]:
        """What came of it, and the seconds that it took."""
        start = time.monotonic()
        result = await asyncio.get_running_loop().run_in_executor(self._threads, self._send, mail, may_begin)
        if result is None:
            raise NotNow
        return result, time.monotonic() - start

    def _send(self, mail: Mail, may_begin: Callable[[], bool]) -> MailResult | None:
        """Blocks, for the settings' timeout at most. None if it must not begin any more."""
        if self._settings.mode != THIRD_PART:
            return send_by_smtp(self._settings, mail, may_begin)
        return send_by_command(self._settings.command, mail, self._settings.timeout) if may_begin() else None

    def _remember(self, subscription: Subscription, item: Item, result: MailResult) -> None:
        key = subscription.id, item.message.id
        done = self._done.pop(key, frozenset()) | result.accepted
        if result.deferred and done:
            self._done[key] = done
            if len(self._done) > REMEMBERED:
                self._done.popitem(last=False)

    def close(self) -> None:
        """Begin no more; what is under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _tried(outcome: Outcome, at: int) -> Tried:
    """An attempt that nothing was sent for."""
    return Tried(outcome, Answer(0, 0.0, outcome.reason), at)


def _outcome(result: MailResult) -> Outcome:
    if result.deferred:
        return failure(result.reason)
    return Outcome(Kind.DELIVERED) if result.accepted else Outcome(Kind.DEAD, result.reason)
