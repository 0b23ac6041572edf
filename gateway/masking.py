"""Secrets have no business in logs and messages."""

from __future__ import annotations

import re

#: From the first colon behind the slashes to the last @: more than the password rather than less.
_PASSWORD = re.compile(r"(//[^:@/\s]*:)\S*(?=@)")


def without_password(text: str) -> str:
    """A URI, or a text with URIs, without their passwords."""
    return _PASSWORD.sub(r"\1***", text)
