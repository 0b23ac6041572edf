"""Input that no client should send, to every operation of the older versions: a 4xx in the usual form, or a right
answer, and the gateway goes on answering."""

import json

import pytest

from functional.api.helpers import JSON, MAX_POST_SIZE, id_of, unknown_id
from functional.api.test_bad_input import (
    BAD_BOOLEANS,
    BAD_CLIENT_IDS,
    BAD_INTEGERS,
    DEEPLY_NESTED,
    FORM,
    HOSTILE_TEXT,
    HOSTILE_VALUES,
    NOT_JSON,
    UNSPEAKABLE_VALUES,
    WRONG_TYPES,
    exchange,
    parts_of,
    raw_problem,
    refusals_missed,
    shown,
    with_part,
    wrong_answers,
)
from functional.api_v1.helpers import V1, V1_1, claim, create, listed, post
from gateway.api.versions import OLDER

#: What takes a body: method, path, and a document that is fine.
BODIES = {
    "v1 metadata": ("PUT", "/v1/queues/{queue}/metadata", {"key": [1]}),
    "v1 post": ("POST", "/v1/queues/{queue}/messages", [{"ttl": 60, "body": {"key": 1}}]),
    "v1 claim": ("POST", "/v1/queues/{queue}/claims", {"ttl": 60, "grace": 60}),
    "v1 renewal": ("PATCH", "/v1/queues/{queue}/claims/{claim}", {"ttl": 60, "grace": 60}),
    "v1 new pool": ("PUT", "/v1/pools/{unknown}", {"weight": 0, "uri": "nobody://x", "options": {"a": 1}}),
    "v1 pool": ("PATCH", "/v1/pools/{unknown}", {"weight": 0, "uri": "nobody://x", "options": {"a": 1}}),
    "v1.1 queue": ("PUT", "/v1.1/queues/{queue}", {"key": 1, "_default_message_ttl": 60, "_flavor": None}),
    "v1.1 post": ("POST", "/v1.1/queues/{queue}/messages", {"messages": [{"ttl": 60, "body": {"key": 1}}]}),
    "v1.1 claim": ("POST", "/v1.1/queues/{queue}/claims", {"ttl": 60, "grace": 60, "limit": 1}),
    "v1.1 renewal": ("PATCH", "/v1.1/queues/{queue}/claims/{claim}", {"ttl": 60, "grace": 60}),
    "v1.1 new pool": ("PUT", "/v1.1/pools/{unknown}", {"weight": 0, "uri": "nobody://x", "options": {"a": 1}}),
    "v1.1 pool": ("PATCH", "/v1.1/pools/{unknown}", {"weight": 0, "uri": "nobody://x", "options": {"a": 1}}),
    "v1.1 new flavor": ("PUT", "/v1.1/flavors/{unknown}", {"pool": "x", "capabilities": {"a": True}}),
    "v1.1 flavor": ("PATCH", "/v1.1/flavors/{unknown}", {"pool_group": "x", "capabilities": {"a": True}}),
}

INTEGERS = [
    ("GET", "/v1/queues", "limit"), ("GET", "/v1/queues/{queue}/messages", "limit"),
    ("GET", "/v1.1/queues", "limit"), ("GET", "/v1.1/queues/{queue}/messages", "limit"),
    ("DELETE", "/v1.1/queues/{queue}/messages", "pop"), ("POST", "/v1.1/queues/{queue}/claims", "limit"),
    ("GET", "/v1.1/flavors", "limit"),
]

BOOLEANS = [
    (root + path, parameter)
    for root in (V1, V1_1) for path, parameter in (
        ("/queues", "detailed"), ("/pools", "detailed"), ("/queues/{queue}/messages", "echo"),
        ("/queues/{queue}/messages", "include_claimed"),
    )
] + [("/v1.1/flavors", "detailed")]

OPERATIONS = [operation for operations in OLDER.values() for operation in operations]

