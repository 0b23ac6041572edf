"""What kind of queue or exchange somebody else's is, found out by users with and without the right to declare it."""

from types import SimpleNamespace

import pytest

from bridges.amqp import AMQPBridge
from bridges.bridging import Binding
from bridges.errors import QueueMissing, SourceUnreadable
from functional.api.helpers import assert_error, bodies, claims_path, listed, messages_path, queue_path
from functional.bridged.helpers import (
    NOTICED,
    QUORUM,
    bridge,
    claimed,
    from_exchange,
    from_queue,
    new_name,
)
from functional.http import Api
from functional.services.gateway import merge
from functional.services.ports import free_port
from functional.wait import wait_until

STREAM = {"x-queue-type": "stream"}

#: Cuts off the end of what RabbitMQ says of a queue of that name; longer names break its streams.
LONG = "-long" * 32

#: Arguments, flags, and whether a consumer may come and go.
NATURES = {
    "classic": ({}, {}, True),
    "classic, said so": ({"x-queue-type": "classic"}, {}, True),
    "transient": ({}, {"durable": False}, False),
    "auto-delete": ({}, {"auto_delete": True}, False),
    "arguments": ({"x-max-length": 9, "x-dead-letter-exchange": "amq.fanout", "x-queue-mode": "lazy"}, {}, True),
    "priority": ({"x-max-priority": 5, "x-message-ttl": 600_000, "x-expires": 600_000}, {}, True),
    "single active consumer": ({"x-single-active-consumer": True}, {}, True),
    "quorum": (QUORUM, {}, True),
    "quorum, limits": (QUORUM | {"x-delivery-limit": 7, "x-max-length": 9, "x-overflow": "reject-publish"}, {}, True),
    "quorum, single active consumer": (QUORUM | {"x-single-active-consumer": True}, {}, True),
}

STREAMS = {
    "plain": {},
    "limits": {"x-max-length-bytes": 1_000_000_000, "x-max-age": "1h", "x-stream-max-segment-size-bytes": 1_000_000},
}


@pytest.fixture(params=["may declare", "may not declare"])
def their_bridge(request, rabbitmq, least_rights):
    uri = rabbitmq.uri if request.param == "may declare" else least_rights
    options = SimpleNamespace(**{option.dest: option.default for option in AMQPBridge.OPTS})
    made = AMQPBridge(uri, options)
    yield made
    made.close()


def ask(their_bridge, queue):
    with their_bridge._fetchers.lent() as fetcher:
        return fetcher.dialect.may_consume(fetcher, queue)


def may_declare(their_bridge):
    return "guest" in their_bridge._uri


@pytest.mark.parametrize("long_name", [False, True], ids=["", "long name"])
@pytest.mark.parametrize(("arguments", "flags", "expected"), NATURES.values(), ids=NATURES)
def test_consumers_come_only_to_queues_that_stay(native, their_bridge, arguments, flags, expected, long_name):
    theirs = native.queue(name=new_name() + LONG if long_name else None, arguments=arguments, **flags)
    for number in range(3):
        native.publish(str(number), queue=theirs)
    native.until_depth(theirs, 3)

    answer = ask(their_bridge, theirs)

    if may_declare(their_bridge) or arguments.get("x-queue-type") == "quorum":
        assert answer is expected
    else:  # gets do no harm to any queue
        assert answer is False
    native.until_depth(theirs, 3)
    if not arguments.get("x-single-active-consumer"):  # such a quorum queue takes no gets
        messages = native.take(theirs, 3)
        assert [body for _, _, body in messages] == [b"0", b"1", b"2"]
        if may_declare(their_bridge) and not long_name:
            assert not messages[0][0].redelivered, "a message was taken to find out"


@pytest.mark.parametrize("flags", [{"auto_delete": True}, {}], ids=["auto-delete", "classic"])
def test_header_of_a_quorum_queue_on_a_classic_one_is_no_sign(native, their_bridge, flags):
    """A program that moves messages from one queue to another may keep the header."""
    theirs = native.queue(**flags)
    native.publish("1", queue=theirs, headers={"x-delivery-count": 3})

    assert ask(their_bridge, theirs) is (may_declare(their_bridge) and not flags)
    assert native.depth(theirs) is not None


@pytest.mark.parametrize("arguments", [{}, QUORUM], ids=["classic", "quorum"])
def test_empty_queue_and_missing_queue(native, their_bridge, arguments):
    theirs = native.queue(arguments=arguments)

    assert ask(their_bridge, theirs) is (True if may_declare(their_bridge) else None)
    with pytest.raises(QueueMissing):
        ask(their_bridge, new_name())


@pytest.mark.parametrize("long_name", [False, True], ids=["", "long name"])
@pytest.mark.parametrize("arguments", STREAMS.values(), ids=STREAMS)
def test_stream_is_recognized(native, their_bridge, arguments, long_name):
    theirs = native.queue(name=new_name() + LONG if long_name else None, arguments=STREAM | arguments)
    native.publish("1", queue=theirs)

    with pytest.raises(SourceUnreadable, match="stream"):
        their_bridge.check_source(theirs)
    their_bridge.ping()


