"""Queue metadata: the reserved keys that act, their checks and defaults, and JSON patches of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from bridges.bridging import KEY, Binding, Bridging
from gateway.config.limits import MIN_MESSAGE_TTL, Limits
from gateway.core.errors import Conflict, InvalidInput
from gateway.core.subscriptions.retry import RetryPolicy

QUEUE_NAME = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9_.-]{1,64}\Z")

#: A JSON pointer (RFC 6901) to a key of the metadata, and no deeper.
PATCH_PATH = re.compile(r"/metadata/(?:[^/~]|~[01])+\Z", re.DOTALL)

NOTHING: Mapping[str, Any] = {}

#: Key of queues whose groups of messages are handed out in order.
FIFO = "_fifo"

#: Keys whose values may have become impossible for new queues since they were checked.
LASTING = frozenset({"_enable_encrypt_messages", "_flavor", "_retry_policy"})

#: Largest value of counts that have no limit of their own: a signed 32-bit integer.
MAX_COUNT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Settings:
    """A queue's reserved metadata, resolved: what acts. Times in seconds, sizes in bytes.

    ``unusable``: why the queue can't be used, such as that it was bridged when the service had another bridge.
    ``fifo``: messages of a group are handed out in the order of their posts, to one claim at a time.
    """

    default_ttl: int
    default_delay: int
    max_post_size: int
    max_claim_count: int | None
    dead_letter_queue: str | None
    dead_letter_ttl: int | None
    encrypt: bool
    bridging: Bridging | None = None
    unusable: str | None = None
    fifo: bool = False

    @property
    def binding(self) -> Binding | None:
        """What binds it to an exchange of others, if anything does."""
        source = self.bridging.source if self.bridging else None
        return source.binding if source else None


class MetadataRules:
    """Checks and defaults that follow from the operator's limits.

    ``can_encrypt``: is there a key. ``parse_bridging``: see Pool.parse_bridging. ``has_flavor``: is there a flavor of
    that name.
    """

    def __init__(
        self, limits: Limits, can_encrypt: bool, parse_bridging: Callable[[Any], Bridging],
        has_flavor: Callable[[str], bool] = lambda name: False,
    ):
        self._has_flavor = has_flavor
        self._limits = limits
        self._can_encrypt = can_encrypt
        self._parse_bridging = parse_bridging
        self._defaults: dict[str, Any] = {
            "_max_messages_post_size": limits.max_messages_post_size,
            "_default_message_ttl": limits.default_message_ttl,
            "_default_message_delay": limits.default_message_delay,
            "_dead_letter_queue": None,
            "_dead_letter_queue_messages_ttl": None,
            "_max_claim_count": None,
            "_enable_encrypt_messages": False,
            FIFO: False,
        }
        self._checks: dict[str, Callable[[Any], object]] = {
            "_max_messages_post_size": _integer(1, limits.max_messages_post_size),
            "_default_message_ttl": _integer(MIN_MESSAGE_TTL, limits.max_message_ttl),
            "_default_message_delay": _integer(0, limits.max_message_delay),
            "_dead_letter_queue": _queue_name,
            "_dead_letter_queue_messages_ttl": _integer(MIN_MESSAGE_TTL, limits.max_message_ttl),
            "_max_claim_count": _integer(1, MAX_COUNT),
            "_enable_encrypt_messages": self._check_encryption,
            "_flavor": self._check_flavor,
            "_retry_policy": RetryPolicy.parse,
            FIFO: _boolean,
            KEY: parse_bridging,
        }

    def on(self, parse_bridging: Callable[[Any], Bridging]) -> MetadataRules:
        """The rules for queues in another pool."""
        return MetadataRules(self._limits, self._can_encrypt, parse_bridging, self._has_flavor)

    def check(self, metadata: Mapping[str, Any], had: Mapping[str, Any] = NOTHING) -> dict[str, Any]:
        """The metadata to store: reserved keys checked, those that are null left to their default.

        ``had``: what the queue has now. Of that, some is not checked again: a gateway without a key may change the rest
        of the metadata of a queue that encrypts, and anybody that of a queue whose flavor has been deleted.
        """
        kept = {}
        for key, value in metadata.items():
            check = self._checks.get(key)
            if check is not None and value is None:
                continue
            if check is not None and not (key in LASTING and _is_same(had.get(key), value)):
                try:
                    check(value)
                except ValueError as error:
                    raise InvalidInput(f"Metadata {key}: {error}", "Invalid metadata") from error
            kept[key] = value
        bridging = self._parse_bridging(kept[KEY]) if KEY in kept else None
        if bridging is not None and kept.get(FIFO):
            _check_order(bridging)
        if bridging is not None and bridging.target is not None:
            for key in ("_enable_encrypt_messages", "_default_message_delay"):
                if kept.get(key):
                    raise InvalidInput(f"Metadata {key}: does not go with a bridge's target", "Invalid metadata")
        try:
            # Four levels deeper than it is: a page of queues must have room around it.
            size = len(orjson.dumps([[[[kept]]]])) - 8
        except TypeError as error:
            raise InvalidInput("Metadata is nested too deeply", "Invalid metadata") from error
        if size > self._limits.max_queue_metadata:
            raise InvalidInput(
                f"Metadata is too large: {size} bytes, at most {self._limits.max_queue_metadata} are allowed",
                "Invalid metadata",
            )
        return kept

    def show(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """The metadata as clients see it, with the reserved keys filled in."""
        return {**self._defaults, **metadata}

    def resolve(self, metadata: Mapping[str, Any]) -> Settings:
        """What acts."""
        full = self.show(metadata)
        bridging, unusable = None, None
        if full.get(KEY) is not None:
            try:
                bridging = self._parse_bridging(full[KEY])
            except ValueError as error:  # it was checked when it was stored, perhaps with another bridge
                unusable = f"it is bridged, {KEY}: {error}"
        return Settings(
            default_ttl=full["_default_message_ttl"],
            default_delay=full["_default_message_delay"],
            max_post_size=min(full["_max_messages_post_size"], self._limits.max_messages_post_size),
            max_claim_count=full["_max_claim_count"],
            dead_letter_queue=full["_dead_letter_queue"],
            dead_letter_ttl=full["_dead_letter_queue_messages_ttl"],
            encrypt=full["_enable_encrypt_messages"],
            fifo=full[FIFO] is True,
            bridging=bridging,
            unusable=unusable,
        )

    def patch(self, metadata: Mapping[str, Any], operations: Any) -> dict[str, Any]:
        """The metadata after a list of add, remove and replace operations on ``/metadata/<key>``."""
        if not isinstance(operations, list) or not operations:
            raise InvalidInput("A patch is a list of operations and not empty", "Invalid metadata")
        patched = dict(metadata)
        for operation in operations:
            op, key = _operation(operation)
            there = key in patched or key in self._defaults
            if op != "add" and not there:
                raise Conflict(f"Can't {op} {key!r}: the metadata has no such key")
            if op == "remove":
                patched.pop(key, None)  # a reserved key falls back to its default
            elif "value" not in operation:
                raise InvalidInput(f"Operation {op!r} needs a member 'value'", "Invalid metadata")
            else:
                patched[key] = operation["value"]
        return self.check(patched, metadata)

    def _check_flavor(self, value: Any) -> None:
        if not isinstance(value, str):
            raise ValueError("must be the name of a flavor")
        if not self._has_flavor(value):
            raise ValueError(f"there is no flavor {value!r}")

    def _check_encryption(self, value: Any) -> None:
        _boolean(value)
        if value and not self._can_encrypt:
            raise ValueError("this service has no encryption key; ask its operator to set [encryption] key")


def _is_same(one: Any, other: Any) -> bool:
    """Are two JSON values the same? Unlike Python's, true is not 1."""
    return type(one) is type(other) and bool(one == other)


