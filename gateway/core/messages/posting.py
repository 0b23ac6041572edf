"""Posting messages."""

from __future__ import annotations

from collections.abc import Sequence

from bridges.bridging import Bridging, Target
from bridges.errors import MessageTooLarge, QueueMissing
from gateway.config.limits import MIN_MESSAGE_TTL, Limits
from gateway.core.errors import Busy, Forbidden, InvalidInput, NotFound
from gateway.core.ids import IdMaker, made_at
from gateway.core.messages.post import Post, PostRequest, check_seconds
from gateway.core.messages.targets import TargetPosting, too_large
from gateway.core.once.attempt import Attempt
from gateway.core.once.key import Key
from gateway.core.once.once import Once
from gateway.core.publishing import land
from gateway.core.queues.directory import Directory
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.metadata import Settings
from gateway.core.queues.names import titled
from gateway.core.sealing import Sealing
from gateway.observe.metrics import MESSAGES
from storage.errors import QueueGone
from storage.model import Message

#: Times that a post is tried on a queue that others delete, or the broker loses, meanwhile.
POSTS = 20


class Posting:
    """Puts messages into queues."""

    def __init__(self, directory: Directory, limits: Limits, ids: IdMaker, sealing: Sealing, once: Once):
        self._directory = directory
        self._limits = limits
        self._ids = ids
        self._sealing = sealing
        self._once = once
        self._to_targets = TargetPosting(limits)

    def post(
        self, project: str, name: str, client: str, posts: Sequence[Post], size: int, key: Key | None = None,
        create: bool = True,
    ) -> list[str]:
        """Post messages in order; their ids. ``size``: bytes of the whole request, which the queue has a limit for.

        A queue that does not exist is created; without ``create`` this raises NotFound instead. Returns when the broker
        has confirmed all messages; delayed ones of ordinary queues wait in the side-store instead. With a ``key`` a
        request that is sent again posts nothing a second time, and gets the same ids.
        """
        found = self._directory.find(project, name)
        if found is None and not create:
            raise _no_queue(project, name)
        info = found or self._directory.expected(project, name)
        exists = found is not None
        request = PostRequest(client, posts, size, key)
        try:
            for _ in range(POSTS):
                try:
                    if self._try_to_post(info, exists, request):
                        return [*request.ids]
                    info = self._directory.ensure(project, name)
                except (QueueMissing, QueueGone):
                    # Deleted by another gateway, or lost by the broker, since we last looked.
                    if not create and self._directory.refresh(project, name) is None:
                        raise _no_queue(project, name) from None
                    info = self._directory.restore(project, name)
                exists = True
            raise Busy(f"{titled(project, name)} is being deleted by others; try again")
        except BaseException as error:
            if request.attempt is not None:
                request.attempt.failed(error)
            if isinstance(error, MessageTooLarge):
                raise too_large(error) from error
            raise

    def _try_to_post(self, info: QueueInfo, exists: bool, request: PostRequest) -> bool:
        """Post to a queue; False if it was expected to be a new one, and is there with other metadata.

        Raises QueueMissing or QueueGone when the queue is not there any more; nothing is enqueued then.
        """
        settings = info.settings
        if request.size > settings.max_post_size:
            raise InvalidInput(
                f"The request is {request.size} bytes long, at most {settings.max_post_size} are allowed for this queue"
            )
        if settings.bridging is not None:
            if settings.bridging.target is None:
                raise Forbidden(f"Queue {info.name} is bridged for reading only; its _bridge has no target")
            self._to_target(info, settings.bridging, settings.bridging.target, request)
            return True
        times = self._times(settings, request.posts)
        if not exists:  # only what is right creates a queue
            info = self._directory.ensure(info.project, info.name)
            if info.settings != settings:
                return False
        now = info.pool.store.now()
        if request.key is not None or settings.fifo:
            self._begin(info, request, [ttl for ttl, _ in times])
        elif not request.ids:
            request.ids = self._ids.make(now, len(times))
        direct, delayed = self._messages(info, request, times, now)
        if request.attempt is not None:
            self._post_once(info, request.attempt, direct, delayed)
        elif delayed:
            self._post_all(info, direct, delayed)
        elif direct:
            info.pool.publishing.publish(info, direct)
        MESSAGES.labels("posted").inc(len(direct) + len(delayed))
        return True

    def _times(self, settings: Settings, posts: Sequence[Post]) -> list[tuple[int, int]]:
        """Ttl and delay (seconds) of each message. Raises InvalidInput for a message that the queue can't have."""
        times = []
        for post in posts:
            ttl = settings.default_ttl if post.ttl is None else post.ttl
            delay = settings.default_delay if post.delay is None else post.delay
            check_seconds("ttl", ttl, MIN_MESSAGE_TTL, self._limits.max_message_ttl)
            check_seconds("delay", delay, 0, self._limits.max_message_delay)
            if post.properties is not None:
                raise InvalidInput("properties are for queues that are bridged to a target")
            if not settings.fifo and (post.group is not None or post.dedup_id is not None):
                raise InvalidInput("group and dedup_id are for queues with _fifo")
            times.append((ttl, delay))
        return times

    def _begin(self, info: QueueInfo, request: PostRequest, ttls: Sequence[int]) -> None:
        """Find out what of the request has been posted before, unless that is known already."""
        if request.attempt is None or request.attempt.queue_key != info.key:
            request.attempt = self._once.begin(info, request, ttls)
            request.ids = request.attempt.ids

    def _messages(
        self, info: QueueInfo, request: PostRequest, times: Sequence[tuple[int, int]], now: int
    ) -> tuple[list[Message], list[Message]]:
        """What is to be enqueued: messages for the broker, and delayed ones of an ordinary queue for the side-store."""
        settings, attempt = info.settings, request.attempt
        direct: list[Message] = []
        delayed: list[Message] = []
        for index in range(len(times)) if attempt is None else attempt.pending:
            id_, post, (ttl, delay) = request.ids[index], request.posts[index], times[index]
            # What is posted again lives no longer than if the first request had succeeded.
            posted = now if attempt is None else made_at(id_) or now
            message = Message(id_, posted, posted + ttl * 1000, post.body, request.client)
            if settings.fifo:
                message.group, message.dedup_id = post.group or "", post.dedup_id or ""
            if settings.encrypt:
                self._sealing.seal(info.project, message)
            if delay:
                message.hidden_until = posted + delay * 1000
            (delayed if delay and not settings.fifo else direct).append(message)
        return direct, delayed

    @staticmethod
    def _post_once(info: QueueInfo, attempt: Attempt, direct: list[Message], delayed: list[Message]) -> None:
        """Enqueue messages that another request may repeat.

        Nothing is taken back after an error, since the other one may have been answered 201 by then. So what may be
        refused comes first, and what is missing comes with the next request.
        """
        if direct:
            info.pool.publishing.publish(info, direct)
        if delayed:
            land(info.pool.store, info, delayed)
        attempt.confirmed()

    @staticmethod
    def _post_all(info: QueueInfo, direct: list[Message], delayed: list[Message]) -> None:
        """Enqueue messages of which some are delayed: all or none, as far as it is in our hands."""
        land(info.pool.store, info, delayed)
        try:
            if direct:
                info.pool.publishing.publish(info, direct)
        except BaseException:
            info.pool.store.landed.delete_unclaimed(info.key, [message.id for message in delayed])
            raise

    def _to_target(self, info: QueueInfo, bridging: Bridging, target: Target, request: PostRequest) -> None:
        """Post to an exchange of others."""
        envelopes = self._to_targets.envelopes(info, bridging, request.posts)
        if request.key is not None:
            self._begin(info, request, [self._limits.max_message_ttl] * len(envelopes))
        elif not request.ids:
            request.ids = self._ids.make(info.pool.store.now(), len(envelopes))
        if request.attempt is not None and not request.attempt.pending:
            return
        self._to_targets.publish(info, bridging, target, envelopes, request.ids)
        if request.attempt is not None:
            request.attempt.confirmed()
        MESSAGES.labels("posted").inc(len(envelopes))


def _no_queue(project: str, name: str) -> NotFound:
    return NotFound(f"{titled(project, name)} does not exist")
