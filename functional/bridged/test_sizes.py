"""Bodies that are large, or become so: whose limits count, and that nothing large is in the way of anything else."""

import base64
import time

import pytest

from functional.api.helpers import bodies, create, get_message, listed, messages_path, post
from functional.bridged.helpers import bridge, claimed, from_queue, own_queue, poison_queue
from functional.http import Api
from functional.services.gateway import merge

#: A native limit far below what may be posted, and the other way round.
LITTLE = {"bridging": {"max_body": 1024}, "transport": {"max_messages_post_size": 8 * 2**20}}
MUCH = {"bridging": {"max_body": 8 * 2**20}}

#: Bytes that become six times as many in JSON.
CONTROL = b"\1"

MANY = 1_100_000


@pytest.fixture
def at(bridged_options, start_gateway):
    """A client of a gateway with other options."""

    def start(**sections):
        return Api(start_gateway(**merge(bridged_options, sections)).url)

    return start


@pytest.mark.parametrize("encrypted", [False, True])
def test_posts_are_not_judged_by_the_native_limit(at, queue, encrypted):
    api = at(**LITTLE)
    create(api, queue, _enable_encrypt_messages=encrypted, _max_claim_count=1, _dead_letter_queue=f"{queue}-dead")
    text = "x" * MANY

    (id_,) = post(api, queue, text)
    assert get_message(api, queue, id_).json()["body"] == text
    post(api, queue, text)
    assert bodies(listed(api, queue)) == [text, text]
    (first, second) = claimed(api, queue, 2)
    assert bodies((first, second)) == [text, text]
    api.delete(first["href"])
    api.delete(second["href"])
    post(api, queue, text)
    (popped,) = api.delete(messages_path(queue), params={"pop": 1}).json()["messages"]
    assert popped["body"] == text


def test_dead_letter_of_a_native_message_is_not_either(at, native, queue):
    """A text of the native limit is longer as JSON, and is published so to the dead-letter queue."""
    api = at(**LITTLE)
    theirs = native.queue()
    create(
        api, queue, _bridge={"source": from_queue(theirs)}, _max_claim_count=1, _dead_letter_queue=f"{queue}-dead",
    )
    native.publish(CONTROL * 1024, queue=theirs)
    (message,) = claimed(api, queue, 1)
    api.delete(f"/v2/queues/{queue}/claims/{message['href'].partition('claim_id=')[2]}")

    assert claimed(api, queue, 0) == []

    assert bodies(claimed(api, f"{queue}-dead", 1)) == [CONTROL.decode() * 1024]


@pytest.mark.parametrize("kind", ["own", "foreign", "shown"])
@pytest.mark.parametrize(("body", "properties"), [
    (CONTROL * 3 * 2**20, {}),
    (CONTROL * 8 * 2**20, {"content_type": "text/plain"}),
    (b"[" + b"1e15," * (8 * 2**20 // 5 - 100) + b"1]", {}),
], ids=["control characters", "text", "numbers"])
def test_what_grows_beyond_the_side_stores_limit_blocks_nothing(at, native, queue, kind, body, properties):
    api = at(**MUCH)
    if kind == "own":
        create(api, queue)
        theirs = own_queue(api, queue)
    else:
        theirs = native.queue()
        create(api, queue, _bridge={"source": from_queue(theirs), "properties": kind == "shown", "format": "oslo"})
    if body.startswith(b"["):  # unwrapping writes numbers again, and longer
        body = b'{"event_type": "a", "payload": ' + body + b"}"
    native.publish(b'"before"', queue=theirs)
    native.publish(body, queue=theirs, **properties)
    native.publish(b'"after"', queue=theirs)

    if kind == "own" and b"event_type" in body:
        assert [len(str(text)) > 10 for text in bodies(claimed(api, queue, 3))] == [False, True, False]
        return
    assert bodies(claimed(api, queue, 2)) == ["before", "after"]
    assert native.bodies(poison_queue(api, queue)) == [body]
    native.channel.queue_delete(poison_queue(api, queue))


def test_largest_bodies_are_shown(at, native, queue):
    """What fits is no poison: eight MiB as base64, and two MiB of control characters."""
    api = at(**MUCH)
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs))
    binary = b"\xff" * 8 * 2**20
    native.publish(binary, queue=theirs, content_type="image/png")
    native.publish(CONTROL * 2 * 2**20, queue=theirs)

    first, second = claimed(api, queue, 2)

    assert base64.b64decode(first["body"]["base64"]) == binary
    assert second["body"] == CONTROL.decode() * 2 * 2**20


def test_poison_does_not_wait_for_the_connection_that_holds_it(at, native, native_elsewhere, queue):
    """In the gateway's own virtual host, and in another one."""
    api = at(bridge={"pool_size": 1})
    for vhost, client in (({}, native), ({"vhost": "other"}, native_elsewhere)):
        name = f"{queue}-{len(vhost)}"
        theirs = client.queue()
        bridge(api, name, source=from_queue(theirs, **vhost))
        client.publish(b"no gzip", queue=theirs, content_encoding="gzip")
        client.publish(b"1", queue=theirs)
        client.until_depth(theirs, 2)
        start = time.monotonic()

        assert bodies(claimed(api, name, 1)) == [1]

        assert time.monotonic() - start < 3
        assert native.bodies(poison_queue(api, name)) == [b"no gzip"]
        native.channel.queue_delete(poison_queue(api, name))
