"""A broker that answers and refuses: the log says what to do, and clients are told the truth, but no addresses."""

from collections.abc import Callable

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
