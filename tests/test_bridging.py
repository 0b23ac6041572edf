"""Bridged queues: the form of ``_bridge``, and who may bridge what."""

from typing import Any

import orjson
import pytest

from bridges.base import Bridge
from bridges.bridging import Binding, parse
from bridges.loopback import LoopbackBridge
from bridges.memory import MemoryBridge
from gateway.config.limits import Limits
from gateway.core.core import Core
from gateway.core.errors import Conflict, Forbidden, InvalidInput
from gateway.core.foreign.access import AccessRules
from gateway.core.messages.post import Post
from gateway.core.queues.info import Reads
from gateway.core.queues.metadata import MetadataRules
from storage.sqlite import SQLiteStore

QUEUE = {"source": {"queue": "orders"}}
TOPIC = {"source": {"exchange": "nova", "type": "topic", "binding_keys": ["notifications.*"]}}
TARGET = {"target": {"exchange": "orders", "routing_key": "new"}}


def test_parts_are_read() -> None:
    bridging = parse({**TOPIC, **TARGET, "properties": True, "format": "oslo"})
    assert bridging.source is not None and bridging.target is not None
    assert bridging.source.binding == Binding("nova", ("notifications.*",), {}, "topic")
    assert (bridging.target.exchange, bridging.target.routing_key, bridging.target.mandatory) == ("orders", "new", True)
    assert (bridging.properties, bridging.oslo, bridging.lands) == (True, True, True)


def test_list_of_somebody_elses_queue_does_not_land_unless_told_to() -> None:
    assert parse(QUEUE).lands is False
    assert parse({**QUEUE, "landing": True}).lands is True


@pytest.mark.parametrize("value", [
    None, 1, "orders", [], {}, {"properties": True},
    {**QUEUE, "unknown": 1},
    {"source": None}, {"source": {}}, {"source": "orders"}, {"source": {"queue": ""}}, {"source": {"queue": 5}},
    {"source": {"queue": "x" * 256}}, {"source": {"queue": "a\0b"}}, {"source": {"queue": "q", "type": "topic"}},
    {"source": {"queue": "q", "exchange": "e", "type": "fanout"}},
    {"source": {"exchange": "e"}}, {"source": {"exchange": "e", "type": "x-delayed"}},
    {"source": {"exchange": "e", "type": "topic"}}, {"source": {"exchange": "e", "type": "direct", "binding_keys": []}},
    {"source": {"exchange": "e", "type": "direct", "binding_keys": "a"}},
    {"source": {"exchange": "e", "type": "direct", "binding_keys": [1]}},
    {"source": {"exchange": "e", "type": "fanout", "binding_keys": ["a"]}},
    {"source": {"exchange": "e", "type": "headers"}}, {"source": {"exchange": "e", "type": "headers", "arguments": {}}},
    {"source": {"exchange": "e", "type": "topic", "binding_keys": ["a"], "arguments": {"a": 1}}},
    {"source": {"exchange": "e", "type": "headers", "arguments": {"a": 2**64}}},
    {"target": {}}, {"target": {"exchange": 1}}, {"target": {"exchange": ""}},
    {"target": {"exchange": "e", "routing_key": None}}, {"target": {"exchange": "e", "unroutable": "drop"}},
    {"target": {"exchange": "e", "vhost": ""}}, {"target": {"exchange": "e", "queue": "q"}},
    {**QUEUE, "format": "xml"}, {**QUEUE, "properties": "yes"}, {**QUEUE, "landing": 1}, {**TOPIC, "landing": True},
    {**TARGET, "landing": True},
])
def test_what_is_malformed_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(value)


RULES = ["shop read / queue:orders-*", "shop write / exchange:events", "* read logs exchange:*", "ops * * *"]


