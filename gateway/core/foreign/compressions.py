"""Compressions of message bodies: undone within a bound, and done again."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Pieces that compressed data may have: each costs a copy of those after it.
MAX_MEMBERS = 256

#: Bytes that liblzma may take for one body; those of xz's highest level need 65 MiB.
LZMA_MEMORY = 80 * 1024 * 1024

#: Window bits of zlib: gzip as well as zlib headers, and no header at all.
_GZIP_OR_ZLIB, _RAW = 32 + zlib.MAX_WBITS, -zlib.MAX_WBITS

_GZIP_MAGIC, _BZIP2_MAGIC, _XZ_MAGIC, _ZIP_ENTRY = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"PK\1\2"

#: Name of the only file in an archive, as Spring AMQP has it.
_ENTRY = "amqp"


class Broken(Exception):
    """What can't be decompressed; the text says why, as the end of a sentence that begins with "its body"."""


@dataclass(frozen=True, slots=True)
class Compression:
    """``unpack`` gets data and the most bytes that they may become, and raises Broken.

    ``magic``: how such data begin, as far as that is certain. ``family``: compressions that undo each other.
    """

    family: str
    magic: tuple[bytes, ...]
    unpack: Callable[[bytes, int], bytes]
    pack: Callable[[bytes], bytes]


def _inflate(data: bytes, most: int) -> bytes:
    """gzip and zlib data alike: kombu calls the latter gzip. Some producers' deflate has no header at all."""
    try:
        return _expanded(data, lambda: zlib.decompressobj(_GZIP_OR_ZLIB), _GZIP_MAGIC, most)
    except zlib.error:
        if data.startswith(_GZIP_MAGIC):
            raise
    return _expanded(data, lambda: zlib.decompressobj(_RAW), _GZIP_MAGIC, most)


def _bunzip2(data: bytes, most: int) -> bytes:
    return _expanded(data, bz2.BZ2Decompressor, _BZIP2_MAGIC, most)


def _unxz(data: bytes, most: int) -> bytes:
    return _expanded(data, lambda: lzma.LZMADecompressor(memlimit=LZMA_MEMORY), _XZ_MAGIC, most)


def _expanded(data: bytes, make: Callable[[], Any], magic: bytes, most: int) -> bytes:
    """Decompressed data, all pieces of it, one after the other (RFC 1952, 2.2; the same for bzip2 and xz)."""
    plain = b""
    for _ in range(MAX_MEMBERS):
        decompressor = make()
        plain += decompressor.decompress(data, most + 1 - len(plain))
        if len(plain) > most:
            raise Broken(f"is over the limit of {most} bytes when decompressed")
        if not decompressor.eof:
            raise Broken("is compressed and cut off")
        data = decompressor.unused_data
        if not data.startswith(magic):
            return plain
    raise Broken(f"is of more than {MAX_MEMBERS} pieces of compressed data")


def _unzip(data: bytes, most: int) -> bytes:
    """The first file in an archive."""
    if data.count(_ZIP_ENTRY) > MAX_MEMBERS:
        raise Broken(f"is an archive of more than {MAX_MEMBERS} files")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = archive.infolist()
        # Of the other methods zipfile decompresses without a bound.
        if not files or files[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Broken("is an archive without a file that is stored or deflated")
        with archive.open(files[0]) as file:
            plain = file.read(most + 1)
    if len(plain) > most:
        raise Broken(f"is over the limit of {most} bytes when decompressed")
    return plain


def _zip(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(_ENTRY), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=_RAW)
    return compressor.compress(data) + compressor.flush()


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


GZIP = Compression("gzip", (_GZIP_MAGIC,), _inflate, _gzip)
ZLIB = Compression("gzip", (_GZIP_MAGIC,), _inflate, zlib.compress)
DEFLATE = Compression("gzip", (_GZIP_MAGIC,), _inflate, _deflate)
BZIP2 = Compression("bzip2", (_BZIP2_MAGIC,), _bunzip2, bz2.compress)
XZ = Compression("xz", (_XZ_MAGIC, b"\x5d\0\0"), _unxz, lzma.compress)
ZIP = Compression("zip", (b"PK\3\4", b"PK\5\6"), _unzip, _zip)


def unpacked(data: bytes, compression: Compression, most: int) -> bytes:
    """Decompressed data, at most so many bytes. Raises Broken."""
    try:
        return compression.unpack(data, most)
    except Broken:
        raise
    except Exception as error:  # whatever the libraries say of such data: it must not stop a queue
        raise Broken(f"is not {compression.family} data: {error}") from error
