"""Gateways that may deliver to localhost, where it matters most: without a broker, and with one."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from functional.deployments import beside, through
from functional.http import Api
from functional.notify.subscribers import Subscriber
from functional.services.certificates import Authority
from functional.services.gateway import Gateway, Options, merge

#: What all these gateways have: receivers are on localhost, and retries come soon.
NOTIFYING: Options = {
    "notification": {
        "allowed_networks": ["127.0.0.1/32", "[::1/128]"], "retry_schedule": [1, 1, 2, 2, 4], "request_timeout": 3,
    },
}


@pytest.fixture(params=["loopback+sqlite", "quorum+mongodb"])
def options(request: pytest.FixtureRequest) -> Options:
    """The configuration of a test's gateways."""
    if request.param == "loopback+sqlite":
        return NOTIFYING
    database = f"marconi_notify_{uuid.uuid4().hex[:8]}"
    broker, store = request.getfixturevalue("rabbitmq"), request.getfixturevalue("mongodb")
    return merge(NOTIFYING, through(broker), beside(store, database))


@pytest.fixture
def start(start_gateway: Callable[..., Gateway], options: Options) -> Callable[..., Gateway]:
    """Start a gateway; all those of a test share broker and side-store."""
    return lambda **more: start_gateway(**merge(options, more))


@pytest.fixture
def subscriber(start: Callable[..., Gateway]) -> Iterator[Subscriber]:
    """Subscribes and posts through a gateway of the test's own."""
    api = Api(start().url)
    yield Subscriber(api)
    api.close()


@pytest.fixture
def wrong_certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate that nobody trusts, and its key."""
    pair = Authority(tmp_path).sign("other")
    return pair.certificate, pair.key
