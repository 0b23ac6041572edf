"""Bindings to exchanges while nobody reads, exchanges that are declared, and the broker's own."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from functional.api.helpers import assert_error, bodies, messages_path, queue_path
from functional.bridged.helpers import (
    PREFIX,
    Native,
    bridge,
    claimed,
    from_exchange,
    new_name,
    own_queue,
    post_raw,
    to_exchange,
)
from functional.bridged.test_oslo import PAYLOAD, Service, assert_notification, source_of
from functional.deployments import beside, through
from functional.http import Api
from functional.installed import require
from functional.services.gateway import Gateway, merge
from functional.services.rabbitmq import RabbitMQ
from functional.wait import wait_until

#: Seconds within which a binding must be there although nobody reads; what a busy machine may need on top.
BOUND, MARGIN = 5.0, 10.0


def until_bound(native, exchange, key=""):
    """Wait until something is bound to the exchange; how long that took. What tells is thrown away natively."""
    start = time.monotonic()

    def routed():
        try:
            native.publish(b'"probe"', exchange=exchange, key=key)
        except Exception:
            return False
        return True

    wait_until(routed, BOUND + MARGIN, f"a binding to {exchange}")
    return time.monotonic() - start


def bodies_but_probes(api, queue, count):
    """The next messages without those of until_bound."""
    found = []

    def enough():
        popped = api.delete(messages_path(queue), params={"pop": 20}).json()["messages"]
        found.extend(body for body in bodies(popped) if body != "probe")
        return len(found) >= count

    wait_until(enough, BOUND, f"{count} messages")
    return found


def test_exchange_that_comes_later_is_bound_though_nobody_reads(api, native, queue):
    exchange = new_name()
    bridge(api, queue, source=from_exchange(exchange))
    time.sleep(5)  # it has been looked for in vain for a while
    native.exchange("fanout", exchange)

    until_bound(native, exchange)
    native.publish(b"1", exchange=exchange)

    assert bodies_but_probes(api, queue, 1) == [1]


@pytest.mark.parametrize("times", [1, 3])
def test_exchange_that_is_made_anew_is_bound_though_nobody_reads(api, native, queue, times):
    exchange = native.exchange("topic")
    bridge(api, queue, source=from_exchange(exchange, "topic", binding_keys=["a", "b.#"]))
    for _ in range(times):
        native.channel.exchange_delete(exchange)
        native.exchange("topic", exchange)
        for key in ("a", "b.c"):
            until_bound(native, exchange, key)
    native.publish(b"1", exchange=exchange, key="b.c.d")

    assert bodies_but_probes(api, queue, 1) == [1]


def test_gateway_binds_what_others_have_made_from_its_start_on(bridged_options, start_gateway, native, queue):
    own = {"side_store": {"uri": bridged_options["side_store"]["uri"].replace("bridged", f"bridged_{queue[-8:]}")}}
    options = merge(bridged_options, own)
    first = start_gateway(**options)
    api = Api(first.url)
    exchange = new_name()
    bridge(api, queue, source=from_exchange(exchange))
    first.stop()
    second = start_gateway(**options)
    native.exchange("fanout", exchange)

    until_bound(native, exchange)
    native.publish(b"1", exchange=exchange)

    assert bodies_but_probes(api.at(second.url), queue, 1) == [1]


def test_deleted_queue_is_neither_made_again_nor_bound(api, native, queue):
    exchange = native.exchange("fanout")
    bridge(api, queue, source=from_exchange(exchange))
    assert api.delete(queue_path(queue)).status_code == 204

    time.sleep(5)

    assert native.depth(own_queue(api, queue)) is None


def test_broken_bindings_stop_no_others(api, native, queue):
    """Of many queues whose exchange is missing, and one in a virtual host that is not there."""
    for number in range(30):
        bridge(api, f"{queue}-{number}", source=from_exchange(new_name()))
    exchange = new_name()
    bridge(api, queue, source=from_exchange(exchange))
    native.exchange("fanout", exchange)

    until_bound(native, exchange)
    native.publish(b"1", exchange=exchange)

    assert bodies_but_probes(api, queue, 1) == [1]
    with ThreadPoolExecutor(10) as pool:  # each waits until nobody remembers what the queue was bridged to
        list(pool.map(lambda number: api.delete(queue_path(f"{queue}-{number}")), range(30)))


# -- declared exchanges ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def declaring_options(bridged_options, shared_broker):
    """Options of a gateway whose user may declare, and which lets projects do so and read amq.topic."""
    rules = ["* * / *:b-*", "* declare / exchange:b-*", "* read / exchange:amq.topic", "* * / exchange:amq.direct"]
    return merge(bridged_options, {"bridge": {"uri": shared_broker.uri}, "bridging": {"allow": rules}})


@pytest.fixture(scope="session")
def declaring_gateway(declaring_options):
    with require(lambda: Gateway(declaring_options)) as service:
        yield service


@pytest.fixture
def declaring(declaring_gateway):
    """A client of that gateway."""
    return Api(declaring_gateway.url)


def exchanges(rabbitmq):
    rows = rabbitmq.ctl("list_exchanges", "name", "type", "durable", "auto_delete", "internal", "--no-table-headers")
    return {name: rest for name, *rest in (row.split("\t") for row in rows.splitlines())}


@pytest.mark.parametrize("durable", [None, False, True])
@pytest.mark.parametrize(
    ("kind", "more"), [("topic", {"binding_keys": ["#"]}), ("fanout", {}), ("headers", {"arguments": {"a": 1}})]
)
def test_exchange_is_declared_as_asked(declaring, rabbitmq, native, queue, kind, more, durable):
    exchange = new_name()
    flags = {} if durable is None else {"durable": durable}
    bridge(declaring, queue, source=from_exchange(exchange, kind, declare=True, **flags, **more))

    native.publish(b"1", exchange=exchange, key="a", headers={"a": 1})

    assert bodies(claimed(declaring, queue, 1)) == [1]
    assert exchanges(rabbitmq)[exchange] == [kind, str(bool(durable)).lower(), "false", "false"]
    native.channel.exchange_delete(exchange)


@pytest.mark.parametrize(
    ("settings", "durable"),
    [({}, False), ({"amqp_durable_queues": True}, True), ({"rabbit_quorum_queue": True}, True)],
    ids=["plain", "durable", "quorum"],
)
def test_first_notification_of_a_service_that_comes_later_is_not_lost(
    declaring, rabbitmq, native, queue, tmp_path, settings, durable
):
    service = Service(tmp_path, rabbitmq.uri, new_name(), new_name(), settings)
    bridge(declaring, queue, source={**source_of(service), "declare": True, "durable": durable}, format="oslo")

    service.notify("first", PAYLOAD)

    (body,) = bodies(claimed(declaring, queue, 1))
    assert_notification(body, "first")
    native.until_depth(f"{service.topic}.info", 1)
    service.close()
    native.channel.queue_delete(f"{service.topic}.info")
    native.channel.exchange_delete(service.exchange)


def test_declared_exchange_is_declared_anew_when_it_is_gone(declaring, native, queue):
    exchange = new_name()
    bridge(declaring, queue, source=from_exchange(exchange, declare=True))
    native.channel.exchange_delete(exchange)

    wait_until(lambda: native.has_exchange(exchange), BOUND + MARGIN, "the exchange")
    until_bound(native, exchange)
    assert declaring.delete(queue_path(queue)).status_code == 204

    assert native.has_exchange(exchange)  # it may be others' by now
    native.channel.exchange_delete(exchange)
    time.sleep(5)
    assert not native.has_exchange(exchange)


@pytest.mark.parametrize("flags", [{"durable": True}, {"durable": False, "auto_delete": True}])
def test_exchange_that_others_have_declared_otherwise_is_adopted(declaring, rabbitmq, native, queue, flags):
    exchange = new_name()
    native.channel.exchange_declare(exchange, "fanout", **flags)
    before = exchanges(rabbitmq)[exchange]

    bridge(declaring, queue, source=from_exchange(exchange, declare=True))
    native.publish(b"1", exchange=exchange)

    assert bodies(claimed(declaring, queue, 1)) == [1]
    assert exchanges(rabbitmq)[exchange] == before
    declaring.delete(queue_path(queue))
    native.channel.exchange_delete(exchange)


def test_declaring_is_403_unless_a_rule_says_declare(api, native, queue):
    """This gateway's rules have * as right."""
    exchange = new_name()

    answer = api.put(queue_path(queue), json={"_bridge": {"source": from_exchange(exchange, declare=True)}})

    assert_error(answer, 403)
    assert "declare" in answer.json()["description"]
    assert not native.has_exchange(exchange)


