"""Header tables with values that AMQP allows and py-amqp can't read: they get types of the same length that it can."""

from __future__ import annotations

import struct

#: Property flags of the header table and of the properties that may come before it (AMQP 0-9-1, 4.2.6.1 and 1.8.3).
_IN_FRONT, _HEADERS = (1 << 15, 1 << 14), 1 << 13

#: Size in bytes of values of fixed size, by type (AMQP 0-9-1, 4.2.1, with RabbitMQ's errata).
_FIXED = {
    ord(kind): size
    for kinds, size in (("tbB", 1), ("sUu", 2), ("Iif", 4), ("lLdT", 8), ("D", 5), ("V", 0))
    for kind in kinds
}

_TIME, _INTEGER, _TEXT, _BYTES, _TABLE, _LIST = b"TlSxFA"

#: The end of the year 9999 in seconds since 1970. Python has no later dates.
_LAST_TIME = 253_402_300_799

#: How many levels of nested tables and lists we keep. Common JSON parsers accept some hundreds, and an answer adds
#: levels of its own.
MAX_DEPTH = 100

_size = struct.Struct(">I").unpack_from
_time = struct.Struct(">Q").unpack_from


def mended(payload: bytes, start: int) -> bytes:
    """A content header, its property flags at ``start``, with other types for some values in its table.

    Times before 1970 or after the year 9999 become integers, long strings that are no UTF-8 bytes, tables and lists
    with MAX_DEPTH others around them the bytes that they are made of.

    Raises IndexError, KeyError or struct.error for what is no header table.
    """
    data = bytearray(payload)
    flags = data[start] << 8 | data[start + 1]
    at = start + 2
    for flag in _IN_FRONT:
        if flags & flag:
            at += 1 + data[at]
    if flags & _HEADERS:
        _mend(data, at + 4, at + 4 + _size(data, at)[0])
    return bytes(data)


def _mend(data: bytearray, at: int, end: int) -> None:
    """Mend the table between two places. Without recursion: it may be nested as deeply as a frame is long."""
    named = True
    around: list[tuple[int, bool]] = []
    while True:
        while at >= end:
            if not around:
                return
            end, named = around.pop()
        if named:
            at += 1 + data[at]
        kind, place = data[at], at
        at += 1
        if kind in _FIXED:
            if kind == _TIME and _time(data, at)[0] > _LAST_TIME:
                data[place] = _INTEGER
            at += _FIXED[kind]
            continue
        if kind not in (_TEXT, _BYTES, _TABLE, _LIST):
            raise KeyError(kind)
        after = at + 4 + _size(data, at)[0]
        if kind == _TEXT and not _is_text(data[at + 4:after]):
            data[place] = _BYTES
        if kind in (_TABLE, _LIST):
            if len(around) + 1 < MAX_DEPTH:
                around.append((end, named))
                at, end, named = at + 4, after, kind == _TABLE
                continue
            data[place] = _BYTES
        at = after


def _is_text(data: bytearray) -> bool:
    try:
        data.decode()
        return True
    except UnicodeDecodeError:
        return False
