"""Messages of native clients, from the bytes on the wire to the answer: shown, or put aside, and never in the way."""

import base64
import bz2
import gzip
import json
import lzma
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import amqp
import orjson
import pytest
from amqp.method_framing import frame_handler
from amqp.serialization import loads
from hypothesis import given
from hypothesis import strategies as st

from bridges.amqp.dialects import DIALECTS
from bridges.amqp.wire.decoder import decode
from bridges.amqp.wire.encoder import encode
from bridges.amqp.wire.frames import Frame, readable
from bridges.amqp.wire.tables import mended
from bridges.base import Envelope
from bridges.bridging import parse
from bridges.errors import PropertiesTooLarge
from bridges.memory import MemoryBridge
from gateway.api.v2 import render
from gateway.core.core import Core
from gateway.core.envelopes import EnvelopeReader
from gateway.core.foreign import compressions, oslo
from gateway.core.foreign.bodies import Poison, to_json
from gateway.core.foreign.properties import native_envelope
from gateway.core.poison import PoisonQueues
from gateway.core.queues.info import QueueInfo, Reads
from gateway.core.seal import Seal
from gateway.core.sealing import Sealing
from tests.fuzz.fuzzing import deep, fuzzed, json_texts, near, parsed, texts

FRAME_MAX = 131072
MAX_BODY = 100_000

wire_texts = st.binary(max_size=60) | texts.map(lambda text: text.encode("utf-8", "surrogatepass"))
shorts = wire_texts.map(lambda data: data[:255]).map(lambda data: bytes((len(data),)) + data)


def long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def fixed(letter: bytes, size: int) -> st.SearchStrategy[bytes]:
    """A field of so many bytes, whatever they are."""
    return st.binary(min_size=size, max_size=size).map(lambda data: letter + data)


