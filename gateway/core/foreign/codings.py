"""How the bytes of a message's body are coded: compressions and a character set, as known producers mark them.

* ``content_encoding``, a list of both: ``gzip``, ``iso-8859-1``, ``gzip, utf-8``. Spring AMQP writes ``gzip:utf-8``,
  since 2.3 ``gzip, utf-8``. It puts the compression done last in front, where HTTP has it at the end, so of several the
  one is undone first that the data begin like. Its ``zip`` is an archive of one file, its ``deflate`` zlib data.
* Header ``compression``: kombu, and so Celery, Nameko and oslo.messaging (``kombu_compression``). Its
  ``application/x-gzip`` is zlib data, other languages send gzip. The character set is in ``content_encoding``.
* Header ``Content-Encoding``: NServiceBus.Compression, whose ``deflate`` has no header. Rebus has
  ``rbs2-content-encoding``.
* Header ``IWasCompressed``: NServiceBus's own example of a message mutator, and all who copied it.
* ``content_type`` with a ``charset``. MassTransit marks nothing else: it compresses nothing by itself.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from encodings.aliases import aliases
from typing import Any

from gateway.core.foreign.compressions import BZIP2, DEFLATE, GZIP, XZ, ZIP, ZLIB, Broken, Compression, unpacked

#: How many compressions one body may have, one in the other.
MAX_LAYERS = 4

_BY_NAME: Mapping[str, Compression] = {
    "gzip": GZIP, "x-gzip": GZIP, "deflate": ZLIB, "zlib": ZLIB, "zip": ZIP, "x-zip": ZIP, "bzip2": BZIP2,
    "x-bzip2": BZIP2, "bz2": BZIP2, "x-bz2": BZIP2, "bzip": BZIP2, "xz": XZ, "x-xz": XZ, "lzma": XZ, "x-lzma": XZ,
}

#: Compressions that are not undone, for want of a library that is always there: such a body is shown as base64.
UNKNOWN = frozenset({
    "br", "brotli", "x-brotli", "zstd", "x-zstd", "zstandard", "compress", "x-compress", "lz4", "x-lz4", "snappy",
    "x-snappy",
})

#: The same in kombu's header, where gzip is zlib's format; of its media types what follows the slash.
_KOMBU: Mapping[str, Compression] = {**_BY_NAME, "gzip": ZLIB, "x-gzip": ZLIB}

#: The same as .NET's streams are called.
_DOT_NET: Mapping[str, Compression] = {**_BY_NAME, "deflate": DEFLATE}

#: Headers that name compressions, in lower case and with hyphens.
_HEADERS: Mapping[str, Mapping[str, Compression]] = {
    "compression": _KOMBU, "content-encoding": _DOT_NET, "rbs2-content-encoding": _DOT_NET,
}
_NSERVICEBUS_SAMPLE = "iwascompressed"

#: Headers of what gateways post: the only ones of most messages.
_OURS = frozenset({"marconi-client", "marconi-cipher"})

_SEPARATORS = re.compile(r"[\s,:;]+")
_CHARSET = re.compile(r";\s*charset\s*=\s*[\"']?([A-Za-z0-9_.:+-]{1,40})", re.IGNORECASE)

#: Python's codecs for text that are not for text of other programs: those need no decoding, mean nothing outside of
#: Python or Windows, or are no character sets at all.
_NO_CHARSETS = frozenset({
    "ascii", "utf_8", "utf_7", "base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec",
    "zlib_codec", "mbcs", "oem", "tactis",
})

#: Character sets by each of their names. A table, as Python looks for a module of any name that it does not know, and
#: remembers each.
_CHARSETS: Mapping[str, str] = {
    name: codec
    for codec in {*aliases.values(), "koi8_u", "cp874", "cp737", "cp720", "mac_croatian"} - _NO_CHARSETS
    for name in (codec, *(alias for alias, of in aliases.items() if of == codec))
}

#: What those that need no decoding are called, and what names none.
_PLAIN = frozenset({"utf_8", "utf8", "us_ascii", "ascii", "unicode_1_1_utf_8"})


@dataclass(frozen=True, slots=True)
class Coding:
    """``compressions`` from the outside in, as far as the marks tell; ``charset``: a codec, None for UTF-8 or no word.

    ``unknown``: the name of a compression that can't be undone.
    """

    compressions: tuple[Compression, ...] = ()
    charset: str | None = None
    unknown: str | None = None


NONE = Coding()


def coding_of(content_type: str | None, content_encoding: str | None, headers: Mapping[str, Any]) -> Coding:
    """What the properties of a message say of its body."""
    if content_encoding is None and headers.keys() <= _OURS and (content_type is None or ";" not in content_type):
        return NONE
    compressions: list[Compression] = []
    charset, named, unknown = None, False, None
    for token in _tokens(content_encoding):
        if token in _BY_NAME:
            compressions.append(_BY_NAME[token])
        elif token in UNKNOWN:
            unknown = token
        elif not named:
            charset, named = _charset(token)
    for marked, token in _marks(headers):
        if token in UNKNOWN:
            unknown = token
        elif (found := marked.get(token)) is not None and all(found.family != one.family for one in compressions):
            compressions.append(found)  # that it is named in two places does not mean that it was done twice
    if not named and content_type is not None and (parameter := _CHARSET.search(content_type)):
        charset, _ = _charset(parameter[1])
    return Coding(tuple(compressions), charset, unknown)


def _tokens(text: str | None) -> list[str]:
    return [token for token in _SEPARATORS.split(text.lower()) if token] if text else []


def _marks(headers: Mapping[str, Any]) -> list[tuple[Mapping[str, Compression], str]]:
    """The compressions that headers name, each with the table that explains it."""
    found: list[tuple[Mapping[str, Compression], str]] = []
    for name, value in headers.items():
        key = name.lower().replace("_", "-")
        if key in _HEADERS and isinstance(value, str):
            found += [(_HEADERS[key], token.rpartition("/")[2]) for token in _tokens(value)]
        elif key == _NSERVICEBUS_SAMPLE and value in ("true", "True", True):
            found.append((_DOT_NET, "gzip"))
    return found


def _charset(name: str) -> tuple[str | None, bool]:
    """A codec for the name of a character set, None for UTF-8; and whether it is one."""
    key = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return _CHARSETS.get(key), key in _CHARSETS or key in _PLAIN


def decompressed(body: bytes, coding: Coding, most: int) -> bytes:
    """The body without its compressions, at most so many bytes. Raises Broken."""
    if len(coding.compressions) > MAX_LAYERS:
        raise Broken(f"is compressed more than {MAX_LAYERS} times")
    left = list(coding.compressions)
    while left and body:
        body = unpacked(body, left.pop(_outermost(body, left)), most)
    return body


def _outermost(body: bytes, compressions: list[Compression]) -> int:
    """Which of them was done last."""
    for place, compression in enumerate(compressions):
        if body.startswith(compression.magic):
            return place
    return 0


def as_utf8(body: bytes, coding: Coding) -> bytes | None:
    """The text in a decompressed body in UTF-8; None if it is not of the character set that it should be of."""
    if coding.charset is None:
        return body
    try:
        return body.decode(coding.charset).removeprefix("\ufeff").encode()
    except (UnicodeError, LookupError):
        return None


def coded(body: bytes, coding: Coding, *, json: bool, text: bool) -> bytes:
    """The bytes that a consumer turns into a body: undoes as_utf8 and decompressed. Raises ValueError.

    What is neither JSON nor text in UTF-8 is only compressed, or left as it is if one of the compressions is not known.
    """
    if coding.unknown is not None:
        if json or text:
            raise ValueError(f"compression {coding.unknown} is not known here: post what is compressed as base64")
        return body
    if len(coding.compressions) > MAX_LAYERS:
        raise ValueError(f"a body can't be compressed more than {MAX_LAYERS} times")
    if (json or text) and coding.charset is not None:
        try:
            body = body.decode().encode(coding.charset, "marconi-json" if json else "strict")
        except (UnicodeError, LookupError) as error:
            raise ValueError(f"the body can't be written in the character set {coding.charset}: {error}") from error
    for compression in reversed(coding.compressions):
        body = compression.pack(body)
    return body


def _escape(error: UnicodeError) -> tuple[str, int]:
    """JSON's escapes for characters that a character set has not."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start:error.end].encode("utf-16-be")
    return "".join(f"\\u{units[n:n + 2].hex()}" for n in range(0, len(units), 2)), error.end


codecs.register_error("marconi-json", _escape)