@pytest.mark.parametrize(("project", "value", "allowed"), [
    ("shop", {"source": {"queue": "orders-new"}}, True),
    ("shop", {"source": {"queue": "Orders-new"}}, False),
    ("shop", {"source": {"queue": "other"}}, False),
    ("shop", {"source": {"queue": "orders-new", "vhost": "logs"}}, False),
    ("other", {"source": {"queue": "orders-new"}}, False),
    ("shop", {"target": {"exchange": "events"}}, True),
    ("shop", {"source": {"exchange": "events", "type": "fanout"}}, False),
    ("shop", {"target": {"exchange": "", "routing_key": "orders-new"}}, False),
    ("any", {"source": {"exchange": "all", "type": "fanout", "vhost": "logs"}}, True),
    ("ops", {"target": {"exchange": "", "routing_key": "any"}}, True),
    ("ops", {"source": {"queue": "marconi.shop.q"}}, False),
    ("ops", {"source": {"queue": "marconi-poison.shop.q"}}, False),
    ("ops", {"source": {"queue": "amq.gen-1"}}, False),
    ("ops", {"source": {"exchange": "amq.topic", "type": "topic", "binding_keys": ["#"]}}, False),
    ("ops", {"target": {"exchange": "", "routing_key": "marconi.shop.q"}}, False),
    ("shop", {"source": {"queue": "orders-new"}, "target": {"exchange": "other"}}, False),
])
def test_only_what_a_rule_allows_may_be_bridged(project: str, value: dict[str, Any], allowed: bool) -> None:
    rules = AccessRules(RULES, admin_mode=False)
    if allowed:
        rules.check(project, [], "/", parse(value).uses())
    else:
        with pytest.raises(Forbidden):
            rules.check(project, [], "/", parse(value).uses())


@pytest.mark.parametrize(("admin_mode", "roles", "name", "allowed"), [
    (True, ["admin"], "any", True), (True, ["member"], "any", False), (False, ["admin"], "any", False),
    (True, ["admin"], "marconi.shop.q", False), (True, ["admin"], "amq.gen-1", False),
])
def test_admins_may_bridge_what_is_not_reserved(admin_mode: bool, roles: list[str], name: str, allowed: bool) -> None:
    rules = AccessRules([], admin_mode)
    if allowed:
        rules.check("p", roles, "/", parse({"source": {"queue": name}}).uses())
    else:
        with pytest.raises(Forbidden):
            rules.check("p", roles, "/", parse({"source": {"queue": name}}).uses())


def declared(name: str, **more: Any) -> dict[str, Any]:
    return {"source": {"exchange": name, "type": "fanout", "declare": True, **more}}


@pytest.mark.parametrize(("rules", "value", "allowed"), [
    (["p * / exchange:x"], declared("x"), False), (["p read / exchange:x"], declared("x"), False),
    (["p read / *", "p declare / exchange:x"], declared("x"), True), (["p declare / *"], declared("x"), False),
    (["p * * *", "p declare v *"], declared("x"), False),
    (["p * * *", "p declare v *"], declared("x", vhost="v"), True),
    (["p * * *", "p declare * *"], declared("amq.topic"), False),
    (["p * * *", "p declare * *", "p * * exchange:amq.topic"], declared("amq.topic"), False),
    (["p read / exchange:amq.topic"], {"source": {**TOPIC["source"], "exchange": "amq.topic"}}, True),
    (["p * * exchange:amq.topic"], {"source": {**TOPIC["source"], "exchange": "amq.topic"}}, True),
    (["p read / exchange:amq.*"], {"source": {**TOPIC["source"], "exchange": "amq.topic"}}, False),
    (["p read / exchange:amq.topi[c]"], {"source": {**TOPIC["source"], "exchange": "amq.topic"}}, False),
    (["p read / *:amq.topic"], {"source": {**TOPIC["source"], "exchange": "amq.topic"}}, False),
    (["p write / exchange:amq.topic"], {"source": {**TOPIC["source"], "exchange": "amq.topic"}}, False),
    (["p * / exchange:amq.topic"], {"target": {"exchange": "amq.topic"}}, False),
    (["p * / queue:amq.gen-1"], {"source": {"queue": "amq.gen-1"}}, False),
    (["p * / exchange:marconi.x"], {"source": {**TOPIC["source"], "exchange": "marconi.x"}}, False),
])
def test_declaring_and_the_brokers_own_exchanges_need_a_rule_that_says_so(
    rules: list[str], value: dict[str, Any], allowed: bool
) -> None:
    access = AccessRules(rules, admin_mode=False)
    if allowed:
        access.check("p", [], "/", parse(value).uses())
    else:
        with pytest.raises(Forbidden):
            access.check("p", [], "/", parse(value).uses())


