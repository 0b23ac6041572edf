"""The frames that a batch is encoded into, read back by pika's decoder."""

from collections.abc import Iterator

import pika.frame
import pika.spec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.amqp.wire.encoder import encode
from bridges.base import Envelope

CHANNEL = 1

#: The smallest frame that a broker may ask for (AMQP 0-9-1, 4.2.3), and RabbitMQ's own.
SMALL_FRAME = 4096
USUAL_FRAME = 131072

#: Octets around a frame's payload.
OVERHEAD = 8

SHORT_TEXT = st.text(max_size=60)


def frames(data: bytes) -> Iterator[pika.frame.Frame]:
    """All frames in the buffer."""
    while data:
        used, frame = pika.frame.decode_frame(data)
        assert frame is not None, "half a frame"
        assert frame.channel_number == CHANNEL
        yield frame
        data = data[used:]


def messages(data: bytes) -> list[tuple[pika.spec.Basic.Publish, pika.frame.Header, list[bytes]]]:
    """Method, header and body fragments of each message in the buffer."""
    found: list[tuple[pika.spec.Basic.Publish, pika.frame.Header, list[bytes]]] = []
    for frame in frames(data):
        if isinstance(frame, pika.frame.Method):
            method = frame.method
        elif isinstance(frame, pika.frame.Header):
            found.append((method, frame, []))
        else:
            found[-1][2].append(frame.fragment)
    return found


def test_message_goes_to_the_queue_through_the_default_exchange() -> None:
    ((method, _, _),) = messages(encode(CHANNEL, "", "marconi.p.q", [Envelope(b"1")], USUAL_FRAME))
    assert (method.exchange, method.routing_key) == ("", "marconi.p.q")
    assert method.mandatory is True
    assert method.immediate is False


def test_message_may_go_to_an_exchange_and_need_not_arrive() -> None:
    data = encode(CHANNEL, "orders", "new", [Envelope(b"1")], USUAL_FRAME, mandatory=False)
    ((method, _, _),) = messages(data)
    assert (method.exchange, method.routing_key, method.mandatory) == ("orders", "new", False)


def test_all_properties_arrive() -> None:
    envelope = Envelope(b"1", priority=9, correlation_id="c", reply_to="r", type="t", app_id="a")
    ((_, header, _),) = messages(encode(CHANNEL, "", "q", [envelope], USUAL_FRAME))
    properties = header.properties
    assert (properties.priority, properties.correlation_id, properties.reply_to) == (9, "c", "r")
    assert (properties.type, properties.app_id) == ("t", "a")


def test_headers_of_all_json_types_arrive() -> None:
    headers = {"text": "a", "int": -5, "large": 2**40, "true": True, "null": None, "list": [1, "b"],
               "object": {"deep": {"er": 1}}}
    ((_, header, _),) = messages(encode(CHANNEL, "", "q", [Envelope(b"1", headers=headers)], USUAL_FRAME))
    assert header.properties.headers == headers


def test_message_is_persistent() -> None:
    ((_, header, _),) = messages(encode(CHANNEL, "", "q", [Envelope(b"1")], USUAL_FRAME))
    assert header.properties.delivery_mode == 2


def test_what_is_not_set_is_not_sent() -> None:
    ((_, header, _),) = messages(encode(CHANNEL, "", "q", [Envelope(b"1", content_type=None)], USUAL_FRAME))
    assert vars(header.properties) == vars(pika.spec.BasicProperties(delivery_mode=2))


@given(
    content_type=st.none() | SHORT_TEXT,
    content_encoding=st.none() | SHORT_TEXT,
    headers=st.dictionaries(SHORT_TEXT, st.text(max_size=300), max_size=4),
    ttl=st.none() | st.integers(0, 2**31),
    message_id=st.none() | SHORT_TEXT,
    timestamp=st.none() | st.integers(0, 2**63 - 1),
)
def test_properties_are_read_back(
    content_type: str | None,
    content_encoding: str | None,
    headers: dict[str, str],
    ttl: int | None,
    message_id: str | None,
    timestamp: int | None,
) -> None:
    envelope = Envelope(b"{}", message_id, ttl, timestamp, content_type, content_encoding, headers)
    ((_, header, _),) = messages(encode(CHANNEL, "", "q", [envelope], USUAL_FRAME))
    assert vars(header.properties) == vars(pika.spec.BasicProperties(
        content_type=content_type,
        content_encoding=content_encoding,
        headers=headers or None,
        delivery_mode=2,
        expiration=None if ttl is None else str(ttl),
        message_id=message_id,
        timestamp=timestamp,
    ))


@pytest.mark.parametrize(
    "size",
    [0, 1, SMALL_FRAME - OVERHEAD - 1, SMALL_FRAME - OVERHEAD, SMALL_FRAME - OVERHEAD + 1,
     2 * (SMALL_FRAME - OVERHEAD), 2 * (SMALL_FRAME - OVERHEAD) + 1, 300 * 1024],
)
@pytest.mark.parametrize("frame_max", [SMALL_FRAME, USUAL_FRAME])
def test_body_is_cut_into_frames_that_fit(size: int, frame_max: int) -> None:
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    ((_, header, fragments),) = messages(encode(CHANNEL, "", "q", [Envelope(body)], frame_max))
    assert header.body_size == size
    assert b"".join(fragments) == body
    assert all(0 < len(fragment) <= frame_max - OVERHEAD for fragment in fragments)
    assert len(fragments) == -(-size // (frame_max - OVERHEAD))


@given(st.lists(st.binary(max_size=2 * SMALL_FRAME), max_size=5))
def test_batch_is_one_message_after_the_other(bodies: list[bytes]) -> None:
    found = messages(encode(CHANNEL, "", "q", [Envelope(body) for body in bodies], SMALL_FRAME))
    assert [b"".join(fragments) for _, _, fragments in found] == bodies


def test_messages_with_different_headers_do_not_get_mixed_up() -> None:
    batch = [Envelope(b"1", headers={"marconi-client": name}) for name in ("a", "b", "a")]
    found = messages(encode(CHANNEL, "", "q", batch, USUAL_FRAME))
    assert [header.properties.headers for _, header, _ in found] == [{"marconi-client": n} for n in ("a", "b", "a")]


@pytest.mark.parametrize("text", ["x" * 256, "ü" * 128])
def test_text_that_does_not_fit_a_short_string_is_refused(text: str) -> None:
    """A wrong length would make garbage of all that follows."""
    with pytest.raises(ValueError, match="range"):
        encode(CHANNEL, "", "q", [Envelope(b"1", message_id=text)], USUAL_FRAME)


def test_large_integers_have_the_type_that_all_brokers_know() -> None:
    """Broker-J deletes what has headers of the type L, which py-amqp gives them, after half a minute at most."""
    large = 1 << 40
    headers = {"one": large, "in a table": {"a": -large}, "in a list": [large, "x", 1], "small": 7}
    data = encode(CHANNEL, "", "q", [Envelope(b"1", headers=headers)], USUAL_FRAME)
    ((_, header, _),) = messages(data)
    assert header.properties.headers == headers
    assert data.count(b"l" + large.to_bytes(8, "big")) == 2
    assert b"L" not in data
