"""A broker that answers and refuses: the log says what to do, and clients are told the truth, but no addresses."""

from collections.abc import Callable, Iterator

import pytest

from functional.bridged.helpers import Native, new_name
from functional.deployments import through
from functional.http import Api
from functional.services.gateway import Gateway, merge
from functional.services.rabbitmq import RabbitMQ
from functional.wait import wait_until

Start = Callable[..., Gateway]

POST = {"messages": [{"body": 1}]}

#: What no client may see.
INSIDE = ("127.0.0.1", "guest", "powerless", "secret")


def assert_refused(answer, description):
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert description in answer.json()["description"]
    assert not [word for word in INSIDE if word in answer.text]


@pytest.mark.parametrize(
    ("replace", "logged"),
    [
        (("%2F", "nowhere"), "vhost nowhere not found; correct the virtual host"),
        (("guest:guest", "guest:wrong"), "correct user and password in [bridge] uri"),
        (("guest:guest", "powerless:secret"), "let the user into the virtual host"),
    ],
    ids=["virtual-host", "password", "no-access"],
)
def test_connection_that_is_refused(rabbitmq: RabbitMQ, start_gateway: Start, queue: str, replace, logged) -> None:
    if "powerless" not in rabbitmq.ctl("list_users"):
        rabbitmq.ctl("add_user", "powerless", "secret")
    gateway = start_gateway(bridge={"uri": rabbitmq.uri.replace(*replace)})
    api = Api(gateway.url)

    for answer in (api.get("/v2/ping"), api.post(f"/v2/queues/{queue}/messages", json=POST)):
        assert_refused(answer, "refuses this service what the call needs")
    assert logged in wait_until(lambda: gateway.log, 5)


def test_permission_that_is_missing(rabbitmq: RabbitMQ, start_gateway: Start, queue: str) -> None:
    rabbitmq.ctl("add_user", "reader", "secret")
    rabbitmq.ctl("set_permissions", "reader", "^marconi[.-].*", "^$", ".*")  # may not write
    gateway = start_gateway(bridge={"uri": rabbitmq.uri.replace("guest:guest", "reader:secret")})
    api = Api(gateway.url)

    assert_refused(api.post(f"/v2/queues/{queue}/messages", json=POST), "refuses this service what the call needs")
    assert "give the user the permission: rabbitmqctl set_permissions" in gateway.log
    assert_refused(api.get("/v2/ping"), "refuses this service")

    rabbitmq.ctl("set_permissions", "reader", "^marconi[.-].*", ".*", ".*")
    wait_until(lambda: api.post(f"/v2/queues/{queue}/messages", json=POST).status_code == 201, 10, "the permission")


@pytest.mark.parametrize("vhost", ["", "nowhere"])
def test_target_that_is_refused_is_named(
    rabbitmq: RabbitMQ, start_gateway: Start, pika_connection, queue: str, vhost: str
) -> None:
    native, exchange = Native(pika_connection()), new_name()
    native.channel.exchange_declare(exchange, "fanout", durable=True, internal=True)
    gateway = start_gateway(**merge(through(rabbitmq), {"bridging": {"allow": f"* * * exchange:{exchange}"}}))
    api = Api(gateway.url)
    target = {"exchange": exchange, **({"vhost": vhost} if vhost else {})}
    assert api.put(f"/v2/queues/{queue}", json={"_bridge": {"target": target}}).status_code == 201

    answer = api.post(f"/v2/queues/{queue}/messages", json=POST)

    assert_refused(answer, f"does not let this service publish to exchange '{exchange}'")
    assert ("correct the virtual host" if vhost else "cannot publish to internal exchange") in gateway.log
    native.channel.exchange_delete(exchange)


def headings(gateway: Gateway) -> str:
    """What the log says at warning or above."""
    return "\n".join(line for line in gateway.log.splitlines() if " WARNING " in line or " ERROR " in line)


@pytest.fixture
def vhost(rabbitmq: RabbitMQ) -> Iterator[str]:
    """A virtual host of the test's own."""
    name = new_name()
    rabbitmq.ctl("add_vhost", name)
    rabbitmq.ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
    yield name
    rabbitmq.ctl("delete_vhost", name)


def at(rabbitmq: RabbitMQ, vhost: str) -> dict[str, dict[str, object]]:
    return {"bridge": {"uri": rabbitmq.uri.replace("%2F", vhost)}}


def test_limit_of_queues(rabbitmq: RabbitMQ, start_gateway: Start, queue: str, vhost: str) -> None:
    rabbitmq.ctl("set_vhost_limits", "-p", vhost, '{"max-queues": 0}')
    gateway = start_gateway(**at(rabbitmq, vhost))
    api = Api(gateway.url)
    for answer in (api.put(f"/v2/queues/{queue}"), api.post(f"/v2/queues/{queue}/messages", json=POST)):
        assert_refused(answer, "a limit of queues or connections")
    assert "queue limit in vhost" in headings(gateway) and "set_vhost_limits" in headings(gateway)

    rabbitmq.ctl("clear_vhost_limits", "-p", vhost)
    assert api.post(f"/v2/queues/{queue}/messages", json=POST).status_code == 201


