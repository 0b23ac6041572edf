"""A subscription as the catalogue keeps it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.core.queues.names import client_project, delivery_name, is_topic_project
from gateway.core.seal import NotUnsealed, Seal
from gateway.core.subscriptions.options import CLOUDEVENTS
from storage.model import DEFAULT_POOL, Record

#: States of a subscription. ``failing`` is none of them: it is what the attempts of an active one look like.
UNCONFIRMED, ACTIVE, PAUSED, DISABLED, UNSUBSCRIBED = "unconfirmed", "active", "paused", "disabled", "unsubscribed"

#: How far a subscription has come on its way to the pool that its queue moves to. LETTING_GO: those who deliver are to
#: let go of it. LET_GO: nobody has anything of it, and nobody begins to. LANDING: it is served at the new pool, from
#: the side-store; what is left on the old broker lands there, and what the new broker has comes after that.
LETTING_GO, LET_GO, LANDING = "letting_go", "let_go", "landing"

#: Scheme of subscribers that are queues of the same project.
FAN_OUT = "marconi"

#: Types of what is delivered besides notifications: the value of ``Message_Type`` in the properties and in the body.
CONFIRMATION, UNSUBSCRIPTION = "SubscriptionConfirmation", "UnsubscribeConfirmation"

#: Type of the request by which CloudEvents have a receiver agree, see gateway.notify.handshake.
HANDSHAKE = "CloudEventsHandshake"


@dataclass(frozen=True, slots=True)
class Secret:
    """What deliveries are signed with: ``whsec_`` and base64. ``until``: when it ends (ms), 0 for never."""

    text: str = field(repr=False)
    until: int = 0


@dataclass(frozen=True, slots=True)
class Subscription:
    """Somebody who is told of each message of a queue, the ``source``.

    ``ttl`` is in seconds; ``created``, ``expires``, ``since`` and ``asked`` are in milliseconds. ``since``: when the
    state was reached, for the ``reason``. ``asked``: when the last request to confirm is due. ``confirmed`` is what
    clients see; whether anything is delivered is up to the state. ``bound``: what is posted goes into the delivery
    queue. That is in ``pool``, also after the source was deleted, and on its broker in the virtual host ``vhost``, None
    for the gateway's own. ``moving``: empty unless it is on its way to another pool. ``secrets``: the newest first.
    ``locked``: the secrets as they are stored, when this gateway lacks the key to them; nothing can be signed then.
    ``holder``: of a connection's subscription, the process that has the connection (see connections.py), else empty.
    ``allowed_rate``: messages per minute that the receiver allows by handshake, 0 for any number. ``version``: of the
    record, 0 for a new one.

    A subscription that is deleted has expired; its record is there until what belongs to it has been removed.
    """

    project: str
    source: str
    id: str
    subscriber: str
    ttl: int
    options: dict[str, Any]
    created: int
    expires: int
    confirmed: bool = False
    state: str = UNCONFIRMED
    reason: str = ""
    since: int = 0
    secrets: tuple[Secret, ...] = ()
    pool: str = DEFAULT_POOL
    vhost: str | None = None
    bound: bool = False
    asked: int = 0
    allowed_rate: int = 0
    moving: str = ""
    holder: str = ""
    locked: dict[str, str] | None = field(default=None, repr=False)
    version: int = 0

    @property
    def name(self) -> str:
        """Name of the record: ``<project>/<queue>/<id>``."""
        return subscription_name(self.project, self.source, self.id)

    @property
    def client_project(self) -> str:
        """The client's project: ``project`` is another one if the source is a topic."""
        return client_project(self.project)

    @property
    def source_path(self) -> str:
        """The source's path, without what a proxy has put before it."""
        return f"/v2/{'topics' if is_topic_project(self.project) else 'queues'}/{self.source}"

    @property
    def key(self) -> str:
        """What waits for a retry is kept under this key of the landed store; without a broker, all that waits."""
        return f"{self.project}/{self.source}/~{self.id}"

    @property
    def dead_key(self) -> str:
        """The key of what can't be delivered."""
        return f"{self.key}/dead"

    @property
    def copy(self) -> str:
        """Name of the delivery queue on the broker."""
        return delivery_name(self.project, self.source, self.id)

    @property
    def scheme(self) -> str:
        """Scheme of the subscriber's URI, in small letters."""
        return self.subscriber.partition(":")[0].lower()

    @property
    def target(self) -> str:
        """The queue of the same project that gets the messages themselves; empty for all other subscribers."""
        return self.subscriber.partition(":")[2] if is_queue(self.subscriber) else ""

    @property
    def place(self) -> tuple[str, str | None]:
        """Where the delivery queue is: the pool, and the virtual host of its broker."""
        return self.pool, self.vhost

    @property
    def is_let_go(self) -> bool:
        """Must nobody deliver anything, as it is on its way to another pool?"""
        return self.moving in (LETTING_GO, LET_GO)

    @property
    def is_fed(self) -> bool:
        """Is what the broker has for it next? Before that comes what is left in another pool."""
        return self.bound and not self.moving

    @property
    def delivers(self) -> bool:
        """Do notifications go out, as far as the state says?"""
        return self.state == ACTIVE

    @property
    def asks(self) -> bool:
        """Do requests to confirm go out, those about its end included? Otherwise they are dropped."""
        return not self.confirmed and self.state in (UNCONFIRMED, ACTIVE, UNSUBSCRIBED)

    @property
    def shakes_hands(self) -> bool:
        """Is the receiver asked by the handshake of CloudEvents, in place of a request to confirm?"""
        return bool(self.options.get("_confirmation") == CLOUDEVENTS)

    def may_ask(self, kind: str) -> bool:
        """Does a request of this type go out? A handshake has no other end than consent."""
        if kind == HANDSHAKE:
            return self.asks and self.shakes_hands and self.state != UNSUBSCRIBED
        return self.asks

    def has_expired(self, now: int) -> bool:
        """Is it over at the time ``now`` (ms)?"""
        return self.expires <= now

    def age(self, now: int) -> int:
        """Seconds since it was created."""
        return max(0, now - self.created) // 1000

    def valid_secrets(self, now: int) -> tuple[Secret, ...]:
        """The secrets that sign at the time ``now`` (ms), the newest first."""
        return tuple(secret for secret in self.secrets if not secret.until or secret.until > now)

    @classmethod
    def read(cls, record: Record, seal: Seal) -> Subscription:
        """From its record."""
        stored = orjson.loads(record.data)
        project, source, id_ = split_subscription(record.name)
        kept, locked = stored.pop("secrets"), None
        if "sealed" in kept:
            try:
                _, opened = seal.unseal(base64.b64decode(kept["sealed"]), _context(record.name), kept["key"])
                kept = orjson.loads(opened)
            except NotUnsealed:
                kept, locked = {"open": []}, kept
        secrets = tuple(Secret(text, until) for text, until in kept["open"])
        return cls(project, source, id_, secrets=secrets, locked=locked, version=record.version, **stored)

    def record(self, seal: Seal) -> bytes:
        """The record's data; secrets are sealed if there is a key."""
        secrets: dict[str, Any] = {"open": [(secret.text, secret.until) for secret in self.secrets]}
        if self.locked is not None and not self.secrets:
            secrets = self.locked
        elif seal.key:
            sealed = seal.seal(orjson.dumps(secrets), _context(self.name))
            secrets = {"key": seal.key, "sealed": base64.b64encode(sealed).decode()}
        stored = {
            name: getattr(self, name) for name in (
                "subscriber", "ttl", "options", "created", "expires", "confirmed", "state", "reason", "since", "pool",
                "vhost", "bound", "asked", "allowed_rate",
            )
        }
        stored |= {name: value for name in ("moving", "holder") if (value := getattr(self, name))}
        return orjson.dumps({**stored, "secrets": secrets})


def is_queue(subscriber: object) -> bool:
    """Is a subscriber a queue of the same project, by its scheme?"""
    return isinstance(subscriber, str) and subscriber.partition(":")[0].lower() == FAN_OUT


def subscription_name(project: str, source: str, id_: str = "") -> str:
    """Name of a subscription's record; without an id, what all of a source begin with."""
    return f"{project}/{source}/{id_}"


def split_subscription(name: str) -> tuple[str, str, str]:
    """Project, source and id of a record's name. A project may have slashes in it."""
    project, source, id_ = name.rsplit("/", 2)
    return project, source, id_


def _context(name: str) -> str:
    """What the secrets are sealed for: they open under this name only."""
    return f"subscription {name}"
