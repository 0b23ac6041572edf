"""Metadata of queues: what is shown, reserved keys, PATCH, and filters over it."""

import json

import pytest

from functional.api.helpers import (
    JSON_PATCH,
    MAX_DELAY,
    MAX_MESSAGE_TTL,
    MAX_METADATA_SIZE,
    MAX_POST_SIZE,
    RESERVED_DEFAULTS,
    assert_error,
    create,
    eventually,
    listed,
    messages_path,
    metadata_of,
    next_link,
    patch_metadata,
    post,
    queue_path,
)

RETRY_POLICY = {
    "retries_with_no_delay": 1,
    "minimum_delay_retries": 2,
    "minimum_delay": 3,
    "maximum_delay": 30,
    "maximum_delay_retries": 4,
    "retry_backoff_function": "linear",
    "ignore_subscription_override": True,
}

GOOD_RESERVED = [
    ("_default_message_ttl", 60),
    ("_default_message_ttl", MAX_MESSAGE_TTL),
    ("_default_message_delay", 0),
    ("_default_message_delay", MAX_DELAY),
    ("_max_messages_post_size", 1),
    ("_max_messages_post_size", MAX_POST_SIZE),
    ("_max_claim_count", 1),
    ("_dead_letter_queue", "the-dead"),
    ("_dead_letter_queue_messages_ttl", 60),
    ("_dead_letter_queue_messages_ttl", MAX_MESSAGE_TTL),
    ("_enable_encrypt_messages", True),
    ("_enable_encrypt_messages", False),
    ("_retry_policy", {}),
    ("_retry_policy", RETRY_POLICY),
    *[
        ("_retry_policy", {**RETRY_POLICY, "retry_backoff_function": function})
        for function in ("arithmetic", "geometric", "exponential")
    ],
]

WRONG_RESERVED = [
    ("_default_message_ttl", "60"),
    ("_default_message_ttl", 59),
    ("_default_message_ttl", -1),
    ("_default_message_ttl", MAX_MESSAGE_TTL + 1),
    ("_default_message_ttl", 60.5),
    ("_default_message_ttl", True),
    ("_default_message_ttl", [60]),
    ("_default_message_delay", "1"),
    ("_default_message_delay", -1),
    ("_default_message_delay", MAX_DELAY + 1),
    ("_default_message_delay", 1.5),
    ("_default_message_delay", {}),
    ("_max_messages_post_size", "1"),
    ("_max_messages_post_size", -1),
    ("_max_messages_post_size", MAX_POST_SIZE + 1),
    ("_max_messages_post_size", 1.5),
    ("_max_claim_count", "1"),
    ("_max_claim_count", -1),
    ("_max_claim_count", 1.5),
    ("_max_claim_count", [1]),
    ("_dead_letter_queue", 1),
    ("_dead_letter_queue", {}),
    ("_dead_letter_queue", ["q"]),
    ("_dead_letter_queue_messages_ttl", "60"),
    ("_dead_letter_queue_messages_ttl", 59),
    ("_dead_letter_queue_messages_ttl", MAX_MESSAGE_TTL + 1),
    ("_dead_letter_queue_messages_ttl", 60.5),
    ("_flavor", 1),
    ("_flavor", ["f"]),
    ("_enable_encrypt_messages", "true"),
    ("_enable_encrypt_messages", 1),
    ("_enable_encrypt_messages", {}),
    ("_retry_policy", "linear"),
    ("_retry_policy", [RETRY_POLICY]),
    ("_retry_policy", 1),
    *[
        ("_retry_policy", {**RETRY_POLICY, key: "1"})
        for key in (
            "retries_with_no_delay",
            "minimum_delay_retries",
            "minimum_delay",
            "maximum_delay",
            "maximum_delay_retries",
        )
    ],
    ("_retry_policy", {**RETRY_POLICY, "minimum_delay": 1.5}),
    ("_retry_policy", {**RETRY_POLICY, "retry_backoff_function": "sometimes"}),
    ("_retry_policy", {**RETRY_POLICY, "retry_backoff_function": 1}),
    ("_retry_policy", {**RETRY_POLICY, "ignore_subscription_override": "yes"}),
]

