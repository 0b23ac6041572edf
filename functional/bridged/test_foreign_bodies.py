"""What native producers send, as HTTP clients see it; and what can't be shown, put aside."""

import base64
import bz2
import calendar
import gzip
import json
import lzma
import time
import zlib
from datetime import UTC, datetime
from decimal import Decimal

import celery
import kombu
import pytest

from bridges.amqp.dialects.rabbitmq import RabbitMQ
from functional.api.helpers import bodies, claim, get_message, listed, messages_path, stats
from functional.bridged.conftest import MAX_BODY
from functional.bridged.helpers import (
    QUORUM,
    SOON,
    bridge,
    claimed,
    from_exchange,
    from_queue,
    own_queue,
    poison_queue,
    post_raw,
    to_exchange,
)
from functional.test_metrics import value_of
from functional.wait import wait_until

#: Properties that a poster may set.
SETTABLE = (
    "headers", "content_type", "content_encoding", "priority", "correlation_id", "reply_to", "type", "app_id",
)

BINARY = b"\x89PNG\r\n\x00\xff"


def as_base64(body, content_type):
    return {"base64": base64.b64encode(body).decode(), "content_type": content_type}


def raw_deflate(body):
    """Without zlib's header, as some senders understand "deflate"."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()


class Seconds(datetime):
    """A time of any number of seconds, as pika writes it into a header."""

    def __new__(cls, seconds):
        self = super().__new__(cls, 2000, 1, 1)
        self.seconds = seconds
        return self

    def utctimetuple(self):
        return self


@pytest.fixture(autouse=True)
def any_time(monkeypatch):
    """Have pika write times as AMQP allows them: 64 bits."""
    real = calendar.timegm
    monkeypatch.setattr(
        calendar, "timegm", lambda value: value.seconds % 2**64 if isinstance(value, Seconds) else real(value)
    )


@pytest.fixture
def theirs(api, native, queue):
    """A queue on the broker, bridged to `queue` with properties."""
    name = native.queue()
    bridge(api, queue, source=from_queue(name), properties=True)
    return name


def _skip_if_decompressed(broker, encoding):
    if broker.name == "qpid" and encoding == "gzip":
        pytest.skip("the broker decompresses it for consumers")


# -- bodies ---------------------------------------------------------------------------------------------------------

#: Body, content type, content encoding, and what `body` is then.
BODIES = {
    "JSON": (b'{"a": [1, 2.5, null]}', "application/json", None, {"a": [1, 2.5, None]}),
    "JSON without a type": (b"[1]", None, None, [1]),
    "JSON under another type": (b'{"a": 1}', "text/plain", None, {"a": 1}),
    "JSON with an encoding of characters": (b'{"a": 1}', "application/json", "utf-8", {"a": 1}),
    "text": (b"plain text", "text/plain", None, "plain text"),
    "text in UTF-8": ("früh ☕".encode(), "text/plain", "utf-8", "früh ☕"),
    "text that is called JSON": (b"{not json", "application/json", None, "{not json"),
    "NaN": (b"NaN", "application/json", None, "NaN"),
    "XML": (b"<a/>", "application/xml", None, "<a/>"),
    "nothing": (b"", None, None, ""),
    "binary": (BINARY, "image/png", None, as_base64(BINARY, "image/png")),
    "binary without a type": (BINARY, None, None, as_base64(BINARY, None)),
    "Latin-1": ("früh".encode("latin-1"), "text/plain", "latin-1", "früh"),
    "Latin-1 of a content type": (
        '{"a": "früh"}'.encode("latin-1"), "application/json; charset=iso-8859-1", None, {"a": "früh"},
    ),
    "Latin-1 that does not say so": ("früh".encode("latin-1"), "text/plain", None, as_base64(b"fr\xfch", "text/plain")),
    "UTF-16": ('{"a": "früh"}'.encode("utf-16"), "application/json", "utf-16", {"a": "früh"}),
    "UTF-16 that is broken": (b"\xff", "text/plain", "utf-16", as_base64(b"\xff", "text/plain")),
    "gzip": (gzip.compress(b'{"a": 1}'), "application/json", "gzip", {"a": 1}),
    "gzip of text": (gzip.compress("früh".encode()), "text/plain", "gzip", "früh"),
    "gzip of binary": (gzip.compress(BINARY), "image/png", "gzip", as_base64(BINARY, "image/png")),
    "gzip of nothing": (gzip.compress(b""), None, "gzip", ""),
    "gzip that is empty": (b"", None, "gzip", ""),
    "gzip of two parts": (gzip.compress(b"[1, ") + gzip.compress(b"2]"), None, "gzip", [1, 2]),
    "GZIP": (gzip.compress(b"1"), None, "GZIP", 1),
    "deflate": (zlib.compress(b'{"a": 1}'), "application/json", "deflate", {"a": 1}),
    "deflate without a header": (raw_deflate(b'{"a": 1}'), "application/json", "deflate", {"a": 1}),
    "gzip of Latin-1, as Spring writes it": (
        gzip.compress("früh".encode("latin-1")), "text/plain", "gzip:ISO-8859-1", "früh",
    ),
    "gzip, as Spring writes it since 2.3": (gzip.compress(b"[1]"), "application/json", "gzip, UTF-8", [1]),
    "bzip2": (bz2.compress(b"[1]"), None, "bzip2", [1]),
    "xz": (lzma.compress(b"[1]"), None, "xz", [1]),
    "gzip that does not say so": (b"\x1f\x8b\x08\x00", None, None, as_base64(b"\x1f\x8b\x08\x00", None)),
    "unknown encoding": (BINARY, "image/png", "br", as_base64(BINARY, "image/png")),
    "deep": (b"[" * 5000 + b"]" * 5000, "application/json", None, "[" * 5000 + "]" * 5000),
    "as large as may be": (b'"' + b"x" * (MAX_BODY - 2) + b'"', None, None, "x" * (MAX_BODY - 2)),
    "as large as may be, unpacked": (gzip.compress(b"x" * MAX_BODY), None, "gzip", "x" * MAX_BODY),
}


@pytest.mark.parametrize(("body", "content_type", "encoding", "shown"), BODIES.values(), ids=BODIES)
def test_foreign_body(api, native, queue, theirs, body, content_type, encoding, shown):
    native.publish(body, queue=theirs, content_type=content_type, content_encoding=encoding)

    seen = wait_until(lambda: listed(api, queue), SOON, "the message")
    (message,) = claimed(api, queue, 1)

    assert bodies(seen) == [shown]
    assert message["body"] == shown


def test_celerys_task_message(api, native, queue, rabbitmq, theirs):
    with celery.Celery("shop", broker=rabbitmq.uri, set_as_current=False) as app:
        app.conf.task_default_queue = native.exchange("direct", theirs)  # celery's exchange is named like its queue
        result = app.send_task("shop.send_invoice", args=[4711], kwargs={"currency": "EUR"}, priority=3)

    (message,) = claimed(api, queue, 1)

    args, kwargs, embedded = message["body"]
    assert (args, kwargs) == ([4711], {"currency": "EUR"})
    assert embedded.keys() >= {"callbacks", "errbacks", "chain", "chord"}
    properties = message["properties"]
    assert properties["content_type"] == "application/json"
    assert properties["content_encoding"] == "utf-8"
    assert properties["correlation_id"] == result.id
    assert properties["priority"] == 3
    assert properties["headers"]["task"] == "shop.send_invoice"
    assert properties["headers"]["id"] == result.id
    assert properties["headers"]["lang"] == "py"
    assert properties["headers"]["retries"] == 0
    assert properties["headers"]["eta"] is None


# -- compressions and character sets, as their producers write them --------------------------------------------------


@pytest.fixture
def both_ways(api, native, queue):
    """Two queues on the broker: `queue` reads from the first, with properties, and posts to the second."""
    names = native.queue(), native.queue()
    bridge(api, queue, source=from_queue(names[0]), target=to_exchange("", names[1]), properties=True)
    return names


def posted_back(api, queue):
    """Claim the message, and post it with the properties that can be set; returns what was claimed."""
    (message,) = claimed(api, queue, 1)
    kept = {name: value for name, value in message["properties"].items() if name in SETTABLE}
    response = post_raw(api, queue, {"body": message["body"], "properties": kept})
    assert response.status_code == 201, response.text
    return message


def heard_by_kombu(rabbitmq, name):
    """The next message of a queue, as kombu's own consumer decodes it: the raw body, and its value."""
    queue = kombu.Queue(name, no_declare=True)
    with kombu.Connection(rabbitmq.uri) as connection, connection.SimpleQueue(queue) as theirs:
        message = theirs.get(timeout=SOON)
        message.ack()
        return message.body, message.decode()


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "lzma"])
@pytest.mark.parametrize(("serializer", "value"), [
    ("json", {"a": [1, "früh"], "b": None}), ("json", "früh"), (None, "früh ☕"), (None, b"\x89PNG\xff"),
])
def test_kombus_compressions_go_round(api, native, queue, rabbitmq, both_ways, compression, serializer, value):
    theirs, others = both_ways
    with kombu.Connection(rabbitmq.uri) as connection:
        connection.Producer(routing_key=theirs).publish(value, serializer=serializer, compression=compression)

    message = posted_back(api, queue)

    expected = as_base64(value, "application/data") if isinstance(value, bytes) else value
    assert message["body"] == expected
    assert message["properties"]["headers"]["compression"].startswith("application/x-")
    raw, decoded = heard_by_kombu(rabbitmq, others)
    assert decoded == value
    assert serializer == "json" or raw in (value, str(value).encode(), value if isinstance(value, str) else b"")


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "lzma"])
def test_celerys_compressed_task_goes_round_to_a_worker(api, native, queue, rabbitmq, both_ways, compression):
    theirs, others = both_ways
    with celery.Celery("shop", broker=rabbitmq.uri, set_as_current=False) as app:
        app.conf.task_compression = compression
        app.conf.task_default_queue = native.exchange("direct", theirs)
        native.channel.queue_bind(theirs, theirs, theirs)
        result = app.send_task("shop.send_invoice", args=["früh"], kwargs={"currency": "EUR"})

    message = posted_back(api, queue)

    assert message["body"][:2] == [["früh"], {"currency": "EUR"}]
    _, (args, kwargs, _) = heard_by_kombu(rabbitmq, others)
    assert (args, kwargs) == (["früh"], {"currency": "EUR"})
    assert message["properties"]["headers"]["id"] == result.id


