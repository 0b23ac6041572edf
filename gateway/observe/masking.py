"""Secrets have no business in logs and messages."""

from __future__ import annotations

import re

#: From the first colon after the slashes to the last @ of that URI: rather more than the password than less.
_PASSWORD = re.compile(r"(//[^:\s]*:)(?:(?:(?!://).)*|\S*)(?=@)")

#: Options in a MongoDB URI's query that hold a password or a token.
_SECRET_OPTION = re.compile(r"([?&;](?:tlsCertificateKeyFilePassword|authMechanismProperties)=)[^&;\s]*", re.I)

#: The signature of a pre-signed request in a query or a header.
_SIGNATURE = re.compile(r"(url[_-]signature['\"]?\s*[=:]\s*['\"]?)[^&;\s'\"]+", re.I)


def without_password(text: str) -> str:
    """A URI, or a text with URIs, without their passwords and signatures."""
    text = _SIGNATURE.sub(r"\1***", text)
    return _SECRET_OPTION.sub(r"\1***", _PASSWORD.sub(r"\1***", text))