EVERY = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: f"{operation.method} {operation.path}")


@pytest.fixture
def there(api, queue):
    """Values for the places in the paths."""
    create(api, queue)
    post(api, V1, queue, "claimed", "kept")
    location, (message,) = claim(api, V1, queue, limit=1)
    return {
        "queue": queue, "claim": id_of(location), "message": id_of(message["href"]), "unknown": f"none-{queue}",
    }


@pytest.fixture(autouse=True)
def gateway_goes_on_answering(api):
    yield
    for path in ("/v1/health", "/v1.1/ping"):
        assert api.get(path).status_code == 204


def test_every_body_is_in_the_table():
    reading = {(operation.method, operation.path) for operation in OPERATIONS if operation.body}
    places = {
        "queue": "{queue_name}", "claim": "{claim_id}", "message": "{message_id}",
    }
    listed = set()
    for method, path, _ in BODIES.values():
        kind = "{pool_name}" if "/pools" in path else "{flavor_name}"
        listed.add((method, path.format(unknown=kind, **places)))
    assert listed == reading


def sender(api, there, name, headers=JSON):
    method, path, _ = BODIES[name]
    url = path.format(**there)
    return lambda data: api.request(method, url, data=data, headers=headers)


@pytest.mark.parametrize("name", BODIES)
def test_body_that_is_no_json_or_of_another_type_is_refused(api, there, name):
    other = b"{}" if name == "v1 post" else b"[]"
    rows = [*NOT_JSON, *WRONG_TYPES, other, b"null", *DEEPLY_NESTED]
    assert refusals_missed(rows, sender(api, there, name), title="Invalid request body") == []


@pytest.mark.parametrize("name", BODIES)
def test_body_with_values_beyond_json_is_refused(api, there, name):
    rows = [
        wrapped for value in UNSPEAKABLE_VALUES for wrapped in (value, b'{"key": ' + value + b"}", b"[" + value + b"]")
    ]
    assert refusals_missed(rows, sender(api, there, name)) == []


@pytest.mark.parametrize("name", BODIES)
def test_document_with_a_hostile_value_is_answered_properly(api, there, name):
    document = BODIES[name][2]
    rows = [
        json.dumps(with_part(document, path, value)).encode()
        for path in parts_of(document) for value in HOSTILE_VALUES
    ]
    assert wrong_answers([*rows, None, b"", b'{"a": 1, "a": 2}'], sender(api, there, name)) == {}


@pytest.mark.parametrize("name", BODIES)
def test_form_and_huge_body_are_refused(api, there, name):
    form = [b"a=1", json.dumps(BODIES[name][2]).encode()]
    assert refusals_missed(form, sender(api, there, name, FORM), title="Invalid Content-Type") == []
    huge = [b'{"key":"' + b"x" * (4 * MAX_POST_SIZE) + b'"}', b" " * (4 * MAX_POST_SIZE)]
    assert refusals_missed(huge, sender(api, there, name), (400, 413)) == []


@pytest.mark.parametrize(("method", "path", "parameter"), INTEGERS)
def test_bad_integer_is_refused(api, there, method, path, parameter):
    url = path.format(**there)
    assert refusals_missed(BAD_INTEGERS, lambda value: api.request(method, f"{url}?{parameter}={value}")) == []


def test_bad_limit_of_a_claim_of_v1_is_refused(api, there):
    url = f"/v1/queues/{there['queue']}/claims"
    times = {"ttl": 60, "grace": 60}
    assert refusals_missed(BAD_INTEGERS, lambda value: api.post(f"{url}?limit={value}", json=times)) == []


@pytest.mark.parametrize(("path", "parameter"), BOOLEANS)
def test_bad_boolean_is_refused(api, there, path, parameter):
    url = path.format(**there)
    assert refusals_missed(BAD_BOOLEANS, lambda value: api.get(f"{url}?{parameter}={value}")) == []


