"""``marconi check URL``: may deliveries go to these subscribers, and which option decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.app import address_rules
from gateway.config.drivers import SIDE_STORES, create_driver
from gateway.core.pools.record import PoolRecords
from gateway.core.seal import read_seal
from gateway.core.subscriptions.addresses import Rules, Verdict
from gateway.core.subscriptions.subscriber import Subscriber, parse
from gateway.notify.connecting import addresses_of, is_literal
from gateway.observe.logs import printable
from gateway.observe.masking import without_password
from storage.errors import StoreError

#: What is said of subscribers that are not connected to, by the scheme.
NO_ADDRESS = {
    "mailto": "mail goes through the mail server of [notification], wherever the address is",
    "marconi": "a queue of the same project; the broker puts the messages into it",
}


def check_addresses(conf: Any, subscribers: Sequence[str]) -> bool:
    """Print a verdict on each subscriber, and on each address that its name has here; True if all are allowed.

    Raises ValueError if the configuration can't be read, or the side-store, which knows the brokers of the pools.
    """
    try:
        store = create_driver(SIDE_STORES, conf.side_store.uri, conf.side_store)
        try:
            store.prepare()
            pools = PoolRecords(store, read_seal(conf.encryption.key, conf.encryption.other_keys)).all()
        finally:
            store.close()
    except StoreError as error:
        raise ValueError(f"the side-store, which knows the pools, can't be read: {error}") from error
    rules = address_rules(conf, lambda: pools)
    return all([_checked(conf, text, rules) for text in subscribers])


def _checked(conf: Any, text: str, rules: Rules) -> bool:
    try:
        subscriber = parse(text)
    except ValueError as error:
        verdict, lines = Verdict(False, str(error)), []
    else:
        verdict, found = _judged(conf, subscriber, rules)
        lines = [f"  {_word(each):<8} {address} port {subscriber.port}: {_why(each)}" for address, each in found]
    print(f"{_word(verdict):<8} {printable(without_password(text))}: {printable(_why(verdict))}", *lines, sep="\n")
    return verdict.allowed


def _judged(conf: Any, subscriber: Subscriber, rules: Rules) -> tuple[Verdict, list[tuple[str, Verdict]]]:
    """As an attempt would have it: refused addresses are left out, and what has no other is refused."""
    if subscriber.type not in map(str.lower, conf.transport.subscriber_types):
        return Verdict(False, f"{subscriber.type} is not in [transport] subscriber_types", "subscriber_types"), []
    if subscriber.type == "http" and not conf.notification.allow_http:
        return Verdict(False, "[notification] allow_http is false", "allow_http"), []
    if not subscriber.is_http:
        return Verdict(True, NO_ADDRESS[subscriber.scheme]), []
    plain, proxy = subscriber.scheme == "http", conf.notification.proxy
    if proxy and subscriber.trust and plain:
        return Verdict(False, "without TLS, tokens go through no [notification] proxy", "proxy"), []
    if is_literal(subscriber.host):
        return rules.judge(subscriber.host, subscriber.port, subscriber.trust, plain), []
    if proxy:
        return Verdict(True, "the name is left to the [notification] proxy, which has to filter it", "proxy"), []
    try:
        addresses = addresses_of(subscriber.host)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        return Verdict(False, f"the name can't be resolved here: {why}"), []
    found = [(address, rules.judge(address, subscriber.port, subscriber.trust, plain)) for address, _ in addresses]
    allowed = sum(verdict.allowed for _, verdict in found)
    return Verdict(bool(allowed), f"{allowed} of {len(found)} addresses may be connected to"), found


def _word(verdict: Verdict) -> str:
    return "allowed" if verdict.allowed else "REFUSED"


def _why(verdict: Verdict) -> str:
    if verdict.reason:
        return verdict.reason
    return f"listed in [notification] {verdict.option}" if verdict.option else "public"
