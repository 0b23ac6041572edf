"""Who may bridge what: the operator's list, admins, and names that are nobody's."""

import uuid

import pytest

from functional.api.helpers import JSON_PATCH, assert_error, queue_path
from functional.bridged.helpers import from_exchange, from_queue, to_exchange
from functional.deployments import COMMON, beside, through
from functional.http import Api
from functional.installed import require
from functional.services.gateway import Gateway, merge
from gateway.core.queues.names import broker_name

ALLOW = [
    "shop read / queue:orders",
    "shop write / exchange:orders",
    "shop read / exchange:news-?",
    "audit-* read / *:log-*",
    "desk write / queue:inbox",
    "wide * * exchange:*",
    "afar read other *:*",
    "ops * * *",
]

ORDERS = from_queue("orders")
NEWS = from_exchange("news-1")
TO_ORDERS = to_exchange("orders", "new")

#: Project, `_bridge`, and whether it is allowed.
TABLE = [
    ("shop", {"source": ORDERS}, True),
    ("shop", {"source": from_queue("orders-2")}, False),
    ("shop", {"source": from_queue("Orders")}, False),
    ("shop", {"source": from_queue("orders", vhost="/")}, True),
    ("shop", {"source": from_queue("orders", vhost="other")}, False),
    ("Shop", {"source": ORDERS}, False),
    ("shop2", {"source": ORDERS}, False),
    ("shop", {"target": TO_ORDERS}, True),
    ("shop", {"target": to_exchange("orders", "anything")}, True),
    ("shop", {"source": ORDERS, "target": TO_ORDERS}, True),
    ("shop", {"source": from_exchange("orders")}, False),
    ("shop", {"target": to_exchange("", "orders")}, False),
    ("shop", {"source": NEWS}, True),
    ("shop", {"source": from_exchange("news-12")}, False),
    ("shop", {"target": to_exchange("news-1")}, False),
    ("shop", {"source": NEWS, "target": TO_ORDERS}, True),
    ("shop", {"source": NEWS, "target": to_exchange("payments")}, False),
    ("shop", {"source": from_queue("payments"), "target": TO_ORDERS}, False),
    ("audit-1", {"source": from_queue("log-a")}, True),
    ("audit-1", {"source": from_exchange("log-a")}, True),
    ("audit-1", {"source": from_queue("orders")}, False),
    ("audit-1", {"target": to_exchange("log-a")}, False),
    ("audit", {"source": from_queue("log-a")}, False),
    ("desk", {"target": to_exchange("", "inbox")}, True),
    ("desk", {"target": to_exchange("", "outbox")}, False),
    ("desk", {"target": to_exchange("inbox", "inbox")}, False),
    ("desk", {"source": from_queue("inbox")}, False),
    ("wide", {"source": from_exchange("anything")}, True),
    ("wide", {"target": to_exchange("anything")}, True),
    ("wide", {"source": from_queue("anything")}, False),
    ("wide", {"target": to_exchange("", "anything")}, False),
    ("afar", {"source": from_queue("anything", vhost="other")}, True),
    ("afar", {"source": from_queue("anything")}, False),
    ("afar", {"source": from_queue("anything", vhost="others")}, False),
    ("ops", {"source": from_queue("anything"), "target": to_exchange("", "anything")}, True),
    ("ops", {"source": from_exchange("anything"), "target": to_exchange("anything", vhost="other")}, True),
    ("nobody", {"source": ORDERS}, False),
    ("nobody", {"target": TO_ORDERS}, False),
]

VICTIM = broker_name("victim", "letters")

#: `_bridge` of what is nobody's, whatever the list says.
RESERVED = {
    "another tenant's queue": {"source": from_queue(VICTIM)},
    "another tenant's queue in another vhost": {"source": from_queue(VICTIM, vhost="other")},
    "another tenant's queue as a target": {"target": to_exchange("", VICTIM)},
    "one's own queue": {"source": from_queue(broker_name("ops", "letters"))},
    "poison": {"source": from_queue("marconi-poison.victim.letters")},
    "poison as a target": {"target": to_exchange("", "marconi-poison.victim.letters")},
    "anything marconi.": {"source": from_queue("marconi.")},
    "anything marconi-": {"source": from_queue("marconi-x")},
    "queue amq.": {"source": from_queue("amq.gen-abc")},
    "queue amq. as a target": {"target": to_exchange("", "amq.gen-abc")},
    "answers to somebody": {"target": to_exchange("", "amq.rabbitmq.reply-to.abc")},
    "exchange amq.": {"source": from_exchange("amq.fanout")},
    "exchange amq. as a target": {"target": to_exchange("amq.topic", "orders")},
    "the broker's log": {"source": from_exchange("amq.rabbitmq.log", "topic", binding_keys=["#"])},
    "source is fine, target is not": {"source": ORDERS, "target": to_exchange("", VICTIM)},
}


@pytest.fixture(scope="module")
def base_options(shared_broker, mongodb, least_rights):
    database = beside(mongodb, f"access_{uuid.uuid4().hex[:8]}")
    return merge(COMMON, through(shared_broker), {"bridge": {"uri": least_rights}}, database)


@pytest.fixture(scope="module")
def guarded(base_options):
    """A gateway with that list, which has admins."""
    with require(lambda: Gateway(merge(base_options, {"bridging": {"allow": ALLOW}}))) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def closed(base_options):
    """A gateway as it comes: no list, no admins."""
    with require(lambda: Gateway(merge(base_options, {"DEFAULT": {"admin_mode": False}}))) as gateway:
        yield gateway


