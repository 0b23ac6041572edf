"""What somebody else's queue is, where the broker can't say it now."""

from types import SimpleNamespace
from typing import Any

import pytest
from amqp.exceptions import AMQPError, NotFound, PreconditionFailed, error_for_code

from bridges.amqp import queues
from bridges.amqp.dialects import DIALECTS, UNKNOWN
from bridges.amqp.dialects.base import Dialect
from bridges.amqp.fetcher import Fetcher
from bridges.errors import QueueMissing, SourceUnreadable

ABSENT = "NOT_FOUND - no queue 'q' in vhost '/'"
LOCKED = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'"
DOWN = "NOT_FOUND - home node 'n' of durable queue 'q' in vhost '/' is down or inaccessible"


NAMED = {"rabbitmq": DIALECTS["RabbitMQ"], "unknown": UNKNOWN}


def fetcher_that_is_told(code: int, text: str, dialect: Dialect = UNKNOWN) -> Any:
    """A fetcher of which every declaration is refused."""
    def refuse(*_: Any, **__: Any) -> None:
        error: AMQPError = error_for_code(code, text, (50, 10), AMQPError)
        raise error

    fetcher = Fetcher.__new__(Fetcher)
    fetcher.dialect = dialect
    fetcher.channel = SimpleNamespace(queue_declare=refuse, exchange_declare=refuse)  # type: ignore[assignment]
    return fetcher


@pytest.mark.parametrize("dialect", NAMED.values(), ids=NAMED)
def test_queue_that_is_down_is_not_missing(dialect: Dialect) -> None:
    with pytest.raises(QueueMissing):
        dialect.may_consume(fetcher_that_is_told(404, ABSENT, dialect), "q")
    with pytest.raises(NotFound, match="down or inaccessible"):
        dialect.may_consume(fetcher_that_is_told(404, DOWN, dialect), "q")


@pytest.mark.parametrize("dialect", NAMED.values(), ids=NAMED)
def test_queue_of_another_connection_alone_is_unreadable(dialect: Dialect) -> None:
    with pytest.raises(SourceUnreadable, match="another connection"):
        dialect.may_consume(fetcher_that_is_told(405, LOCKED, dialect), "q")


def test_exchange_beyond_a_limit_is_not_taken_for_one_that_is_there() -> None:
    queues.declare_exchange(fetcher_that_is_told(
        406, "PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'x' in vhost '/': received 'true' but"
        " current is 'false'"
    ), "x", "topic", True)
    with pytest.raises(PreconditionFailed, match="limit"):
        queues.declare_exchange(fetcher_that_is_told(
            406, "PRECONDITION_FAILED - cannot declare exchange 'x': exchange limit in cluster (1) is reached"
        ), "x", "topic", True)
