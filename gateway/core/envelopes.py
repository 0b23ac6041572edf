"""Messages as the broker holds them: Message to Envelope and back, and the headers that gateways set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridges.base import Envelope
from gateway.core.foreign.bodies import to_json
from gateway.core.foreign.oslo import unwrap
from gateway.core.foreign.properties import properties
from gateway.core.ids import IdMaker, made_at, usable
from gateway.core.poison import LARGEST, check_size
from gateway.core.queues.info import QueueInfo
from gateway.core.seal import CIPHER, KEY_ID
from gateway.core.sealing import Sealing
from storage.model import Message

#: AMQP header with the Client-ID of the poster, for echo.
CLIENT_HEADER = "marconi-client"

#: AMQP header that names the cipher of a sealed body.
CIPHER_HEADER = "marconi-cipher"

#: AMQP header with the id of the key that a body is sealed with. Messages of earlier versions have none.
KEY_HEADER = "marconi-cipher-key"

#: AMQP header with the group of a message. It is JMS's name for that, which native producers know.
GROUP_HEADER = "JMSXGroupID"

#: AMQP header with what a poster tells repetitions of a message by.
DEDUP_HEADER = "marconi-dedup-id"

#: AMQP header with the time (ms) until which a message is delayed. In FIFO queues such a message waits its turn in the
#: broker: in the side-store it would be in front of those that were posted before it.
HIDDEN_HEADER = "marconi-hidden-until"

#: AMQP header of what is no message: it only shows that what was in front of it has been taken out of the broker.
FENCE_HEADER = "marconi-fence"

#: Most characters of a group and of a dedup id.
LONGEST_LABEL = 128

#: Latest expiry that a message can have, ms: the year 9999, which dates in databases can still hold.
LATEST = 253_370_764_800_000


def envelope_of(message: Message) -> Envelope:
    """A message on its way into the broker."""
    headers: dict[str, Any] = {CLIENT_HEADER: message.client}
    content_type = "application/json"
    if message.encrypted:
        headers[CIPHER_HEADER] = CIPHER
        key = message.key.partition("?")[0]
        if key:
            headers[KEY_HEADER] = key
        content_type = "application/octet-stream"
    if message.group:
        headers[GROUP_HEADER] = message.group
    if message.dedup_id:
        headers[DEDUP_HEADER] = message.dedup_id
    if message.hidden_until:
        headers[HIDDEN_HEADER] = message.hidden_until
    return Envelope(
        body=message.body,
        message_id=message.id,
        ttl=message.expires - message.posted,
        timestamp=message.posted // 1000,
        content_type=content_type,
        headers=headers,
    )


def is_ours(info: QueueInfo, envelope: Envelope) -> bool:
    """Has a gateway posted this message? On bridged queues a header of ours says nothing: it may be anybody's."""
    return info.settings.bridging is None and CLIENT_HEADER in envelope.headers


def fence(name: str, ttl: int) -> Envelope:
    """What shows that all that was published before it has been taken out. It lives ``ttl`` milliseconds."""
    return Envelope(b"null", name, ttl, headers={CLIENT_HEADER: "", FENCE_HEADER: name})


def is_fence(envelope: Envelope) -> bool:
    """Is it no message?"""
    return FENCE_HEADER in envelope.headers


def is_label(text: object) -> bool:
    """Can this be the group or the dedup id of a message: 1 to 128 printable characters?"""
    return isinstance(text, str) and 0 < len(text) <= LONGEST_LABEL and text.isprintable()


def hidden_until(info: QueueInfo, envelope: Envelope, now: int) -> int:
    """Until when a message of ours is delayed (ms since the epoch); 0 if it is not at the time ``now``."""
    until = envelope.headers.get(HIDDEN_HEADER) if is_ours(info, envelope) else None
    return until if isinstance(until, int) and not isinstance(until, bool) and now < until < LATEST else 0


class EnvelopeReader:
    """Makes messages of what comes out of the broker.

    ``max_body``: largest body of a native message, in bytes.
    """

    def __init__(self, ids: IdMaker, max_body: int, sealing: Sealing):
        self._ids = ids
        self._max_body = max_body
        self._sealing = sealing

    def message(self, info: QueueInfo, envelope: Envelope, now: int) -> Message:
        """The message to land for what came out of the broker. ``now``: ms since the epoch. Raises Poison."""
        bridging = info.settings.bridging
        client = envelope.headers[CLIENT_HEADER] if is_ours(info, envelope) else None
        ttl = info.settings.default_ttl * 1000 if envelope.ttl is None else envelope.ttl
        id_ = usable(envelope.message_id) if envelope.message_id else self._ids.make(now)[0]
        made = made_at(id_) if client is not None else None
        if made is not None:
            posted = min(made, now)  # a native producer may have spoken in our name, of a day to come
            expires = posted + ttl
        else:
            # A native producer's clock is unknown and its timestamp optional: the ttl runs from the landing.
            posted, expires = now, now + ttl
        sealed = bridging is None and _is_sealed(envelope)
        # What a gateway has posted it has checked then, by limits that are not those of native messages.
        body = envelope.body if sealed else to_json(envelope, LARGEST if client is not None else self._max_body)
        message = Message(
            id=id_,
            posted=posted,
            expires=min(expires, LATEST),
            body=unwrap(body) if bridging and bridging.oslo else body,
            client=client if isinstance(client, str) else "",
            encrypted=sealed,
            properties=properties(envelope) if bridging and bridging.properties else None,
            key=self._sealing.key_of(info.project, id_, envelope.body, _key_named_by(envelope)) if sealed else "",
            hidden_until=hidden_until(info, envelope, now),
        )
        if info.settings.fifo:
            message.group = _label(envelope, GROUP_HEADER)
            message.dedup_id = _label(envelope, DEDUP_HEADER)
        check_size(message)
        return message

    def can_take(self, info: QueueInfo, envelopes: Sequence[Envelope]) -> bool:
        """May all of these messages be taken at once? Not those that may be delayed, or can't be unsealed here."""
        for envelope in envelopes:
            if HIDDEN_HEADER in envelope.headers:
                return False
            if envelope.headers.get(CIPHER_HEADER) == CIPHER and info.settings.bridging is None:
                if envelope.message_id is None:
                    return False
                id_ = usable(envelope.message_id)
                if not self._sealing.can_unseal(info.project, id_, envelope.body, _key_named_by(envelope)):
                    return False
        return True


def _label(envelope: Envelope, header: str) -> str:
    """The group or dedup id in a header; empty if there is none, or it is not what one may be."""
    label = envelope.headers.get(header)
    return label if isinstance(label, str) and is_label(label) else ""


def _is_sealed(envelope: Envelope) -> bool:
    """Does a message of a queue of ours say that its body is sealed?"""
    return envelope.headers.get(CIPHER_HEADER) == CIPHER


def _key_named_by(envelope: Envelope) -> str:
    """The id of the key that a message names; empty if it names none."""
    key = envelope.headers.get(KEY_HEADER)
    return key if isinstance(key, str) and KEY_ID.match(key) else ""