def _operation(operation: Any) -> tuple[str, str]:
    """``(op, key)`` of one operation of a patch (RFC 6902; the path is a JSON pointer, RFC 6901)."""
    if not isinstance(operation, dict):
        raise InvalidInput("Operations must be JSON objects", "Invalid metadata")
    op, path = operation.get("op"), operation.get("path")
    if op not in ("add", "remove", "replace"):
        raise InvalidInput(f"Operation {op!r} is not one of add, remove, replace", "Invalid metadata")
    if not isinstance(path, str) or not PATCH_PATH.match(path):
        raise InvalidInput(f"Path {path!r} is not of the form /metadata/<key>", "Invalid metadata")
    return op, path.removeprefix("/metadata/").replace("~1", "/").replace("~0", "~")


def _integer(lowest: int, highest: int) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise ValueError(f"must be an integer from {lowest} to {highest}")

    return check


def _boolean(value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")


def _check_order(bridging: Bridging) -> None:
    """Raises InvalidInput for what a queue that keeps groups in order can't be bridged to."""
    if bridging.source is not None and bridging.source.queue is not None:
        raise InvalidInput(
            f"Metadata {FIFO}: does not go with {KEY}.source.queue, as others may take messages of that queue out of"
            " order", "Invalid metadata",
        )
    if bridging.source is None:
        raise InvalidInput(
            f"Metadata {FIFO}: does not go with a {KEY} that has a target alone, as nothing is read from this queue",
            "Invalid metadata",
        )


def _queue_name(value: Any) -> None:
    if not isinstance(value, str) or not QUEUE_NAME.match(value):
        raise ValueError("must be the name of a queue: 1 to 64 characters of A-Z a-z 0-9 _ - .")