def test_admin_declares_without_a_rule_and_reads_nothing_of_the_brokers_own() -> None:
    access = AccessRules([], admin_mode=True)
    access.check("p", ["admin"], "/", parse(declared("x")).uses())
    with pytest.raises(Forbidden):
        access.check("p", ["admin"], "/", parse({"source": {**TOPIC["source"], "exchange": "amq.topic"}}).uses())


@pytest.mark.parametrize("more", [{"declare": 1}, {"declare": True, "durable": "yes"}, {"durable": True}])
def test_declaration_that_is_malformed_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"source\.(declare|durable)"):
        parse({"source": {**TOPIC["source"], **more}})


@pytest.mark.parametrize("line", ["", "shop read /", "shop use / queue:a", "shop read / queue:a b"])
def test_rule_that_is_malformed_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="allow"):
        AccessRules([line], admin_mode=False)


@pytest.mark.parametrize(("bridge", "kind"), [
    (MemoryBridge(), "memory bridge"), (LoopbackBridge("loopback://", None), "loopback bridge"),
])
def test_bridge_that_can_not_adopt_objects_of_others_says_what_it_is(
    bridge: Bridge, kind: str, store: SQLiteStore
) -> None:
    core = Core(bridge, store, Limits(), access=AccessRules(["* * * *"], admin_mode=False))
    with pytest.raises(InvalidInput, match=f"_bridge: this service has a {kind}"):
        core.queues.create("p", "q", {"_bridge": QUEUE})
    core.queues.create("p", "q", {})
    with pytest.raises(InvalidInput, match=kind):
        core.queues.patch("p", "q", [{"op": "add", "path": "/metadata/_bridge", "value": QUEUE}])
    core.close()


@pytest.mark.parametrize("value", [QUEUE, TOPIC, TARGET])
def test_queue_that_was_bridged_with_another_bridge_is_good_for_nothing_but_to_be_deleted(
    core: Core, store: SQLiteStore, bridge: MemoryBridge, value: dict[str, Any]
) -> None:
    store.catalogue.create_queue("p/q", orjson.dumps({"_bridge": value}))
    with pytest.raises(Conflict, match=r"Queue q can't be used: it is bridged, _bridge: .*memory bridge"):
        core.messages.post("p", "q", "client", [Post(b"1")], 10)
    with pytest.raises(Conflict):
        core.directory.find("p", "q")
    assert core.queues.metadata("p", "q")["_bridge"] == value
    core.queues.create("p", "q", None)
    assert core.pool.store.catalogue.get_queue("p/q") is not None
    core.queues.delete("p", "q")
    core.messages.post("p", "q", "client", [Post(b"1")], 10)
    assert bridge.depth("marconi.p.q") == 1


@pytest.mark.parametrize(("value", "has_broker", "reads"), [
    (None, True, Reads.OWN_QUEUE), (None, False, Reads.NOTHING), (TARGET, True, Reads.NOTHING),
    (TOPIC, True, Reads.OWN_QUEUE), ({**TOPIC, **TARGET}, True, Reads.OWN_QUEUE),
    (QUEUE, True, Reads.FOREIGN_QUEUE_PEEKED), ({**QUEUE, "landing": True}, True, Reads.FOREIGN_QUEUE_LANDED),
])
def test_what_a_queue_reads_from(value: dict[str, Any] | None, has_broker: bool, reads: Reads) -> None:
    rules = MetadataRules(Limits(), can_encrypt=False, parse_bridging=parse)
    assert Reads.of(rules.resolve({"_bridge": value}), has_broker) is reads


@pytest.mark.parametrize(("reads", "has_backlog", "lands", "is_foreign"), [
    (Reads.NOTHING, False, False, False), (Reads.OWN_QUEUE, True, True, False),
    (Reads.FOREIGN_QUEUE_LANDED, True, True, True), (Reads.FOREIGN_QUEUE_PEEKED, True, False, True),
])
def test_what_follows_from_that(reads: Reads, has_backlog: bool, lands: bool, is_foreign: bool) -> None:
    assert (reads.has_backlog, reads.lands, reads.is_foreign) == (has_backlog, lands, is_foreign)
