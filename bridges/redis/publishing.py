"""The way into Redis: publishes within a deadline, tried twice where that is safe."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from redis.exceptions import AuthenticationError, BusyLoadingError, ExecAbortError, NoScriptError, ResponseError

from bridges.base import Envelope
from bridges.errors import BridgeUnavailable, OutcomeUnknown, QueueMissing
from bridges.redis.copies import confirmed, publishing, set_of, with_source
from bridges.redis.entries import fields_of
from bridges.redis.link import FAILURES, Command
from bridges.redis.pool import Pool
from bridges.redis.refusals import failure, refusal, translated
from bridges.redis.scripts import GROUP, TRIM
from bridges.redis.sizes import Sizes

#: Share of the timeout that the first try to publish gets; a second one with the same message ids has the rest.
FIRST_TRY = 0.5

#: Shares of the timeout that must be left for a publish to begin, and for a second try.
LEAST_LEFT, SECOND_TRY = 0.1, 0.25

#: Seconds between two removals of expired messages from the head of a queue, how many are removed in one go from it
#: and from all its copies together, and how many queues are remembered for that.
TRIM_EVERY, TRIMMED, TRIMMED_IN_ALL, QUEUES_REMEMBERED = 10.0, 100, 1_000, 10_000


class TooFewReplicas(OutcomeUnknown):
    """Redis has the messages, and fewer replicas than wanted have confirmed them: to send them again would not help."""


class Publishing:
    """Publishes on links of ``pool``. Thread-safe.

    ``timeout``: seconds that one call may take; ``replicas``: number of replicas that must confirm.
    """

    def __init__(self, pool: Pool, timeout: float, replicas: int):
        self._pool = pool
        self._timeout = timeout
        self._replicas = replicas
        self._sizes = Sizes(self._largest_bulk)
        self._trimmed: OrderedDict[str, float] = OrderedDict()

    def publish(
        self, queue: str, key: str, envelopes: Sequence[Envelope], copied: bool = False, kept: bool = True
    ) -> None:
        """As Bridge.publish, or unless ``kept`` as Bridge.publish_copies. ``key``: the queue's stream."""
        deadline = time.monotonic() + self._timeout
        self._sizes.check(envelopes)
        commands = [publishing(key, envelopes, kept)] if copied else _additions(key, envelopes)
        try:
            self._send(queue, key, commands, copied, deadline, FIRST_TRY)
        except TooFewReplicas:
            raise
        except OutcomeUnknown as unknown:
            if deadline - time.monotonic() < self._timeout * SECOND_TRY:
                raise
            # The same message ids: what arrives twice lands once.
            try:
                self._send(queue, key, commands, copied, deadline)
            except BridgeUnavailable as error:
                raise unknown from error

    def _send(
        self, queue: str, key: str, commands: list[Command], copied: bool, deadline: float, share: float = 1.0
    ) -> None:
        """Publish, and wait for a ``share`` of the timeout, till ``deadline`` (monotonic seconds).

        Raises OutcomeUnknown only when it has sent something.
        """
        latest = deadline - self._timeout * LEAST_LEFT
        with translated():
            link = self._pool.take(latest)
        now = time.monotonic()
        if now > latest:
            self._pool.put(link)
            raise BridgeUnavailable("no connection to Redis was free in time; nothing was sent")
        link.until = min(deadline, now + self._timeout * share)
        try:
            replies = link.call(*commands, *self._trimming(key, copied, now))[:len(commands)]
            if isinstance(replies[0], NoScriptError):  # nothing was done: Redis forgets scripts when it restarts
                replies = link.call(with_source(commands[0]))
            refused = _refused(replies)
            replicas = None
            if refused is None and self._replicas and not _is_missing(replies):
                replicas = confirmed(link, self._replicas)
        except (AuthenticationError, BusyLoadingError) as error:  # said instead of doing anything
            self._pool.drop(link)
            raise failure(error) from error
        except FAILURES as error:
            self._pool.drop(link)
            told = refusal(error)
            raise told or OutcomeUnknown(f"the connection to Redis broke before it confirmed: {error}") from error
        except BaseException:
            self._pool.drop(link)
            raise
        if refused is not None:
            self._pool.refused(link, refused)
            raise failure(refused) from refused
        self._pool.put(link)
        if _is_missing(replies):
            raise QueueMissing(queue)
        if replicas is not None and replicas < self._replicas:
            raise TooFewReplicas(f"{replicas} replicas of Redis have confirmed in time, {self._replicas} are wanted")

    def _trimming(self, key: str, copied: bool, now: float) -> list[Command]:
        """What is to be sent along so that expired messages that nobody reads don't fill Redis's memory."""
        if now - self._trimmed.get(key, 0.0) < TRIM_EVERY:
            return []
        self._trimmed[key] = now
        if len(self._trimmed) > QUEUES_REMEMBERED:
            self._trimmed.popitem(last=False)
        keys = (key, set_of(key)) if copied else (key,)
        return [("EVAL", TRIM.source, len(keys), *keys, GROUP, TRIMMED, TRIMMED_IN_ALL)]

    def _largest_bulk(self) -> int | None:
        with translated():
            try:
                with self._pool.lent(time.monotonic() + self._timeout) as link:
                    found = link.ask("CONFIG", "GET", "proto-max-bulk-len")
            except ResponseError:  # the user may not ask, or the operator has taken the command away
                return None
        return int(found[1]) if found else None


def _additions(key: str, envelopes: Sequence[Envelope]) -> list[Command]:
    """The commands that put messages into a stream, all of them or none."""
    commands: list[Command] = [("XADD", key, "NOMKSTREAM", "*", *fields_of(envelope)) for envelope in envelopes]
    return commands if len(commands) == 1 else [("MULTI",), *commands, ("EXEC",)]


def _refused(replies: Sequence[Any]) -> ResponseError | None:
    """The error among replies to XADD, to MULTI, XADDs and EXEC, or to a script, that says why nothing was enqueued."""
    inner = replies[-1] if isinstance(replies[-1], list) else ()
    errors = [reply for reply in (*replies, *inner) if isinstance(reply, ResponseError)]
    return next((error for error in errors if not isinstance(error, ExecAbortError)), errors[0] if errors else None)


def _is_missing(replies: Sequence[Any]) -> bool:
    """Is there no such stream? In a transaction that is so for all messages, as they go to the same one."""
    last = replies[-1]
    return last is None or isinstance(last, list) and None in last
