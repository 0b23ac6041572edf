"""What other packages can add through entry points: bridges and side-stores by URI scheme, and Flask's blueprints."""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

#: Entry point groups; the name of an entry point is the URI scheme.
BRIDGES = "marconi.bridges"
SIDE_STORES = "marconi.side_stores"

#: Entry point group of Flask's blueprints, which are served beside the APIs.
BLUEPRINTS = "marconi.blueprints"


class UnknownScheme(ValueError):
    """No driver is installed for the scheme of a URI."""


def _entry_points(group: str) -> dict[str, EntryPoint]:
    return _found(group, tuple(sys.path))


@cache  # entry_points() reads a file of each installed package: 20 ms
def _found(group: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


def driver_classes(group: str) -> list[Any]:
    """The classes of all installed drivers of a group, each once, in the order of their schemes."""
    return list(dict.fromkeys(point.load() for _, point in sorted(_entry_points(group).items())))


def schemes(group: str) -> list[str]:
    """The URI schemes that drivers of a group are installed for."""
    return sorted(_entry_points(group))


def driver_class(group: str, uri: str) -> Any:
    """The class of the driver for a URI. Raises UnknownScheme."""
    points = _entry_points(group)
    installed = f"there are drivers for: {', '.join(sorted(points)) or 'none'}"
    scheme, separator, _ = uri.partition("://")
    if not separator:  # the URI is not shown: it may hold a password
        raise UnknownScheme(f"the URI has no scheme; {installed}")
    if scheme not in points:
        raise UnknownScheme(f"no driver for {scheme!r} URIs is installed; {installed}")
    return points[scheme].load()


def create_driver(group: str, uri: str, options: Any) -> Any:
    """The driver for a URI, created from the options of its section. Raises UnknownScheme and the driver's errors."""
    return driver_class(group, uri)(uri, options)


def installed_blueprints() -> list[Any]:
    """All installed blueprints, in the order of their entry points' names."""
    return [point.load() for _, point in sorted(_entry_points(BLUEPRINTS).items())]
