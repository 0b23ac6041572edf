"""Which resource a request is for: the one that a proxy in front sees in the path, and never another.

A proxy that refuses ``/metrics`` compares bytes. So each resource has one path as it is sent (the API's may end in a
slash), and whatever else would decode to it, or be simplified to it, leads nowhere.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from werkzeug.exceptions import NotFound

from gateway.environ import BASE, raw_path

#: Percent-encoded characters that need not be (RFC 3986, 2.3), and slashes of both kinds.
_ALIAS = re.compile(r"%(?:2[def]|3[0-9]|4[1-9a-f]|5[0-9acf]|6[1-9a-f]|7[0-9ae])", re.I)

#: A part that browsers and proxies take away. In the place of a queue's name it is answered as a bad name.
_DOTS = re.compile(
    r"(?<!^/v2/queues)(?<!^/v2/topics)(?<!^/v1/queues)(?<!^/v1\.1/queues)/\.\.?(?=/|\Z)"
)

#: What paths of the API begin with.
_ROOTS = ("/v2", "/v1.1", "/v1")

#: What may follow one of them, so that it is nobody's prefix there.
_API = re.compile(r"/(?:queues|topics|ping|health|pools|flavors|openapi\.json)(?:/|\Z)")


def is_plain(environ: dict[str, Any], path: str) -> bool:
    """Is the path what was sent, with nothing in it or before it that ``locate`` would have to look at?"""
    uri = environ.get("REQUEST_URI")
    return bool(
        uri and uri.startswith(path) and uri[len(path):len(path) + 1] in ("", "?") and path.isascii()
        and "//" not in path and "/." not in path and not environ.get("SCRIPT_NAME")
    )


def locate(environ: dict[str, Any], prefix: str) -> tuple[str, bool]:
    """The path below the service's own place, and whether it was sent without that place's prefix.

    ``prefix``: what a proxy takes off the path, or does not. It goes into BASE, together with SCRIPT_NAME. Raises
    NotFound for another resource's alias. Clients that put a link of ours behind the service's URL are understood, as
    they would not get to a second page: gophercloud sends the prefix twice, python-zaqarclient once more after /v2.
    """
    script = environ.get("SCRIPT_NAME", "").rstrip("/")
    path = environ.get("PATH_INFO", "")
    base = script if f"{script}/".startswith(f"{prefix}/") else prefix + script
    raw = raw_path(environ)
    if raw is not None:
        decoded = unquote_to_bytes(raw.encode("latin-1", "replace")).decode("latin-1")
        if _ALIAS.search(raw) or decoded not in {path, script + path, prefix + path, base + path}:
            raise NotFound
    if not path.isascii():
        path = path.encode("latin-1", "replace").decode("utf-8", "replace")
    bare = True
    places = [place for place in (base, prefix) if place]
    if base and not _API.match(base):
        places.extend(f"{root}{base}" for root in _ROOTS)
    for _ in range(2):
        for place in places:
            if path == place or path.startswith(f"{place}/"):
                path = path[len(place):]
                bare = False
                break
    if "//" in path or _DOTS.search(path):
        raise NotFound
    path = path or "/"
    environ["PATH_INFO"] = path if path.isascii() else path.encode("utf-8", "replace").decode("latin-1")
    if base:
        environ[BASE] = base
    return path, bare
