"""From ``[side_store] uri`` to the path of an SQLite file; what can't be one is refused."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

from storage.errors import StoreMisconfigured

PREFIX = "sqlite:///"

#: Error texts quote nothing from the URI, because it may have a password, although SQLite needs none.
FORM = "[side_store] uri is no SQLite URI: write sqlite:///relative/path or sqlite:////absolute/path"

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def read_path(uri: str) -> str:
    """The path of a URI. Raises StoreMisconfigured if it can't be one of an SQLite file."""
    text = uri.removeprefix(PREFIX)
    if text == uri or not text or set(text) & set("?#") or _BAD_ESCAPE.search(text):
        raise StoreMisconfigured(f"{FORM}; ? # % are written %3F %23 %25")
    try:
        path = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise StoreMisconfigured(FORM) from None
    if not path.isprintable() or not path.strip():
        raise StoreMisconfigured(f"{FORM}, without control characters")
    if "@" in path and ":" in path:  # somebody took it for the address of a server
        raise StoreMisconfigured(FORM)
    if os.path.basename(path) == ":memory:" or path.lower().startswith("file:"):
        raise StoreMisconfigured(
            "[side_store] uri: SQLite needs a file of its own; :memory: would be another database in each thread, and"
            " file: URIs are not understood"
        )
    if path.startswith("~"):
        raise StoreMisconfigured("[side_store] uri: ~ is not understood: write sqlite:////absolute/path")
    if path.endswith("/"):
        raise StoreMisconfigured("[side_store] uri: this is a folder; name a file in it")
    return path


def check_file(path: str) -> None:
    """Raises StoreMisconfigured if it can't be an SQLite file as things are. What is in it only SQLite may read.

    Closing a file ends all locks that this process has on it, those of SQLite's connections too: another process would
    then remove the log that they use (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    complaint = _complaint(path)
    if complaint:
        raise StoreMisconfigured(f"[side_store] uri: {path}: {complaint}")


def _complaint(path: str) -> str | None:
    path = os.path.realpath(path)
    if os.path.isdir(path):
        return "is a folder; name a file in it"
    if os.path.lexists(path):
        if not os.path.isfile(path):
            return "is no regular file"
        if not os.access(path, os.R_OK | os.W_OK):
            return "may not be read and written by this user"
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(folder):  # missing folders are created
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        return f"{folder} is no folder"
    if not os.access(folder, os.W_OK | os.X_OK):  # beside the file SQLite writes its log
        return f"the folder {folder} may not be written to by this user"
    return None
