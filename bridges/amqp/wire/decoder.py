"""From a message as py-amqp hands it over to an envelope."""

from __future__ import annotations

import amqp

from bridges.amqp.dialects.base import Dialect
from bridges.amqp.wire.frames import UNREADABLE
from bridges.base import Envelope


def decode(delivery: amqp.Message, dialect: Dialect) -> Envelope:
    """The envelope of a message that a broker of this ``dialect`` has delivered."""
    properties = delivery.properties
    headers = properties.get("application_headers", {})
    body = delivery.body
    hidden = dialect.delivery_headers
    return Envelope(
        body=body if isinstance(body, bytes) else body.encode(),  # py-amqp: "" when there was no body frame
        message_id=properties.get("message_id"),
        ttl=dialect.ttl(properties),
        timestamp=_signed(properties.get("timestamp")),
        content_type=properties.get("content_type"),
        content_encoding=properties.get("content_encoding"),
        headers={name: value for name, value in headers.items() if name not in hidden},
        priority=properties.get("priority"),
        correlation_id=properties.get("correlation_id"),
        reply_to=properties.get("reply_to"),
        type=properties.get("type"),
        app_id=properties.get("app_id"),
        redelivered=delivery.delivery_info["redelivered"],
        deliveries=dialect.deliveries(headers),
        exchange=delivery.delivery_info["exchange"],
        routing_key=delivery.delivery_info["routing_key"],
        readable=UNREADABLE not in headers,
    )


def _signed(timestamp: int | None) -> int | None:
    """A time before 1970 is negative, whatever py-amqp says."""
    return timestamp - 2**64 if timestamp is not None and timestamp >= 2**63 else timestamp