VALUES = [
    0,
    -5,
    2**63 - 1,
    -(2**63),
    1.5,
    True,
    False,
    None,
    "",
    "text",
    "\u00fcn\u00efc\u00f6d\u00e9 \u2603 \U0001f600",
    "nul \u0000 inside",
    [],
    [1, [2, {"three": 3}]],
    {},
    {"nested": {"deeper": [None, {"a.b": 1, "$set": 2}]}},
]


def add(key, value):
    return {"op": "add", "path": f"/metadata/{key}", "value": value}


def replace(key, value):
    return {"op": "replace", "path": f"/metadata/{key}", "value": value}


def remove(key):
    return {"op": "remove", "path": f"/metadata/{key}"}


def names(response):
    assert response.status_code == 200, response.text
    return [queue["name"] for queue in response.json()["queues"]]


# GET


def test_reserved_keys_are_filled_in(api, queue):
    create(api, queue)

    assert metadata_of(api, queue) == RESERVED_DEFAULTS


def test_queue_that_was_never_made_shows_the_defaults(api, queue):
    assert metadata_of(api, queue) == RESERVED_DEFAULTS


def test_queue_made_by_a_post_shows_the_defaults(api, queue):
    post(api, queue, 1)

    assert metadata_of(api, queue) == RESERVED_DEFAULTS


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_metadata_values_come_back_as_they_were_given(api, queue, value):
    create(api, queue, key=value)

    shown = metadata_of(api, queue)["key"]

    assert shown == value
    assert type(shown) is type(value)


@pytest.mark.parametrize(
    "key", ["", "with space", "a.b", "$where", "\u00e9", "_unknown_reserved", "__proto__", "k" * 500]
)
def test_metadata_keys_come_back_as_they_were_given(api, queue, key):
    create(api, queue, **{key: 1})

    assert metadata_of(api, queue) == {**RESERVED_DEFAULTS, key: 1}


# Reserved keys


@pytest.mark.parametrize(("key", "value"), GOOD_RESERVED, ids=repr)
def test_reserved_value_is_kept(api, queue, key, value):
    create(api, queue, **{key: value})

    assert metadata_of(api, queue) == {**RESERVED_DEFAULTS, key: value}


@pytest.mark.parametrize(("key", "value"), WRONG_RESERVED, ids=repr)
def test_wrong_reserved_value_is_refused_on_put(api, queue, key, value):
    response = api.put(queue_path(queue), json={key: value})

    assert_error(response, 400)
    assert api.head(queue_path(queue)).status_code == 404


def test_wrong_reserved_value_is_refused_on_patch(api, queue):
    create(api, queue)

    accepted = []
    for key, value in WRONG_RESERVED:
        for operation in (add(key, value), replace(key, value)):
            status = patch_metadata(api, queue, operation).status_code
            missing = operation["op"] == "replace" and key not in RESERVED_DEFAULTS
            if status not in ((400, 409) if missing else (400,)):
                accepted.append((operation, status))

    assert accepted == []
    assert metadata_of(api, queue) == RESERVED_DEFAULTS


def test_default_ttl_of_the_queue_applies_to_its_messages(api, queue):
    create(api, queue, _default_message_ttl=77)

    post(api, queue, "default")
    post(api, queue, "own", ttl=88)

    assert [message["ttl"] for message in listed(api, queue)] == [77, 88]


def test_default_delay_of_the_queue_applies_to_its_messages(api, queue):
    create(api, queue, _default_message_delay=MAX_DELAY)

    post(api, queue, "later")
    post(api, queue, "now", delay=0)

    assert [message["body"] for message in listed(api, queue)] == ["now"]


def test_size_limit_of_the_queue_applies_to_posts(api, queue):
    create(api, queue, _max_messages_post_size=100)

    small = api.post(messages_path(queue), json={"messages": [{"body": "x"}]})
    big = api.post(messages_path(queue), json={"messages": [{"body": "x" * 100}]})

    assert small.status_code == 201
    assert_error(big, 400)


def test_changed_default_applies_to_later_messages(api, queue):
    post(api, queue, "before")
    patch_metadata(api, queue, replace("_default_message_ttl", 77))

    def newest_ttl():
        post(api, queue, "after")
        return api.delete(messages_path(queue), params={"pop": 20}).json()["messages"][-1]["ttl"]

    eventually(lambda: newest_ttl() == 77)


