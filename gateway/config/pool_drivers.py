"""The drivers of a pool that an administrator describes: a URI, and options in JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.config.drivers import BRIDGES, SIDE_STORES, create_driver, driver_class, schemes

#: The bridge of a pool that has no broker.
NO_BROKER = "loopback://"

#: Option of a pool with a broker: URI of the side-store that its messages land in.
SIDE_STORE = "side_store"


class Values:
    """An object with a value for each of a driver's options, as an oslo.config group has it.

    Raises ValueError for a value in ``given`` that its option does not take.
    """

    def __init__(self, options: Sequence[Any], given: Mapping[str, Any]):
        for option in options:
            value = _read(option, given[option.name]) if option.name in given else option.default
            setattr(self, option.dest, value)


def _read(option: Any, value: Any) -> Any:
    """A JSON value as the option's type has it. Raises ValueError."""
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    try:
        return option.type(text)
    except ValueError as error:
        raise ValueError(f"option {option.name}: {error}") from error


def create_pool_drivers(uri: str, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """The bridge and the side-store of a pool, None for the side-store of the service.

    ``uri`` is a broker's, or a side-store's for a pool without a broker. Options that are not given have their
    defaults: what [bridge] and [side_store] say is for other servers. Options that the drivers do not know are left
    alone: clients put their own there. Raises ValueError, UnknownScheme and the drivers' errors.
    """
    scheme = uri.partition("://")[0]
    side_store = options.get(SIDE_STORE)
    if side_store is not None and not isinstance(side_store, str):
        raise ValueError(f"option {SIDE_STORE} must be the URI of a side-store")
    if scheme in schemes(SIDE_STORES):
        if side_store is not None:
            raise ValueError(f"option {SIDE_STORE} is for pools with a broker; this pool's URI is a side-store's")
        return _create(BRIDGES, NO_BROKER, {}), _create(SIDE_STORES, uri, options)
    if "://" in uri and scheme not in schemes(BRIDGES):
        known = sorted({*schemes(BRIDGES), *schemes(SIDE_STORES)})
        raise ValueError(f"no driver for {scheme!r} URIs is installed; there are drivers for: {', '.join(known)}")
    bridge = _create(BRIDGES, uri, options)
    try:
        store = _create(SIDE_STORES, side_store, options) if side_store is not None else None
    except BaseException:
        bridge.close()
        raise
    return bridge, store


def _create(group: str, uri: str, given: Mapping[str, Any]) -> Any:
    return create_driver(group, uri, Values(driver_class(group, uri).OPTS, given))