def test_limit_of_connections(rabbitmq: RabbitMQ, start_gateway: Start, queue: str, vhost: str) -> None:
    rabbitmq.ctl("set_vhost_limits", "-p", vhost, '{"max-connections": 0}')
    gateway = start_gateway(**at(rabbitmq, vhost))
    assert_refused(Api(gateway.url).post(f"/v2/queues/{queue}/messages", json=POST), "a limit of queues or connections")
    assert "connection limit (0) is reached" in headings(gateway)
    assert "set_permissions" not in headings(gateway)  # advice fits, or there is none


def test_exclusive_queue_of_somebody_else(
    rabbitmq: RabbitMQ, start_gateway: Start, pika_connection, queue: str
) -> None:
    native = pika_connection().channel()
    foreign = new_name()
    native.queue_declare(foreign, exclusive=True)
    gateway = start_gateway(**merge(through(rabbitmq), {"bridging": {"allow": f"* * * queue:{foreign}"}}))
    api = Api(gateway.url)
    answer = api.put(f"/v2/queues/{queue}", json={"_bridge": {"source": {"queue": foreign}}})
    if answer.status_code == 400:  # seen when it is bridged
        assert "exclusive" in answer.json()["description"]
        return
    if answer.status_code == 201:
        answer = api.post(f"/v2/queues/{queue}/claims", json={})
    assert_refused(answer, "somebody else has it")
    assert "RESOURCE_LOCKED" in headings(gateway)


def test_full_queue(rabbitmq: RabbitMQ, start_gateway: Start, pika_connection, queue: str, vhost: str) -> None:
    """A refusal is an answer: what a full queue has refused is not published a second time."""
    rabbitmq.ctl("set_policy", "-p", vhost, "full", "^marconi", '{"max-length": 1, "overflow": "reject-publish"}')
    gateway = start_gateway(**merge(at(rabbitmq, vhost), {"bridge": {"queue_type": "classic"}}))
    api = Api(gateway.url)

    def refused() -> bool:
        answer = api.post(f"/v2/queues/{queue}/messages", json=POST)
        if answer.status_code == 201:
            return False
        assert_refused(answer, "is full")
        return "may have been enqueued" not in answer.text

    wait_until(refused, 10, "the queue to be full")
    assert "is full" in headings(gateway)


def test_fanout_with_one_full_queue(rabbitmq: RabbitMQ, start_gateway: Start, pika_connection, queue: str) -> None:
    native, exchange = Native(pika_connection()), new_name()
    native.channel.exchange_declare(exchange, "fanout", durable=True)
    good, full = native.bound(exchange), native.queue(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    native.publish(b"{}", full)
    native.channel.queue_bind(full, exchange)
    gateway = start_gateway(**merge(through(rabbitmq), {"bridging": {"allow": f"* * * exchange:{exchange}"}}))
    api = Api(gateway.url)
    assert api.put(f"/v2/queues/{queue}", json={"_bridge": {"target": {"exchange": exchange}}}).status_code == 201

    answer = api.post(f"/v2/queues/{queue}/messages", json=POST)

    assert_refused(answer, "is full")
    assert "other queues may have them" in answer.json()["description"]
    native.until_depth(good, 1)
    assert native.bodies(good) == [b"1"] and native.depth(good) == 0
    native.channel.exchange_delete(exchange)


@pytest.fixture
def small(rabbitmq: RabbitMQ) -> Iterator[int]:
    """The broker takes messages of so many bytes, on new channels."""
    def set_to(size: int) -> None:
        # RabbitMQ 3.10 reads the one, 4 the other.
        rabbitmq.ctl(
            "eval", f"application:set_env(rabbit, max_message_size, {size}),"
            f" persistent_term:put(max_message_size, {size})."
        )

    set_to(2000)
    yield 2000
    set_to(134217728)


@pytest.mark.parametrize("target", [False, True], ids=["own", "target"])
@pytest.mark.parametrize("first", [1, 3000], ids=["after-small", "at-once"])
def test_message_that_the_broker_finds_too_large(
    rabbitmq: RabbitMQ, start_gateway: Start, pika_connection, queue: str, small: int, target: bool, first: int
) -> None:
    """400 before anything is sent: of a batch the small ones are not enqueued."""
    native, exchange = Native(pika_connection()), new_name()
    native.channel.exchange_declare(exchange, "fanout", durable=True)
    bound = native.bound(exchange)
    gateway = start_gateway(**merge(through(rabbitmq), {"bridging": {"allow": f"* * * exchange:{exchange}"}}))
    api = Api(gateway.url)
    if target:
        assert api.put(f"/v2/queues/{queue}", json={"_bridge": {"target": {"exchange": exchange}}}).status_code == 201
    path = f"/v2/queues/{queue}/messages"
    expected = [] if first > small else [1]
    if first <= small:
        assert api.post(path, json={"messages": [{"body": first}]}).status_code == 201
    for _ in range(3):
        answer = api.post(path, json={"messages": [{"body": "small"}, {"body": "x" * 3000}, {"body": "small"}]})
        assert answer.status_code == 400 and "larger than the message broker takes, 2000 bytes" in answer.text
        answer = api.post(path, json={"messages": [{"body": "x" * 3000}]})
        assert answer.status_code == 400
    assert "the broker takes 2000" in headings(gateway)
    if target:
        native.until_depth(bound, len(expected))
    else:
        got = api.post(f"/v2/queues/{queue}/claims", json={})
        assert [message["body"] for message in (got.json()["messages"] if got.status_code == 201 else [])] == expected
    native.channel.exchange_delete(exchange)