# PATCH


def test_patch_answers_the_whole_metadata(api, queue):
    create(api, queue, kept=1)

    response = patch_metadata(api, queue, add("new", 2))

    assert response.status_code == 200
    assert response.headers["Content-Type"].split(";")[0] == "application/json"
    assert response.json() == {**RESERVED_DEFAULTS, "kept": 1, "new": 2}
    eventually(lambda: metadata_of(api, queue) == response.json())


def test_patch_adds_over_an_existing_key(api, queue):
    create(api, queue, key=1)

    assert patch_metadata(api, queue, add("key", {"a": [2]})).json()["key"] == {"a": [2]}


def test_patch_replaces_a_key(api, queue):
    create(api, queue, key=1)

    response = patch_metadata(api, queue, replace("key", None))

    assert response.status_code == 200
    assert response.json() == {**RESERVED_DEFAULTS, "key": None}


def test_patch_removes_a_key(api, queue):
    create(api, queue, key=1, kept=2)

    response = patch_metadata(api, queue, remove("key"))

    assert response.status_code == 200
    assert response.json() == {**RESERVED_DEFAULTS, "kept": 2}


def test_patch_applies_its_operations_in_order(api, queue):
    create(api, queue)

    response = patch_metadata(api, queue, add("a", 1), replace("a", 2), add("b", 3), remove("b"), add("c", 4))

    assert response.status_code == 200
    assert response.json() == {**RESERVED_DEFAULTS, "a": 2, "c": 4}


def test_patch_that_fails_changes_nothing(api, queue):
    create(api, queue, kept=1)

    response = patch_metadata(api, queue, add("a", 1), replace("kept", 2), remove("missing"))

    assert_error(response, 409)
    assert metadata_of(api, queue) == {**RESERVED_DEFAULTS, "kept": 1}


@pytest.mark.parametrize("operation", [replace("missing", 1), remove("missing")], ids=["replace", "remove"])
def test_patch_of_a_missing_key_is_a_conflict(api, queue, operation):
    create(api, queue)

    assert_error(patch_metadata(api, queue, operation), 409)


def test_reserved_key_can_be_replaced_though_it_was_never_set(api, queue):
    create(api, queue)

    response = patch_metadata(api, queue, replace("_max_claim_count", 3), replace("_default_message_ttl", 99))

    assert response.status_code == 200
    assert response.json() == {**RESERVED_DEFAULTS, "_max_claim_count": 3, "_default_message_ttl": 99}


def test_removed_reserved_key_goes_back_to_its_default(api, queue):
    create(api, queue, _default_message_ttl=99, _dead_letter_queue="dead")

    response = patch_metadata(
        api, queue, remove("_default_message_ttl"), remove("_dead_letter_queue"), remove("_max_claim_count")
    )

    assert response.status_code == 200
    assert response.json() == RESERVED_DEFAULTS


def test_patch_path_is_a_json_pointer(api, queue):
    create(api, queue)

    response = patch_metadata(api, queue, add("a~1b~0c", 1))

    assert response.json() == {**RESERVED_DEFAULTS, "a/b~c": 1}


def test_patch_of_an_unknown_queue_is_404(api, queue):
    assert_error(patch_metadata(api, queue, add("key", 1)), 404)
    assert api.head(queue_path(queue)).status_code == 404


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json-patch+json",
        "application/openstack-messaging-v2.0-json-patch; charset=utf-8",
        "application/openstack-messaging-v2-json-patch",
        "text/plain",
        "",
    ],
)
def test_patch_of_another_content_type_is_415(api, queue, content_type):
    create(api, queue)

    body = json.dumps([add("key", 1)]).encode()
    response = api.patch(queue_path(queue), data=body, headers={"Content-Type": content_type})

    assert_error(response, 415)
    assert "Accept-Patch" in response.json()["description"]
    assert metadata_of(api, queue) == RESERVED_DEFAULTS