#: Values of a field table, of every type that RabbitMQ passes on.
fields = st.recursive(
    st.one_of(
        wire_texts.map(lambda data: b"S" + long(data)), wire_texts.map(lambda data: b"x" + long(data)),
        fixed(b"b", 1), fixed(b"B", 1), fixed(b"t", 1), fixed(b"s", 2), fixed(b"u", 2), fixed(b"I", 4), fixed(b"i", 4),
        fixed(b"l", 8), fixed(b"f", 4), fixed(b"d", 8), fixed(b"D", 5), fixed(b"T", 8), st.just(b"V"),
        st.sampled_from([b"d\x7f\xf0" + bytes(6), b"d\x7f\xf8" + bytes(6), b"T" + bytes(8), b"D\xff\x7f\xff\xff\xff"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: b"A" + long(b"".join(items))),
        st.lists(st.tuples(shorts, inner), max_size=3).map(
            lambda items: b"F" + long(b"".join(key + value for key, value in items))
        ),
    ),
    max_leaves=8,
)

names = shorts | st.sampled_from([
    bytes((len(name),)) + name
    for name in (
        b"marconi-client", b"marconi-cipher", b"x-delivery-count", b"marconi-unreadable", b"CC", b"x-death",
        b"compression", b"Content-Encoding", b"IWasCompressed",
    )
])
#: Names of compressions and character sets, alone and in lists.
codings = st.lists(st.sampled_from([
    b"gzip", b"deflate", b"x-gzip", b"utf-8", b"zip", b"bzip2", b"xz", b"zlib", b"br", b"application/x-gzip", b"binary",
    b"application/x-bz2", b"application/x-lzma", b"application/zstd", b"utf-16", b"iso-8859-1", b"shift_jis", b"koi8-r",
]), min_size=1, max_size=3).flatmap(lambda names: st.sampled_from([b":", b", ", b" "]).map(lambda s: s.join(names)))
tables = st.lists(st.tuples(names, fields | codings.map(lambda data: b"S" + long(data))), max_size=5).map(
    lambda items: long(b"".join(key + value for key, value in items))
) | st.sampled_from([30, 300, 3000, 15_000]).map(
    lambda levels: long(b"".join(b"\1aF" + struct.pack(">I", 7 * left) for left in range(levels - 1, -1, -1)))
)

ids = shorts | st.just(b"\x24ffffffff-ffff-7fff-bfff-ffffffffffff")
encodings = shorts | codings.map(lambda data: bytes((len(data),)) + data)
types = shorts | codings.map(lambda data: b"text/plain; charset=" + data).map(lambda data: bytes((len(data),)) + data)
expirations = shorts | st.sampled_from([b"\x0560000", b"\0010", b"\2-1", b"\xff" + b"9" * 255])

#: Properties in the order of their flags, from the highest bit on.
PROPERTIES = [
    types, encodings, tables, st.binary(min_size=1, max_size=1), st.binary(min_size=1, max_size=1), shorts, shorts,
    expirations, ids, st.binary(min_size=8, max_size=8), shorts, shorts, shorts, shorts,
]


@st.composite
def property_lists(draw: st.DrawFn) -> bytes:
    """Property flags and the properties that they announce."""
    flags, values = 0, []
    for bit, kind in zip(range(15, 1, -1), PROPERTIES, strict=True):
        if draw(st.booleans()):
            flags |= 1 << bit
            values.append(draw(kind))
    return struct.pack(">H", flags) + b"".join(values)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    plain = draw(json_texts | notifications | st.binary(max_size=200) | st.just(b"0" * 2 * MAX_BODY))
    for _ in range(draw(st.integers(0, 3))):
        plain = draw(st.sampled_from([
            gzip.compress, zlib.compress, bz2.compress, lzma.compress, compressions.ZIP.pack, compressions.DEFLATE.pack,
            lambda data: data[:-3], lambda data: data.decode(errors="replace").encode("utf-16"),
        ]))(plain)
    return plain


#: What looks like a notification of oslo.messaging.
inner = st.fixed_dictionaries(
    {"event_type": near(st.just("a.b"), parsed), "payload": parsed}, optional={"priority": parsed, "_context_x": parsed}
)
notifications = st.one_of(
    inner, st.tuples(inner | parsed).map(
        lambda one: {"oslo.version": "2.0", "oslo.message": json.dumps(one[0])}
    )
).map(lambda value: json.dumps(value).encode()) | st.sampled_from([250, 260, 900]).map(
    lambda levels: b'{"event_type":"a","payload":' + deep(levels) + b"}"
)


def received(properties: bytes, body: bytes, exchange: bytes = b"", key: bytes = b"") -> Envelope:
    """What the bridge makes of a message's bytes: as py-amqp reads it from a get's answer."""
    got: list[amqp.Message] = []

    def on_method(channel: int, method: tuple[int, int], payload: bytes, content: amqp.Message) -> None:
        (_, redelivered, name, routing_key, _), _ = loads("Lbssl", payload, 4)
        content.delivery_info = {"redelivered": redelivered, "exchange": name, "routing_key": routing_key}
        got.append(content)

    class Counter:
        bytes_recv = 0

    handle: Callable[[Frame], Any] = readable(frame_handler(Counter(), on_method))
    names = bytes((len(exchange),)) + exchange + bytes((len(key),)) + key
    handle((1, 1, b"\0\x3c\0\x47" + bytes(7) + b"\1\0" + names + bytes(4)))
    handle((2, 1, b"\0\x3c\0\0" + struct.pack(">Q", len(body)) + properties))
    if body:
        handle((3, 1, body))
    (message,) = got
    return decode(message, DIALECTS["RabbitMQ"])


def bridged(info: QueueInfo, **more: Any) -> QueueInfo:
    """The queue as one that is bridged to somebody else's, with properties shown."""
    from dataclasses import replace

    bridging = parse({"source": {"queue": "foreign"}, "properties": True, **more})
    return replace(info, settings=replace(info.settings, bridging=bridging), reads=Reads.FOREIGN_QUEUE_PEEKED)


def shown(core: Core, info: QueueInfo, envelope: Envelope) -> Any:
    """The message as an answer shows it. Raises Poison."""
    reader = EnvelopeReader(core.ids, MAX_BODY, Sealing(Seal()))
    message = reader.message(info, envelope, core.now())
    answer = orjson.dumps({"messages": [render.message("/v2/queues/q", message, core.now(), checksum=True)]})
    render.edge("/v2/queues/q", message, core.now())
    core.pool.store.landed.purge(info.key)
    assert core.pool.store.landed.land(info.key, [message]) == set()
    assert message.expires >= message.posted or envelope.ttl is not None and envelope.ttl < 0
    return json.loads(answer)["messages"][0]


@fuzzed
@given(properties=property_lists(), body=bodies(), exchange=wire_texts, key=wire_texts)
def test_every_message_is_shown_or_put_aside(
    core: Core, info: QueueInfo, properties: bytes, body: bytes, exchange: bytes, key: bytes
) -> None:
    envelope = received(properties, body, exchange[:255], key[:255])
    assert envelope.body == body
    for queue in (info, bridged(info), bridged(info, format="oslo")):
        start = time.monotonic()
        try:
            shown(core, queue, envelope)
        except Poison:
            PoisonQueues(core.pool.bridge).put_aside(queue, envelope, "reason")
        assert time.monotonic() - start < 2
    try:
        encode(1, "", "marconi-poison.p.q", [envelope], FRAME_MAX)
    except PropertiesTooLarge:
        assert len(properties) > FRAME_MAX - 5000


def table(*items: bytes) -> bytes:
    """Properties that are a header table and nothing else."""
    return b"\x20\0" + long(b"".join(items))


@pytest.mark.parametrize("properties", [
    table(b"\1\xff" + b"V"),
    table(b"\1a?"),
    table(b"\1aS" + struct.pack(">I", 100)),
    table(b"\1aT" + b"\xff" * 8, b"\1\xffV"),
    b"\0\x80" + b"\2\xff\xfe",
    b"\x80\0" + b"\3\xed\xa0\x80",
    b"\x80\0" + b"\xff",
], ids=["key", "type", "too long", "key and year", "id", "content type", "cut off"])
def test_unreadable_properties_make_poison_and_no_exception(core: Core, info: QueueInfo, properties: bytes) -> None:
    envelope = received(properties, b"1")
    assert envelope.readable is (properties in (b"\x80\0\xff", table(b"\1aS" + struct.pack(">I", 100))))
    # What is only short says what it has.
    if not envelope.readable:
        assert envelope.headers["marconi-unreadable"]
        with pytest.raises(Poison, match="properties"):
            shown(core, info, envelope)


def integer(value: int) -> bytes:
    return struct.pack(">q", value)


def nested(levels: int, letter: bytes, inside: bytes = b"") -> bytes:
    """A value that is that deep."""
    key = b"\1a" if letter == b"F" else b""
    for _ in range(levels):
        inside = letter + long(inside and key + inside)
    return inside


def base64_of(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


#: Values of header tables as they are on the wire, and how they are shown.
VALUES: dict[str, tuple[bytes, Any]] = {
    "true": (b"t\1", True), "false": (b"t\0", False),
    "signed byte": (b"b\x80", -128), "unsigned byte": (b"B\xff", 255),
    "signed short": (b"s\x80\0", -32768), "unsigned short": (b"u\xff\xff", 65535), "short": (b"U\xff\xff", -1),
    "signed long": (b"I\x80\0\0\0", -(2**31)), "unsigned long": (b"i" + b"\xff" * 4, 2**32 - 1),
    "signed 64 bits": (b"l" + integer(-(2**63)), -(2**63)), "64 bits": (b"L" + integer(2**63 - 1), 2**63 - 1),
    "float": (b"f" + struct.pack(">f", 1.5), 1.5), "double": (b"d" + struct.pack(">d", -1e308), -1e308),
    "no number": (b"d" + struct.pack(">d", float("nan")), "NaN"), "inf": (b"f\x7f\x80\0\0", "Infinity"),
    "minus inf": (b"d" + struct.pack(">d", float("-inf")), "-Infinity"),
    "decimal": (b"D\2" + struct.pack(">i", -12345), "-123.45"), "decimal of no places": (b"D\0\0\0\0\7", "7"),
    "decimal of many places": (b"D\xff\0\0\0\1", "1E-255"),
    "text": (b"S" + long("früh".encode()), "früh"), "text with a zero": (b"S" + long(b"a\0b"), "a\0b"),
    "text that is Latin-1": (b"S" + long(b"fr\xfch"), base64_of(b"fr\xfch")),
    "half a surrogate": (b"S" + long(b"\xed\xa0\x80"), base64_of(b"\xed\xa0\x80")),
    "bytes": (b"x" + long(b"\xff\0"), base64_of(b"\xff\0")), "bytes that are text": (b"x" + long(b"ab"), "ab"),
    "nothing": (b"V", None),
    "time": (b"T" + integer(1_700_000_000), "2023-11-14T22:13:20"), "epoch": (b"T" + integer(0), "1970-01-01T00:00:00"),
    "last second": (b"T" + integer(253_402_300_799), "9999-12-31T23:59:59"),
    "a second later": (b"T" + integer(253_402_300_800), 253_402_300_800),
    "milliseconds": (b"T" + integer(1_700_000_000_000), 1_700_000_000_000),
    "before 1970": (b"T" + integer(-1), -1), "the least": (b"T" + integer(-(2**63)), -(2**63)),
    "empty table": (b"F" + long(b""), {}), "empty list": (b"A" + long(b""), []),
    "table": (b"F" + long(b"\1aV\1bT" + integer(-5)), {"a": None, "b": -5}),
    "list": (b"A" + long(b"T" + integer(-5) + b"F" + long(b"\1af\x7f\x80\0\0")), [-5, {"a": "Infinity"}]),
}


@pytest.mark.parametrize(("value", "expected"), VALUES.values(), ids=VALUES)
def test_every_value_of_amqp_is_shown(core: Core, info: QueueInfo, value: bytes, expected: Any) -> None:
    wire = b"\xe0\0" + b"\4a/b " + b"\5utf-8" + long(b"\1hV\5valueT" + integer(-1) + b"\1v" + value + b"\1zt\1")
    envelope = received(wire, b'"body"')
    assert envelope.content_type == "a/b "
    message = shown(core, bridged(info), envelope)
    assert message["properties"]["headers"] == {"h": None, "value": -1, "v": expected, "z": True}
    for queue in (info, bridged(info, properties=False)):
        assert shown(core, queue, envelope)["body"] == "body"
    again = encode(1, "", "q", [envelope], FRAME_MAX)
    assert again, "it can be put aside"


@pytest.mark.parametrize("letter", [b"F", b"A"])
@pytest.mark.parametrize("levels", [99, 100, 300, 3000, 15_000])
def test_tables_of_any_depth_are_shown(core: Core, info: QueueInfo, letter: bytes, levels: int) -> None:
    envelope = received(table(b"\1d" + nested(levels, letter), b"\1eV"), b"1")
    assert envelope.readable
    headers = shown(core, bridged(info), envelope)["properties"]["headers"]
    assert headers["e"] is None
    depth, value = 0, headers["d"]
    while value and not isinstance(value, str) and "base64" not in value:
        depth, value = depth + 1, value["a"] if letter == b"F" else value[0]
    assert depth == levels - 1 if levels < 101 else depth == 99
    encode(1, "", "q", [envelope], FRAME_MAX)


@pytest.mark.parametrize(("seconds", "expected"), [
    (0, 0), (1_700_000_000, 1_700_000_000), (1_700_000_000_000, 1_700_000_000_000), (-1, -1), (-(2**63), -(2**63)),
])
def test_timestamp_of_a_message_is_the_number_that_it_is(
    core: Core, info: QueueInfo, seconds: int, expected: int
) -> None:
    envelope = received(b"\0\x40" + integer(seconds), b"1")
    assert shown(core, bridged(info), envelope)["properties"]["timestamp"] == expected
    assert integer(seconds) in encode(1, "", "q", [envelope], FRAME_MAX)


@fuzzed
@given(properties=property_lists())
def test_what_is_mended_says_the_same(properties: bytes) -> None:
    """Mending changes types alone, and nothing of what could be read before."""
    payload = bytes(12) + properties
    try:
        better = mended(payload, 12)
    except (IndexError, KeyError, struct.error):
        return
    assert len(better) == len(payload)
    assert {old for old, new in zip(payload, better, strict=True) if old != new} <= set(b"TSFA")
    assert {new for old, new in zip(payload, better, strict=True) if old != new} <= set(b"lx")
    assert mended(better, 12) == better


def test_names_that_are_no_text_are_readable() -> None:
    envelope = received(b"\0\0", b"1", b"e\xff", b"\xed\xa0\x80k" + b"\xff" * 250)
    assert (envelope.exchange, envelope.routing_key[:4]) == ("e?", "???k")


def test_somebodys_own_count_of_deliveries_counts_as_none() -> None:
    assert received(table(b"\x10x-delivery-countS" + long(b"many")), b"1").deliveries == 0


def test_id_of_a_day_to_come_makes_no_message_of_a_day_to_come(core: Core, info: QueueInfo) -> None:
    envelope = Envelope(b"1", message_id="ffffffff-ffff-7fff-bfff-ffffffffffff", headers={"marconi-client": "c"})
    message = shown(core, info, envelope)
    assert message["ttl"] > 0 and message["age"] == 0


@pytest.mark.parametrize("levels", [300, 900, 1010])
def test_json_that_is_nested_too_deeply_is_text(core: Core, info: QueueInfo, levels: int) -> None:
    body = deep(levels)
    assert shown(core, info, Envelope(body))["body"] == body.decode()
    notification = b'{"event_type":"a","payload":' + body + b"}"
    assert oslo.unwrap(notification) == notification


def test_gzip_data_of_many_pieces_takes_no_time() -> None:
    bomb = Envelope(gzip.compress(b"") * 50_000, content_encoding="gzip")
    start = time.monotonic()
    with pytest.raises(Poison, match="pieces"):
        to_json(bomb, 8 * 1024 * 1024)
    assert time.monotonic() - start < 2


def test_poison_with_as_many_headers_as_a_frame_holds_is_put_aside(core: Core, info: QueueInfo) -> None:
    bridge = core.pool.bridge
    limited: list[Envelope] = []

    def publish(queue: str, envelopes: list[Envelope]) -> None:
        encode(1, "", queue, envelopes, FRAME_MAX)
        limited.extend(envelopes)

    bridge.deposit = publish
    PoisonQueues(bridge).put_aside(info, Envelope(b"1", headers={"a": "b" * (FRAME_MAX - 60)}), "a reason")
    assert [dict(envelope.headers) for envelope in limited] == [{"marconi-reason": "a reason"}]


posted = st.fixed_dictionaries({}, optional={
    name: near(st.text(max_size=20), parsed)
    for name in ("content_type", "content_encoding", "correlation_id", "reply_to", "type", "app_id")
} | {
    "headers": near(st.dictionaries(st.text(max_size=20), parsed, max_size=4), parsed),
    "priority": near(st.integers(0, 255), parsed),
    "unknown": parsed,
})


@fuzzed
@given(near(posted, st.dictionaries(st.text(max_size=5), parsed)), near(parsed, inner), st.booleans())
def test_what_is_posted_to_a_target_can_be_sent_or_is_refused(wanted: dict[str, Any], body: Any, notify: bool) -> None:
    try:
        envelope = native_envelope(orjson.dumps(body), wanted, notify, "p")
    except ValueError:
        return
    data = encode(1, "e", "k", [envelope], FRAME_MAX)
    size = struct.unpack_from(">I", data, 3)[0] + 8
    length, = struct.unpack_from(">I", data, size + 3)
    again = received(data[size + 7 + 12:size + 7 + length], envelope.body)
    assert again.readable
    for name in ("content_type", "content_encoding", "correlation_id", "reply_to", "type", "app_id", "priority"):
        assert getattr(again, name) == getattr(envelope, name)
    assert again.headers == envelope.headers


#: Properties of a shown message that a poster may set.
SETTABLE = {"headers", "content_type", "content_encoding", "priority", "correlation_id", "reply_to", "type", "app_id"}


@fuzzed
@given(properties=property_lists(), body=bodies())
def test_what_is_shown_can_be_posted_back_and_is_shown_so_again(
    core: Core, info: QueueInfo, properties: bytes, body: bytes
) -> None:
    queue = bridged(info)
    try:
        message = shown(core, queue, received(properties, body))
    except Poison:
        return
    kept = {name: value for name, value in message["properties"].items() if name in SETTABLE}
    event = message["body"]
    try:
        envelope = native_envelope(json.dumps(event).encode(), kept, False, "p")
    except ValueError:
        return
    if isinstance(event, str) and "json" not in str(kept.get("content_type", "json")).lower():
        plain = native_envelope(json.dumps(event).encode(), {"content_type": "text/plain"}, False, "p")
        event = json.loads(to_json(plain, MAX_BODY))  # text that is JSON was JSON text in quotes
    again = shown(core, queue, envelope)
    if isinstance(event, dict) and event.keys() == {"base64", "content_type"}:
        again["body"]["content_type"] = event["content_type"]  # without one it is application/octet-stream
    assert again["body"] == event
    assert again["properties"].get("headers", {}) == kept.get("headers", {})


def test_headers_that_nest_too_deeply_are_refused() -> None:
    for levels in (40, 250, 900):
        with pytest.raises(ValueError, match="deep"):
            native_envelope(b"1", {"headers": orjson.loads(deep(levels))}, False, "p")


def test_headers_of_posts_are_not_all_remembered() -> None:
    from bridges.amqp.wire import encoder

    encoder._string_table.cache_clear()
    encode(1, "e", "k", [Envelope(b"1", headers={"a": "x" * 100_000})], FRAME_MAX)
    encode(1, "e", "k", [Envelope(b"1", headers={str(i): "x" for i in range(1000)})], FRAME_MAX)
    assert encoder._string_table.cache_info().currsize == 0


@fuzzed
@given(json_texts | notifications)
def test_unwrapping_keeps_json_json(body: bytes) -> None:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    orjson.loads(oslo.unwrap(body))


def test_a_batch_with_one_unreadable_message_lands_the_others(
    core: Core, bridge: MemoryBridge, info: QueueInfo
) -> None:
    bridge.publish(info.broker, [Envelope(b"1"), Envelope(b"2", readable=False), Envelope(b"3")])
    assert [m.body for m in core.claims.create(info, None, None, 10)] == [b"1", b"3"]
    assert bridge.depth(info.broker.replace("marconi.", "marconi-poison.", 1)) == 1


