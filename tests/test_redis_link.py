"""Commands on their way to Redis."""

import pytest
from redis.connection import Connection

from bridges.redis.link import Command, packed


@pytest.mark.parametrize(
    "commands",
    [
        [("PING",)],
        [("MULTI",), ("XADD", "key", "NOMKSTREAM", "*", "body", b"\xff\r\n\x00", "ttl", 5, "empty", ""), ("EXEC",)],
        [("SET", "gr\u00fc\u00dfe", bytes(100_000))] * 2,
    ],
)
def test_commands_are_packed_as_redis_py_does_it(commands: list[Command]) -> None:
    assert packed(commands) == b"".join(Connection().pack_commands(commands))