@pytest.mark.parametrize(
    "document",
    [
        {},
        None,
        1,
        "text",
        [1],
        [None],
        [[]],
        ["add"],
        [{}],
        [{"op": "add"}],
        [{"op": "add", "path": "/metadata/x"}],
        [{"op": "replace", "path": "/metadata/key"}],
        [{"path": "/metadata/x", "value": 1}],
        [{"op": "add", "value": 1}],
        [{"op": "move", "from": "/metadata/key", "path": "/metadata/x"}],
        [{"op": "test", "path": "/metadata/key", "value": 1}],
        [{"op": "ADD", "path": "/metadata/x", "value": 1}],
        [{"op": 1, "path": "/metadata/x", "value": 1}],
        [{"op": ["add"], "path": "/metadata/x", "value": 1}],
        [{"op": "add", "path": 1, "value": 1}],
        [{"op": "add", "path": None, "value": 1}],
        [{"op": "add", "path": "", "value": 1}],
        [{"op": "add", "path": "/", "value": 1}],
        [{"op": "add", "path": "metadata/x", "value": 1}],
        [{"op": "add", "path": "/metadata", "value": {}}],
        [{"op": "add", "path": "/other/x", "value": 1}],
        [{"op": "add", "path": "/metadata/x/y", "value": 1}],
        [{"op": "add", "path": "/metadata//x", "value": 1}],
        [{"op": "add", "path": "/metadata/x~2", "value": 1}],
    ],
    ids=json.dumps,
)
def test_malformed_patch_is_refused(api, queue, document):
    create(api, queue, key=1)

    response = api.patch(queue_path(queue), data=json.dumps(document).encode(), headers=JSON_PATCH)

    assert_error(response, 400)
    assert metadata_of(api, queue) == {**RESERVED_DEFAULTS, "key": 1}


@pytest.mark.parametrize("body", [b"", b" ", b"[", b"\xff", b"[NaN]"])
def test_patch_that_is_no_json_is_refused(api, queue, body):
    create(api, queue)

    assert_error(api.patch(queue_path(queue), data=body, headers=JSON_PATCH), 400)


def test_patch_cannot_grow_metadata_over_the_limit(api, queue):
    create(api, queue, a="x" * (MAX_METADATA_SIZE - 100))

    response = patch_metadata(api, queue, add("b", "x" * 200))

    assert_error(response, 400)
    assert "b" not in metadata_of(api, queue)


# Filters


def test_filter_compares_json_values(api):
    create(api, "one", age=30, flag=True, share=0.5)
    create(api, "two", age=31, flag=False, share=1)
    create(api, "none")

    assert names(api.get("/v2/queues", params={"age": "30"})) == ["one"]
    assert names(api.get("/v2/queues", params={"flag": "true"})) == ["one"]
    assert names(api.get("/v2/queues", params={"share": "0.5"})) == ["one"]
    assert names(api.get("/v2/queues", params={"age": "32"})) == []
    assert names(api.get("/v2/queues", params={"flag": "1"})) == []


def test_filter_finds_plain_text(api):
    create(api, "one", node="compute-7")
    create(api, "two", node="compute-8")

    assert names(api.get("/v2/queues", params={"node": "compute-7"})) == ["one"]


def test_filters_are_joined_by_and(api):
    create(api, "one", a=1, b=1)
    create(api, "two", a=1, b=2)

    assert names(api.get("/v2/queues", params={"a": "1", "b": "2"})) == ["two"]
    assert names(api.get("/v2/queues", params={"a": "2", "b": "2"})) == []


def test_filter_finds_reserved_keys(api):
    create(api, "one", _max_claim_count=3)
    create(api, "two", _max_claim_count=4)
    create(api, "none")

    assert names(api.get("/v2/queues", params={"_max_claim_count": "3"})) == ["one"]


def test_filter_stays_on_the_next_pages(api):
    for index in range(6):
        create(api, f"q{index}", even=index % 2 == 0)

    first = api.get("/v2/queues", params={"even": "true", "limit": 2})
    second = api.get(next_link(first.json()))

    assert names(first) == ["q0", "q2"]
    assert names(second) == ["q4"]


@pytest.mark.parametrize(
    "key", ["$where", "a.b", "$or", "metadata", "_id", "", "' OR 1=1 --", "[0]", "\u00e9"]
)
def test_filter_is_data_and_never_a_query(api, key):
    create(api, "other", x=1)

    for value in ["1", '{"$gt": ""}', "$ne", "' OR '1'='1", "[", "NaN", "1e999"]:
        response = api.get("/v2/queues", params={key: value})

        if response.status_code != 400:
            assert names(response) == [], value