#: Properties by which other producers mark a compression, what they do, and what their consumers do.
CODED = {
    "content encoding": ({"content_encoding": "gzip"}, gzip.compress, gzip.decompress),
    "Spring": (
        {"content_encoding": "gzip, ISO-8859-1", "headers": {"springAutoDecompress": True}}, gzip.compress,
        gzip.decompress,
    ),
    "Spring's deflate": ({"content_encoding": "deflate:UTF-8"}, zlib.compress, zlib.decompress),
    "NServiceBus": ({"headers": {"Content-Encoding": "deflate"}}, raw_deflate, lambda body: zlib.decompress(body, -15)),
    "NServiceBus's example": ({"headers": {"IWasCompressed": "true"}}, gzip.compress, gzip.decompress),
    "Rebus": ({"headers": {"rbs2-content-encoding": "gzip"}}, gzip.compress, gzip.decompress),
    "unknown here": ({"content_encoding": "br"}, lambda body: b"\x8b\xff" + body, lambda body: body[2:]),
    "character set": ({"content_encoding": "utf-16-le"}, bytes, bytes),
}


@pytest.mark.parametrize(("properties", "pack", "unpack"), CODED.values(), ids=CODED)
@pytest.mark.parametrize(("content_type", "plain"), [
    ("application/json", '{"a":"früh"}'), ("text/plain", "früh"), ("image/png", BINARY),
], ids=["JSON", "text", "binary"])
def test_message_is_posted_back_as_it_came(
    api, native, queue, shared_broker, both_ways, properties, pack, unpack, content_type, plain
):
    _skip_if_decompressed(shared_broker, properties.get("content_encoding"))
    theirs, others = both_ways
    charset = properties.get("content_encoding", "").rpartition(" ")[2]
    charset = charset if charset.startswith(("ISO", "utf-16")) else "utf-8"
    body = plain if isinstance(plain, bytes) else plain.encode(charset)
    native.publish(pack(body), queue=theirs, content_type=content_type, **properties)

    posted_back(api, queue)

    ((_, sent, again),) = native.take(others)
    assert unpack(again) == body
    assert (sent.content_type, sent.content_encoding) == (content_type, properties.get("content_encoding"))
    assert {k: v for k, v in (sent.headers or {}).items() if k != "x-delivery-count"} == properties.get("headers", {})