def test_broker_that_lets_nobody_declare_is_a_503_and_no_queue(bridged_options, start_gateway, native, queue):
    allow = {"bridging": {"allow": ["* * / *:b-*", "* declare / exchange:b-*"]}}
    api = Api(start_gateway(**merge(bridged_options, allow)).url)
    exchange = new_name()

    answer = api.put(queue_path(queue), json={"_bridge": {"source": from_exchange(exchange, declare=True)}})

    assert_error(answer, 503)
    assert api.head(queue_path(queue)).status_code == 404
    assert not native.has_exchange(exchange)


# -- the broker's own exchanges -------------------------------------------------------------------------------------


def test_brokers_own_exchange_is_read_where_a_rule_names_it(declaring, native, queue):
    topic = new_name()
    bridge(declaring, queue, source=from_exchange("amq.topic", "topic", binding_keys=[f"{topic}.#"]))

    native.publish(b"1", exchange="amq.topic", key=f"{topic}.a")

    assert bodies(claimed(declaring, queue, 1)) == [1]
    assert declaring.delete(queue_path(queue)).status_code == 204
    assert native.has_exchange("amq.topic")


@pytest.mark.parametrize("parts", [
    {"target": to_exchange("amq.topic", "a")}, {"target": to_exchange("amq.direct", "a")},
    {"source": from_exchange("amq.fanout")},
    {"source": from_exchange("amq.topic", "topic", binding_keys=["#"], declare=True)},
    {"source": {"queue": "amq.gen-1"}},
])
def test_nothing_else_of_the_brokers_own_is_bridged(declaring, queue, parts):
    assert_error(declaring.put(queue_path(queue), json={"_bridge": parts}), 403)