def make(gateway, project, queue, bridge, roles=None):
    headers = {"X-Roles": roles} if roles else {}
    return Api(gateway.url, project).put(queue_path(queue), json={"_bridge": bridge}, headers=headers)


def assert_refused(answer, gateway, project, queue):
    assert_error(answer, 403)
    assert Api(gateway.url, project).head(queue_path(queue)).status_code == 404


@pytest.mark.parametrize(("project", "bridge", "allowed"), TABLE, ids=str)
def test_the_list_says_who_may_bridge_what(guarded, queue, project, bridge, allowed):
    answer = make(guarded, project, queue, bridge)

    if allowed:
        assert answer.status_code == 201, answer.text
        assert Api(guarded.url, project).delete(queue_path(queue)).status_code == 204
    else:
        assert_refused(answer, guarded, project, queue)


@pytest.mark.parametrize("bridge", [bridge for _, bridge, _ in TABLE], ids=str)
def test_without_a_list_nothing_may_be_bridged(closed, queue, bridge):
    assert_refused(make(closed, "ops", queue, bridge), closed, "ops", queue)


@pytest.mark.parametrize("bridge", RESERVED.values(), ids=RESERVED)
@pytest.mark.parametrize("roles", [None, "admin"])
def test_reserved_names_are_nobodys(guarded, queue, bridge, roles):
    assert_refused(make(guarded, "ops", queue, bridge, roles), guarded, "ops", queue)


RESERVED_TARGETS = {name: bridge for name, bridge in RESERVED.items() if "source" not in bridge}


@pytest.mark.parametrize("bridge", RESERVED_TARGETS.values(), ids=RESERVED_TARGETS)
def test_plain_queue_can_not_be_patched_to_a_reserved_name(guarded, queue, bridge):
    api = Api(guarded.url, "ops")
    assert api.put(queue_path(queue)).status_code == 201

    operation = {"op": "add", "path": "/metadata/_bridge", "value": bridge}
    assert_error(api.patch(queue_path(queue), json=[operation], headers=JSON_PATCH), 403)
    assert_error(api.put(queue_path(queue), json={"_bridge": bridge}), 403)


@pytest.mark.parametrize("bridge", [
    {"source": from_queue("anything")}, {"target": to_exchange("anything")},
    {"source": from_exchange("anything", vhost="other"), "target": to_exchange("", "anything")},
], ids=str)
def test_admin_may_bridge_what_no_list_names(guarded, queue, bridge):
    answer = make(guarded, "nobody", queue, bridge, "reader,admin")

    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("roles", ["member", "member,Admin-of-nothing", "member,administrator"])
def test_other_roles_are_no_admins(guarded, queue, roles):
    assert_refused(make(guarded, "nobody", queue, {"source": ORDERS}, roles), guarded, "nobody", queue)


def test_without_admin_mode_there_are_no_admins(closed, queue):
    assert_refused(make(closed, "nobody", queue, {"source": ORDERS}, "admin"), closed, "nobody", queue)


def test_target_can_not_be_changed_to_what_is_not_allowed(guarded, queue):
    api = Api(guarded.url, "shop")
    assert make(guarded, "shop", queue, {"source": ORDERS, "target": TO_ORDERS}).status_code == 201

    other = {"source": ORDERS, "target": to_exchange("payments")}
    patch = {"op": "replace", "path": "/metadata/_bridge", "value": other}

    assert_error(api.put(queue_path(queue), json={"_bridge": other}), 403)
    assert_error(api.patch(queue_path(queue), json=[patch], headers=JSON_PATCH), 403)
    assert api.get(queue_path(queue)).json()["_bridge"]["target"]["exchange"] == "orders"


def test_bridge_that_an_admin_has_made_is_the_projects(guarded, queue):
    """The project uses it, and may change what has nothing to do with the bridge."""
    bridge = {"source": from_queue(f"b-{queue}")}
    assert make(guarded, "nobody", queue, bridge, "admin").status_code == 201
    api = Api(guarded.url, "nobody")

    assert_error(api.post(f"{queue_path(queue)}/claims"), 404)  # the broker has no such queue
    assert api.put(queue_path(queue), json={"_bridge": bridge, "team": "shop"}).status_code == 204


def test_default_exchange_can_not_be_read(guarded, queue):
    answer = make(guarded, "ops", queue, {"source": from_exchange("", "direct", binding_keys=["orders"])})

    assert answer.status_code in (400, 403), answer.text


def test_refusal_does_not_tell_whether_the_object_exists(guarded, queue, native):
    theirs = native.queue()

    there = make(guarded, "nobody", queue, {"source": from_queue(theirs)})
    gone = make(guarded, "nobody", queue, {"source": from_queue("b-gone")})

    assert_error(there, 403)
    assert there.json()["description"].replace(theirs, "") == gone.json()["description"].replace("b-gone", "")


def test_line_that_is_none_stops_the_start(base_options):
    """A typing error must not open or close anything silently."""
    gateway = require(lambda: Gateway(merge(base_options, {"bridging": {"allow": ["shop read orders"]}})))
    try:
        with pytest.raises(RuntimeError, match="shop read orders"):
            gateway.start()
    finally:
        gateway.close()
