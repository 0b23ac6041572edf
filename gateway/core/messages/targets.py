"""Posting to a bridged queue's target, an exchange of others."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bridges.base import Envelope
from bridges.bridging import Bridging, Target
from bridges.errors import (
    BrokerRefused,
    ExchangeMissing,
    LimitReached,
    MessageTooLarge,
    PropertiesTooLarge,
    QueueFull,
    Unroutable,
)
from gateway.config.limits import MIN_MESSAGE_TTL, Limits
from gateway.core.errors import Busy, InvalidInput
from gateway.core.foreign.properties import native_envelope
from gateway.core.messages.post import Post, check_seconds
from gateway.core.queues.info import QueueInfo

LOG = logging.getLogger(__name__)


class TargetPosting:
    """Publishes to exchanges of others."""

    def __init__(self, limits: Limits):
        self._limits = limits

    def envelopes(self, info: QueueInfo, bridging: Bridging, posts: Sequence[Post]) -> list[Envelope]:
        """Messages for the target, without ids. Raises InvalidInput for what can't be posted there."""
        envelopes = []
        for post in posts:
            if post.ttl is not None:
                check_seconds("ttl", post.ttl, MIN_MESSAGE_TTL, self._limits.max_message_ttl)
            if post.delay:
                raise InvalidInput("A message for a bridge's target can't be delayed")
            if post.group is not None or post.dedup_id is not None:
                raise InvalidInput("A message for a bridge's target can't have a group or a dedup_id")
            try:
                envelopes.append(native_envelope(post.body, post.properties or {}, bridging.oslo, info.project))
            except ValueError as error:
                raise InvalidInput(str(error), "Invalid request body") from error
            envelopes[-1].ttl = post.ttl * 1000 if post.ttl is not None else None
        return envelopes

    @staticmethod
    def publish(
        info: QueueInfo, bridging: Bridging, target: Target, envelopes: Sequence[Envelope], ids: Sequence[str]
    ) -> None:
        """Publish messages in order; they carry their ids to the target.

        Returns when the broker has confirmed all of them. Raises InvalidInput for what can't be posted there, Busy when
        the target does not take it.
        """
        if not bridging.oslo:
            now = info.pool.store.now() // 1000
            for envelope, id_ in zip(envelopes, ids, strict=True):
                envelope.message_id, envelope.timestamp = id_, now
        bridge = info.pool.bridge_at(target.vhost)
        try:
            bridge.publish_to(target.exchange, target.routing_key, envelopes, mandatory=target.mandatory)
        except MessageTooLarge as error:
            raise too_large(error) from error
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


def too_large(error: MessageTooLarge) -> InvalidInput:
    """What the broker finds too large is the client's mistake."""
    LOG.warning("publish: %s", error)
    limit = f", {error.limit} bytes" if error.limit is not None else ""
    enqueued = "those in front of it may have been enqueued" if error.partly else "none was enqueued"
    return InvalidInput(
        f"A message is larger than the message broker takes{limit}; {enqueued}", "Invalid request body"
    )
