"""What a broker's refusals mean, and what its operator or ours has to do about them.

The texts are those of RabbitMQ 3.10 to 4.3 (rabbit_reader, rabbit_channel, rabbit_access_control, rabbit_amqqueue), of
Amazon MQ, and of Qpid Broker-J 10.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from amqp.exceptions import AMQPError

from bridges.errors import BridgeError, BrokerRefused, LimitReached, MessageTooLarge, ObjectLocked

#: Reply codes (AMQP 0-9-1, 1.2) that say no whatever the text: content too large; no access, locked, precondition;
#: what the broker does not understand or allow. The rest is a fault that may pass: 320 connection forced (a shutdown),
#: 404 not found, which callers expect or handle, 504 channel error, 506 resource error, 541 internal error.
REFUSALS = frozenset({311, 402, 403, 405, 406, 501, 502, 503, 505, 530, 540})


@dataclass(frozen=True, slots=True)
class Row:
    """Refusals whose text matches ``pattern`` are of a ``kind``; ``advice`` is empty where there is none that fits."""

    pattern: re.Pattern[str]
    kind: type[BrokerRefused]
    advice: str = ""


def _row(pattern: str, kind: type[BrokerRefused], advice: str = "") -> Row:
    return Row(re.compile(pattern, re.IGNORECASE), kind, advice)


#: The first that matches counts.
TABLE = (
    # Logging in.
    _row(
        r"login (was )?refused.*\bEXTERNAL\b|\bEXTERNAL login refused", BrokerRefused,
        "make a user of the name in the gateway's certificate (the broker's ssl_cert_login_from says which part of it):"
        " rabbitmqctl add_user, then clear_password",
    ),
    _row(
        r"can only connect via localhost", BrokerRefused,
        "make a user for the gateway: rabbitmqctl add_user; guest may not come from other machines",
    ),
    _row(
        r"login (was )?refused|authentication failed", BrokerRefused,
        "correct user and password in [bridge] uri, or make the user: rabbitmqctl add_user",
    ),
    _row(
        r"appropriate auth mechanism", BrokerRefused,
        "the broker does not offer [bridge] login_method; for EXTERNAL enable its plugin rabbitmq_auth_mechanism_ssl,"
        " list EXTERNAL in auth_mechanisms, and have it ask for certificates: ssl_options.verify = verify_peer",
    ),
    # Limits, before the permissions whose words some of their texts have.
    _row(
        r"connection limit( \(.*\) is reached| cannot be queried)|connections? .*has reached", LimitReached,
        "raise the limit (rabbitmqctl set_vhost_limits, set_user_limits, or connection_max), or lower [bridge]"
        " pool_size",
    ),
    _row(
        r"number of channels opened", LimitReached,
        "raise the limit of channels (rabbitmqctl set_user_limits, or channel_max), or lower [bridge] pool_size",
    ),
    _row(
        r"queue limit in (vhost|cluster)", LimitReached,
        "raise the limit: rabbitmqctl set_vhost_limits, or delete queues",
    ),
    _row(r"limit .*is reached|reached (the )?maximum|limit .*exceeded", LimitReached, "raise the broker's limit"),
    # Virtual hosts.
    _row(
        r"vhost .*not found|unknown virtual ?host", BrokerRefused,
        "correct the virtual host, in [bridge] uri or in a queue's _bridge, or make it: rabbitmqctl add_vhost",
    ),
    _row(
        r"access to vhost .*refused", BrokerRefused,
        "let the user into the virtual host: rabbitmqctl set_permissions --vhost",
    ),
    # Permissions.
    _row(
        r"internal exchange", BrokerRefused,
        "bridge the queue to another exchange: only the broker itself publishes to internal ones",
    ),
    _row(
        r"access to topic .*refused", BrokerRefused,
        "give the user the permission for the topic: rabbitmqctl set_topic_permissions",
    ),
    _row(r"access to .*refused for user", BrokerRefused, "give the user the permission: rabbitmqctl set_permissions"),
    _row(
        r"permission .*is denied|access denied|not authori[sz]ed", BrokerRefused,
        "give the user the permission in the broker's access control list",
    ),
    _row(
        r"reserved prefix|operation not permitted on the default exchange|deletion of system", BrokerRefused,
        "the broker keeps this to itself: bridge the queue to something else",
    ),
    # Queues of others.
    _row(
        r"single active consumer", ObjectLocked,
        "let the gateway's user configure the queue, so that it can be read by a consumer",
    ),
    _row(
        r"exclusive|RESOURCE_LOCKED", ObjectLocked,
        "bridge a queue that is not exclusive to a connection or consumer of others",
    ),
    # Queues of ours.
    _row(
        r"queue type|x-queue-type|feature flag|deprecated|not permitted", BrokerRefused,
        "the broker does not make queues of this type: set [bridge] queue_type to one that it does",
    ),
    _row(
        r"inequivalent arg", BrokerRefused,
        "there is one of this name that was made otherwise: delete it, or make it as the gateway would",
    ),
)

#: A queue that is there, but not now: the broker says "not found" of those, too.
_DOWN = re.compile(
    r"down or inaccessible|stopped by supervisor|has crashed|timeout|timed out|no leader|not available", re.IGNORECASE
)

_TOO_LARGE = re.compile(r"message size .*larger than (?:configured )?max size (\d+)|message too large", re.IGNORECASE)


def refusal(error: BaseException) -> BridgeError | None:
    """What it means if the broker has refused something; None for what may pass. kombu may have wrapped the error."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, AMQPError):
        cause = cause.__cause__
    if cause is None:
        return None
    text, code = str(cause), cause.reply_code
    if code == 311 or (code == 406 and _TOO_LARGE.search(text)):
        return too_large(text)
    row = next((row for row in TABLE if row.pattern.search(text)), None)
    if code not in REFUSALS and (row is None or not _while_connecting(text)):
        return None
    if row is None:
        return BrokerRefused(f"the broker refuses: {text}")
    return row.kind(f"the broker refuses: {text}" + (f"; {row.advice}" if row.advice else ""))


def _while_connecting(text: str) -> bool:
    """Said without a reply code, or with that of something missing, when a connection is opened."""
    return bool(re.search(r"auth mechanism|unknown virtual ?host", text, re.IGNORECASE))


def too_large(text: str) -> MessageTooLarge:
    """With the limit, where the broker tells it."""
    found = _TOO_LARGE.search(text)
    limit = int(found[1]) if found and found[1] else None
    return MessageTooLarge(f"the broker refuses: {text}", limit)


def differs(error: BaseException) -> bool:
    """Does "precondition failed" mean that what was to be made is there, and was made otherwise?"""
    return "inequivalent arg" in str(error)


def is_down(error: BaseException) -> bool:
    """Does "not found" mean that the thing is there, but can't be reached now?"""
    return _DOWN.search(str(error)) is not None
