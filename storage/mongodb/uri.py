"""``[side_store] uri`` of MongoDB: refused where its driver would only warn, and never shown.

The driver parses it; what it says of a malformed one may have pieces of a password in it.
"""

from __future__ import annotations

import difflib
import re
import ssl
from collections.abc import Iterator
from urllib.parse import unquote_plus

from pymongo import common
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from storage.errors import StoreMisconfigured

#: Options whose values are names of files (MongoDB's specification "URI Options").
FILES = frozenset({"tlscafile", "tlscertificatekeyfile", "tlscrlfile"})

#: Added to an error if an unescaped password may be the reason.
ESCAPES = "user and password need : / ? # @ % as %3A %2F %3F %23 %40 %25"

#: Error texts of the driver that quote nothing from the URI.
WORDS = re.compile(
    r"Bad database name|Port must be an integer between 0 and 65535|Port contains non-digit characters|Empty host"
    r"|Username and password must be escaped|The empty string is not valid username|A password is required"
    r"|MongoDB URI options are key=value pairs|Must provide at least one hostname or IP"
    r"|an IPv6 address literal must be enclosed in '\[' and '\]'|Private key doesn't match certificate"
    r"|Cannot specify multiple hosts with directConnection=true|Cannot specify replicaSet with loadBalanced=true"
    r"|Can not specify conflicting values for URI options|Cannot set w to 0 and j to True"
    r"|Percent-encoding is only allowed in Unix domain socket paths|[Dd]nspython|database name must be"
)


def check_uri(uri: str) -> None:
    """Raises StoreMisconfigured for options that the driver ignores with a warning, and for files it can't read."""
    if not uri.isprintable():
        raise StoreMisconfigured(f"[side_store] uri: has a character that can't be seen ({ESCAPES})")
    rest = uri.partition("://")[2]
    if "@" in rest.partition("?")[2]:
        raise StoreMisconfigured(f"[side_store] uri: an @ after the ? ({ESCAPES})")
    if "#" in rest:
        raise StoreMisconfigured(f"[side_store] uri: a # ({ESCAPES})")
    for name, value in _options(rest.partition("?")[2]):
        known = _name(name)
        if known is None:
            near = difflib.get_close_matches(name.lower(), sorted(common.VALIDATORS), n=1)
            hint = f"; is one meant to be {near[0]}?" if near else ""
            raise StoreMisconfigured(f"[side_store] uri: an option after the ? is none of MongoDB's{hint}")
        if known.lower() in FILES:
            _check_file(known, unquote_plus(value))
        try:
            if not known.lower().startswith("srv"):  # those need mongodb+srv, which is looked up in the DNS
                parse_uri(f"mongodb://h/?{name}={value}", warn=False)
        except (PyMongoError, ValueError, TypeError, OSError):
            raise StoreMisconfigured(f"[side_store] uri: option {known} has a value that can't be used") from None


def complaint(error: Exception) -> StoreMisconfigured:
    """What the driver said of a URI, without a word of it."""
    found = WORDS.search(str(error))
    return StoreMisconfigured(f"[side_store] uri: {found[0] if found else 'can not be understood'} ({ESCAPES})")


def describe(uri: str, database: str) -> str:
    """A good URI without user, password and options."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.partition('?')[0].partition('/')[0].rpartition('@')[2]}/{database}"


def _options(query: str) -> Iterator[tuple[str, str]]:
    for pair in re.split("[&;]", query):
        name, separator, value = pair.partition("=")
        if separator:
            yield name, value


def _name(name: str) -> str | None:
    """An option as the driver spells it, if it is one: anything else may be a piece of a password."""
    return name if name.isascii() and name.lower() in _KNOWN else None


_KNOWN = frozenset(common.VALIDATORS) | FILES


def _check_file(option: str, file: str) -> None:
    """The driver does not tell which file it is that can't be read, and OpenSSL would ask for a passphrase."""
    try:
        with open(file, "rb"):
            pass
        if option.lower() == "tlscafile":
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except OSError as error:
        raise StoreMisconfigured(f"[side_store] uri: {option}: {error}") from error
