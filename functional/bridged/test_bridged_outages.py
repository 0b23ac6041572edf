"""Broker, exchange or queue go away and come back: a clear answer meanwhile, then service by itself."""

import pytest

from functional.api.helpers import (
    assert_error,
    bodies,
    claim,
    claims_path,
    delete_message,
    ids,
    listed,
    messages_path,
    post,
    queue_path,
    release,
    stats,
)
from functional.bridged.helpers import (
    NOTICED,
    PREFIX,
    QUORUM,
    Native,
    bridge,
    claimed,
    from_exchange,
    from_queue,
    own_queue,
    post_raw,
    to_exchange,
)
from functional.deployments import beside, through
from functional.http import Api
from functional.services.gateway import merge
from functional.wait import wait_until

#: Seconds within which there is service again once the broker answers.
RECOVERY = 10


def status_is(status, call):
    """Wait until the call is answered like this, and give the answer back."""

    def answers():
        answer = call()
        return [answer] if answer.status_code == status else []

    return wait_until(answers, NOTICED, f"a {status}")[0]


def claiming(api, queue):
    return lambda: api.post(claims_path(queue))


def listing(api, queue):
    return lambda: api.get(messages_path(queue))


# -- the broker -----------------------------------------------------------------------------------------------------


def test_broker_restart(own_broker, mongodb, start_gateway, queue):
    """503 while it is down, and nothing that was there is lost."""
    options = merge(
        through(own_broker), beside(mongodb, f"bridged_{queue[-8:]}"),
        {"bridging": {"allow": [f"* * / *:{PREFIX}*"]}, "bridge": {"timeout": 2}},
    )
    api = Api(start_gateway(**options).url)
    names = ["classic", "quorum", "exchange"]
    with own_broker.connect() as connection:
        native = Native(connection)
        classic, quorum = native.queue(), native.queue(arguments=QUORUM)
        exchange, outwards = native.exchange("fanout"), native.exchange("fanout")
        out = native.bound(outwards)
        bridge(api, f"{queue}-classic", source=from_queue(classic), target=to_exchange(outwards))
        bridge(api, f"{queue}-quorum", source=from_queue(quorum), target=to_exchange(outwards))
        bridge(api, f"{queue}-exchange", source=from_exchange(exchange), target=to_exchange(outwards))
        for number in range(3):
            native.publish(str(number), queue=classic)
            native.publish(str(number), queue=quorum)
            native.publish(str(number), exchange=exchange)
        held = {name: claim(api, f"{queue}-{name}", limit=1) for name in names}
        post(api, f"{queue}-classic", "before")
    for name in (quorum, own_queue(api, f"{queue}-exchange")):
        own_broker.until_saved(name)

    own_broker.stop()
    for name in names:
        for answer in (claiming(api, f"{queue}-{name}")(), post_raw(api, f"{queue}-{name}", {"body": "lost"})):
            assert_error(answer, 503)
            assert int(answer.headers["Retry-After"]) > 0
        assert delete_message(  # what has landed needs no broker
            api, f"{queue}-{name}", held[name][1][0]["id"], claim_id=held[name][0]
        ).status_code == 204
    own_broker.start()

    for name in names:
        assert bodies(claimed_after(api, f"{queue}-{name}", 2)) == [1, 2]
        wait_until(
            lambda name=name: post_raw(api, f"{queue}-{name}", {"body": name}).status_code == 201, RECOVERY, "a post"
        )
    with own_broker.connect() as connection:
        sent = Native(connection).bodies(out, 4)
    assert [body for body in sent if body != b'"lost"'] == [
        b'"before"', b'"classic"', b'"quorum"', b'"exchange"',
    ]


def claimed_after(api, queue, count):
    """Claim until there are `count` messages; meanwhile the gateway may ask to try again."""
    found = []

    def enough():
        answer = api.post(claims_path(queue), params={"limit": 20})
        if answer.status_code == 201:
            found.extend(answer.json()["messages"])
        return len(found) >= count

    wait_until(enough, RECOVERY, f"{count} messages of {queue}")
    return found


def test_gateway_that_starts_before_the_broker_reads_its_bridges(own_broker, mongodb, start_gateway, queue):
    options = merge(
        through(own_broker), beside(mongodb, f"bridged_{queue[-8:]}"),
        {"bridging": {"allow": [f"* * / *:{PREFIX}*"]}, "bridge": {"timeout": 2}},
    )
    first = start_gateway(**options)
    api = Api(first.url)
    with own_broker.connect() as connection:
        theirs = Native(connection).queue()
        Native(connection).publish(b"1", queue=theirs)
    bridge(api, queue, source=from_queue(theirs))
    first.stop()
    own_broker.stop()

    api = api.at(start_gateway(**options).url)
    assert_error(api.post(claims_path(queue)), 503)
    own_broker.start()

    assert bodies(claimed_after(api, queue, 1)) == [1]


# -- exchanges ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "binding", "key"), [
    ("fanout", {}, ""), ("topic", {"binding_keys": ["a.*", "b.#"]}, "b.c.d"),
])
def test_source_exchange_that_is_deleted_is_404_and_bound_again_when_it_is_back(
    api, native, queue, kind, binding, key
):
    exchange = native.exchange(kind)
    bridge(api, queue, source=from_exchange(exchange, kind, **binding))
    native.publish(b'"before"', exchange=exchange, key=key)
    assert bodies(claimed(api, queue, 1)) == ["before"]

    native.channel.exchange_delete(exchange)
    for call in (claiming(api, queue), listing(api, queue)):
        answer = status_is(404, call)
        assert_error(answer, 404)
        assert exchange in answer.json()["description"]
    native.exchange(kind, exchange)
    status_is(204, claiming(api, queue))

    native.publish(b'"after"', exchange=exchange, key=key)
    assert bodies(claimed(api, queue, 1)) == ["after"]


