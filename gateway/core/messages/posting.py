"""Posting messages."""

from __future__ import annotations

from collections.abc import Sequence

from bridges.errors import MessageTooLarge, QueueMissing
from gateway.config.limits import MIN_MESSAGE_TTL, Limits
from gateway.core.errors import Busy, Forbidden, InvalidInput
from gateway.core.ids import IdMaker
from gateway.core.messages.post import Post, check_seconds
from gateway.core.messages.targets import TargetPosting, too_large
from gateway.core.publishing import land
from gateway.core.queues.directory import Directory
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.names import titled
from gateway.core.sealing import Sealing
from gateway.observe.metrics import MESSAGES
from storage.errors import QueueGone
from storage.model import Message

#: Times that a post is tried on a queue that others delete, or the broker loses, meanwhile.
POSTS = 20


class Posting:
    """Puts messages into queues."""

    def __init__(self, directory: Directory, limits: Limits, ids: IdMaker, sealing: Sealing):
        self._directory = directory
        self._limits = limits
        self._ids = ids
        self._sealing = sealing
        self._to_targets = TargetPosting(limits)

    def post(self, project: str, name: str, client: str, posts: Sequence[Post], size: int) -> list[str]:
        """Post messages in order; their ids. ``size``: bytes of the whole request. Creates the queue if need be.

        Returns when the broker has confirmed all of them; delayed ones wait in the side-store instead.
        """
        found = self._directory.find(project, name)
        info = found or self._directory.expected(project, name)
        exists = found is not None
        ids = self._ids.make(info.pool.store.now(), len(posts))
        for _ in range(POSTS):
            try:
                if self._try_to_post(info, exists, client, posts, size, ids):
                    return ids
                info = self._directory.ensure(project, name)
            except (QueueMissing, QueueGone):
                # Deleted by another gateway, or lost by the broker, since we last looked.
                info = self._directory.restore(project, name)
            exists = True
        raise Busy(f"{titled(project, name)} is being deleted by others; try again")

    def _try_to_post(
        self, info: QueueInfo, exists: bool, client: str, posts: Sequence[Post], size: int, ids: list[str]
    ) -> bool:
        """Post to a queue; False if it was expected to be a new one, and is there with other metadata.

        Raises QueueMissing or QueueGone when the queue is not there any more; nothing is enqueued then.
        """
        settings = info.settings
        if size > settings.max_post_size:
            raise InvalidInput(
                f"The request is {size} bytes long, at most {settings.max_post_size} are allowed for this queue"
            )
        now = info.pool.store.now()
        if settings.bridging is not None:
            if settings.bridging.target is None:
                raise Forbidden(f"Queue {info.name} is bridged for reading only; its _bridge has no target")
            self._to_targets.post(info, settings.bridging, settings.bridging.target, ids, posts, now)
            return True
        direct: list[Message] = []
        delayed: list[Message] = []
        for id_, post in zip(ids, posts, strict=True):
            ttl = settings.default_ttl if post.ttl is None else post.ttl
            delay = settings.default_delay if post.delay is None else post.delay
            check_seconds("ttl", ttl, MIN_MESSAGE_TTL, self._limits.max_message_ttl)
            check_seconds("delay", delay, 0, self._limits.max_message_delay)
            if post.properties is not None:
                raise InvalidInput("properties are for queues that are bridged to a target")
            message = Message(id_, now, now + ttl * 1000, post.body, client)
            if settings.encrypt:
                self._sealing.seal(info.project, message)
            if delay:
                message.hidden_until = now + delay * 1000
            (delayed if delay else direct).append(message)
        if not exists:  # only what is right creates a queue
            info = self._directory.ensure(info.project, info.name)
            if info.settings != settings:
                return False
        if delayed:
            land(info.pool.store, info, delayed)
        try:
            if direct:
                info.pool.publishing.publish(info, direct)
        except BaseException as error:
            if delayed:  # all or nothing, as far as it is in our hands
                info.pool.store.landed.delete_unclaimed(info.key, [message.id for message in delayed])
            if isinstance(error, MessageTooLarge):
                raise too_large(error) from error
            raise
        MESSAGES.labels("posted").inc(len(posts))
        return True
