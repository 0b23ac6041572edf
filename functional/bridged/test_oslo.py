"""OpenStack's own library on one side: a Notifier, or a listener, of oslo.messaging as a service configures it."""

import json
import queue as queues
import re
import subprocess
from pathlib import Path

import oslo_messaging
import pytest
from oslo_config import cfg

from functional.api.helpers import assert_error, bodies, claims_path, listed
from functional.bridged.helpers import (
    NOTICED,
    SOON,
    bridge,
    claimed,
    from_exchange,
    from_queue,
    new_name,
    post_raw,
    to_exchange,
)
from functional.wait import wait_until

README = Path(__file__).parents[2] / "README.md"

#: Where the README's tour thinks that the gateway is.
TOUR_ADDRESS = "http://127.0.0.1:8888"

#: What a body has, and nothing else.
FIELDS = {"event_type", "publisher_id", "priority", "payload", "timestamp", "message_id"}

PAYLOAD = {"instance_id": "8a4e", "memory_mb": 512, "name": "früh", "nested": {"list": [1, None, True]}}

DRIVERS = ["messagingv2", "messaging"]

#: `[oslo_messaging_rabbit]` of the service.
SETTINGS = {
    "plain": {},
    "durable": {"amqp_durable_queues": True},
    "quorum": {"rabbit_quorum_queue": True},
    "gzip": {"kombu_compression": "gzip"},
    "bzip2": {"kombu_compression": "bzip2"},
}

#: Seconds that a listener gets to receive.
HEARD = 10.0


class Service:
    """A service that uses oslo.messaging, configured by a file of its own, as nova.conf would."""

    def __init__(self, folder, uri, exchange, topic, settings, driver="messagingv2"):
        self.exchange, self.topic = exchange, topic
        file = folder / f"{exchange}-{topic}.conf"
        file.write_text(
            f"[DEFAULT]\ncontrol_exchange = {exchange}\n"
            f"[oslo_messaging_notifications]\ndriver = {driver}\ntopics = {topic}\n"
            "[oslo_messaging_rabbit]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())
        )
        conf = cfg.ConfigOpts()
        conf(["--config-file", str(file)])
        # oslo.messaging takes "//" for the virtual host "/".
        self.transport = oslo_messaging.get_notification_transport(conf, uri.replace("/%2F", "//").replace(
            "amqp:", "rabbit:"
        ))
        self._listener = None

    def notify(self, event_type, payload, priority="info"):
        notifier = oslo_messaging.Notifier(self.transport, "compute.host1", retry=1)
        getattr(notifier, priority)({"request_id": "req-1"}, event_type, payload)

    def listen(self):
        """Start to listen; give back the queue of what is heard."""
        heard = queues.Queue()

        class Endpoint:
            def info(self, context, publisher_id, event_type, payload, metadata):
                heard.put(("INFO", publisher_id, event_type, payload, metadata))

            def error(self, context, publisher_id, event_type, payload, metadata):
                heard.put(("ERROR", publisher_id, event_type, payload, metadata))

        target = oslo_messaging.Target(exchange=self.exchange, topic=self.topic)
        self._listener = oslo_messaging.get_notification_listener(
            self.transport, [target], [Endpoint()], executor="threading"
        )
        self._listener.start()
        return heard

    def close(self):
        if self._listener is not None:
            self._listener.stop()
            self._listener.wait()
        self.transport.cleanup()


@pytest.fixture
def start_service(rabbitmq, native, tmp_path):
    """Start services: `start_service(settings, driver)`."""
    started = []

    def start(settings, driver="messagingv2", exchange=None, topic=None):
        service = Service(tmp_path, rabbitmq.uri, exchange or new_name(), topic or new_name(), settings, driver)
        started.append(service)
        return service

    yield start
    for service in started:
        service.close()
    for service in started:
        channel = native.connection.channel()
        for priority in ("info", "error"):
            channel.queue_delete(f"{service.topic}.{priority}")
        channel.exchange_delete(service.exchange)


def source_of(service):
    return from_exchange(service.exchange, "topic", binding_keys=[f"{service.topic}.*"])


def assert_notification(body, event_type, priority="INFO", payload=PAYLOAD):
    assert set(body) == FIELDS
    assert body["event_type"] == event_type
    assert body["publisher_id"] == "compute.host1"
    assert body["priority"] == priority
    assert body["payload"] == payload
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", body["timestamp"])
    assert re.fullmatch(r"[0-9a-f-]{36}", body["message_id"])