def path_of(operation, there, **hostile):
    places = {
        "queue_name": there["queue"], "message_id": there["message"], "claim_id": there["claim"],
        "pool_name": there["unknown"], "flavor_name": there["unknown"],
    }
    return operation.path.format(**{**places, **hostile})


@EVERY
def test_hostile_queries_are_answered_properly(api, there, operation):
    if operation.path.endswith("/health"):
        pytest.skip("it has no parameters, and tries all operations each time")
    url = path_of(operation, there)
    names = [parameter.name for parameter in operation.parameters]
    rows = [f"{name}={text}" for name in names for text in (*HOSTILE_TEXT, "", ",", ",,,", "," * 1000, unknown_id())]
    rows += ["%", "%zz=%zz", "%FF=%FF", "a" * 10_000, "wait=20", "&".join(f"k{number}=1" for number in range(2000))]
    assert wrong_answers(rows, lambda query: api.request(operation.method, f"{url}?{query}")) == {}


@EVERY
def test_hostile_segments_are_answered_properly(api, there, operation):
    for place in ("queue_name", "message_id", "claim_id", "pool_name", "flavor_name"):
        if f"{{{place}}}" in operation.path:
            assert wrong_answers(
                HOSTILE_TEXT,
                lambda text, place=place: api.request(operation.method, path_of(operation, there, **{place: text})),
            ) == {}
    assert [message["body"] for message in listed(api, V1_1, there["queue"])] == ["kept"]


@pytest.mark.parametrize("path", ["/v1/queues", "/v1/health", "/v1/queues/q", "/v1.1/queues", "/v1.1/ping"])
def test_bad_client_id_is_refused(api, path):
    assert refusals_missed(BAD_CLIENT_IDS, lambda value: api.get(path, headers={"Client-ID": value.encode()})) == []


@pytest.mark.parametrize("root", [V1, V1_1])
@pytest.mark.parametrize("header", ["X-Project-ID", "Client-ID", "Accept", "X-Roles", "X-Auth-Token", "URL-Signature"])
def test_hostile_header_is_answered_properly(api, queue, root, header):
    values = ["", "\u00ff\u00fe".encode("latin-1"), "x" * 20_000, "a, b", ";;;===,,,", "%00", "$where"]
    for path in (f"{root}/", f"{root}/queues/{queue}", f"{root}/queues/{queue}/messages"):
        assert wrong_answers(values, lambda value, path=path: api.get(path, headers={header: value})) == {}


@pytest.mark.parametrize("target", [
    "/v1/queues/%0d%0aX-Injected:%201/messages", "/v1/queues/q/messages?%0d%0aX-Injected:%201", "/v1/queues/q;x=1",
    "/v1/queues/q/messages?a=\u00e9", "/v1/queues/\u00e9/messages", "http://other/v1/queues/q/messages?x=1",
    "/v1/queues/..", "/v1/queues/./messages", "/v1.1/queues/..", "/v1/../v2/queues", "/v1.1/./queues", "//v1/queues",
    "/v1%2E1/queues", "/v1./queues", "/v1.10/queues", "/v1/queues?" + "&" * 10_000,
], ids=shown)
def test_odd_target_is_answered_properly(api, target):
    request = (
        f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nClient-ID: {api.client_id}\r\n"
        f"X-Project-ID: {api.project}\r\n\r\n"
    ).encode("latin-1")
    response = exchange(api, request)
    if response is not None:
        assert raw_problem("GET", response) is None
        assert "X-Injected" not in response.headers


@pytest.mark.parametrize("root", [V1, V1_1])
def test_unknown_method_is_405(api, root):
    for method in ("FOO", "TRACE", "X" * 200):
        request = f"{method} {root}/queues HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        response = exchange(api, request)
        assert response.status == 405
        assert "GET" in response.headers["Allow"]


def test_rows_are_of_both_versions():
    assert {name.partition(" ")[0] for name in BODIES} == {"v1", "v1.1"}