def test_source_exchange_that_is_replaced_unnoticed_is_bound_again_by_use(api, native, queue):
    exchange = native.exchange("fanout")
    bridge(api, queue, source=from_exchange(exchange))
    assert claim(api, queue) == (None, [])

    native.channel.exchange_delete(exchange)
    native.exchange("fanout", exchange)

    def arrives():
        native.publish_unheard(b'"after"', exchange)
        return claim(api, queue)[1]

    assert wait_until(arrives, NOTICED, "the binding")


def test_messages_that_came_before_the_exchange_was_deleted_are_not_lost(api, native, queue):
    exchange = native.exchange("fanout")
    bridge(api, queue, source=from_exchange(exchange))
    native.publish(b"1", exchange=exchange)
    native.channel.exchange_delete(exchange)
    native.exchange("fanout", exchange)

    assert bodies(claimed(api, queue, 1)) == [1]


def test_target_exchange_that_is_deleted_is_503_until_it_is_back(api, native, queue):
    exchange = native.exchange("direct")
    theirs = native.bound(exchange, "new")
    bridge(api, queue, target=to_exchange(exchange, "new"))
    post(api, queue, "before")

    native.channel.exchange_delete(exchange)
    answer = post_raw(api, queue, {"body": "meanwhile"})
    assert_error(answer, 503)
    assert exchange in answer.json()["description"]
    native.exchange("direct", exchange)
    assert_error(post_raw(api, queue, {"body": "unbound"}), 503)
    native.channel.queue_bind(theirs, exchange, "new")
    post(api, queue, "after")

    assert native.bodies(theirs, 2) == [b'"before"', b'"after"']


# -- queues ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("landing", [False, True])
def test_source_queue_that_is_deleted_is_404_until_it_is_back(api, native, queue, landing):
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs), landing=landing)
    native.publish(b'"before"', queue=theirs)
    claim_id, (held,) = claim(api, queue)

    native.channel.queue_delete(theirs)
    for call in (claiming(api, queue), listing(api, queue)):
        answer = status_is(404, call)
        assert_error(answer, 404)
        assert theirs in answer.json()["description"]
    assert native.depth(theirs) is None, "declared by the gateway"
    assert delete_message(api, queue, held["id"], claim_id=claim_id).status_code == 204
    native.queue(theirs, QUORUM)  # it may be another one
    native.publish(b'"after"', queue=theirs)

    assert bodies(claimed(api, queue, 1)) == ["after"]


def test_released_messages_outlive_the_queue_they_came_from(api, native, queue):
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs))
    native.publish(b"1", queue=theirs)
    claim_id, (held,) = claim(api, queue)
    native.channel.queue_delete(theirs)
    release(api, queue, claim_id)
    native.queue(theirs)

    assert ids(claimed(api, queue, 1)) == [held["id"]]


def test_statistics_and_purge_of_a_missing_queue_are_no_500(api, native, queue):
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs))
    native.channel.queue_delete(theirs)

    assert api.get(f"{queue_path(queue)}/stats").status_code in (200, 404)
    assert api.post(f"{queue_path(queue)}/purge").status_code in (204, 404)
    assert api.delete(queue_path(queue)).status_code == 204


def test_own_queue_that_an_operator_deletes_is_made_again_and_bound(api, native, queue):
    exchange = native.exchange("fanout")
    bridge(api, queue, source=from_exchange(exchange))
    assert claim(api, queue) == (None, [])

    native.channel.queue_delete(own_queue(api, queue))

    def arrives():
        native.publish_unheard(b'"after"', exchange)
        answer = api.post(claims_path(queue))
        assert answer.status_code in (201, 204), answer.text
        return answer.status_code == 201

    assert wait_until(arrives, NOTICED, "the queue and its binding")


def test_target_queue_that_is_deleted_is_503_until_it_is_back(api, native, queue):
    theirs = native.queue()
    bridge(api, queue, target=to_exchange("", theirs))
    post(api, queue, "before")

    native.channel.queue_delete(theirs)
    assert_error(post_raw(api, queue, {"body": "meanwhile"}), 503)
    assert native.depth(theirs) is None, "declared by the gateway"
    native.queue(theirs)
    post(api, queue, "after")

    assert native.bodies(theirs) == [b'"after"']


def test_one_broken_bridge_does_not_disturb_others(api, native, queue):
    good, gone = native.queue(), native.queue()
    bridge(api, f"{queue}-good", source=from_queue(good))
    bridge(api, f"{queue}-gone", source=from_queue(gone))
    native.channel.queue_delete(gone)

    for number in range(20):
        native.publish(str(number), queue=good)
        api.post(claims_path(f"{queue}-gone"))
        api.get(messages_path(f"{queue}-gone"))

    assert bodies(listed(api, f"{queue}-good")) == list(range(20))
    assert bodies(claimed(api, f"{queue}-good", 20)) == list(range(20))
    assert stats(api, f"{queue}-good")["free"] == 0