# -- the broker goes and comes ----------------------------------------------------------------------------------------


def test_broker_restart_binds_what_is_made_anew(mongodb, start_gateway, queue):
    """OpenStack's exchanges are gone after it; one is declared by the service again, one by the gateway."""
    with require(RabbitMQ) as broker:
        rules = [f"* * / *:{PREFIX}*", f"* declare / exchange:{PREFIX}*"]
        api = Api(start_gateway(**merge(
            through(broker), beside(mongodb, f"bindings_{queue[-8:]}"), {"bridging": {"allow": rules}}
        )).url)
        theirs, ours = new_name(), new_name()
        with broker.connect() as connection:
            connection.channel().exchange_declare(theirs, "fanout", durable=False)
            bridge(api, f"{queue}-theirs", source=from_exchange(theirs))
            bridge(api, f"{queue}-ours", source=from_exchange(ours, declare=True))
            for name in (f"{queue}-theirs", f"{queue}-ours"):
                broker.until_saved(own_queue(api, name))
        broker.restart()
        with broker.connect() as connection:
            native = Native(connection)
            native.channel.exchange_declare(theirs, "fanout", durable=False)
            assert until_bound(native, theirs) < BOUND + MARGIN
            wait_until(lambda: native.has_exchange(ours), BOUND + MARGIN, "the declared exchange")
            until_bound(native, ours)
            for number, exchange in enumerate((theirs, ours)):
                native.publish(str(number).encode(), exchange=exchange)
        assert bodies_but_probes(api, f"{queue}-theirs", 1) == [0]
        assert bodies_but_probes(api, f"{queue}-ours", 1) == [1]


def test_post_still_goes_to_the_target_only(declaring, native, queue):
    """A queue that declares its source and has a target too."""
    exchange, theirs = new_name(), native.queue()
    bridge(declaring, queue, source=from_exchange(exchange, declare=True), target=to_exchange("", theirs))

    assert post_raw(declaring, queue, {"body": 1}).status_code == 201

    assert native.bodies(theirs) == [b"1"]
    native.channel.exchange_delete(exchange)
