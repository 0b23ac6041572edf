"""Subscriptions by python-zaqarclient and openstacksdk, without Keystone."""

import uuid

import openstack
import pytest
from openstack.message.v2._proxy import Proxy
from zaqarclient.queues import client as zaqar
from zaqarclient.queues.v2.client import Client
from zaqarclient.queues.v2.subscription import Subscription
from zaqarclient.transport import errors

from functional.clients.test_openstacksdk import without_keystone
from functional.services.gateway import Gateway

#: Leads nowhere (RFC 6761, 6.4).
URI = "http://subscriber.invalid"


@pytest.fixture
def project() -> str:
    return f"project-{uuid.uuid4().hex}"


@pytest.fixture
def client(gateway: Gateway, project: str) -> Client:
    options = {"auth_opts": {"backend": "noauth", "options": {"os_project_id": project}}}
    return zaqar.Client(gateway.url, version=2, conf=options)


@pytest.fixture
def proxy(gateway: Gateway, project: str) -> Proxy:
    connection = openstack.connection.Connection(
        session=without_keystone(project), message_endpoint_override=gateway.url
    )
    proxy: Proxy = connection.message
    return proxy


def test_zaqarclient_creates_lists_updates_and_deletes(client: Client, queue: str) -> None:
    made = client.subscription(queue, subscriber=f"{URI}/0", ttl=600, options={"a": 1})
    assert (made.subscriber, made.ttl, made.options) == (f"{URI}/0", 600, {"a": 1})
    for number in range(1, 12):
        client.subscription(queue, subscriber=f"{URI}/{number}", ttl=600)
    assert [found.subscriber for found in client.subscriptions(queue, limit=20)] == [f"{URI}/{n}" for n in range(12)]
    assert len(list(client.subscriptions(queue, detailed=True))) == 10

    made.update({"ttl": 1000, "subscriber": f"{URI}/new"})
    (found,) = client.subscriptions(queue, limit=1)
    assert (found.id, found.ttl, found.subscriber, found.options) == (made.id, 1000, f"{URI}/new", {"a": 1})
    made.delete()
    client.queue(queue, force_create=False).purge(["subscriptions"])
    assert list(client.subscriptions(queue)) == []


def test_zaqarclient_is_told_what_is_wrong(client: Client, queue: str) -> None:
    for wrong in ({"subscriber": "gopher://x"}, {"subscriber": URI, "ttl": 1}, {"subscriber": URI, "options": "x"}):
        with pytest.raises(errors.MalformedRequest):
            Subscription(client, queue, **wrong)


def test_openstacksdk_creates_pages_and_deletes(proxy: Proxy, queue: str) -> None:
    ids = [
        proxy.create_subscription(queue, subscriber=f"{URI}/{number}", ttl=300).subscription_id for number in range(12)
    ]
    assert [found.id for found in proxy.subscriptions(queue, limit=5)] == ids
    found = proxy.get_subscription(queue, ids[0])
    assert (found.subscriber, found.ttl, found.options) == (f"{URI}/0", 300, {})
    proxy.delete_subscription(queue, ids[0])
    proxy.delete_subscription(queue, ids[0])
    assert [found.id for found in proxy.subscriptions(queue)] == ids[1:]
