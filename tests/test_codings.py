"""Compressions and character sets of native bodies, as their producers mark them: undone, and done again."""

import bz2
import gzip
import io
import json
import lzma
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import kombu.compression
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.base import Envelope
from gateway.core.foreign import bodies
from gateway.core.foreign.bodies import Poison
from gateway.core.foreign.codings import coding_of
from gateway.core.foreign.properties import native_envelope

LIMIT = 1_000_000

TEXT = "früh €uro"


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def java_zip(data: bytes) -> bytes:
    """As Java's ZipOutputStream writes it: sizes after the data."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.written = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.written += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("amqp", data)
    return pipe.written


#: Properties by which producers mark a compression, what they do, and what undoes it for their consumers.
MARKS: dict[str, tuple[dict[str, Any], Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "gzip": ({"content_encoding": "gzip"}, gzip.compress, gzip.decompress),
    "GZIP": ({"content_encoding": "GZIP"}, gzip.compress, gzip.decompress),
    "deflate": ({"content_encoding": "deflate"}, zlib.compress, zlib.decompress),
    "deflate without a header": ({"content_encoding": "deflate"}, raw_deflate, zlib.decompress),
    "bzip2": ({"content_encoding": "bzip2"}, bz2.compress, bz2.decompress),
    "xz": ({"content_encoding": "xz"}, lzma.compress, lzma.decompress),
    "lzma alone": ({"content_encoding": "lzma"}, lambda d: lzma.compress(d, lzma.FORMAT_ALONE), lzma.decompress),
    **{
        f"kombu {name}": (
            {"content_encoding": "utf-8", "headers": {"compression": kombu.compression.compress(b"", name)[1]}},
            lambda data, name=name: kombu.compression.compress(data, name)[0],
            lambda data, name=name: kombu.compression.decompress(data, name),
        )
        for name in ("gzip", "zlib", "bzip2", "bzip", "lzma", "xz")
    },
    "kombu, named by an alias": (
        {"headers": {"compression": "zlib"}}, zlib.compress, lambda data: kombu.compression.decompress(data, "zlib"),
    ),
    "celery in another language": (
        {"content_encoding": "utf-8", "headers": {"compression": "application/x-gzip", "task": "a.b"}}, gzip.compress,
        zlib.decompress,
    ),
    "Spring 1.4": ({"content_encoding": "gzip:UTF-8", "headers": {"springAutoDecompress": True}}, gzip.compress,
                   gzip.decompress),
    "Spring 2.3": ({"content_encoding": "gzip, UTF-8", "headers": {"springAutoDecompress": True}}, gzip.compress,
                   gzip.decompress),
    "Spring deflate": ({"content_encoding": "deflate, UTF-8"}, zlib.compress, zlib.decompress),
    "Spring zip": ({"content_encoding": "zip"}, java_zip, lambda d: zipfile.ZipFile(io.BytesIO(d)).read("amqp")),
    "Spring zip of gzip": (
        {"content_encoding": "zip, gzip, UTF-8"}, lambda data: java_zip(gzip.compress(data)),
        lambda data: gzip.decompress(zipfile.ZipFile(io.BytesIO(data)).read("amqp")),
    ),
    "HTTP's order": (
        {"content_encoding": "gzip, bzip2"}, lambda data: bz2.compress(gzip.compress(data)),
        lambda data: bz2.decompress(gzip.decompress(data)),
    ),
    "NServiceBus gzip": ({"headers": {"Content-Encoding": "gzip"}}, gzip.compress, gzip.decompress),
    "NServiceBus deflate": (
        {"headers": {"Content-Encoding": "deflate"}}, raw_deflate, lambda data: zlib.decompress(data, -15),
    ),
    "NServiceBus zlib": ({"headers": {"Content-Encoding": "zlib"}}, zlib.compress, zlib.decompress),
    "NServiceBus's example": ({"headers": {"IWasCompressed": "true"}}, gzip.compress, gzip.decompress),
    "Rebus": (
        {"headers": {"rbs2-content-encoding": "gzip", "rbs2-content-type": "application/json;charset=utf-8"}},
        gzip.compress, gzip.decompress,
    ),
    "named twice": (
        {"content_encoding": "gzip", "headers": {"Content-Encoding": "gzip"}}, gzip.compress, gzip.decompress,
    ),
}

marked = pytest.mark.parametrize(("wanted", "pack", "unpack"), MARKS.values(), ids=MARKS)


def to_json(body: bytes, limit: int = LIMIT, **properties: Any) -> Any:
    return orjson.loads(bodies.to_json(Envelope(body, **{"content_type": None, **properties}), limit))


def posted(body: Any, **wanted: Any) -> bytes:
    return native_envelope(orjson.dumps(body), wanted, oslo=False, project="p").body


@marked
def test_marked_body_is_shown_and_goes_back(
    wanted: dict[str, Any], pack: Callable[[bytes], bytes], unpack: Callable[[bytes], bytes]
) -> None:
    for plain, content_type, expected in (
        (b'{"a": "fr\xc3\xbch"}', "application/json", {"a": "früh"}),
        ("früh".encode(), "text/plain", "früh"),
        (b"\xff\x00", "image/png", {"base64": "/wA=", "content_type": "image/png"}),
        (b"", "text/plain", ""),
    ):
        shown = to_json(pack(plain), content_type=content_type, **wanted)
        assert shown == expected
        again = posted(shown, content_type=content_type, **wanted)
        assert to_json(again, content_type=content_type, **wanted) == expected
        sent = unpack(again)
        assert sent == plain or json.loads(sent) == expected
        if not content_type.endswith("json"):
            assert sent == plain


@marked
def test_corrupt_and_large_bodies_are_poison(
    wanted: dict[str, Any], pack: Callable[[bytes], bytes], unpack: Callable[[bytes], bytes]
) -> None:
    packed = pack(bytes(range(256)) * 20)
    bad = (b"nothing of the kind", packed[:-30], packed[:10], packed[:20] + b"\xff" * 40 + packed[60:], packed[:1])
    for body in bad:
        with pytest.raises(Poison, match="body"):
            to_json(body, **wanted)
    with pytest.raises(Poison, match="over the limit"):
        to_json(pack(bytes(LIMIT + 1)), **wanted)
    assert len(to_json(pack(b"x" * LIMIT), **wanted)) == LIMIT


@marked
def test_bombs_take_little_memory_and_time(
    wanted: dict[str, Any], pack: Callable[[bytes], bytes], unpack: Callable[[bytes], bytes]
) -> None:
    bomb = pack(bytes(20_000_000))
    start = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(Poison):
            to_json(bomb, **wanted)
        assert tracemalloc.get_traced_memory()[1] < 16 * LIMIT  # liblzma takes half of it
    finally:
        tracemalloc.stop()
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(("wanted", "body"), [
    ({"content_encoding": "bzip2"}, bz2.compress(b"") * 50_000),
    ({"content_encoding": "xz"}, lzma.compress(b"") * 20_000),
    ({"content_encoding": "zip"}, java_zip(b"x") + b"PK\1\2" * 10_000),
    ({"content_encoding": ",".join(["gzip"] * 50)}, gzip.compress(b"1")),
    ({"content_encoding": "xz"}, lzma.compress(b"1", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 2**30}])),
], ids=["bzip2", "xz", "zip", "layers", "dictionary"])
def test_other_ways_to_take_time_and_memory_are_poison(wanted: dict[str, Any], body: bytes) -> None:
    start = time.monotonic()
    with pytest.raises(Poison):
        to_json(body, limit=8 * 1024 * 1024, **wanted)
    assert time.monotonic() - start < 2


def test_archive_by_a_method_without_a_bound_is_poison() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("amqp", bytes(1000))
    with pytest.raises(Poison, match="stored or deflated"):
        to_json(buffer.getvalue(), content_encoding="zip")
    with pytest.raises(Poison, match="archive"):
        to_json(b"PK\5\6" + bytes(18), content_encoding="zip")


#: Character sets as producers write them, and Python's names of them.
CHARSETS = {
    "iso-8859-15": "iso8859-15", "ISO_8859-15": "iso8859-15", "windows-1252": "cp1252", "cp1252": "cp1252",
    "utf-16": "utf-16", "UTF-16LE": "utf-16-le", "UTF-16BE": "utf-16-be", "utf-32": "utf-32", "GB18030": "gb18030",
    "utf-8": "utf-8", "UTF8": "utf-8",
}


@pytest.mark.parametrize(("name", "codec"), CHARSETS.items())
@pytest.mark.parametrize(
    "place", ["content_encoding", "content_type", "quoted", "both", "compressed", "kombu", "spring"]
)
def test_character_sets_are_undone_and_done_again(name: str, codec: str, place: str) -> None:
    packs = {"compressed": gzip.compress, "kombu": zlib.compress, "spring": gzip.compress}
    unpacks = {"compressed": gzip.decompress, "kombu": zlib.decompress, "spring": gzip.decompress}

    for content_type, plain, expected in (
        ("text/plain", TEXT, TEXT), ("application/json", json.dumps({"a": TEXT}, ensure_ascii=False), {"a": TEXT}),
    ):
        wanted: dict[str, Any] = {
            "content_encoding": {"content_encoding": name},
            "content_type": {"content_type": f"{content_type}; charset={name}"},
            "quoted": {"content_type": f'{content_type};Charset="{name}"'},
            "both": {"content_type": f"{content_type}; charset=koi8-r", "content_encoding": name},
            "compressed": {"content_type": f"{content_type}; charset={name}", "content_encoding": "gzip"},
            "kombu": {"content_encoding": name, "headers": {"compression": "application/x-gzip"}},
            "spring": {"content_encoding": f"gzip:{name}"},
        }[place]
        wanted = {"content_type": content_type, **wanted}
        wire = packs.get(place, bytes)(plain.encode(codec))
        assert to_json(wire, **wanted) == expected
        text = unpacks.get(place, bytes)(posted(expected, **wanted)).decode(codec)
        assert text == plain if isinstance(expected, str) else json.loads(text) == expected


@pytest.mark.parametrize("charset", [
    "binary", "identity", "7bit", "x-none", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined",
    "hex", "rot13", "base64", "zlib_codec", "os", "../etc", "é", "a" * 255,
])
def test_what_is_no_character_set_says_nothing(charset: str) -> None:
    for wanted in ({"content_encoding": charset}, {"content_type": f"text/plain; charset={charset}"}):
        assert to_json(TEXT.encode(), **wanted) == TEXT
        assert to_json(b"\xff", **wanted).keys() == {"base64", "content_type"}


def test_names_that_are_unknown_are_not_remembered() -> None:
    import encodings

    before = len(encodings._cache)  # type: ignore[attr-defined]
    for number in range(1000):
        to_json(b"1", content_encoding=f"charset-{number}", content_type=f"a/b; charset=set{number}")
    assert len(encodings._cache) <= before + 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(("charset", "body"), [("utf-16", b"\xff"), ("shift_jis", b"\x81"), ("utf-16-le", b"\0\xd8")])
def test_text_of_another_character_set_is_binary(charset: str, body: bytes) -> None:
    shown = to_json(body, content_encoding=charset)
    assert shown.keys() == {"base64", "content_type"}
    assert posted(shown, content_encoding=charset) == body


def test_json_of_a_small_character_set_has_escapes() -> None:
    sent = posted({"a": "ü€😀"}, content_type="application/json; charset=iso-8859-1")
    assert sent == b'{"a":"\xfc\\u20ac\\ud83d\\ude00"}'
    assert to_json(sent, content_type="application/json; charset=iso-8859-1") == {"a": "ü€😀"}


@pytest.mark.parametrize("wanted", [
    {"content_type": "text/plain; charset=iso-8859-1"},
    {"content_type": "text/plain", "content_encoding": "br"},
    {"content_type": "text/plain", "headers": {"compression": "application/zstd"}},
    {"content_type": "text/plain", "content_encoding": "gzip,gzip,gzip,gzip,gzip"},
])
def test_what_can_not_be_coded_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"character set|not known here|4 times"):
        posted("€", **wanted)


@pytest.mark.parametrize("wanted", [
    {"content_encoding": "br"}, {"content_encoding": "zstd"}, {"headers": {"compression": "application/zstd"}},
    {"headers": {"compression": "application/x-brotli"}}, {"headers": {"Content-Encoding": "br"}},
    {"content_encoding": "gzip, br"},
])
def test_compression_without_a_library_is_base64_and_goes_back(wanted: dict[str, Any]) -> None:
    for body in (b"\x8b\x00\x80", b"ascii by chance", b"1"):
        shown = to_json(body, **wanted)
        assert shown.keys() == {"base64", "content_type"}
        assert posted(shown, **wanted) == body


@pytest.mark.parametrize("headers", [
    {"compression": None}, {"compression": True}, {"compression": 5}, {"compression": b"gzip"}, {"compression": "fast"},
    {"compression": {"type": "gzip"}}, {"Content-Encoding": []}, {"IWasCompressed": "false"}, {"IWasCompressed": 0},
])
def test_headers_that_only_look_like_marks_say_nothing(headers: dict[str, Any]) -> None:
    assert to_json(b'{"a": 1}', headers=headers) == {"a": 1}


def test_gateways_own_headers_cost_nothing() -> None:
    assert coding_of("application/json", None, {"marconi-client": "c"}) is coding_of(None, None, {})


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=5,
)


@given(body=values, mark=st.sampled_from(list(MARKS)), charset=st.sampled_from(["", *CHARSETS, "iso-8859-1", "koi8-r"]))
def test_json_goes_round_in_any_coding(body: Any, mark: str, charset: str) -> None:
    wanted = {"content_type": f"application/json; charset={charset}", **MARKS[mark][0]}
    assert to_json(posted(body, **wanted), **wanted) == body
