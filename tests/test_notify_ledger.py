"""The account of a subscription, and when it is hopeless; items as they are kept."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.core.subscriptions.letters import REPLAY, typed
from gateway.core.subscriptions.record import CONFIRMATION
from gateway.core.subscriptions.status import Attempt, DeliveryStatus
from gateway.notify.item import Item, read_kept
from gateway.notify.ledger import DAY, Ledger
from gateway.notify.own_addresses import own_addresses
from gateway.notify.settings import DeliverySettings
from storage.model import Message

START = 20_000 * DAY


def attempt(outcome: str, at: int = START, number: int = 1) -> Attempt:
    return Attempt("a", "m", number, at, 500, 0.1, outcome)


def test_counts_and_rows() -> None:
    ledger = Ledger(DeliveryStatus(), 2)
    for number, outcome in enumerate(("failed", "failed", "dead", "delivered", "rest")):
        ledger.add(attempt(outcome, START + number), number + 1)
    status = ledger.written()
    assert (status.delivered, status.failed, status.row, status.last_success) == (1, 3, 0, START + 3)
    assert status.last_failure is not None and status.last_failure.outcome == "dead"
    assert [each.outcome for each in status.attempts] == ["rest", "delivered"]
    assert not ledger.is_changed


def test_hopeless_needs_time_messages_and_days() -> None:
    after = 5 * 86_400
    ledger = Ledger(DeliveryStatus(), 10)
    for number in range(10):
        ledger.add(attempt("failed", START + number), number + 1)
    later = START + 6 * DAY
    assert not ledger.is_hopeless(later, after)  # all on one day
    ledger.add(attempt("failed", START + DAY, number=2), 11)
    assert not ledger.is_hopeless(START + DAY, after)
    assert ledger.is_hopeless(later, after)
    ledger.add(attempt("delivered", later), 0)
    assert not ledger.is_hopeless(later, after)


def test_few_failed_messages_are_not_hopeless() -> None:
    ledger = Ledger(DeliveryStatus(), 10)
    for number in range(30):
        ledger.add(attempt("failed", START + number * DAY, number=number + 1), number + 1)
    assert not ledger.is_hopeless(START + 40 * DAY, 60)


def test_restarting_forgets_failures_and_not_counts() -> None:
    ledger = Ledger(DeliveryStatus(delivered=3, failed=9, row=7, failing_since=1, window=4), 10)
    ledger.restarted()
    assert ledger.status == DeliveryStatus(delivered=3, failed=9)


def test_what_is_kept_beside_a_message_is_read_again() -> None:
    message = Message("m", 0, 10, b"1")
    item = Item(message, 10, properties=b'{"type":"theirs"}', first=3, last=4, status=500)
    kept = replace(message, properties=item.kept())
    assert Item(kept, 10, **read_kept(kept)).__class__ is Item
    again = read_kept(kept)
    assert (again["properties"], again["first"], again["last"], again["status"]) == (item.properties, 3, 4, 500)
    assert (again["kind"], again["replay"]) == ("Notification", False)


def test_requests_and_replays_are_told_apart() -> None:
    assert read_kept(Message("m", 0, 10, b"1", properties=typed(CONFIRMATION)))["kind"] == CONFIRMATION
    replay = read_kept(Message("m", 0, 10, b"1", properties=typed(REPLAY, b'{"a":1}')))
    assert replay["replay"] is True and orjson.loads(replay["properties"]) == {"a": 1}
    item = Item(Message("m", 0, 10, b"1"), 10, **replay)
    assert read_kept(replace(item.message, properties=item.kept()))["replay"] is True


def test_a_file_of_authorities_that_cant_be_read_is_refused(configured: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"\[notification\] ca_file: /nowhere"):
        DeliverySettings.from_options(configured(notification={"ca_file": "/nowhere"}))
    with pytest.raises(ValueError, match="ca_file"):
        DeliverySettings.from_options(configured(notification={"ca_file": __file__}))


def test_own_addresses_of_uris_and_sockets() -> None:
    found = own_addresses(
        [
            "amqp://user:pa%40ss@10.0.0.1:5673//;amqps://u:p@10.0.0.2/", "mongodb://10.0.0.3,10.0.0.4:27018/db?x=1",
            "redis://[fd00::1]:6380/0", "sqlite:///a/file", "loopback://", "amqp://does-not-exist.invalid/",
        ],
        [("0.0.0.0", 8888), ("unix:/run/socket", 1)],
    )
    assert {("10.0.0.1", 5673), ("10.0.0.2", 5671), ("10.0.0.3", 27017), ("10.0.0.4", 27018), ("fd00::1", 6380)} <= set(
        found
    )
    assert ("127.0.0.1", 8888) in found and 1 not in {port for _, port in found}
