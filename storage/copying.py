"""The part of the landed store that copies: what is appended under one key appears under the keys bound to it too.

A queue's subscriptions have a key each, under which their messages wait to be delivered. Their copies are written
together with the message, so a post that was answered has reached all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from storage.model import Message


class CopyingStore(ABC):
    """Bindings between keys. They are there for both halves: those who append, and those who deliver the copies."""

    @abstractmethod
    def bind(self, q: str, copy: str) -> None:
        """Copy to the key ``copy`` what appends land under ``q`` from now on. It may be repeated.

        Copies have the same fields as the message, but a ``seq`` of their own. ``copy`` should be bound to one key
        only: then its copies appear in the order of their positions. Others may append under ``copy`` meanwhile, but
        a reader that follows markers there may miss some messages; find_free and ready don't.

        A key may be bound to some hundreds of others. Raises QueueGone unless both keys are open. The binding ends with
        unbind, and when ``q`` is closed or removed. While ``copy`` is closed it gets nothing, and appends succeed.
        """

    @abstractmethod
    def unbind(self, q: str, copy: str) -> None:
        """Copy nothing to ``copy`` any more; what has been copied stays. Nothing happens if it was not bound."""

    @abstractmethod
    def bound(self, q: str) -> list[str]:
        """The keys that are bound to ``q``, sorted; none for a key that is closed."""

    @abstractmethod
    def land_copied(self, q: str, messages: Sequence[Message], owner: str) -> None:
        """Like LandedStore.land under the lease of ``q``, and land copies under the keys bound to it.

        Positions of copies come after the last one under their key. Ids that have landed under a key before, or have a
        tombstone there, are left out there. If this fails there may be copies without their message, but no message
        that lacks a copy.
        """

    @abstractmethod
    def ready(self, keys: Sequence[str]) -> list[str]:
        """Those of up to some thousand keys that have a message which is free now: find_free would return it.

        So its claim or delay is over, and it has not expired. They are in the order given, and may be closed. It costs
        one query; as an exception another one, where messages have expired and are still there.
        """

    @abstractmethod
    def edges(self, keys: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Of up to some thousand keys, by those that have messages: the last ``seq``, the latest ``hidden_until``.

        These may be of two messages, and of some that have expired and are still there. It costs two queries at most.
        """
