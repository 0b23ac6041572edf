"""What came of sending a mail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MailResult:
    """``status``: reply of the SMTP server, 0 for none. ``reason``: a class of failures, empty if all went well.

    ``accepted``: recipients that the mail is on its way to. ``deferred``: those to try again. What is neither has been
    refused for good.
    """

    status: int
    reason: str = ""
    accepted: frozenset[str] = frozenset()
    deferred: frozenset[str] = frozenset()


def failed(reason: str, recipients: Sequence[str], status: int = 0) -> MailResult:
    """Nobody has got it, and it may be tried again."""
    return MailResult(status, reason, deferred=frozenset(recipients))
