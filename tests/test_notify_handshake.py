"""The handshake of CloudEvents: real HTTP, from the request that subscribes to the deliveries."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from bridges.memory import MemoryBridge
from gateway.config.limits import Limits
from gateway.config.notifications import Notifications
from gateway.core.core import Core
from gateway.core.errors import InvalidInput
from gateway.core.messages.post import Post
from gateway.core.subscriptions.addresses import Rules
from gateway.core.subscriptions.record import ACTIVE, HANDSHAKE, UNCONFIRMED, UNSUBSCRIBED, Subscription
from gateway.notify.handshake import allowed_rate
from gateway.notify.notifier import Notifier
from gateway.notify.settings import DeliverySettings, HttpSettings
from storage.sqlite import SQLiteStore
from tests.notify_receiver import OK, Answer, Receiver, Request, wait_for

ORIGIN = "messaging.example.org"
SETTINGS = DeliverySettings(HttpSettings(request_timeout=2.0), retry_schedule=(0, 0), origin=ORIGIN)
SHAKES = {"_confirmation": "cloudevents", "_format": "cloudevents"}


class Bench:
    """A core and a notifier with a name."""

    def __init__(self, store: SQLiteStore, **options: Any):
        said = Notifications(origin=ORIGIN, allowed_networks=("127.0.0.1",), **options)
        self.core = Core(
            MemoryBridge(), store, Limits(), notifications=said,
            sign=(lambda *args: "signature") if options else None,
        )
        self.notifier = Notifier(self.core, SETTINGS, lambda: Rules(["127.0.0.1/32"]))
        self.core.subscription_records.told = self.notifier.start

    def subscribe(self, url: str, **options: Any) -> str:
        return self.core.subscriptions.create("p", "q", url, 3600, SHAKES | options).id

    def get(self, id_: str) -> Subscription:
        return self.core.subscriptions.get("p", "q", id_)

    def post(self, body: Any) -> None:
        self.core.messages.post("p", "q", "c", [Post(orjson.dumps(body), 600)], 100)

    def outcomes(self, id_: str) -> list[tuple[str, str]]:
        """Of the attempts, oldest first."""
        attempts = self.core.delivery_statuses.get(self.get(id_).name).attempts
        return [(each.outcome, each.reason) for each in reversed(attempts)]


@pytest.fixture
def make_bench(store: SQLiteStore) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(**options: Any) -> Bench:
        benches.append(Bench(store, **options))
        return benches[-1]

    yield make
    for bench in benches:
        bench.notifier.close()
        bench.core.close()


def consenting(status: int = 200, **headers: str) -> Callable[[Request], Answer]:
    """Answers handshakes with a status and headers, and takes the rest."""
    said = {f"WebHook-Allowed-{name.title()}": value for name, value in headers.items()}
    return lambda request: (status, said) if request.method == "OPTIONS" else OK


@pytest.mark.parametrize("required", [True, False])
def test_nothing_comes_before_consent_and_deliveries_name_the_origin(
    make_bench: Callable[..., Bench], receiver: Receiver, required: bool
) -> None:
    bench = make_bench(require_confirmation=True) if required else make_bench()
    receiver.answer = consenting(405, origin=ORIGIN.upper())  # whatever the status
    id_ = bench.subscribe(receiver.url, post_headers={"Authorization": "Bearer x"}, _rate_limit=2.5)
    wait_for(lambda: bench.get(id_).state == ACTIVE)
    bench.post({"a": 1})
    wait_for(lambda: len(receiver.requests) == 2)
    asked, delivered = receiver.requests
    assert (asked.method, asked.body, asked.path) == ("OPTIONS", b"", "/hook")
    assert asked.headers["webhook-request-origin"] == ORIGIN
    assert asked.headers["webhook-request-rate"] == "150"  # per minute
    assert asked.headers["authorization"] == "Bearer x"
    assert "webhook-signature" not in asked.headers and "content-type" not in asked.headers
    assert (delivered.method, delivered.json["data"]) == ("POST", {"a": 1})
    assert delivered.headers["webhook-request-origin"] == ORIGIN
    assert bench.get(id_).confirmed


def test_others_are_neither_asked_nor_told_the_origin(make_bench: Callable[..., Bench], receiver: Receiver) -> None:
    bench = make_bench()
    bench.subscribe(receiver.url, _confirmation=None)
    bench.post(1)
    wait_for(lambda: receiver.requests)
    assert receiver.requests[0].method == "POST"
    assert "webhook-request-origin" not in receiver.requests[0].headers


def test_without_consent_it_is_asked_again_and_nothing_is_delivered(
    make_bench: Callable[..., Bench], receiver: Receiver
) -> None:
    bench = make_bench()
    answers: list[Answer] = [(503, {}), (200, {}), (200, {"WebHook-Allowed-Origin": "other.example.org"})]
    receiver.answer = lambda request: answers.pop(0)
    id_ = bench.subscribe(receiver.url)
    bench.post(1)
    wait_for(lambda: len(bench.outcomes(id_)) == 3)
    assert bench.outcomes(id_) == [("failed", "overloaded"), ("failed", "no-consent"), ("dead", "no-consent")]
    assert {request.method for request in receiver.requests} == {"OPTIONS"}
    assert bench.get(id_).state == UNCONFIRMED
    found = bench.get(id_)
    landed = bench.core.pool.store.landed
    wait_for(lambda: not landed.list_messages(found.key, 0, 10, claimed=True, delayed=True))
    assert not landed.list_messages(found.dead_key, 0, 10), "requests leave no letters"


def test_the_allowed_rate_limits_deliveries(make_bench: Callable[..., Bench], receiver: Receiver) -> None:
    bench = make_bench()
    receiver.answer = consenting(origin="*", rate="60")
    id_ = bench.subscribe(receiver.url)
    wait_for(lambda: bench.get(id_).state == ACTIVE)
    assert "webhook-request-rate" not in receiver.requests[0].headers  # nobody has said how much is to come
    assert bench.get(id_).allowed_rate == 60
    for number in range(3):
        bench.post(number)
    wait_for(lambda: len(receiver.requests) == 4)
    assert receiver.requests[3].at - receiver.requests[1].at >= 1.5


def test_consent_counts_for_who_was_asked_and_as_long_as_it_is_wanted(
    make_bench: Callable[..., Bench], store: SQLiteStore, receiver: Receiver
) -> None:
    bench = make_bench()
    receiver.answer = lambda request: (404, {})
    id_ = bench.subscribe(receiver.url)
    asked = bench.get(id_)
    agree = bench.core.subscription_states.agree
    agree(replace(asked, subscriber=f"{receiver.url}/another"), 0)
    assert bench.get(id_).state == UNCONFIRMED
    bench.core.subscription_states.confirm("p", "q", id_, False)
    agree(asked, 0)
    assert bench.get(id_).state == UNSUBSCRIBED
    bench.core.subscription_removal.delete("p", "q", id_)
    agree(asked, 0)  # no error


def test_another_subscriber_is_asked_anew(make_bench: Callable[..., Bench], receiver: Receiver) -> None:
    bench = make_bench()
    receiver.answer = consenting(origin="*", rate="600")
    id_ = bench.subscribe(receiver.url)
    wait_for(lambda: bench.get(id_).state == ACTIVE)
    receiver.answer = lambda request: (404, {})
    bench.core.subscriptions.update("p", "q", id_, {"subscriber": f"{receiver.url}/2"})
    changed = bench.get(id_)
    assert (changed.state, changed.confirmed, changed.allowed_rate) == (UNCONFIRMED, False, 0)
    wait_for(lambda: len(receiver.requests) == 4)
    assert [request.path for request in receiver.requests] == ["/hook", *["/hook/2"] * 3]


def test_who_was_unsubscribed_can_be_asked_again(make_bench: Callable[..., Bench], receiver: Receiver) -> None:
    bench = make_bench()
    receiver.answer = consenting(origin="*")
    id_ = bench.subscribe(receiver.url)
    wait_for(lambda: bench.get(id_).state == ACTIVE)
    bench.core.subscription_states.confirm("p", "q", id_, False)
    bench.core.subscription_records.change("p", "q", id_, lambda found: replace(found, asked=0))  # a minute has gone
    assert bench.subscribe(receiver.url) == id_
    wait_for(lambda: bench.get(id_).state == ACTIVE)
    assert bench.get(id_).confirmed and len(receiver.requests) == 2


def test_the_end_is_not_asked_for(make_bench: Callable[..., Bench], receiver: Receiver) -> None:
    """CloudEvents have no request for it, whatever the operator requires."""
    bench = make_bench(require_confirmation=True)
    receiver.answer = consenting(origin="*")
    id_ = bench.subscribe(receiver.url)
    wait_for(lambda: bench.get(id_).state == ACTIVE)
    bench.core.subscription_states.confirm("p", "q", id_, False)
    found = bench.get(id_)
    assert not bench.core.pool.store.landed.list_messages(found.key, 0, 10, claimed=True, delayed=True)
    assert not found.may_ask(HANDSHAKE)
    time.sleep(0.3)
    assert len(receiver.requests) == 1


def test_it_takes_a_name(store: SQLiteStore) -> None:
    core = Core(MemoryBridge(), store, Limits())
    with pytest.raises(InvalidInput, match=r"\[notification\] origin"):
        core.subscriptions.create("p", "q", "https://example.org/", 3600, SHAKES)
    core.close()


@pytest.mark.parametrize(
    ("origin", "rate", "allowed"),
    [
        ("messaging.example.org", "", 0), (" Messaging.Example.Org ", "*", 0), ("*", "120", 120), ("*", "007", 7),
        ("*", "0", 0), ("*", "-1", 0), ("*", "1.5", 0), ("*", "9" * 30, 0), ("example.org", "1", None), ("", "1", None),
        ("*, messaging.example.org", "1", None),
    ],
)
def test_what_an_answer_allows(origin: str, rate: str, allowed: int | None) -> None:
    headers = {"webhook-allowed-origin": origin, "webhook-allowed-rate": rate}
    assert allowed_rate(headers, ORIGIN) == allowed
    assert allowed_rate({}, ORIGIN) is None


@pytest.mark.parametrize(
    ("options", "origin"),
    [
        ({"origin": "a.example.org", "public_url": "https://b.example.org"}, "a.example.org"),
        ({"public_url": "https://b.example.org:8443/m"}, "b.example.org"), ({}, ""),
    ],
)
def test_the_name_is_configured(configured: Callable[..., Any], options: dict[str, str], origin: str) -> None:
    conf = configured(notification=options)
    assert Notifications.from_options(conf).origin == DeliverySettings.from_options(conf).origin == origin