# -- properties -----------------------------------------------------------------------------------------------------


def test_all_properties_are_shown(api, native, queue, shared_broker):
    exchange = native.exchange("topic")
    bridge(api, queue, source=from_exchange(exchange, "topic", binding_keys=["#"]), properties=True)
    stamp = int(time.time())
    expiration = "600000" if shared_broker.name == "rabbitmq" else str(1000 * stamp + 600_000)
    native.publish(
        b"1", exchange=exchange, key="orders.new", content_type="application/json", content_encoding="utf-8",
        headers={"colour": "red", "count": 3, "ok": True, "nothing": None, "nested": {"list": [1, "two"]}},
        priority=7, correlation_id="c-1", reply_to="answers", message_id="m-1",
        expiration=expiration, timestamp=stamp, type="order.new", app_id="shop",
    )

    (seen,) = wait_until(lambda: listed(api, queue), SOON, "the message")
    (message,) = claimed(api, queue, 1)

    assert message["properties"] == seen["properties"]
    shown = dict(message["properties"])
    assert shown.pop("timestamp") in (stamp, datetime.fromtimestamp(stamp, UTC).isoformat())
    assert shown == {
        "content_type": "application/json", "content_encoding": "utf-8",
        "headers": {"colour": "red", "count": 3, "ok": True, "nothing": None, "nested": {"list": [1, "two"]}},
        "priority": 7, "correlation_id": "c-1", "reply_to": "answers", "expiration": "600000", "message_id": "m-1",
        "type": "order.new", "app_id": "shop", "exchange": exchange, "routing_key": "orders.new",
    }
    assert message["id"] == "m-1"
    assert get_message(api, queue, "m-1").json()["properties"] == message["properties"]


