"""HTTP Basic authentication (RFC 7617) against a file of bcrypt hashes."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cachetools import TTLCache

from gateway.access.auth.base import MAX_PROJECT, AuthStrategy, Identity, Unauthenticated, with_implied
from gateway.access.auth.passwords import BEARABLE, COSTS, USUAL_COST, Passwords, cost_of, highest_cost

LOG = logging.getLogger(__name__)

CHALLENGE = 'Basic realm="marconi", charset="UTF-8"'

#: Seconds for which a password that was right is not hashed again: bcrypt is slow on purpose.
REMEMBERED_FOR = 60.0
REMEMBERED_AT_MOST = 10_000

#: The same for wrong ones, for a moment: who repeats one all the time has it hashed now and then.
REFUSED_FOR = 10.0
REFUSED_AT_MOST = 10_000

BCRYPT_HASH = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}\Z", re.ASCII)

#: What stands for a user's roles, and the role of one who has none there.
ROLES = re.compile(r"[\w-]+(,[\w-]+)*\Z", re.ASCII)
USUAL = "member"


@dataclass(frozen=True, slots=True)
class User:
    """A line of the file."""

    hash: bytes
    project: str
    roles: tuple[str, ...]


class BasicAuth(AuthStrategy):
    """Users from ``[basic] htpasswd_file``, which is read again when it changes."""

    def __init__(self, conf: Any):
        self._path = conf.basic.htpasswd_file
        if not self._path:
            raise ValueError("[basic] htpasswd_file is not set; auth_strategy = basic needs it")
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._users: dict[str, User] = {}
        self._highest_cost = USUAL_COST
        self._passwords = Passwords(conf.wsgi.threads)
        self._salt = secrets.token_bytes(32)
        self._right: TTLCache[bytes, Identity] = TTLCache(REMEMBERED_AT_MOST, REMEMBERED_FOR)
        self._wrong: TTLCache[bytes, bool] = TTLCache(REFUSED_AT_MOST, REFUSED_FOR)
        self._refresh()

    def identify(self, environ: Mapping[str, Any]) -> Identity:
        scheme, _, encoded = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "basic":
            raise Unauthenticated("Send a user name and password (HTTP Basic authentication)", CHALLENGE)
        try:
            name, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        except ValueError:  # not base64, not ASCII, not UTF-8
            colon = ""
        if not colon:
            raise Unauthenticated("The Authorization header is malformed", CHALLENGE)
        users = self._refresh()
        remembered = hashlib.blake2b(f"{name}:{password}".encode(), key=self._salt).digest()
        with self._lock:
            identity = self._right.get(remembered)
            wrong = remembered in self._wrong
            highest = self._highest_cost
        if identity is not None:
            return identity
        user = users.get(name)
        if not wrong:
            right = self._passwords.right(password, user.hash if user else None, highest)
            if right and user is not None:
                identity = Identity(user.project, name, user.roles)
            with self._lock:
                if users is self._users:  # or the file has changed meanwhile
                    if identity is not None:
                        self._right[remembered] = identity
                    else:
                        self._wrong[remembered] = True
        if identity is None:
            raise Unauthenticated("User name or password is wrong", CHALLENGE)
        return identity

    def _refresh(self) -> dict[str, User]:
        """The users, read anew if the file has changed; with the file gone, those known last."""
        try:
            status = os.stat(self._path)
        except OSError as error:
            if self._stamp is None:
                raise ValueError(f"[basic] htpasswd_file: {error}") from error
            return self._users
        stamp = (status.st_mtime_ns, status.st_size)
        with self._lock:
            if stamp != self._stamp:
                try:
                    self._users = read_users(self._path)
                    self._highest_cost = highest_cost(user.hash for user in self._users.values())
                except (OSError, ValueError) as error:
                    if self._stamp is None:
                        raise ValueError(f"[basic] htpasswd_file: {error}") from error
                    LOG.error("[basic] htpasswd_file: %s; going on with the users known last", error)
                self._right.clear()
                self._wrong.clear()
                self._stamp = stamp
            return self._users


def read_users(path: str) -> dict[str, User]:
    """Users by name from lines ``name:hash[:project[:role,...]]``.

    Raises OSError, and ValueError with the line that is wrong.
    """
    users = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            name, hash_, project, roles, *more = [*line.split(":"), "", "", ""]
            if not name or not BCRYPT_HASH.match(hash_) or any(more):
                raise ValueError(
                    f"{path}, line {number}: not of the form name:bcrypt-hash[:project[:role,...]] (htpasswd -B makes"
                    " the first two)"
                )
            if BEARABLE < (cost := cost_of(hash_.encode())) <= COSTS[-1]:
                raise ValueError(
                    f"{path}, line {number}: the hash has a cost of {cost}; above {BEARABLE} it can't be checked in"
                    " time (htpasswd -B -C 12)"
                )
            project = project or name
            if len(project) > MAX_PROJECT or not project.isprintable():
                raise ValueError(f"{path}, line {number}: a project is at most {MAX_PROJECT} printable characters")
            if not ROLES.match(roles or USUAL):
                raise ValueError(f"{path}, line {number}: roles are words of A-Z a-z 0-9 _ - with commas between them")
            users[name] = User(hash_.encode(), project, with_implied((roles or USUAL).split(",")))
    return users
