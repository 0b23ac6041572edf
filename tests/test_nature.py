"""What somebody else's queue is, where the broker can't say it now."""

from types import SimpleNamespace
from typing import Any

import pytest
from amqp.exceptions import AMQPError, NotFound, PreconditionFailed, error_for_code

from bridges.amqp.link import Link
from bridges.amqp.nature import may_consume
from bridges.errors import QueueMissing

ABSENT = "NOT_FOUND - no queue 'q' in vhost '/'"
DOWN = "NOT_FOUND - home node 'n' of durable queue 'q' in vhost '/' is down or inaccessible"


def link_that_is_told(code: int, text: str) -> Any:
    """A link of which every declaration is refused."""
    def refuse(*_: Any, **__: Any) -> None:
        error: AMQPError = error_for_code(code, text, (50, 10), AMQPError)
        raise error

    link = Link.__new__(Link)
    link.channel = SimpleNamespace(queue_declare=refuse, exchange_declare=refuse)  # type: ignore[assignment]
    return link


def test_queue_that_is_down_is_not_missing() -> None:
    with pytest.raises(QueueMissing):
        may_consume(link_that_is_told(404, ABSENT), "q")
    with pytest.raises(NotFound, match="down or inaccessible"):
        may_consume(link_that_is_told(404, DOWN), "q")


def test_exchange_beyond_a_limit_is_not_taken_for_one_that_is_there() -> None:
    link_that_is_told(
        406, "PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'x' in vhost '/': received 'true' but"
        " current is 'false'"
    ).declare_exchange("x", "topic", True)
    with pytest.raises(PreconditionFailed, match="limit"):
        link_that_is_told(
            406, "PRECONDITION_FAILED - cannot declare exchange 'x': exchange limit in cluster (1) is reached"
        ).declare_exchange("x", "topic", True)
