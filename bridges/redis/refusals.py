"""What Redis's failures and refusals become, as errors of a bridge, with what the operator should do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from bridges.errors import (
    BridgeError,
    BridgeUnavailable,
    BrokerBlocked,
    BrokerRefused,
    LimitReached,
    MessageTooLarge,
)
from bridges.redis.link import FAILURES

#: Codes in front of Redis's error texts, where redis-py removes one and makes a class of it. Later ones keep it beside.
CODES: tuple[tuple[type[Exception], str], ...] = (
    (OutOfMemoryError, "OOM"),
    (ReadOnlyError, "READONLY"),
    (NoPermissionError, "NOPERM"),
    (BusyLoadingError, "LOADING"),
    (AuthenticationError, "WRONGPASS"),
)

#: The commands that the gateway's user needs, as ACL SETUSER takes them.
RIGHTS = (
    "+@stream +@scripting +@transaction +@connection +time +exists +set +sadd +srem +smembers +unlink +wait +info"
    " +config|get"
)


@dataclass(frozen=True)
class Row:
    """What a text means."""

    pattern: re.Pattern[str]
    kind: type[BridgeError]
    advice: str


def _row(pattern: str, kind: type[BridgeError], advice: str) -> Row:
    return Row(re.compile(pattern, re.IGNORECASE), kind, advice)


#: The first that matches counts. The texts are those of Redis 7.0 to 8.0 (server.c, acl.c, cluster.c, t_stream.c).
REFUSALS = (
    _row(r"^OOM\b", BrokerBlocked, "raise maxmemory in Redis, or read from the queues that are full"),
    _row(r"^MISCONF\b", BrokerBlocked, "Redis can't write to its disk; its log says why"),
    _row(r"^NOREPLICAS\b", BridgeUnavailable, "start the replicas, or lower min-replicas-to-write in Redis"),
    _row(r"^READONLY\b", BridgeUnavailable, "it is a replica, or has become one; name the master, or its Sentinels"),
    _row(r"^(LOADING|MASTERDOWN|BUSY|TRYAGAIN|UNBLOCKED)\b", BridgeUnavailable, ""),
    _row(
        r"^(WRONGPASS|NOAUTH)\b|password is set|invalid (username|password)|wrong number of arguments for 'auth'",
        BrokerRefused, "correct user and password in [bridge] uri, or make the user in Redis: ACL SETUSER",
    ),
    _row(
        r"^NOPERM\b", BrokerRefused,
        f"give the user the keys that begin with [bridge] key_prefix, and the commands: ACL SETUSER <user> ~<prefix>*"
        f" {RIGHTS}",
    ),
    _row(r"^WRONGTYPE\b", BrokerRefused, "the key is somebody else's; choose another [bridge] key_prefix"),
    _row(r"^(MOVED|ASK|CLUSTERDOWN|CROSSSLOT)\b", BrokerRefused, "Redis Cluster is not supported"),
    _row(r"max number of clients", LimitReached, "raise maxclients in Redis, or lower [bridge] pool_size"),
    _row(r"DB index|SELECT is not allowed", BrokerRefused, "correct the number of the database in [bridge] uri"),
    _row(
        r"EOF occurred in violation of protocol|alert certificate required", BridgeUnavailable,
        "does Redis take the gateway's certificate? [bridge] tls_cert_file",
    ),
    _row(r"invalid bulk length|elements are too large", MessageTooLarge, ""),
)


def text_of(error: BaseException) -> str:
    """What Redis has said, with its code in front."""
    code = getattr(error, "status_code", None) or next((code for kind, code in CODES if isinstance(error, kind)), "")
    text = str(error)
    return text if text.startswith(code) else f"{code} {text}"


def refusal(error: BaseException) -> BridgeError | None:
    """What it means if Redis has refused something; None for what is no answer of Redis."""
    text = text_of(error)
    row = next((row for row in REFUSALS if row.pattern.search(text)), None)
    if row is not None:
        return row.kind(f"Redis refuses: {text}" + (f"; {row.advice}" if row.advice else ""))
    return BrokerRefused(f"Redis refuses: {text}") if isinstance(error, ResponseError) else None


def is_of_server(error: ResponseError) -> bool:
    """Does a refusal mean that other connections to the same server are of no use either?"""
    return isinstance(error, ReadOnlyError) or text_of(error).startswith(("MASTERDOWN", "NOAUTH"))


class translated:
    """Turn what a link raises into errors of a bridge. A class, since a generator costs more in each call."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, FAILURES):
            raise failure(error) from error


def failure(error: BaseException) -> BridgeError:
    """What a link has raised, as an error of a bridge; one that is such an error already stays."""
    if isinstance(error, BridgeError):
        return error
    return refusal(error) or BridgeUnavailable(f"Redis failed or did not answer: {error}")
