"""What Content-Location says: what was asked for, as it was sent. Old clients read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from gateway.environ import raw_path

#: The type of Operation.content_location.
Located = Callable[[dict[str, Any], int], str | None]


def _path(environ: dict[str, Any]) -> str:
    raw = raw_path(environ)
    # Decoded, a path may have what no header can have.
    return quote(environ.get("PATH_INFO", "").encode("latin-1", "replace")) if raw is None else raw


def path_alone(*statuses: int) -> Located:
    """The path without the query, in answers with these statuses."""
    return lambda environ, status: _path(environ) if status in statuses else None


def path_and_query(*statuses: int) -> Located:
    """Path and query, in answers with these statuses; without any, in all."""

    def located(environ: dict[str, Any], status: int) -> str | None:
        if statuses and status not in statuses:
            return None
        query = environ.get("QUERY_STRING", "")
        return f"{_path(environ)}?{query}" if query else _path(environ)

    return located
