"""What Redis's failures become."""

import pytest
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)

from bridges.errors import (
    BridgeError,
    BridgeUnavailable,
    BrokerBlocked,
    BrokerRefused,
    LimitReached,
    MessageTooLarge,
    QueueMissing,
)
from bridges.redis.refusals import failure, refusal


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), BrokerBlocked, "raise maxmemory"),
        (ResponseError("OOM command not allowed. script: 1, on @user_script:1."), BrokerBlocked, "raise maxmemory"),
        (ResponseError("MISCONF Errors writing to the AOF file: No space left"), BrokerBlocked, "its log says why"),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), BridgeUnavailable, "min-replicas-to-write"),
        (ReadOnlyError("You can't write against a read only replica."), BridgeUnavailable, "name the master"),
        (BusyLoadingError("Redis is loading the dataset in memory"), BridgeUnavailable, "LOADING Redis"),
        (AuthenticationError("invalid username-password pair."), BrokerRefused, "user and password"),
        (AuthenticationError("Authentication required."), BrokerRefused, "user and password"),
        (NoPermissionError("User x has no permissions"), BrokerRefused, "ACL SETUSER <user>"),
        (ResponseError("WRONGTYPE Operation against a key"), BrokerRefused, "key_prefix"),
        (ResponseError("MOVED 1234 127.0.0.1:7001"), BrokerRefused, "Redis Cluster is not supported"),
        (ConnectionError("max number of clients reached"), LimitReached, "maxclients"),
        (ResponseError("DB index is out of range"), BrokerRefused, "number of the database"),
        (ResponseError("Protocol error: invalid bulk length"), MessageTooLarge, ""),
        (ResponseError("unknown command 'XADD'"), BrokerRefused, "unknown command"),
        (ConnectionError("Error 111 connecting to host:1. Connection refused."), BridgeUnavailable, "did not answer"),
        (TimeoutError("Timeout reading from socket"), BridgeUnavailable, "did not answer"),
        (OSError("no route"), BridgeUnavailable, "no route"),
    ],
)
def test_failure_says_what_to_do(error: Exception, kind: type[BridgeError], said: str) -> None:
    became = failure(error)
    assert type(became) is kind
    assert said in str(became)


def test_what_is_no_answer_is_no_refusal() -> None:
    assert refusal(ConnectionError("Connection reset by peer")) is None
    assert refusal(TimeoutError("Timeout reading from socket")) is None


def test_error_of_a_bridge_stays() -> None:
    error = QueueMissing("queue")
    assert failure(error) is error
