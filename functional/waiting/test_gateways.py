"""Who waits is woken by what comes through another worker, another gateway, or from a native producer."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from functional.api.helpers import bodies, claim, create, messages_path, post, release
from functional.brokers import Broker
from functional.deployments import COMMON, beside, loopback, sqlite, through
from functional.http import Api
from functional.services.gateway import Gateway, Options, merge
from functional.services.mongodb import MongoDB
from functional.services.process import start_together
from functional.waiting.waiters import CALLS, SOON, Waiter, until_waiting
from gateway.core.queues.names import broker_name

kinds = pytest.mark.parametrize("kind", CALLS)


@pytest.fixture(scope="module", params=["sqlite", "mongodb", "broker"])
def options(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Options:
    """What two gateways share: a file, a MongoDB, or a broker and a MongoDB."""
    if request.param == "sqlite":
        return merge(COMMON, loopback(), sqlite(tmp_path_factory.mktemp("waiting")))
    mongodb: MongoDB = request.getfixturevalue("mongodb")
    broker: Broker | None = request.getfixturevalue("shared_broker") if request.param == "broker" else None
    bridge = loopback() if broker is None else through(broker)
    return merge(COMMON, bridge, beside(mongodb, f"waiting_{uuid.uuid4().hex[:8]}"))


@pytest.fixture(scope="module")
def gateways(options: Options) -> Iterator[tuple[Gateway, Gateway]]:
    first, second = Gateway(merge(options, {"wsgi": {"workers": 2}})), Gateway(options)
    try:
        start_together([first, second])
        yield first, second
    finally:
        first.close()
        second.close()


@kinds
def test_message_through_another_gateway_is_the_answer(
    gateways: tuple[Gateway, Gateway], queue: str, kind: str
) -> None:
    """The first one has two workers: a request may wait in either, or in both."""
    first, second = gateways
    a, b = Api(first.url), Api(second.url)
    b.project = a.project
    create(a, queue)
    waiting = [Waiter(a, queue, kind) for _ in range(4)] + [Waiter(b, queue, kind)]
    until_waiting(first.url, 4)
    until_waiting(second.url, 1)
    sent = [post(b, queue, number)[0] for number in range(3)] + [post(a, queue, number)[0] for number in (3, 4)]
    posted = time.monotonic()
    found = [message["id"] for each in waiting for message in each.messages[:1]]
    assert max(each.ended_after(posted) for each in waiting) < SOON
    assert set(found) <= set(sent)
    if kind != "list":
        assert sorted(found) == sorted(sent)


@kinds
def test_release_through_another_gateway_is_seen(gateways: tuple[Gateway, Gateway], queue: str, kind: str) -> None:
    first, second = gateways
    a, b = Api(first.url), Api(second.url)
    b.project = a.project
    post(a, queue, 1)
    claim_id, _ = claim(a, queue)
    waiting = Waiter(b, queue, kind)
    until_waiting(second.url, 1)
    released = time.monotonic()
    release(a, queue, claim_id)
    assert bodies(waiting.messages) == [1]
    assert waiting.ended_after(released) < SOON


def test_queue_that_is_deleted_and_created_elsewhere_is_waited_for(
    gateways: tuple[Gateway, Gateway], queue: str
) -> None:
    first, second = gateways
    a, b = Api(first.url), Api(second.url)
    b.project = a.project
    create(a, queue)
    waiting = [Waiter(a, queue, "pop") for _ in range(3)]
    until_waiting(first.url, 3)
    assert b.delete(f"/v2/queues/{queue}").status_code == 204
    post(b, queue, 1, 2, 3)
    posted = time.monotonic()
    assert sorted(body for each in waiting for body in bodies(each.messages)) == [1, 2, 3]
    assert max(each.ended_after(posted) for each in waiting) < SOON


def test_native_message_is_the_answer(
    gateways: tuple[Gateway, Gateway], options: Options, queue: str, pika_connection: Callable[[], object],
) -> None:
    if "amqp" not in str(options["bridge"]["uri"]):
        pytest.skip("nobody else posts there")
    api = Api(gateways[1].url)
    create(api, queue)
    waiting = Waiter(api, queue, "pop")
    until_waiting(gateways[1].url, 1)
    posted = time.monotonic()
    channel = pika_connection().channel()  # type: ignore[attr-defined]
    channel.basic_publish("", broker_name(api.project, queue), b'"native"')
    assert bodies(waiting.messages) == ["native"]
    assert waiting.ended_after(posted) < SOON


def test_curl_may_wait(gateways: tuple[Gateway, Gateway], queue: str) -> None:
    gateway = gateways[1]
    api = Api(gateway.url)
    headers = {"Client-ID": api.client_id, "X-Project-ID": api.project, "Prefer": "wait=20"}
    curl = subprocess.Popen(
        ["curl", "-s", "-i", "-X", "DELETE", f"{gateway.url}{messages_path(queue)}?pop=1",
         *(part for name, value in headers.items() for part in ("-H", f"{name}: {value}"))],
        stdout=subprocess.PIPE, text=True,
    )
    until_waiting(gateway.url, 1)
    post(api, queue, "for curl")
    output, _ = curl.communicate(timeout=30)
    assert output.startswith("HTTP/1.1 200 OK")
    assert "Preference-Applied: wait=20" in output
    assert '"for curl"' in output
