"""A dependency is down at the start, goes away under load, and comes back: 503 meanwhile, then service by itself."""

import contextlib
import os
import signal
import threading
import time
import uuid

import pytest
import requests

from functional.api.helpers import bodies, claim, create, ids, listed, post
from functional.brokers import gives_back_after, make_broker
from functional.deployments import beside, through
from functional.http import Api
from functional.services.gateway import merge
from functional.services.mongodb import MongoDB
from functional.services.rabbitmq import RabbitMQ
from functional.services.redis import Redis
from functional.wait import wait_until
from gateway.core.queues.names import broker_name

#: Who may ask /v2/health.
ADMIN = {"X-Roles": "admin"}

#: Seconds of [bridge] and [side_store] timeout.
TIMEOUT = 2.0

#: Seconds within which a call is answered whatever is down: a connection and the work on it may each take the timeout.
PATIENCE = 2 * TIMEOUT + 2

#: Seconds within which there is service again once the dependency answers.
RECOVERY = 10

PRODUCERS = 4


@pytest.fixture(scope="module")
def shared_broker():
    with make_broker() as service:
        yield service


@pytest.fixture(scope="module")
def shared_mongodb():
    with MongoDB() as service:
        yield service


@pytest.fixture
def own_broker(shared_broker):
    """A running broker, which the test may end."""
    return running(shared_broker)


@pytest.fixture
def mongodb(shared_mongodb):
    """A running side-store, which the test may end."""
    return running(shared_mongodb)


def running(service):
    """The service, started again if the test before has ended it."""
    return service if service.alive else service.start()


@pytest.fixture
def options(own_broker, mongodb):
    timeout = {"bridge": {"timeout": TIMEOUT}, "side_store": {"timeout": TIMEOUT}}
    return merge(through(own_broker), beside(mongodb, f"outages_{uuid.uuid4().hex[:12]}"), timeout)


def assert_unavailable(answer):
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) > 0
    assert set(answer.json()) == {"title", "description"}


@pytest.mark.parametrize("name", ["own_broker", "mongodb"])
def test_gateway_starts_without_a_dependency_and_serves_once_it_is_there(request, options, start_gateway, queue, name):
    service = request.getfixturevalue(name)
    service.stop()

    api = Api(start_gateway(**options).url)
    start = time.monotonic()
    assert_unavailable(api.get("/v2/ping"))
    assert_unavailable(api.post(f"/v2/queues/{queue}/messages", json={"messages": [{"body": 1}]}))
    assert time.monotonic() - start < 2 * PATIENCE
    service.start()

    wait_until(lambda: api.get("/v2/ping").status_code == 204, RECOVERY, "the gateway to find its dependency")
    posted = post(api, queue, 1, 2)
    assert ids(claim(api, queue)[1]) == posted


