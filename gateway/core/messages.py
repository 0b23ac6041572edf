"""Messages: post, list, get, delete and pop."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4, uuid5

from bridges.base import Envelope
from bridges.errors import (
    BrokerRefused,
    ExchangeMissing,
    LimitReached,
    MessageTooLarge,
    PropertiesTooLarge,
    QueueFull,
    QueueMissing,
    Unroutable,
)
from gateway.config.limits import MIN_CLAIM_TTL, MIN_MESSAGE_TTL, Limits
from gateway.core import foreign
from gateway.core.bridging import Bridging, Target
from gateway.core.claims import Claims
from gateway.core.errors import Busy, Forbidden, InvalidInput
from gateway.core.ids import USABLE_ID, IdMaker, made_at
from gateway.core.landing import SETTLING, Landing
from gateway.core.publishing import Publishing
from gateway.core.queues import QueueInfo, Queues
from gateway.core.sealing import SKIPPED, Sealing
from gateway.observe.metrics import MESSAGES
from storage.base import SideStore
from storage.errors import QueueGone, StoreError
from storage.model import Message, Ring, Stats

LOG = logging.getLogger(__name__)

#: A listing's marker: a landing position. Clients may pass a message's id instead.
MARKER = re.compile(r"[0-9]{1,20}\Z")

#: Marker of a page that ended with the n-th message of a queue that is only looked at.
PEEK_MARKER = re.compile(r"peek-([0-9]{1,4})\Z")

#: How deep into somebody else's queue a list looks, always: what has been given back before is in front, and would go
#: behind the rest of it if fewer were taken and given back again.
PEEK_DEPTH = 100

#: Bytes of bodies, and seconds, after which a look ends with the messages that it has found so far.
LOOK_BYTES = 16 * 1024 * 1024
LOOK_TIME = 2.0

#: Times that a message may come back from a look before it is landed instead: RabbitMQ 4 drops it from a quorum queue
#: at the 20th, and several gateways may look at once.
LOOKS_AT_MOST = 10

#: Messages without an id that are only looked at get one made from their body, in this namespace.
PEEKED_IDS = UUID("a3c9b0e6-9d0c-5a55-8d6e-7065656b6564")

#: Largest landing position: a signed 64-bit integer.
MAX_POSITION = 2**63 - 1

#: Messages that one request moves to the side-store at most to find one by its id.
SOUGHT_AT_MOST = 500

#: Times that a post is tried on a queue that others delete, or the broker loses, meanwhile.
POSTS = 20

#: Milliseconds by which the clocks of two gateways may differ without a message being taken for gone.
CLOCK_SKEW = 5_000


@dataclass(frozen=True, slots=True)
class Post:
    """A message to post; ``ttl`` and ``delay`` (seconds) are None for the queue's defaults.

    ``properties``: AMQP properties, for a queue that is bridged to a target.
    """

    body: bytes
    ttl: int | None = None
    delay: int | None = None
    properties: dict[str, Any] | None = None


class Messages:
    """The messages of all queues."""

    def __init__(
        self,
        store: SideStore,
        queues: Queues,
        publishing: Publishing,
        landing: Landing,
        claims: Claims,
        limits: Limits,
        ids: IdMaker,
        sealing: Sealing,
    ):
        self._store = store
        self._queues = queues
        self._publishing = publishing
        self._landing = landing
        self._claims = claims
        self._limits = limits
        self._ids = ids
        self._sealing = sealing

    # -- post ---------------------------------------------------------------------------------------------------

    def post(self, project: str, name: str, client: str, posts: Sequence[Post], size: int) -> list[str]:
        """Post messages in order; their ids. ``size``: bytes of the whole request. Makes the queue if need be.

        Returns when the broker has confirmed all of them; delayed ones wait in the side-store instead.
        """
        info = self._queues.find(project, name)
        ids = self._ids.make(self._store.now(), len(posts))
        for _ in range(POSTS):
            try:
                if self._try_to_post(project, name, info, client, posts, size, ids):
                    return ids
                info = self._queues.ensure(project, name)
            except (QueueMissing, QueueGone):
                # Deleted by another gateway, or lost by the broker, since we last looked.
                info = self._queues.restore(project, name)
        raise Busy(f"Queue {name} is being deleted by others; try again")

    def _try_to_post(
        self,
        project: str,
        name: str,
        info: QueueInfo | None,
        client: str,
        posts: Sequence[Post],
        size: int,
        ids: list[str],
    ) -> bool:
        """Post to a queue; False if there is none yet, or one that is not as expected of a new one.

        Raises QueueMissing or QueueGone when the queue is not there any more; nothing is enqueued then.
        """
        settings = info.settings if info else self._queues.default_settings
        if size > settings.max_post_size:
            raise InvalidInput(
                f"The request is {size} bytes long, at most {settings.max_post_size} are allowed for this queue"
            )
        now = self._store.now()
        if settings.bridging is not None:
            if settings.bridging.target is None:
                raise Forbidden(f"Queue {name} is bridged for reading only; its _bridge has no target")
            self._post_to_target(project, settings.bridging, settings.bridging.target, ids, posts, now)
            return True
        direct: list[Message] = []
        delayed: list[Message] = []
        for id_, post in zip(ids, posts, strict=True):
            ttl = settings.default_ttl if post.ttl is None else post.ttl
            delay = settings.default_delay if post.delay is None else post.delay
            self._check("ttl", ttl, MIN_MESSAGE_TTL, self._limits.max_message_ttl)
            self._check("delay", delay, 0, self._limits.max_message_delay)
            if post.properties is not None:
                raise InvalidInput("properties are for queues that are bridged to a target")
            message = Message(id_, now, now + ttl * 1000, post.body, client)
            if settings.encrypt:
                self._sealing.close(project, message)
            if delay:
                message.hidden_until = now + delay * 1000
            (delayed if delay else direct).append(message)
        if info is None:  # only what is right makes a queue
            info = self._queues.ensure(project, name)
            if info.settings != settings:
                return False
        if delayed:
            self._store.landed.append(info.key, delayed)
        try:
            if direct:
                self._publishing.publish(info, direct)
        except BaseException as error:
            if delayed:  # all or nothing, as far as it is in our hands
                self._store.landed.delete_unclaimed(info.key, [message.id for message in delayed])
            if isinstance(error, MessageTooLarge):
                raise _too_large(error) from error
            raise
        MESSAGES.labels("posted").inc(len(posts))
        return True

    def _post_to_target(
        self, project: str, bridging: Bridging, target: Target, ids: list[str], posts: Sequence[Post], now: int
    ) -> None:
        """Publish to an exchange of others; messages carry their ids there."""
        envelopes = []
        for id_, post in zip(ids, posts, strict=True):
            if post.ttl is not None:
                self._check("ttl", post.ttl, MIN_MESSAGE_TTL, self._limits.max_message_ttl)
            if post.delay:
                raise InvalidInput("A message for a bridge's target can't be delayed")
            try:
                envelopes.append(foreign.envelope(post.body, post.properties or {}, bridging.oslo, project))
            except ValueError as error:
                raise InvalidInput(str(error), "Invalid request body") from error
            envelopes[-1].message_id = id_ if not bridging.oslo else None
            envelopes[-1].timestamp = now // 1000 if not bridging.oslo else None
            envelopes[-1].ttl = post.ttl * 1000 if post.ttl is not None else None
        bridge = self._queues.bridge_at(target.vhost)
        try:
            bridge.publish_to(target.exchange, target.routing_key, envelopes, mandatory=target.mandatory)
        except MessageTooLarge as error:
            raise _too_large(error) from error
        except QueueFull as error:
            LOG.warning("exchange %s: %s", target.exchange, error)
            kept = "other queues may have them: a message posted once more may arrive there twice"
            raise Busy(
                f"A queue of the broker that takes messages of exchange {target.exchange!r} is full and has refused"
                f" some; {kept if error.partly else 'none was enqueued'}"
            ) from error
        except LimitReached:
            raise
        except BrokerRefused as error:
            LOG.warning("exchange %s: %s", target.exchange, error)
            raise Busy(
                f"The broker does not let this service publish to exchange {target.exchange!r}, which this queue is"
                " bridged to"
            ) from error
        except ExchangeMissing as error:
            raise Busy(f"The broker has no exchange {target.exchange}, which this queue is bridged to") from error
        except PropertiesTooLarge as error:
            raise InvalidInput(f"The properties of a message are too large: {error}", "Invalid request body") from error
        except Unroutable as error:
            raise Busy(
                f"No queue of the broker takes messages of exchange {target.exchange!r} with routing key"
                f" {target.routing_key!r}; some of the messages may have been enqueued"
            ) from error
        MESSAGES.labels("posted").inc(len(posts))

    @staticmethod
    def _check(name: str, value: int, lowest: int, highest: int) -> None:
        if not lowest <= value <= highest:
            raise InvalidInput(f"The {name} of a message must be from {lowest} to {highest} seconds, not {value}")

    # -- read ---------------------------------------------------------------------------------------------------

    def list(
        self, info: QueueInfo, marker: str | None, limit: int, not_from: str | None, claimed: bool, delayed: bool
    ) -> Sequence[Message]:
        """A page of living messages behind ``marker``, oldest first, landing more from the backlog as needed."""
        if info.has_backlog and not info.lands:
            return [*self._look(info, marker, limit, not_from, claimed, delayed)]
        after = self._position(info, marker)
        if after is None:
            return []

        def stored(after: int, limit: int, ring: Ring | None) -> Sequence[Message]:
            return self._store.landed.list_messages(
                info.key, after, limit, not_from=not_from, claimed=claimed, delayed=delayed, ring=ring
            )

        self._queues.attend(info)
        landing = self._landing.is_landing(info)
        page = self._sealing.page(info, stored, after, limit)
        skipped = 0
        if len(page) == limit or not info.lands or after >= MAX_POSITION:
            return page
        # To ask for the depth first spares those who poll an empty queue the lease. A message that another gateway is
        # just landing is missed here, but not for good: its position is behind this page.
        if not info.bridge.depth(info.broker):
            if landing or self._landing.is_landing(info):
                self._landing.await_others(info)
                return self._sealing.page(info, stored, after, limit)
        else:

            def wanted(landed: Sequence[Message]) -> int:
                nonlocal skipped
                if landed:
                    opened = self._sealing.opened(info, landed)
                    skipped += len(landed) - len(opened)
                    page.extend(m for m in opened if m.client != not_from and m.seq > after)
                else:
                    page[:] = self._sealing.page(info, stored, after, limit)
                return limit - len(page) if skipped < SKIPPED else 0

            complete = self._landing.land_free(info, wanted, to_the_end=False)
            if not page and not complete:
                raise Busy("the messages in front of the wanted ones are still being landed; try again")
        return page[:limit]

    def _look(
        self, info: QueueInfo, marker: str | None, limit: int, not_from: str | None, claimed: bool, delayed: bool
    ) -> Sequence[Message]:
        """A page of somebody else's queue: what is landed, claims given up for one, then what waits at its front.

        The latter stays there. Its positions are those in the queue, negative, counted from the front.
        """
        self._queues.attend(info)

        def stored(after: int, limit: int, ring: Ring | None) -> Sequence[Message]:
            return self._store.landed.list_messages(
                info.key, after, limit, not_from=not_from, claimed=claimed, delayed=delayed, ring=ring
            )

        def landed(after: int) -> list[Message]:
            return self._sealing.page(info, stored, after, limit)

        peeked = PEEK_MARKER.match(marker or "")
        after = 0 if peeked else self._position(info, marker)
        if after is None:
            return []
        page = [] if peeked else landed(after)
        if len(page) == limit:
            return page
        look = _Look(self._shown(info), skip=int(peeked[1]) if peeked else 0, count=limit - len(page))
        info.bridge.peek(info.broker, PEEK_DEPTH, look.see)
        if look.worn:
            # What was taken and not seen has come back as often.
            self._landing.land_free(info, _all_of(PEEK_DEPTH if look.cut else look.place))
            return landed(after)
        return [*page, *look.found]

    def _shown(self, info: QueueInfo) -> Callable[[Envelope], Message | None]:
        """Makes messages to show of what waits in a broker queue; None of poison, which a claim puts aside."""
        now = self._store.now()

        def shown(envelope: Envelope) -> Message | None:
            try:
                message = self._landing.message(info, envelope, now)
            except foreign.Poison:
                return None
            if envelope.message_id is None:
                message.id = str(uuid5(PEEKED_IDS, sha256(envelope.body).hexdigest()))
            return message

        return shown

    def _position(self, info: QueueInfo, marker: str | None) -> int | None:
        """The position behind which a page starts; None for a marker that leads nowhere."""
        if marker is None:
            return 0
        if MARKER.match(marker):
            return min(int(marker), MAX_POSITION)
        if not USABLE_ID.match(marker):
            raise InvalidInput("The marker is neither one of ours nor the id of a message")
        found = self._store.landed.get_messages(info.key, [marker])
        return found[0].seq if found else None

    def get(self, info: QueueInfo, ids: Sequence[str]) -> Sequence[Message]:
        """Those of the messages that live, in the order asked for."""
        found = {message.id: message for message in self._store.landed.get_messages(info.key, ids)}
        missing = [id_ for id_ in ids if id_ not in found]
        if missing:
            landed, unresolved = self._seek(info, missing, SOUGHT_AT_MOST)
            found |= landed
            if unresolved:
                raise Busy("the messages in front of the wanted one are still being landed; try again")
            if self._may_wait(info, missing):
                # Another gateway may have had one in its hands, on the way from the broker to the side-store.
                time.sleep(SETTLING)
                found |= {message.id: message for message in self._store.landed.get_messages(info.key, missing)}
        return self._sealing.found(info, [found[id_] for id_ in dict.fromkeys(ids) if id_ in found])

    def _may_wait(self, info: QueueInfo, ids: Sequence[str]) -> set[str]:
        """Those of the ids that may be of messages which have not landed yet.

        A native producer's id is known to clients only once its message has landed, so that one is gone. Ids of a time
        to come are possible: the clock may have been ahead.
        """
        if not info.lands:
            return set()
        oldest = self._store.now() - self._limits.max_message_ttl * 1000
        return {id_ for id_ in ids if (made := made_at(id_)) is not None and made > oldest}

    def _seek(self, info: QueueInfo, ids: Sequence[str], limit: int) -> tuple[dict[str, Message], set[str]]:
        """Land up to ``limit`` messages to find those with ``ids``, or to learn that they must be gone.

        Returns those found, and the ids of which nothing is known afterwards. An id tells when it was made; once much
        younger messages come by, its own has been and gone. What is dated ahead says nothing of that: the clock that
        it is from was wrong.
        """
        sought = self._may_wait(info, ids)
        found: dict[str, Message] = {}
        if not sought:
            return found, set()
        now = self._store.now()
        youngest = max(made_at(id_) or 0 for id_ in sought)
        left = limit

        def much_younger(message: Message) -> bool:
            return bool(message.client) and youngest + CLOCK_SKEW < (made_at(message.id) or 0) < now + CLOCK_SKEW

        def wanted(landed: Sequence[Message]) -> int:
            nonlocal left
            left -= len(landed)
            # The first call is for what others have landed just before.
            for message in landed or self._store.landed.get_messages(info.key, list(sought)):
                if message.id in sought:
                    sought.discard(message.id)
                    found[message.id] = message
            if any(map(much_younger, landed)):
                sought.clear()
            return min(left, self._limits.max_messages_per_page) if sought and left > 0 else 0

        if self._landing.land_free(info, wanted) and left > 0:
            sought.clear()  # the backlog is empty
        return found, sought

    def stats(self, info: QueueInfo) -> tuple[Stats, int]:
        """Counts and edges of a queue, and how many wait in the broker.

        Of the backlog only this gateway's own posts are known, so the newest message is the newest it knows of; the
        oldest is landed if it has to be.
        """
        self._queues.attend(info)
        landed, waiting = self._queues.stats(info)
        if not waiting:
            return landed, 0
        if not info.lands:
            return landed, waiting  # to look at somebody else's queue has a price, see docs/bridging.md
        if landed.oldest is None:
            self._landing.land_free(info, lambda landed: 0 if landed else 1)
            landed, waiting = self._queues.stats(info)
        newest = landed.newest
        own = self._publishing.newest(info)
        if waiting and own and (newest is None or newest.posted <= own.posted):
            newest = own
        return replace(landed, newest=newest), waiting

    # -- delete -------------------------------------------------------------------------------------------------

    def delete(self, info: QueueInfo, id_: str, claim_id: str | None) -> bool:
        """Delete one message; False when there is none.

        Raises Forbidden when somebody's live claim is in the way, InvalidInput when the claim given is over.
        """
        if claim_id is None:
            held, everything = self.delete_many(info, [id_], None)
            if held:
                raise Forbidden(f"Message {id_} is claimed; give its claim_id to delete it")
            return everything
        if self._store.landed.delete_claimed(info.key, [id_], [claim_id]):
            MESSAGES.labels("deleted").inc()
            return True
        # Nothing was deleted: find out why (rarely needed, so not asked before).
        found: Collection[Message] = self._store.landed.get_messages(info.key, [id_])
        if not found:
            found = self._seek(info, [id_], SOUGHT_AT_MOST)[0].values()
        if not found and self._bury(info, self._may_wait(info, [id_])):
            found = self._store.landed.get_messages(info.key, [id_])
        for message in found:
            if message.claim is not None and message.hidden_until > self._store.now():
                raise Forbidden(f"Message {id_} is claimed by another claim")
            raise InvalidInput(f"Message {id_} is not claimed by that claim, or the claim has expired")
        # If it is anywhere it waits far behind, or another gateway is landing it: anybody may delete what nobody has
        # claimed, and so it is.
        return False

    def delete_many(
        self, info: QueueInfo, ids: Sequence[str], claim_ids: Sequence[str] | None
    ) -> tuple[set[str], bool]:
        """Delete those of the messages that no live claim holds, but one of ``claim_ids``.

        Returns those that stay, and whether all of the others were there.
        """
        ids = list(dict.fromkeys(ids))
        deleted = self._store.landed.delete_claimed(info.key, ids, claim_ids) if claim_ids else 0
        deleted += self._store.landed.delete_unclaimed(info.key, ids)
        held: set[str] = set()
        if deleted < len(ids):
            held = {message.id for message in self._store.landed.get_messages(info.key, ids)}
            found, held_since = self._delete_waiting(info, [id_ for id_ in ids if id_ not in held])
            deleted += found
            held |= held_since
        MESSAGES.labels("deleted").inc(deleted)
        return held, deleted + len(held) >= len(ids)

    def _delete_waiting(self, info: QueueInfo, ids: Sequence[str]) -> tuple[int, set[str]]:
        """Delete messages that may still wait in the broker: how many were, and those that are claimed by now.

        What does not come by soon gets a tombstone, so that it is dropped when it does.
        """
        found, _ = self._seek(info, ids, self._limits.max_messages_per_page)
        now = self._store.now()
        held = {id_ for id_, message in found.items() if message.claim is not None and message.hidden_until > now}
        doomed = found.keys() - held
        doomed |= self._bury(info, self._may_wait(info, ids) - found.keys())
        deleted = self._store.landed.delete_unclaimed(info.key, list(doomed)) if doomed else 0
        if deleted < len(doomed):
            held |= {message.id for message in self._store.landed.get_messages(info.key, list(doomed))}
        return deleted, held

    def _bury(self, info: QueueInfo, ids: Collection[str]) -> set[str]:
        """Have messages dropped when they land: from the backlog, or from the hands of another gateway that is just
        landing them. Returns those that have landed meanwhile.
        """
        if not ids:
            return set()
        lifetime = self._limits.max_message_ttl * 1000
        return self._store.landed.tombstone(info.key, {id_: (made_at(id_) or 0) + lifetime for id_ in ids})

    def pop(self, info: QueueInfo, limit: int) -> Sequence[Message]:
        """Take the oldest messages out of the queue for good.

        What has landed is claimed first: a gateway that dies in between leaves it to be claimed by others later. What
        the broker has does not land, which would be for nothing.
        """
        claim_id = uuid4().hex
        taken = self._claims.take(info, claim_id, MIN_CLAIM_TTL, 0, limit, consume=True)
        popped = self._sealing.opened(info, taken)  # what has no claim is gone from here on
        claimed = [message.id for message in popped if message.claim is not None]
        if claimed:
            try:
                deleted = self._store.landed.delete_claimed(info.key, claimed, [claim_id])
                if deleted < len(claimed):
                    popped = [*self._without_lost(info, popped, deleted)]
            except StoreError as error:
                popped = [message for message in popped if message.claim is None]
                if not popped:
                    raise
                LOG.warning("queue %s: popped without %d landed messages: %s", info.key, len(claimed), error)
        MESSAGES.labels("deleted").inc(len(popped))
        for message in popped:
            if message.claim is not None:  # it was ours, not the client's
                message.claim = None
                message.claims -= 1
        return popped

    def _without_lost(self, info: QueueInfo, popped: Sequence[Message], deleted: int) -> Sequence[Message]:
        """What was popped, less the messages that others may hold: the claim was over before only ``deleted`` of them
        were deleted.
        """
        claimed = [message.id for message in popped if message.claim is not None]
        there = {message.id for message in self._store.landed.get_messages(info.key, claimed)}
        now = self._store.now()

        def ours(message: Message) -> bool:
            # While the claim lasts nobody else can have deleted what is gone: the answer to our own delete was lost.
            return message.claim is None or (message.id not in there and (deleted > 0 or now < message.hidden_until))

        kept = [message for message in popped if ours(message)]
        LOG.warning("queue %s: %d messages were taken by others before they were popped", info.key,
                    len(popped) - len(kept))
        return kept

    # -- claimed ------------------------------------------------------------------------------------------------

    def claim(self, info: QueueInfo, ttl: int | None, grace: int | None, limit: int) -> Sequence[Message]:
        """Claim messages (see Claims.create) and open their bodies."""
        return self._sealing.opened(info, self._claims.create(info, ttl, grace, limit))

    def claimed(self, info: QueueInfo, claim_id: str) -> Sequence[Message]:
        """The messages that a claim still holds, at least one, with their bodies open."""
        return self._sealing.found(info, self._claims.get(info, claim_id))

    def purge(self, project: str, name: str) -> None:
        """Remove all messages of a queue."""
        self._queues.on(project, name, self._purge)

    def _purge(self, info: QueueInfo) -> bool:
        """Empty broker and side-store while nobody lands free messages."""
        with self._landing.interrupted(info):
            if info.has_backlog:
                info.bridge.purge(info.broker)
            self._store.landed.purge(info.key)
        self._publishing.forget(info.key)
        return True


class _Look:
    """A look at the front of a broker queue: ``count`` messages behind the first ``skip``, made by ``show``."""

    def __init__(self, show: Callable[[Envelope], Message | None], skip: int, count: int):
        self.found: list[Message] = []
        #: How many have been seen, and whether there may be more.
        self.place = 0
        self.cut = False
        #: Has one of them come back from too many looks? Those of an unreadable one can't be counted.
        self.worn = False
        self._show = show
        self._skip = skip
        self._count = count
        self._size = 0
        self._until = time.monotonic() + LOOK_TIME

    def see(self, envelope: Envelope) -> bool:
        """The next one; whether to go on. What is not found is not kept."""
        self.place += 1
        self.worn = self.worn or envelope.deliveries >= LOOKS_AT_MOST or not envelope.readable
        if self.place <= self._skip:
            return True
        message = self._show(envelope) if len(self.found) < self._count else None
        self._size += max(len(envelope.body), len(message.body) if message else 0)
        if message:
            message.seq = -self.place
            self.found.append(message)
        # With one found the next page begins behind it, so nothing is out of reach.
        self.cut = bool(self.found) and (self._size >= LOOK_BYTES or time.monotonic() > self._until)
        return not self.cut


def _all_of(count: int) -> Callable[[Sequence[Message]], int]:
    """For land_free: so many messages, less those that have landed."""
    left = count

    def wanted(landed: Sequence[Message]) -> int:
        nonlocal left
        left -= len(landed)
        return max(0, left)

    return wanted


def _too_large(error: MessageTooLarge) -> InvalidInput:
    """What the broker finds too large is the client's mistake."""
    LOG.warning("publish: %s", error)
    limit = f", {error.limit} bytes" if error.limit is not None else ""
    enqueued = "those in front of it may have been enqueued" if error.partly else "none was enqueued"
    return InvalidInput(
        f"A message is larger than the message broker takes{limit}; {enqueued}", "Invalid request body"
    )
