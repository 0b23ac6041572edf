"""What a queue is bridged to: reserved metadata ``_bridge``, which lets a queue stand for AMQP objects of others.

A bridge that can adopt such objects parses it (ForeignBridge.parse_bridging). The gateway has rules on who may use
which of the names in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: The key of a queue's metadata that has it.
KEY = "_bridge"

#: Binding keys of a source: each is a round trip to the broker, about once a second while the queue is used.
MAX_BINDING_KEYS = 100

#: Levels of tables and lists in headers and arguments.
MAX_DEPTH = 16

#: Length of an AMQP short string, in bytes (AMQP 0-9-1, 4.2.5.3).
MAX_NAME = 255

EXCHANGE_TYPES = ("direct", "topic", "fanout", "headers")
FORMATS = ("json", "oslo")


@dataclass(frozen=True, slots=True)
class Binding:
    """How a queue is bound to an exchange of others, of a ``type``: by ``keys``, or for headers by ``arguments``.

    ``declare``: create the exchange, ``durable`` or not, if it is missing.
    """

    exchange: str
    keys: tuple[str, ...]
    arguments: Mapping[str, Any]
    type: str = ""
    declare: bool = False
    durable: bool = False


@dataclass(frozen=True, slots=True)
class Use:
    """One thing that a bridged queue does to an object of others, which a project needs the right to.

    ``right``: ``read``, ``write`` or ``declare``; ``vhost``: None is the bridge's own; ``object``: its kind and name,
    such as ``queue:orders`` or ``exchange:nova``.
    """

    right: str
    vhost: str | None
    object: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where messages come from: an existing ``queue``, or a queue of ours with a ``binding``."""

    vhost: str | None
    queue: str | None
    binding: Binding | None


@dataclass(frozen=True, slots=True)
class Target:
    """Where posts go. ``mandatory``: a post that reaches no queue is refused."""

    vhost: str | None
    exchange: str
    routing_key: str
    mandatory: bool


@dataclass(frozen=True, slots=True)
class Bridging:
    """A ``_bridge``. ``lands``: lists take messages off the broker, as on the gateway's own queues."""

    source: Source | None
    target: Target | None
    properties: bool
    oslo: bool
    lands: bool

    def uses(self) -> Iterator[Use]:
        """What it does to objects of others."""
        source, target = self.source, self.target
        if source is not None and source.binding is None:
            yield Use("read", source.vhost, f"queue:{source.queue}")
        elif source is not None and source.binding is not None:
            exchange = f"exchange:{source.binding.exchange}"
            yield Use("read", source.vhost, exchange)
            if source.binding.declare:
                yield Use("declare", source.vhost, exchange)
        if target is not None:
            name = f"exchange:{target.exchange}" if target.exchange else f"queue:{target.routing_key}"
            yield Use("write", target.vhost, name)


def parse(value: Any) -> Bridging:
    """A ``_bridge`` from its JSON value. Raises ValueError that says what is wrong."""
    _members(value, "it", {"source", "target", "properties", "format", "landing"})
    source = _source(value["source"]) if "source" in value else None
    target = _target(value["target"]) if "target" in value else None
    if source is None and target is None:
        raise ValueError("must have a source or a target, or both")
    kind = value.get("format", "json")
    if kind not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}")
    if "landing" in value and (source is None or source.queue is None):
        raise ValueError("landing needs a source that is a queue")
    landing = _boolean(value, "landing")
    lands = landing or source is None or source.queue is None
    return Bridging(source, target, _boolean(value, "properties"), kind == "oslo", lands)