class Load:
    """Clients that post and claim; keeps every answer's status and time, and what was confirmed and handed out."""

    def __init__(self, url, project, queue):
        self.url, self.project, self.queue = url, project, queue
        self.answers: list[tuple[float, int]] = []
        self.posted: list[str] = []
        self.delivered: list[str] = []
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._post) for _ in range(PRODUCERS)]
        self.threads += [threading.Thread(target=self._claim) for _ in range(2)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _call(self, client, method, path, **arguments):
        start = time.monotonic()
        answer = client.request(method, path, **arguments)
        self.answers.append((time.monotonic() - start, answer.status_code))
        if answer.status_code >= 400:
            self.stop.wait(0.05)
        return answer

    def _post(self):
        client = Api(self.url, self.project)
        while not self.stop.is_set():
            answer = self._call(
                client, "POST", f"/v2/queues/{self.queue}/messages", json={"messages": [{"body": 1}, {"body": 2}]}
            )
            if answer.status_code == 201:
                self.posted += [href.rpartition("/")[2] for href in answer.json()["resources"]]

    def _claim(self):
        client = Api(self.url, self.project)
        while not self.stop.is_set():
            answer = self._call(client, "POST", f"/v2/queues/{self.queue}/claims?limit=2", json={"ttl": 300})
            if answer.status_code == 201:
                self.delivered += ids(answer.json()["messages"])
            elif answer.status_code == 204:
                self.stop.wait(0.01)

    def works(self, since):
        """Has there been a post since so many answers ago that was confirmed?"""
        return any(status == 201 for _, status in self.answers[since:])


@pytest.mark.parametrize("name", ["own_broker", "mongodb"])
def test_dependency_that_dies_under_load_comes_back_without_a_restart_and_without_a_loss(
    request, options, own_broker, start_gateway, queue, name
):
    service = request.getfixturevalue(name)
    gateway = start_gateway(**options)
    api = Api(gateway.url, uuid.uuid4().hex)
    create(api, queue)
    own_broker.until_saved(broker_name(api.project, queue))

    with Load(gateway.url, api.project, queue) as load:
        wait_until(lambda: len(load.posted) > 50, 10, "some load")
        service.kill()
        wait_until(lambda: any(status == 503 for _, status in load.answers), 15, "the first 503")
        service.start()
        back, answered = time.monotonic(), len(load.answers)
        wait_until(lambda: load.works(answered), RECOVERY, "service after the outage")
        recovery = time.monotonic() - back
        wait_until(lambda: len(load.answers) > answered + 100, 20, "load after the outage")

    assert {status for _, status in load.answers} <= {201, 204, 503}
    assert max(took for took, _ in load.answers) < PATIENCE
    assert recovery < RECOVERY
    time.sleep(gives_back_after())
    left = drained(api, queue)
    assert set(load.posted) - set(load.delivered) - left == set()


def drained(api, queue):
    """The ids of all that is still there and free, or claimed by a call whose answer got lost."""
    found, path = set(), f"/v2/queues/{queue}/messages?echo=true&include_claimed=true&limit=20"
    while path:
        page = wait_until(lambda path=path: answer_of(api, path), 30, "a page of messages")
        found |= {message["id"] for message in page["messages"]}
        path = page["links"][0]["href"] if page["links"] else None
    return found


def answer_of(api, path):
    """The page, or None while the gateway asks to try again."""
    answer = api.get(path)
    return answer.json() if answer.status_code == 200 else None


def extend(whole, more):
    whole += more
    return whole


#: What raises each alarm of a broker, and what ends it: RabbitMQ's usual settings.
ALARMS = {
    RabbitMQ: {
        "memory": (
            lambda broker: broker.ctl("set_vm_memory_high_watermark", "0.00001"),
            lambda broker: broker.ctl("set_vm_memory_high_watermark", "0.4"),
        ),
        "disk": (
            lambda broker: broker.ctl("set_disk_free_limit", "1000000GB"),
            lambda broker: broker.ctl("set_disk_free_limit", "50MB"),
        ),
    },
    Redis: {
        "memory": (
            lambda broker: broker.configure("maxmemory", "1"), lambda broker: broker.configure("maxmemory", "0"),
        ),
    },
}


def queues_of(broker):
    """Names of all queues on a broker."""
    if isinstance(broker, RabbitMQ):
        return broker.ctl("list_queues", "name").split()
    with broker.connect() as client:
        return [key.decode() for key in client.scan_iter()]


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_alarm_under_load_stops_posts_alone_and_ends_without_a_loss_or_a_second_delivery(
    options, own_broker, start_gateway, queue, kind
):
    if kind not in ALARMS.get(type(own_broker), {}):
        pytest.skip("this broker has no such alarm that can be raised here")
    raise_alarm, end_alarm = ALARMS[type(own_broker)][kind]
    gateway = start_gateway(**options)
    api = Api(gateway.url, uuid.uuid4().hex)
    idle = start_gateway(**options)  # nobody has posted there since the alarm
    beside_it = f"landed-{queue}"
    post(api, beside_it, *range(40))
    listed(api, beside_it, limit=20)

    with contextlib.ExitStack() as alarm, Load(gateway.url, api.project, queue) as load:
        wait_until(lambda: len(load.posted) > 50, 10, "some load")
        alarm.callback(end_alarm, own_broker)
        raise_alarm(own_broker)
        wait_until(lambda: any(status == 503 for _, status in load.answers), 15, "the first 503")

        for gateway_url in (gateway.url, idle.url):
            assert_unavailable(api.at(gateway_url).get("/v2/ping"))
            health = api.at(gateway_url).get("/v2/health", headers=ADMIN).json()["default"]
            assert not health["storage_reachable"]
            # A new queue needs memory, too, in Redis.
            first = "post_messages" if isinstance(own_broker, RabbitMQ) else "create_queue"
            assert not health["operation_status"][first]["succeeded"]
        start = time.monotonic()
        refused = api.post(f"/v2/queues/{beside_it}/messages", json={"messages": [{"body": 1}]})
        assert time.monotonic() - start < PATIENCE
        assert_unavailable(refused)
        assert "memory or disk" in refused.json()["description"]
        claim_id, messages = claim(api, beside_it, limit=10)
        assert bodies(messages) == list(range(10))
        assert {api.delete(message["href"]).status_code for message in messages} == {204}
        later: list[int] = []  # the last twenty of them from the broker
        wait_until(lambda: len(extend(later, bodies(claim(api, beside_it)[1]))) == 30, 10, "the backlog")
        assert later == list(range(10, 40))

        alarm.close()
        answered = len(load.answers)
        wait_until(lambda: load.works(answered), RECOVERY, "posts after the alarm")
        wait_until(lambda: len(load.answers) > answered + 100, 20, "load after the alarm")
        wait_until(lambda: api.at(idle.url).get("/v2/ping").status_code == 204, RECOVERY, "the idle gateway")

    assert {status for _, status in load.answers} <= {201, 204, 503}
    assert max(took for took, _ in load.answers) < PATIENCE
    time.sleep(gives_back_after())
    left = drained(api, queue)
    assert set(load.posted) - set(load.delivered) - left == set()
    assert len(load.delivered) == len(set(load.delivered))
    health = api.get("/v2/health", headers=ADMIN).json()["default"]
    assert health["storage_reachable"]
    assert not [name for name in queues_of(own_broker) if "health" in name]


@pytest.mark.parametrize("name", ["own_broker", "mongodb"])
def test_idle_gateway_survives_a_restart_of_a_dependency(request, options, own_broker, start_gateway, queue, name):
    """Its pooled connections are dead, and it has not noticed yet."""
    api = Api(start_gateway(**options).url)
    post(api, queue, "before")
    assert bodies(listed(api, queue)) == ["before"]
    own_broker.until_saved(broker_name(api.project, queue))

    request.getfixturevalue(name).restart()

    answer = wait_until(lambda: try_post(api, queue), RECOVERY, "a post after the restart")
    assert answer.status_code == 201
    assert bodies(claim(api, queue)[1]) == ["before", "after"]


def try_post(api, queue):
    answer = api.post(f"/v2/queues/{queue}/messages", json={"messages": [{"body": "after"}]})
    return answer if answer.status_code == 201 else None


def test_claims_of_landed_messages_go_on_without_the_broker(options, own_broker, start_gateway, queue):
    api = Api(start_gateway(**options).url)
    post(api, queue, 1, 2, 3)
    listed(api, queue, limit=3)
    own_broker.stop()

    claim_id, messages = claim(api, queue, limit=20)

    assert bodies(messages) == [1, 2, 3]
    assert api.delete(messages[0]["href"]).status_code == 204


def test_dead_worker_is_replaced(options, start_gateway, queue):
    gateway = start_gateway(**merge(options, {"wsgi": {"workers": 2}}))
    api = Api(gateway.url)
    wait_until(lambda: len(gateway.worker_pids) == 2, 10, "two workers")
    victim = gateway.worker_pids[0]

    os.kill(victim, signal.SIGKILL)

    wait_until(lambda: len(gateway.worker_pids) == 2 and victim not in gateway.worker_pids, 10, "another worker")
    assert ids(claim(api, queue)[1]) == []
    post(api, queue, 1)
    assert bodies(claim(api, queue)[1]) == [1]


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_lets_requests_finish_and_ends_in_time(options, start_gateway, queue, workers):
    gateway = start_gateway(**merge(options, {"wsgi": {"workers": workers, "drain_timeout": 5}}))
    project = uuid.uuid4().hex
    create(Api(gateway.url, project), queue)
    failures: list[requests.RequestException] = []
    confirmed: list[str] = []

    def produce():
        client = Api(gateway.url, project)
        while True:
            try:
                answer = client.post(f"/v2/queues/{queue}/messages", json={"messages": [{"body": 1}]})
            except requests.ConnectionError as error:
                failures.append(error)
                return
            assert answer.status_code == 201
            confirmed.extend(answer.json()["resources"])

    producers = [threading.Thread(target=produce) for _ in range(PRODUCERS)]
    for producer in producers:
        producer.start()
    wait_until(lambda: len(confirmed) > 20, 10, "some load")
    start = time.monotonic()
    code = gateway.stop()
    took = time.monotonic() - start
    for producer in producers:
        producer.join()

    assert code == 0
    assert took < 5 + 3
    # Every request that was sent was answered; those who wanted to connect afterwards were refused.
    assert all("refused" in str(failure).lower() for failure in failures), failures
