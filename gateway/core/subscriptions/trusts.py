"""Trusts: what lets the gateway get tokens in the name of whoever has made a ``trust+`` subscription.

An identity service makes them, deletes them and gives tokens for them; the core gets all of that handed in.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gateway.core.errors import InvalidInput
from storage.catalogue import Catalogue

LOG = logging.getLogger(__name__)

#: The option of a subscription that has its trust's id.
TRUST_ID = "trust_id"

#: Kind of records in the catalogue: trusts that nobody needs any more, and that have not been deleted yet.
DISCARDED = "trust"

#: Records read at once.
PAGE = 200

#: Seconds for which the identity service is left alone after it could not be reached.
AGAIN = 30.0

#: Makes a trust of the caller's that ends at a time (ms); its id. Raises InvalidInput, Forbidden, Busy, and what stands
#: for an identity service that can't be reached.
GiveTrust = Callable[[int], str]

#: Deletes the trust with this id. False: that can't be done now. Never raises.
DeleteTrust = Callable[[str], bool]


class NoToken(Exception):
    """There is no token for a trust now. The text is for the log."""


def no_trust(expires: int) -> str:
    """For a service without an identity service."""
    raise InvalidInput(
        "This service can't deliver to subscribers of type trust+http and trust+https: it takes no tokens of Keystone,"
        " or has no user there whom callers could trust ([trustee])"
    )


def with_trust(options: dict[str, Any], trust_id: str | None) -> dict[str, Any]:
    """Options with the id of the subscription's trust, or without one."""
    others = {name: value for name, value in options.items() if name != TRUST_ID}
    return {**others, TRUST_ID: trust_id} if trust_id else others


class Trusts:
    """The trusts of all subscriptions. ``delete`` None: they are left to a gateway that has an identity service."""

    def __init__(self, catalogue: Catalogue, delete: DeleteTrust | None):
        self._catalogue = catalogue
        self._delete = delete
        self._not_before = float("-inf")

    @contextmanager
    def given(self, give: GiveTrust | None, expires: int) -> Iterator[str | None]:
        """The id of a new trust until ``expires`` (ms), None without ``give``. It is discarded if the work fails."""
        if give is None:
            yield None
            return
        trust_id = give(expires)
        try:
            yield trust_id
        except BaseException:
            self.discard(trust_id)
            raise

    def discard(self, trust_id: str | None) -> None:
        """Delete a trust, now or later. Raises StoreError."""
        if trust_id:
            self._catalogue.put_record(DISCARDED, trust_id, b"")
            self._delete_recorded(trust_id)

    def _delete_recorded(self, trust_id: str) -> bool:
        """False if the identity service can't be reached."""
        if self._delete is None or time.monotonic() < self._not_before:
            return False
        if not self._delete(trust_id):
            LOG.warning("trust %s can't be deleted now", trust_id)
            self._not_before = time.monotonic() + AGAIN
            return False
        self._catalogue.delete_record(DISCARDED, trust_id)
        return True

    def tend(self) -> None:
        """Delete what could not be deleted before. For housekeeping. Raises StoreError."""
        after = ""
        while page := self._catalogue.list_records(DISCARDED, after, PAGE):
            for record in page:
                if not self._delete_recorded(record.name):
                    return
            after = page[-1].name
