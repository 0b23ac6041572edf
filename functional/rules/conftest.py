"""Gateways on the shared broker and MongoDB, as processes of their own or inside of the test."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import flask
import pytest

from functional.brokers import Broker
from functional.deployments import COMMON, beside, through
from functional.http import Api
from functional.services.gateway import Gateway, Options, merge, render
from functional.services.mongodb import MongoDB
from gateway.app import make_app, make_core
from gateway.config.reader import load
from gateway.core.core import Core


@pytest.fixture
def hybrid(shared_broker: Broker, mongodb: MongoDB) -> Options:
    """Options of gateways that share one database of their own."""
    return merge(through(shared_broker), beside(mongodb, f"rules_{uuid.uuid4().hex[:12]}"))


@pytest.fixture
def pair(start_gateway: Callable[..., Gateway], hybrid: Options) -> tuple[Gateway, Gateway]:
    """Two gateways on the same broker and side-store."""
    return start_gateway(**hybrid), start_gateway(**hybrid)


@pytest.fixture
def api(pair: tuple[Gateway, Gateway]) -> Iterator[Api]:
    """A client of the first of the two, in a project of its own."""
    client = Api(pair[0].url)
    yield client
    client.close()


@pytest.fixture
def make_hybrid_core(hybrid: Options, tmp_path: Path) -> Iterator[Callable[[], Core]]:
    """Make gateways' cores inside of the test's process, on the real services."""
    made: list[Core] = []

    def make() -> Core:
        made.append(make_core(_conf(hybrid, tmp_path)))
        return made[-1]

    yield make
    for core in made:
        core.close()


@pytest.fixture
def core(make_hybrid_core: Callable[[], Core]) -> Core:
    """One such core."""
    return make_hybrid_core()


@pytest.fixture
def app(core: Core, hybrid: Options, tmp_path: Path) -> flask.Flask:
    """The application around that core."""
    return make_app(_conf(hybrid, tmp_path), core)


def _conf(options: Options, folder: Path):  # type: ignore[no-untyped-def] - oslo.config has no types
    file = folder / "marconi.conf"
    file.write_text(render(merge(COMMON, options)))
    return load(config_files=[str(file)])
