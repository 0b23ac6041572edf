"""Type of the option [wsgi] prefix."""

from __future__ import annotations

import re
from typing import Any

from oslo_config import types

#: One or more segments of a path. The first segment must not be one that the gateway serves itself.
_PREFIX = re.compile(r"(?:/(?!(?:v[0-9.]+|metrics|healthcheck|\.\.?)/?(?:\Z|/))[A-Za-z0-9._~-]+)+/?\Z")


class PathPrefix(types.String):
    """The path under which a proxy serves the gateway, without a slash at its end; may be empty."""

    def __call__(self, value: Any) -> str:
        text: str = super().__call__(value)
        if text.strip("/") and not _PREFIX.match(text):
            raise ValueError("must be a path like /messaging, of A-Z a-z 0-9 . _ ~ - and /, and no path of the API")
        return text.rstrip("/")
