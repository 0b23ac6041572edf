"""Drivers by URI scheme."""

from types import SimpleNamespace

import pytest

from bridges.amqp import AMQPBridge
from bridges.base import Bridge
from bridges.loopback import LoopbackBridge
from bridges.redis import RedisBridge
from gateway.config.drivers import BRIDGES, SIDE_STORES, UnknownScheme, create_driver, driver_classes
from storage.base import SideStore
from storage.errors import StoreMisconfigured
from storage.mongodb import MongoDBStore
from storage.sqlite import SQLiteStore


def defaults(kind: type[Bridge] | type[SideStore]) -> SimpleNamespace:
    return SimpleNamespace(**{option.dest: option.default for option in kind.OPTS})


@pytest.mark.parametrize(
    ("group", "uri", "kind"),
    [
        (BRIDGES, "loopback://", LoopbackBridge),
        (BRIDGES, "amqp://guest:guest@localhost/", AMQPBridge),
        (BRIDGES, "amqps://guest:guest@localhost/", AMQPBridge),
        (BRIDGES, "redis://localhost", RedisBridge),
        (BRIDGES, "rediss://user:secret@localhost:6380/1", RedisBridge),
        (BRIDGES, "redis+sentinel://localhost/service", RedisBridge),
        (BRIDGES, "rediss+sentinel://localhost/service", RedisBridge),
        (BRIDGES, "redis+unix:///run/redis.sock", RedisBridge),
        (SIDE_STORES, "sqlite:///marconi.db", SQLiteStore),
        (SIDE_STORES, "mongodb://localhost/marconi", MongoDBStore),
    ],
)
def test_driver_is_chosen_by_scheme(group: str, uri: str, kind: type[Bridge] | type[SideStore]) -> None:
    driver = create_driver(group, uri, defaults(kind))
    assert type(driver) is kind
    assert driver.connections() == 0  # it connects on first use
    driver.close()


@pytest.mark.parametrize("uri", ["zeromq://localhost", "", "://", "mongodb://localhost"])
def test_unknown_scheme_is_refused_with_those_there_are(uri: str) -> None:
    with pytest.raises(UnknownScheme, match="amqp, amqps, loopback"):
        create_driver(BRIDGES, uri, None)


def test_each_driver_is_listed_once() -> None:
    assert {AMQPBridge, LoopbackBridge, RedisBridge} <= set(driver_classes(BRIDGES))
    assert {MongoDBStore, SQLiteStore} <= set(driver_classes(SIDE_STORES))
    for group in (BRIDGES, SIDE_STORES):
        assert len(driver_classes(group)) == len(set(driver_classes(group)))


@pytest.mark.parametrize(
    "uri",
    ["mongodb://", "mongodb://host:port/db", "mongodb://user:pa/ss@host/db", "mongodb://host/a b",
     "mongodb://host/a$b"],
)
def test_mongodb_uri_that_cannot_be_used_is_refused(uri: str) -> None:
    with pytest.raises(StoreMisconfigured, match=r"\[side_store\] uri"):
        create_driver(SIDE_STORES, uri, defaults(MongoDBStore))