def test_only_properties_that_are_set_are_shown(api, native, queue, theirs):
    native.publish(b"1", queue=theirs)

    (message,) = claimed(api, queue, 1)

    assert message["properties"] == {"exchange": "", "routing_key": theirs}


def test_properties_are_shown_by_a_pop_too(api, native, queue, theirs):
    native.publish(b"1", queue=theirs, type="order")

    (message,) = api.delete(messages_path(queue), params={"pop": 1}).json()["messages"]

    assert message["properties"]["type"] == "order"


def test_properties_are_not_shown_unless_asked_for(api, native, queue):
    name = native.queue()
    bridge(api, queue, source=from_queue(name))
    native.publish(b"1", queue=name, type="order")

    seen = wait_until(lambda: listed(api, queue), SOON, "the message")

    assert "properties" not in seen[0]
    assert "properties" not in claimed(api, queue, 1)[0]


@pytest.mark.parametrize("value", [
    b"\xff\x00", Decimal("1.25"), datetime(2026, 11, 23, 10, 0, tzinfo=UTC), 2**62, [b"\xff", {"when": Decimal("2")}],
], ids=str)
def test_headers_beyond_json_are_shown_somehow(api, native, queue, theirs, value):
    native.publish(b"1", queue=theirs, headers={"odd": value, "plain": "text"})

    seen = wait_until(lambda: listed(api, queue), SOON, "the message")
    (message,) = claimed(api, queue, 1)

    assert seen[0]["properties"]["headers"]["plain"] == "text"
    assert message["properties"]["headers"].keys() == {"odd", "plain"}


def test_own_queue_of_the_gateway_shows_no_properties(api, queue):
    """Nothing has changed for queues without `_bridge`."""
    api.post(messages_path(queue), json={"messages": [{"body": 1}]})

    assert claimed(api, queue, 1)[0].keys() == {"id", "href", "ttl", "age", "body"}


# -- poison ---------------------------------------------------------------------------------------------------------