# -- a service notifies, HTTP clients read --------------------------------------------------------------------------


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_notifications_of_a_service_that_was_there_first(api, native, queue, start_service, settings, driver):
    service = start_service(settings, driver)
    service.notify("compute.instance.create.start", PAYLOAD)
    bridge(api, queue, source=source_of(service), format="oslo")

    service.notify("compute.instance.create.end", PAYLOAD)
    service.notify("compute.instance.create.error", PAYLOAD, "error")

    end, error = bodies(claimed(api, queue, 2))
    assert_notification(end, "compute.instance.create.end")
    assert_notification(error, "compute.instance.create.error", "ERROR")
    # The publisher's own queues have all of it as well, as before.
    native.until_depth(f"{service.topic}.info", 2)
    native.until_depth(f"{service.topic}.error", 1)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_notifications_of_a_service_that_comes_later(api, native, queue, start_service, settings, driver):
    """Nothing is declared for it beforehand, so it can declare what it wants."""
    service = start_service(settings, driver)
    bridge(api, queue, source=source_of(service), format="oslo")
    assert_error(api.post(claims_path(queue)), 404)

    service.notify("first", PAYLOAD)
    wait_until(lambda: api.post(claims_path(queue)).status_code == 204, NOTICED, "the binding")
    service.notify("second", PAYLOAD)

    (body,) = bodies(claimed(api, queue, 1))
    assert_notification(body, "second")
    native.until_depth(f"{service.topic}.info", 2)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_services_own_queue_is_read_whoever_comes_first(api, queue, start_service, settings, driver):
    service = start_service(settings, driver)
    bridge(api, queue, source=from_queue(f"{service.topic}.info"), format="oslo")
    assert_error(api.post(claims_path(queue)), 404)

    service.notify("first", PAYLOAD)
    service.notify("second", PAYLOAD)

    shown = wait_until(lambda: len(found := listed_bodies(api, queue)) == 2 and found, SOON, "both")
    taken = bodies(claimed(api, queue, 2))
    assert shown == taken
    assert [body["event_type"] for body in taken] == ["first", "second"]
    assert_notification(taken[0], "first")


def listed_bodies(api, queue):
    return bodies(listed(api, queue))


def test_a_real_notification_without_the_format_is_its_envelope(api, queue, start_service):
    service = start_service({})
    service.notify("declares", PAYLOAD)
    bridge(api, queue, source=source_of(service), properties=True)

    service.notify("event", PAYLOAD)

    (message,) = claimed(api, queue, 1)
    assert set(message["body"]) == {"oslo.version", "oslo.message"}
    assert json.loads(message["body"]["oslo.message"])["event_type"] == "event"
    assert message["properties"]["content_type"] == "application/json"
    assert message["properties"]["content_encoding"] == "utf-8"
    assert message["properties"]["routing_key"] == f"{service.topic}.info"


# -- by hand --------------------------------------------------------------------------------------------------------

NOTIFICATION = {
    "message_id": "5b3a", "publisher_id": "identity.host", "event_type": "identity.user.created", "priority": "INFO",
    "payload": {"id": 1}, "timestamp": "2026-11-23 10:00:00.000000",
}
INTERNAL = {"_unique_id": "abc", "_context_user": "admin", "_context_auth_token": "secret"}


def enveloped(inner):
    return {"oslo.version": "2.0", "oslo.message": inner if isinstance(inner, str) else json.dumps(inner)}


@pytest.mark.parametrize(("sent", "shown"), [
    (enveloped(NOTIFICATION | INTERNAL), NOTIFICATION),
    (NOTIFICATION | INTERNAL, NOTIFICATION),
    (enveloped({"event_type": "e", "payload": None}), {"event_type": "e", "payload": None}),
    (enveloped(NOTIFICATION | {"payload": "text"}), NOTIFICATION | {"payload": "text"}),
], ids=["v2", "v1", "few fields", "payload is text"])
def test_notification_is_unwrapped(api, native, queue, sent, shown):
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs), format="oslo")
    native.publish(json.dumps(sent), queue=theirs, content_type="application/json", content_encoding="utf-8")

    assert bodies(claimed(api, queue, 1)) == [shown]


@pytest.mark.parametrize("sent", [
    {"hello": "world"}, [1, 2], "text", 7, None,
    enveloped("no JSON"), enveloped([1]), enveloped({"method": "build", "args": {}}), {"oslo.message": 7},
    {"event_type": 7, "payload": {}},
], ids=str)
def test_what_is_no_notification_stays_as_it_is(api, native, queue, sent):
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs), format="oslo")
    native.publish(json.dumps(sent), queue=theirs, content_type="application/json")

    assert bodies(claimed(api, queue, 1)) == [sent]


@pytest.mark.parametrize(("body", "content_type", "shown"), [
    (b"text", "text/plain", "text"), (b"\xff\x00", "image/png", {"base64": "/wA=", "content_type": "image/png"}),
])
def test_what_is_no_json_comes_out_as_without_the_format(api, native, queue, body, content_type, shown):
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs), format="oslo")
    native.publish(body, queue=theirs, content_type=content_type)

    assert bodies(claimed(api, queue, 1)) == [shown]


