"""The header Idempotency-Key, as draft-ietf-httpapi-idempotency-key-header has it: it names a request that may be sent
again."""

from __future__ import annotations

import hashlib
import re

from gateway.core.errors import InvalidInput
from gateway.core.once.key import Key

#: Longest key, in characters.
MAX_KEY = 255

#: The header in the WSGI environment.
KEY_HEADER = "HTTP_IDEMPOTENCY_KEY"

TITLE = "Invalid Idempotency-Key"

#: A key as the draft writes it: a string of a structured field (RFC 8941, 3.3.3).
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"\Z')

#: A key without quotes, as many clients send it. What RFC 8941 allows in a string is allowed here, too.
_PRINTABLE = re.compile(r"[ -~]+\Z")


def read_key(text: str, data: bytes) -> Key:
    """The key in a header, of a request with the body ``data``; the same one with and without quotes.

    Raises InvalidInput.
    """
    if text.startswith('"'):
        quoted = _QUOTED.match(text)
        if quoted is None:
            raise InvalidInput(
                "The Idempotency-Key begins with a quotation mark, but is not a string in quotes (RFC 8941)", TITLE
            )
        text = re.sub(r"\\(.)", r"\1", quoted[1])
    if not text:
        raise InvalidInput("The Idempotency-Key is empty", TITLE)
    if len(text) > MAX_KEY:
        raise InvalidInput(f"The Idempotency-Key has {len(text)} characters; up to {MAX_KEY} are allowed", TITLE)
    if not _PRINTABLE.match(text):
        raise InvalidInput("The Idempotency-Key has characters that are not printable ASCII", TITLE)
    return Key(text, hashlib.sha256(data).digest())
