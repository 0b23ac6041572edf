"""Checking passwords against bcrypt hashes: what it costs tells nobody anything, and takes few threads."""

from __future__ import annotations

from collections.abc import Iterable

import bcrypt

from gateway.core.gate import Gate

#: Longest password that bcrypt looks at, in bytes; it refuses longer ones.
MAX_PASSWORD = 72

#: Costs that bcrypt takes; with others a hash is none. 2^16 rounds take some seconds, and 2^31 days and nights.
COSTS = range(4, 32)
BEARABLE = 16

#: Cost where there are no users. htpasswd -B has 5, Python's bcrypt this.
USUAL_COST = 12

#: Passwords that one process checks at the same time, requests that wait for that, and seconds they wait. bcrypt is
#: slow on purpose: with all threads at it nobody else would be served.
AT_ONCE, WAITING, PATIENCE = 2, 2, 1.0

#: With fewer threads than 8 the first two are one in so many of them.
SHARE = 4


class Passwords:
    """Checks passwords of a file's users. A wrong one takes as long as the file's highest cost, whoever it is for."""

    def __init__(self, threads: int) -> None:
        """``threads``: those that serve requests."""
        few = threads // SHARE
        self._gate = Gate(
            max(1, min(AT_ONCE, few)), min(WAITING, few), PATIENCE,
            "Many passwords are being checked now; try again in a moment",
        )

    def right(self, password: str, user: bytes | None, highest: int) -> bool:
        """Is it the password of ``user``, a hash, or None for nobody? ``highest``: the file's highest cost.

        Raises Busy.
        """
        secret = password.encode()[:MAX_PASSWORD]
        with self._gate.turn():
            try:
                if user is not None and bcrypt.checkpw(secret, user):
                    return True
            except ValueError:  # looks like a hash, and is none
                user = None
            for cost in missing(user, highest):
                bcrypt.checkpw(secret, dummy(cost))
            return False


def cost_of(hash_: bytes) -> int:
    """The logarithm of a hash's rounds."""
    return int(hash_[4:6])


def highest_cost(hashes: Iterable[bytes]) -> int:
    """The highest cost of some hashes."""
    return max((cost for cost in map(cost_of, hashes) if cost in COSTS), default=USUAL_COST)


def missing(user: bytes | None, highest: int) -> Iterable[int]:
    """Costs of the checks that, with the one against ``user``, take as long as one of the cost ``highest``.

    2^c + 2^c + 2^(c+1) + … + 2^(h-1) = 2^h.
    """
    return (highest,) if user is None else range(cost_of(user), highest)


def dummy(cost: int) -> bytes:
    """A hash of that cost, of nothing that anybody knows."""
    return b"$2b$%02d$" % cost + b"." * 53

