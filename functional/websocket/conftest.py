"""Gateways with WebSockets: without a broker, with RabbitMQ and MongoDB, and with Redis."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from functional.deployments import COMMON, beside, through
from functional.services.gateway import Gateway, Options, merge
from functional.websocket.client import WebSocketClient

#: Leases end sooner than by default, and not so soon that a busy machine loses them.
LEASE = 12.0

SOON: Options = {"websocket": {"lease": LEASE}}


@pytest.fixture(params=["loopback+sqlite", "quorum+mongodb", "redis+mongodb"])
def options(request: pytest.FixtureRequest) -> Options:
    """The configuration of a test's gateways."""
    if request.param == "loopback+sqlite":
        return merge(COMMON, SOON)
    database = f"marconi_websocket_{uuid.uuid4().hex[:8]}"
    broker = request.getfixturevalue("redis" if request.param.startswith("redis") else "rabbitmq")
    return merge(COMMON, SOON, through(broker), beside(request.getfixturevalue("mongodb"), database))


@pytest.fixture
def start(start_gateway: Callable[..., Gateway], options: Options) -> Callable[..., Gateway]:
    """Start a gateway; all those of a test share broker and side-store."""
    return lambda **more: start_gateway(**merge(options, more))


@pytest.fixture
def connect() -> Iterator[Callable[..., WebSocketClient]]:
    """Connect clients: `connect(gateway, …)`; see WebSocketClient."""
    with ExitStack() as opened:
        def make(gateway: Gateway, *arguments: Any, **more: Any) -> WebSocketClient:
            return opened.enter_context(WebSocketClient(gateway.url, *arguments, **more))

        yield make