def test_queue_of_another_connection_alone_is_recognized(native, their_bridge):
    theirs = native.queue(durable=False, exclusive=True)

    for call in (their_bridge.check_source, their_bridge.exists):
        with pytest.raises(SourceUnreadable, match="another connection"):
            call(theirs)


def test_how_a_message_was_delivered_is_not_shown_as_its_headers(api, native, queue):
    theirs = native.queue(arguments=QUORUM)
    bridge(api, queue, source=from_queue(theirs), properties=True)
    native.publish("1", queue=theirs, headers={"colour": "red"})
    native.until_depth(theirs, 1)
    for _ in range(3):
        (shown,) = wait_until(lambda: listed(api, queue), NOTICED)
        assert shown["properties"]["headers"] == {"colour": "red"}

    (message,) = claimed(api, queue, 1)

    assert message["properties"]["headers"] == {"colour": "red"}


# -- what can't be read is refused when it is bridged ----------------------------------------------------------------


def refused(api, queue, source):
    answer = api.put(queue_path(queue), json={"_bridge": {"source": source}})
    assert_error(answer, 400)
    assert api.head(queue_path(queue)).status_code == 404
    return answer.json()["description"]


@pytest.mark.parametrize("arguments", STREAMS.values(), ids=STREAMS)
def test_stream_is_400(api, native, queue, rabbitmq, arguments):
    theirs = native.queue(arguments=STREAM | arguments)
    native.publish("1", queue=theirs)

    description = refused(api, queue, from_queue(theirs))

    assert theirs in description
    assert "stream" in description


def test_exclusive_queue_of_another_connection_is_400(api, native, queue):
    theirs = native.queue(durable=False, exclusive=True)

    assert theirs in refused(api, queue, from_queue(theirs))


def test_stream_that_is_made_later_is_a_409_that_says_so(api, native, queue, rabbitmq):
    theirs = new_name()
    bridge(api, queue, source=from_queue(theirs))
    native.queue(theirs, arguments=STREAM)
    native.publish("1", queue=theirs)

    for answer in (
        api.post(claims_path(queue)), api.get(messages_path(queue)), api.delete(messages_path(queue), params={"pop": 1})
    ):
        assert_error(answer, 409)
        assert "stream" in answer.json()["description"]
    assert api.delete(queue_path(queue)).status_code == 204


def test_exclusive_queue_that_is_made_later_is_a_409_that_says_so(api, native, queue):
    theirs = new_name()
    bridge(api, queue, source=from_queue(theirs))
    native.queue(theirs, durable=False, exclusive=True)

    answer = api.post(claims_path(queue))

    assert_error(answer, 409)
    assert theirs in answer.json()["description"]


KINDS = {
    "direct": {"binding_keys": ["a"]}, "topic": {"binding_keys": ["#"]}, "fanout": {},
    "headers": {"arguments": {"a": 1}},
}


@pytest.mark.parametrize("real", KINDS)
@pytest.mark.parametrize("said", KINDS)
def test_exchange_of_another_type_is_told_to_whoever_may_declare(native, rabbitmq, said, real):
    exchange = native.exchange(real)
    options = SimpleNamespace(**{option.dest: option.default for option in AMQPBridge.OPTS})
    their_bridge = AMQPBridge(rabbitmq.uri, options)
    binding = Binding(exchange, ("#",), {}, said)
    try:
        if said == real:
            their_bridge.check_exchange(binding)
        else:
            with pytest.raises(SourceUnreadable, match=real):
                their_bridge.check_exchange(binding)
        their_bridge.check_exchange(Binding(missing := new_name(), ("#",), {}, said))
        assert not native.has_exchange(missing)
    finally:
        their_bridge.close()


def test_exchange_of_another_type_is_400(api, native, queue, rabbitmq, bridged_options, start_gateway):
    trusted = Api(start_gateway(**merge(bridged_options, {"bridge": {"uri": rabbitmq.uri}})).url)
    exchange = native.exchange("fanout")

    description = refused(trusted, queue, from_exchange(exchange, "topic", binding_keys=["#"]))

    assert exchange in description
    assert "fanout" in description
    bridge(trusted, queue, source=from_exchange(exchange))


def test_internal_exchange_is_read(api, native, queue, rabbitmq):
    inner, outer = new_name(), native.exchange("fanout")
    native.channel.exchange_declare(inner, "fanout", internal=True)
    native.channel.exchange_bind(inner, outer)
    bridge(api, queue, source=from_exchange(inner))

    native.publish("1", exchange=outer)

    assert bodies(claimed(api, queue, 1)) == [1]
    native.channel.exchange_delete(inner)


def test_put_without_a_broker_is_503(api, bridged_options, start_gateway, queue):
    alone = Api(start_gateway(**merge(bridged_options, {"bridge": {"uri": f"amqp://127.0.0.1:{free_port()}//"}})).url)

    for source in (from_queue(new_name()), from_exchange(new_name())):
        assert_error(alone.put(queue_path(queue), json={"_bridge": {"source": source}}), 503)
    assert alone.head(queue_path(queue)).status_code == 404