#: Body and content encoding.
POISON = {
    "too large": (b"x" * (MAX_BODY + 1), None),
    "too large, packed": (gzip.compress(b"x" * (MAX_BODY + 1)), "gzip"),
    "bomb": (gzip.compress(bytes(50_000_000)), "gzip"),
    "deflate bomb": (zlib.compress(bytes(50_000_000)), "deflate"),
    "bomb without a header": (raw_deflate(bytes(50_000_000)), "deflate"),
    "no gzip": (b"no gzip at all", "gzip"),
    "truncated gzip": (gzip.compress(b"x" * 1000)[:-4], "gzip"),
    "corrupt gzip": (gzip.compress(b"x" * 1000)[:12] + b"\xff" * 20, "gzip"),
    "no deflate": (b"no deflate at all", "deflate"),
    "no bzip2": (b"no bzip2 at all", "bzip2"),
    "bzip2 bomb": (bz2.compress(bytes(50_000_000)), "bzip2"),
    "xz bomb": (lzma.compress(bytes(50_000_000)), "xz"),
    "truncated xz": (lzma.compress(bytes(range(256)))[:-4], "xz"),
    "gzip bomb of Spring": (gzip.compress(bytes(50_000_000)), "gzip:UTF-8"),
    "truncated deflate": (zlib.compress(bytes(range(256)))[:-4], "deflate"),
}


def poison_count(api):
    text = api.get("/metrics").text
    return value_of(text, 'marconi_messages_total{event="poison"}')


@pytest.mark.parametrize(("body", "encoding"), POISON.values(), ids=POISON)
def test_poison_is_put_aside_and_the_queue_goes_on(
    api, native, queue, theirs, bridged_gateway, shared_broker, body, encoding
):
    _skip_if_decompressed(shared_broker, encoding)
    before = poison_count(api)
    native.publish(b'"before"', queue=theirs)
    native.publish(
        body, queue=theirs, content_type="text/plain", content_encoding=encoding, message_id="m-1", type="order",
        headers={"colour": "red"}, correlation_id="c-1",
    )
    native.publish(b'"after"', queue=theirs)

    assert bodies(claimed(api, queue, 2)) == ["before", "after"]

    ((_, properties, moved),) = native.take(poison_queue(api, queue))
    assert moved == body
    assert properties.headers.pop("marconi-reason")
    for name in RabbitMQ.delivery_headers:  # of this delivery, by a quorum queue
        properties.headers.pop(name, None)
    assert properties.headers == {"colour": "red"}
    assert (properties.content_type, properties.content_encoding) == ("text/plain", encoding)
    assert (properties.message_id, properties.type, properties.correlation_id) == ("m-1", "order", "c-1")
    assert properties.delivery_mode == 2
    assert poison_count(api) == before + 1
    assert any("WARNING" in line and queue in line for line in bridged_gateway.log.splitlines())
    native.channel.queue_delete(poison_queue(api, queue))


@pytest.mark.parametrize("compression", ["application/x-gzip", "application/x-bz2", "application/x-lzma", "xz"])
def test_body_that_is_not_what_kombus_header_says_is_put_aside(api, native, queue, theirs, compression):
    for body in (b"no such data", zlib.compress(bytes(50_000_000)), bz2.compress(bytes(50_000_000))):
        native.publish(body, queue=theirs, headers={"compression": compression})
    native.publish(b"1", queue=theirs)

    assert bodies(claimed(api, queue, 1)) == [1]

    native.until_depth(poison_queue(api, queue), 3)
    native.channel.queue_delete(poison_queue(api, queue))


@pytest.mark.parametrize("stamp", [1_700_000_000_000, -1, -(2**62), 253_402_300_800], ids=str)
@pytest.mark.parametrize("shows", [True, False])
def test_time_that_python_has_no_date_for_is_no_poison(api, native, queue, stamp, shows):
    """On queues that show headers, and on those that don't."""
    name = native.queue()
    bridge(api, queue, source=from_queue(name), properties=shows)
    native.publish(b"1", queue=name, headers={"when": Seconds(stamp)})

    (message,) = claimed(api, queue, 1)

    assert message["body"] == 1
    if shows:
        assert message["properties"]["headers"] == {"when": stamp}