def _source(value: Any) -> Source:
    _members(
        value, "source", {"queue", "exchange", "type", "binding_keys", "arguments", "vhost", "declare", "durable"}
    )
    vhost = _name(value, "vhost", "source") if "vhost" in value else None
    if ("queue" in value) == ("exchange" in value):
        raise ValueError("source must have either a queue or an exchange")
    if "queue" in value:
        _members(value, "source with a queue", {"queue", "vhost"})
        return Source(vhost, _name(value, "queue", "source"), None)
    exchange, kind = _name(value, "exchange", "source"), value.get("type")
    if kind not in EXCHANGE_TYPES:
        raise ValueError(f"source.type must be one of {', '.join(EXCHANGE_TYPES)}")
    keys, arguments = value.get("binding_keys", []), value.get("arguments", {})
    if not isinstance(keys, list) or any(not is_short(key) for key in keys):
        raise ValueError(f"source.binding_keys must be a list of strings of at most {MAX_NAME} bytes")
    if len(keys) > MAX_BINDING_KEYS:
        raise ValueError(f"source.binding_keys must not be more than {MAX_BINDING_KEYS}")
    if not isinstance(arguments, dict):
        raise ValueError("source.arguments must be an object")
    if bool(keys) != (kind in ("direct", "topic")):
        raise ValueError("source.binding_keys are for exchanges of type direct and topic, which need them")
    if bool(arguments) != (kind == "headers"):
        raise ValueError("source.arguments are for exchanges of type headers, which need them")
    check_table(arguments, "source.arguments")
    declare, durable = _boolean(value, "declare", "source."), _boolean(value, "durable", "source.")
    if "durable" in value and not declare:
        raise ValueError("source.durable is for an exchange that is declared, with source.declare")
    return Source(vhost, None, Binding(exchange, tuple(keys), arguments, kind, declare, durable))


def _target(value: Any) -> Target:
    _members(value, "target", {"exchange", "routing_key", "unroutable", "vhost"})
    if not isinstance(value.get("exchange"), str) or not is_short(value["exchange"]):
        raise ValueError(f"target.exchange must be a name of at most {MAX_NAME} bytes")
    key = value.get("routing_key", "")
    if not is_short(key):
        raise ValueError(f"target.routing_key must be a string of at most {MAX_NAME} bytes")
    if not value["exchange"] and not key:
        raise ValueError("target.routing_key must name a queue for the default exchange")
    unroutable = value.get("unroutable", "reject")
    if unroutable not in ("reject", "accept"):
        raise ValueError("target.unroutable must be reject or accept")
    vhost = _name(value, "vhost", "target") if "vhost" in value else None
    return Target(vhost, value["exchange"], key, unroutable == "reject")


def check_table(value: Mapping[str, Any], what: str, depth: int = MAX_DEPTH) -> None:
    """Raises ValueError for JSON that an AMQP field table can't hold (4.2.5.5), or with more than ``depth`` levels."""
    if not depth:
        raise ValueError(f"{what}: nested too deeply, {MAX_DEPTH} levels are allowed")
    for key, item in value.items():
        if not is_short(key):
            raise ValueError(f"{what}: a name is longer than {MAX_NAME} bytes")
        items = item if isinstance(item, list) else [item]
        for part in items:
            if isinstance(part, dict):
                check_table(part, what, depth - 1)
            elif isinstance(part, list):
                raise ValueError(f"{what}: a list inside of a list is too much")
            elif isinstance(part, int) and not -(2**63) <= part < 2**63:
                raise ValueError(f"{what}: {key} is beyond 64 bits")


def _members(value: Any, what: str, known: set[str]) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be an object")
    if unknown := sorted(set(value) - known):
        raise ValueError(f"{what} has unknown keys: {', '.join(unknown)}")


def is_short(value: Any) -> bool:
    """Does a value fit into an AMQP short string?"""
    return isinstance(value, str) and len(value.encode()) <= MAX_NAME and "\0" not in value


def _name(value: Mapping[str, Any], key: str, where: str) -> str:
    name = value[key]
    if not is_short(name) or not name:
        raise ValueError(f"{where}.{key} must be a name of 1 to {MAX_NAME} bytes")
    return str(name)


def _boolean(value: Mapping[str, Any], key: str, where: str = "") -> bool:
    flag = value.get(key, False)
    if not isinstance(flag, bool):
        raise ValueError(f"{where}{key} must be true or false")
    return flag
