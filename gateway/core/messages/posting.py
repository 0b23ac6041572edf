"""Posting messages."""

from __future__ import annotations

from collections.abc import Sequence

from bridges.bridging import Bridging, Target
from bridges.errors import MessageTooLarge, QueueMissing
from gateway.config.limits import MIN_MESSAGE_TTL, Limits
from gateway.core.errors import Busy, Forbidden, InvalidInput
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


class _Call:
    """A call of Posting.post: what it posts, and under which ids. ``attempt``: if it is to happen once."""

    __slots__ = ("attempt", "ids", "request")

    def __init__(self, request: PostRequest):
        self.request = request
        self.ids: list[str] = []
        self.attempt: Attempt | None = None


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
        self, project: str, name: str, client: str, posts: Sequence[Post], size: int, key: Key | None = None
    ) -> list[str]:
        """Post messages in order; their ids. ``size``: bytes of the whole request. Creates the queue if need be.

        Returns when the broker has confirmed all of them; delayed ones of ordinary queues wait in the side-store
        instead. With a ``key`` a request that is sent again posts nothing a second time, and gets the same ids.
        """
        found = self._directory.find(project, name)
        info = found or self._directory.expected(project, name)
        exists = found is not None
        call = _Call(PostRequest(client, posts, size, key))
        try:
            for _ in range(POSTS):
                try:
                    if self._try_to_post(info, exists, call):
                        return call.ids
                    info = self._directory.ensure(project, name)
                except (QueueMissing, QueueGone):
                    # Deleted by another gateway, or lost by the broker, since we last looked.
                    info = self._directory.restore(project, name)
                exists = True
            raise Busy(f"{titled(project, name)} is being deleted by others; try again")
        except BaseException as error:
            if call.attempt is not None:
                call.attempt.failed(error)
            raise

    def _try_to_post(self, info: QueueInfo, exists: bool, call: _Call) -> bool:
        """Post to a queue; False if it was expected to be a new one, and is there with other metadata.

        Raises QueueMissing or QueueGone when the queue is not there any more; nothing is enqueued then.
        """
        settings, request = info.settings, call.request
        if request.size > settings.max_post_size:
            raise InvalidInput(
                f"The request is {request.size} bytes long, at most {settings.max_post_size} are allowed for this queue"
            )
        if settings.bridging is not None:
            if settings.bridging.target is None:
                raise Forbidden(f"Queue {info.name} is bridged for reading only; its _bridge has no target")
            self._to_target(info, settings.bridging, settings.bridging.target, call)
            return True
        times = self._times(settings, request.posts)
        if not exists:  # only what is right creates a queue
            info = self._directory.ensure(info.project, info.name)
            if info.settings != settings:
                return False
        if request.key is not None or settings.fifo:
            self._begin(info, call, [ttl for ttl, _ in times])
        elif not call.ids:
            call.ids = self._ids.make(info.pool.store.now(), len(times))
        direct, delayed = self._messages(info, call, times)
        self._enqueue(info, call, direct, delayed)
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

    def _begin(self, info: QueueInfo, call: _Call, ttls: Sequence[int]) -> None:
        """Find out what of the request has been posted before, unless this call has done so already."""
        if call.attempt is None or call.attempt.queue_key != info.key:
            call.attempt = self._once.begin(info, call.request, ttls)
            call.ids = call.attempt.ids

    def _messages(
        self, info: QueueInfo, call: _Call, times: Sequence[tuple[int, int]]
    ) -> tuple[list[Message], list[Message]]:
        """What is to be enqueued: messages for the broker, and delayed ones of an ordinary queue for the side-store."""
        settings, request, attempt = info.settings, call.request, call.attempt
        direct: list[Message] = []
        delayed: list[Message] = []
        now = info.pool.store.now()
        for index in range(len(times)) if attempt is None else attempt.pending:
            id_, post, (ttl, delay) = call.ids[index], request.posts[index], times[index]
            # What is posted again lives as long as if the first request had succeeded.
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

    def _enqueue(self, info: QueueInfo, call: _Call, direct: list[Message], delayed: list[Message]) -> None:
        """Have the messages enqueued, all or none as far as it is in our hands."""
        if call.attempt is not None:
            # Nothing is taken back: another request may have repeated it meanwhile, and was answered 201. So what may
            # be refused comes first, and what is missing after an error comes with the next request.
            if direct:
                self._publish(info, direct)
            if delayed:
                land(info.pool.store, info, delayed)
            call.attempt.confirmed()
            return
        if delayed:
            land(info.pool.store, info, delayed)
        try:
            if direct:
                self._publish(info, direct)
        except BaseException:
            if delayed:
                info.pool.store.landed.delete_unclaimed(info.key, [message.id for message in delayed])
            raise

    @staticmethod
    def _publish(info: QueueInfo, messages: Sequence[Message]) -> None:
        try:
            info.pool.publishing.publish(info, messages)
        except MessageTooLarge as error:
            raise too_large(error) from error

    def _to_target(self, info: QueueInfo, bridging: Bridging, target: Target, call: _Call) -> None:
        """Post to an exchange of others."""
        posts = call.request.posts
        envelopes = self._to_targets.envelopes(info, bridging, posts)
        if call.request.key is not None:
            self._begin(info, call, [self._limits.max_message_ttl] * len(posts))
        elif not call.ids:
            call.ids = self._ids.make(info.pool.store.now(), len(posts))
        if call.attempt is not None and not call.attempt.pending:
            return
        self._to_targets.publish(info, bridging, target, envelopes, call.ids)
        if call.attempt is not None:
            call.attempt.confirmed()
        MESSAGES.labels("posted").inc(len(posts))