@pytest.mark.parametrize("arguments", [{}, QUORUM], ids=["classic", "quorum"])
def test_poison_does_not_hide_what_is_behind_it_from_a_listing(api, native, queue, arguments):
    name = native.queue(arguments=arguments)
    bridge(api, queue, source=from_queue(name))
    for body, encoding in ((b"1", None), (b"no gzip", "gzip"), (b"no gzip", "gzip"), (b"2", None)):
        native.publish(body, queue=name, content_encoding=encoding)
    native.until_depth(name, 4)

    assert bodies(listed(api, queue)) == [1, 2]
    assert bodies(claimed(api, queue, 2)) == [1, 2]
    assert len(native.take(poison_queue(api, queue), 2)) == 2
    native.channel.queue_delete(poison_queue(api, queue))


def test_queue_of_nothing_but_poison_is_empty(api, native, queue, theirs):
    for _ in range(30):
        native.publish(b"no gzip", queue=theirs, content_encoding="gzip")
    native.until_depth(theirs, 30)

    wait_until(lambda: claim(api, queue) == (None, []) and native.depth(theirs) == 0, SOON, "the poison to be moved")

    assert stats(api, queue) == {"claimed": 0, "free": 0, "total": 0}
    native.until_depth(poison_queue(api, queue), 30)
    native.channel.queue_delete(poison_queue(api, queue))


@pytest.mark.parametrize("properties", [
    {"user_id": "guest"}, {"headers": {"CC": ["b-elsewhere"]}}, {"expiration": "600000"},
    {"reply_to": "amq.rabbitmq.reply-to.abc"}, {"headers": {"raw": b"\xff", "money": Decimal("1.25")}},
    {"headers": {"marconi-reason": "mine"}}, {"headers": {"x-death": [{"count": 1}]}}, {"cluster_id": "c"},
], ids=str)
def test_poison_with_odd_properties_is_moved_as_well(api, native, queue, shared_broker, theirs, properties):
    """The broker would refuse a `user_id` that is not the gateway's, and route to whom a `CC` names."""
    if "expiration" in properties:
        properties = {"expiration": shared_broker.expiration(int(properties["expiration"]))}
    native.publish(b"no gzip", queue=theirs, content_encoding="gzip", **properties)
    native.publish(b"1", queue=theirs)

    assert bodies(claimed(api, queue, 1)) == [1]

    assert native.bodies(poison_queue(api, queue)) == [b"no gzip"]
    native.channel.queue_delete(poison_queue(api, queue))


def test_poison_with_a_cc_header_goes_nowhere_else(api, native, queue, rabbitmq, theirs):
    elsewhere = native.queue()
    native.publish(b"no gzip", queue=theirs, content_encoding="gzip", headers={"CC": [elsewhere]})
    native.until_depth(elsewhere, 1)  # by the producer's own wish

    assert api.get(messages_path(queue)).status_code == 200
    assert claim(api, queue) == (None, [])
    native.until_depth(poison_queue(api, queue), 1)

    assert native.depth(elsewhere) == 1
    native.channel.queue_delete(poison_queue(api, queue))


def test_poison_of_an_exchange_is_put_aside(api, native, queue):
    exchange = native.exchange("fanout")
    bridge(api, queue, source=from_exchange(exchange))
    native.publish(b"no gzip", exchange=exchange, content_encoding="gzip")
    native.publish(b"1", exchange=exchange)

    assert bodies(claimed(api, queue, 1)) == [1]

    assert native.bodies(poison_queue(api, queue)) == [b"no gzip"]
    assert native.depth(own_queue(api, queue)) == 0
    native.channel.queue_delete(poison_queue(api, queue))


def test_body_that_can_not_be_posted_back_is_no_poison(api, native, queue):
    """Bodies are shown up to max_body, which may be more than a post may have."""
    name, others = native.queue(), native.queue()
    bridge(api, queue, source=from_queue(name), target=to_exchange("", others))
    native.publish(json.dumps("x" * (MAX_BODY - 2)), queue=name)

    assert bodies(claimed(api, queue, 1)) == ["x" * (MAX_BODY - 2)]