# -- HTTP clients post, a service listens ---------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_listener_hears_what_is_posted(api, queue, start_service, settings):
    service = start_service(settings)
    bridge(api, queue, target=to_exchange(service.exchange, f"{service.topic}.info"), format="oslo")
    assert_error(post_raw(api, queue, {"body": {"event_type": "too.early", "payload": {}}}), 503)

    heard = service.listen()
    few = {"event_type": "shop.order", "payload": PAYLOAD}
    full = NOTIFICATION | {"event_type": "shop.paid"}
    answer = post_raw(api, queue, {"body": few}, {"body": full})
    assert answer.status_code == 201, answer.text

    priority, publisher, event_type, payload, metadata = heard.get(timeout=HEARD)
    assert (priority, publisher, event_type, payload) == (
        "INFO", f"marconi.{api.project}", "shop.order", PAYLOAD,
    )
    assert metadata["message_id"] and metadata["timestamp"]
    _, publisher, event_type, payload, metadata = heard.get(timeout=HEARD)
    assert (publisher, event_type, payload) == ("identity.host", "shop.paid", {"id": 1})
    assert metadata == {"message_id": "5b3a", "timestamp": "2026-11-23 10:00:00.000000"}


def test_priority_of_a_post_reaches_the_listeners_method(api, queue, start_service):
    service = start_service({})
    heard = service.listen()
    bridge(api, queue, target=to_exchange(service.exchange, f"{service.topic}.error"), format="oslo")

    post_raw(api, queue, {"body": {"event_type": "shop.failed", "payload": {}, "priority": "ERROR"}})

    assert heard.get(timeout=HEARD)[0] == "ERROR"


def test_post_on_the_wire_is_as_the_library_sends_it(api, native, queue):
    theirs = native.queue()
    bridge(api, queue, target=to_exchange("", theirs), format="oslo")

    post_raw(api, queue, {"body": {"event_type": "shop.order", "payload": [1]}})

    ((_, properties, body),) = native.take(theirs)
    envelope = json.loads(body)
    inner = json.loads(envelope["oslo.message"])
    assert envelope == {"oslo.version": "2.0", "oslo.message": envelope["oslo.message"]}
    assert inner.keys() >= FIELDS
    assert (inner["publisher_id"], inner["priority"]) == (f"marconi.{api.project}", "INFO")
    assert properties.content_type == "application/json"
    assert properties.content_encoding == "utf-8"
    assert properties.delivery_mode == 2
    assert properties.priority == 0
    assert not properties.headers


def test_what_was_posted_comes_back_the_same(api, native, queue):
    theirs = native.queue()
    bridge(api, queue, source=from_queue(theirs), target=to_exchange("", theirs), format="oslo")

    post_raw(api, queue, {"body": NOTIFICATION})

    assert bodies(claimed(api, queue, 1)) == [NOTIFICATION]


@pytest.mark.parametrize("body", [
    "text", 7, None, [], {}, {"event_type": "e"}, {"payload": {}}, {"event_type": 7, "payload": {}},
], ids=str)
def test_post_that_is_no_notification_is_400(api, native, queue, body):
    theirs = native.queue()
    bridge(api, queue, target=to_exchange("", theirs), format="oslo")

    assert_error(post_raw(api, queue, {"body": {"event_type": "e", "payload": 1}}, {"body": body}), 400)

    assert native.depth(theirs) == 0


# -- the README's example -------------------------------------------------------------------------------------------


def test_readme_shows_every_nova_and_keystone_notification(bridged_options, start_gateway, start_service):
    """The section's configuration and its commands, as they are written there."""
    _, _, section = README.read_text().partition("\n## OpenStack notifications\n")
    section, _, _ = section.partition("\n## ")
    (configuration,) = re.findall(r"^```text\n\[bridging\]\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    (block,) = re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    allow = [line.partition(" = ")[2] for line in configuration.splitlines()]
    url = start_gateway(**{**bridged_options, "bridging": {"allow": allow}}).url
    make_nova, make_keystone, show = block.splitlines()
    nova, keystone = (start_service({}, exchange=name, topic="notifications") for name in ("nova", "keystone"))
    for service in (nova, keystone):
        service.notify("too.early", {})

    assert "[201]" in run(url, make_nova)
    assert "[201]" in run(url, make_keystone)
    nova.notify("compute.instance.create.end", {"instance_id": "8a4e"})
    keystone.notify("identity.user.created", {"resource_info": "cb4e"})
    shown = run(url, show)

    assert '"event_type":"compute.instance.create.end"' in shown
    assert '"event_type":"identity.user.created"' in shown


def run(url, command):
    """Run a command of the README, with what its tour defines."""
    tour = re.findall(r"^\$ ((?:queues=|api\(\)).*)$", README.read_text(), re.MULTILINE)
    script = "\n".join([*tour, command]).replace(TOUR_ADDRESS, url)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout
