"""Queue metadata: reserved keys, defaults, patches."""

from typing import Any

import pytest

from bridges.bridging import parse
from gateway.config.limits import Limits
from gateway.core.errors import Conflict, InvalidInput
from gateway.core.queues.metadata import LASTING, MetadataRules

RULES = MetadataRules(Limits(), can_encrypt=True, parse_bridging=parse)

NAME = "dead-letters"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_default_message_ttl", 60), ("_default_message_ttl", 1209600), ("_default_message_delay", 0),
        ("_default_message_delay", 900), ("_max_messages_post_size", 1), ("_max_messages_post_size", 262144),
        ("_max_claim_count", 1), ("_dead_letter_queue", NAME), ("_dead_letter_queue_messages_ttl", 60),
        ("_enable_encrypt_messages", True), ("_fifo", True), ("_fifo", False), ("_retry_policy", {}),
        ("anything", {"else": [1, None, "x"]}),
        ("_retry_policy", {"retry_backoff_function": "geometric", "minimum_delay": 1, "maximum_delay": 11,
                           "retries_with_no_delay": 0, "ignore_subscription_override": False}),
        ("_retry_policy", {"minimum_delay": 20, "maximum_delay": None, "mine": [1]}),
    ],
)
def test_good_value_is_kept(key: str, value: Any) -> None:
    assert RULES.check({key: value}) == {key: value}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_default_message_ttl", 59), ("_default_message_ttl", 1209601), ("_default_message_ttl", "60"),
        ("_default_message_ttl", 60.0), ("_default_message_ttl", True), ("_default_message_delay", -1),
        ("_default_message_delay", 901), ("_max_messages_post_size", 0), ("_max_messages_post_size", 262145),
        ("_max_claim_count", 0), ("_max_claim_count", 2**31), ("_dead_letter_queue", ""),
        ("_dead_letter_queue", "a b"), ("_dead_letter_queue", "x" * 65), ("_dead_letter_queue", 1),
        ("_dead_letter_queue_messages_ttl", 0), ("_enable_encrypt_messages", 1), ("_flavor", "gold"), ("_flavor", 1),
        ("_fifo", 1), ("_fifo", "true"), ("_fifo", []),
        ("_retry_policy", []), ("_retry_policy", {"minimum_delay": 21}), ("_retry_policy", {"minimum_delay": -1}),
        ("_retry_policy", {"minimum_delay": 2, "maximum_delay": 1}), ("_retry_policy", {"minimum_delay": "1"}),
        ("_retry_policy", {"retry_backoff_function": "cubic"}), ("_retry_policy", {"retry_backoff_function": []}),
        ("_retry_policy", {"ignore_subscription_override": 0}),
    ],
)
def test_bad_value_is_refused_by_its_name(key: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=key) as caught:
        RULES.check({key: value})
    assert caught.value.title == "Invalid metadata"


def test_null_is_the_default() -> None:
    assert RULES.check({"_max_claim_count": None, "mine": None}) == {"mine": None}
    assert RULES.check(dict.fromkeys(LASTING)) == {}
    assert RULES.check({"_enable_encrypt_messages": None}, {"_enable_encrypt_messages": True}) == {}


def test_retry_policy_of_earlier_rules_does_not_stand_in_the_way_of_other_changes() -> None:
    old = {"_retry_policy": {"minimum_delay": 1, "maximum_delay": 1}}
    assert RULES.patch(old, [{"op": "add", "path": "/metadata/a", "value": 1}]) == old | {"a": 1}
    with pytest.raises(InvalidInput, match="_retry_policy: maximum_delay must be at least 10 seconds more"):
        RULES.check({"_retry_policy": {"minimum_delay": 2, "maximum_delay": 2}}, old)


def test_encryption_needs_a_key() -> None:
    rules = MetadataRules(Limits(), can_encrypt=False, parse_bridging=parse)
    with pytest.raises(InvalidInput, match=r"\[encryption\] key"):
        rules.check({"_enable_encrypt_messages": True})
    assert rules.check({"_enable_encrypt_messages": False}) == {"_enable_encrypt_messages": False}


def test_rest_of_an_encrypted_queues_metadata_can_be_changed_without_a_key() -> None:
    rules = MetadataRules(Limits(), can_encrypt=False, parse_bridging=parse)
    old = {"_enable_encrypt_messages": True}
    assert rules.patch(old, [{"op": "add", "path": "/metadata/a", "value": 1}]) == old | {"a": 1}
    for before, value in (({}, True), (old, 1), (old, "true")):
        with pytest.raises(InvalidInput):
            rules.patch(before, [{"op": "add", "path": "/metadata/_enable_encrypt_messages", "value": value}])
    with pytest.raises(InvalidInput, match="bridge's target"):
        rules.patch(old, [{"op": "add", "path": "/metadata/_bridge", "value": {"target": {"exchange": "x"}}}])


@pytest.mark.parametrize(("size", "fits"), [(100, True), (101, False)])
def test_size_is_limited(size: int, fits: bool) -> None:
    rules = MetadataRules(Limits(max_queue_metadata=100), can_encrypt=False, parse_bridging=parse)
    metadata = {"a": "x" * (size - len('{"a":""}'))}
    if fits:
        assert rules.check(metadata) == metadata
    else:
        with pytest.raises(InvalidInput, match="101 bytes, at most 100"):
            rules.check(metadata)


def test_depth_is_limited() -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    with pytest.raises(InvalidInput, match="too deeply"):
        RULES.check({"a": deep})


def test_defaults_are_shown() -> None:
    assert RULES.show({"mine": 1, "_default_message_ttl": 60}) == {
        "mine": 1,
        "_default_message_ttl": 60,
        "_default_message_delay": 0,
        "_max_messages_post_size": 262144,
        "_dead_letter_queue": None,
        "_dead_letter_queue_messages_ttl": None,
        "_max_claim_count": None,
        "_enable_encrypt_messages": False,
        "_fifo": False,
    }


@pytest.mark.parametrize(
    "bridge", [{"source": {"queue": "theirs"}}, {"source": {"queue": "theirs"}, "target": {"exchange": "x"}},
               {"target": {"exchange": "x"}}],
)
def test_groups_are_not_kept_in_order_where_others_read_or_nothing_is_read(bridge: Any) -> None:
    with pytest.raises(InvalidInput, match=r"Metadata _fifo: does not go with .*_bridge"):
        RULES.check({"_fifo": True, "_bridge": bridge})
    assert RULES.check({"_fifo": False, "_bridge": bridge})
    exchange = {"source": {"exchange": "theirs", "type": "fanout"}}
    assert RULES.resolve(RULES.check({"_fifo": True, "_bridge": exchange})).fifo


def test_key_of_a_client_that_was_there_before_it_was_reserved_does_not_act() -> None:
    assert not RULES.resolve({"_fifo": "sometimes"}).fifo


def test_operators_limit_holds_for_queues_made_before_it() -> None:
    rules = MetadataRules(Limits(max_messages_post_size=1000), can_encrypt=False, parse_bridging=parse)
    assert rules.resolve({"_max_messages_post_size": 5000}).max_post_size == 1000


@pytest.mark.parametrize(
    ("operations", "patched"),
    [
        ([{"op": "add", "path": "/metadata/b", "value": 2}], {"a": 1, "b": 2}),
        ([{"op": "add", "path": "/metadata/a", "value": 2}], {"a": 2}),
        ([{"op": "replace", "path": "/metadata/a", "value": None}], {"a": None}),
        ([{"op": "remove", "path": "/metadata/a"}], {}),
        ([{"op": "remove", "path": "/metadata/_default_message_ttl"}], {"a": 1}),
        ([{"op": "replace", "path": "/metadata/_max_claim_count", "value": 3}], {"a": 1, "_max_claim_count": 3}),
        ([{"op": "add", "path": "/metadata/b~1c~0d~01", "value": 1}], {"a": 1, "b/c~d~1": 1}),
        ([{"op": "remove", "path": "/metadata/a"}, {"op": "add", "path": "/metadata/a", "value": 3}], {"a": 3}),
    ],
)
def test_patch(operations: Any, patched: dict[str, Any]) -> None:
    before = {"a": 1}
    assert RULES.patch(before, operations) == patched
    assert before == {"a": 1}


@pytest.mark.parametrize(
    "operations",
    [
        None, {}, [], "add", [1], [{}], [{"op": "add"}], [{"op": "add", "path": "/metadata/a"}],
        [{"op": "move", "path": "/metadata/a", "value": 1}], [{"op": ["add"], "path": "/metadata/a", "value": 1}],
        [{"op": "add", "path": "/metadata/", "value": 1}], [{"op": "add", "path": "/metadata", "value": 1}],
        [{"op": "add", "path": "metadata/a", "value": 1}], [{"op": "add", "path": "/metadata/a/b", "value": 1}],
        [{"op": "add", "path": 1, "value": 1}],
        [{"op": "add", "path": "/metadata/_default_message_ttl", "value": 1}],
    ],
)
def test_malformed_patch_is_refused(operations: Any) -> None:
    with pytest.raises(InvalidInput):
        RULES.patch({"a": 1}, operations)


@pytest.mark.parametrize("operation", [{"op": "replace", "value": 1}, {"op": "remove"}])
def test_patch_of_what_is_not_there_is_a_conflict(operation: dict[str, Any]) -> None:
    with pytest.raises(Conflict):
        RULES.patch({"a": 1}, [operation | {"path": "/metadata/b"}])
