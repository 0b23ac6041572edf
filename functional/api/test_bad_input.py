"""Input that no client should send: every endpoint refuses it in the usual form, and goes on answering.

Each test goes through a table and reports all rows that went wrong, for one endpoint or one header at a time.
"""

import copy
import http.client
import json
from urllib.parse import quote

import pytest

from functional import raw
from functional.api.helpers import (
    JSON,
    JSON_PATCH,
    MAX_PAGE,
    MAX_POST_SIZE,
    RESERVED_DEFAULTS,
    assert_error,
    bodies,
    claim,
    create,
    error_problem,
    id_of,
    listed,
    messages_path,
    metadata_of,
    post,
    problem_of,
    queue_path,
    unknown_id,
)

FORM = {"Content-Type": "application/x-www-form-urlencoded"}

# A port on which nothing listens: a refused connection is quick.
NOWHERE = "127.0.0.1:9"

#: Endpoints that take a body: method, path, content type, and a document that is fine.
BODIES = {
    "create queue": ("PUT", "/v2/queues/{queue}", JSON, {"key": 1, "_default_message_ttl": 60}),
    "patch queue": (
        "PATCH",
        "/v2/queues/{queue}",
        JSON_PATCH,
        [{"op": "add", "path": "/metadata/key", "value": 1}],
    ),
    "purge": ("POST", "/v2/queues/{queue}/purge", JSON, {"resource_types": ["subscriptions"]}),
    "share": (
        "POST",
        "/v2/queues/{queue}/share",
        JSON,
        {"paths": ["messages"], "methods": ["GET"], "expires": "2100-01-01T00:00:00"},
    ),
    "post messages": (
        "POST",
        "/v2/queues/{queue}/messages",
        JSON,
        {"messages": [{"ttl": 60, "delay": 0, "body": {"key": 1}}]},
    ),
    "claim": ("POST", "/v2/queues/{queue}/claims", JSON, {"ttl": 60, "grace": 60, "limit": 1}),
    "renew claim": ("PATCH", "/v2/queues/{queue}/claims/{claim}", JSON, {"ttl": 60, "grace": 60}),
}

DEEP = 100_000

#: JSON values that no answer could give back, each within the size limits.
UNSPEAKABLE_VALUES = [
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e400",
    b"-1e400",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"1" + b"0" * 5000,
    b"-1" + b"0" * 5000,
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'{"\\udfff": 1}',
    b"[[[18446744073709551616]]]",
    b"[" * 2000 + b"NaN" + b"]" * 2000,
]

#: What is no JSON at all.
NOT_JSON = [
    b" ",
    b"{",
    b"}",
    b"[",
    b"[1",
    b"nope",
    b"None",
    b"True",
    b'"',
    b"{'a': 1}",
    b"{a: 1}",
    b'{"a": 1,}',
    b'{"a" 1}',
    b'{"a": 1} x',
    b'{"a": 1}{"a": 2}',
    b'{"a": 01}',
    b'{"a": +1}',
    b'{"a": .5}',
    b'{"a": 0x10}',
    b'{"a": 1_0}',
    b'{"a": "\n"}',
    b'{"a": "\x00"}',
    b'{"a": "\\x41"}',
    b'{"a": "\\u12"}',
    b"// comment\n{}",
    b"\x00",
    b"{}\x00",
    b"\xff\xfe",
    b'{"a": "\xff"}',
    b'{"a": "\xc3"}',
    b'{"a": "\xc0\xaf"}',
    b'{"a": "\xed\xa0\x80"}',
    '{"a": 1}'.encode("utf-16"),
    '{"a": 1}'.encode("utf-32"),
    b"a=1&b=2",
    b"<xml/>",
    b"%7B%7D",
]

DEEPLY_NESTED = [
    b"[" * DEEP + b"]" * DEEP,
    b"[" * DEEP,
    b'{"a":' * (DEEP // 4) + b"1" + b"}" * (DEEP // 4),
    b'{"messages":[{"body":' + b"[" * DEEP + b"]" * DEEP + b"}]}",
    b'[{"op":"add","path":"/metadata/x","value":' + b"[" * DEEP + b"]" * DEEP + b"}]",
]

#: JSON of no type that a body may have; an object where a list is due, and the other way round, come on top.
WRONG_TYPES = [b"1", b"-1.5", b'"text"', b"true", b"false"]

#: Values that replace each part of a good document in turn.
HOSTILE_VALUES = [
    None,
    True,
    0,
    -1,
    1.5,
    2**31,
    2**63 - 1,
    -(2**63),
    1e308,
    "",
    "text",
    "x" * 5000,
    "\u0000",
    "\u00e9\u202e\U0001f600",
    "../../x",
    "{0.__class__}",
    "%s%n",
    [],
    [None],
    [[[[[]]]]],
    {},
    {"": None},
    {"$where": "sleep(10000)"},
    {"$gt": ""},
    {"a.b": {"$set": 1}},
    {"__proto__": {}},
]

#: Percent-encoded text for segments of a path and values of a query.
HOSTILE_TEXT = [
    "%00",
    "a%00b",
    "%FF",
    "%C3",
    "%ED%A0%80",
    "%C3%A9",
    "%E2%80%AE",
    "%F0%9F%98%80",
    "%0D%0AX-Injected:%201",
    "%0A",
    "%25",
    "%2F",
    "%5C",
    "%27%20OR%20%271%27=%271",
    "%7B%22$gt%22:%22%22%7D",
    "$where",
    "%5B",
    "*",
    ".*",
    "%28a+%29+%24",
    "-1",
    "0",
    "99999999999999999999999",
    "NaN",
    "1e400",
    "null",
    "x" * 300,
    "1" * 5000,
]

BAD_INTEGERS = [
    "abc",
    "-1",
    "0",
    str(MAX_PAGE + 1),
    "99999999999999999999",
    "9" * 5000,
    "1.0",
    "1.5",
    "1e1",
    "0x1",
    "1_0",
    "1,2",
    "[1]",
    "--1",
    "true",
    "null",
    "NaN",
    "%00",
    "1%00",
    "%FF",
    "1%20",
    "%C2%B2",
    "%D9%A1",
]

BAD_BOOLEANS = [
    "maybe",
    "2",
    "-1",
    "1.0",
    "tru",
    "truetrue",
    "null",
    "None",
    "[]",
    "%00",
    "true%00",
    "%FF",
    "true%20",
]

INTEGER_PARAMETERS = [
    ("GET", "/v2/queues", "limit"),
    ("GET", "/v2/queues/{queue}/messages", "limit"),
    ("DELETE", "/v2/queues/{queue}/messages", "pop"),
    ("POST", "/v2/queues/{queue}/claims", "limit"),
]

BOOLEAN_PARAMETERS = [
    ("GET", "/v2/queues", "detailed"),
    ("GET", "/v2/queues", "with_count"),
    ("GET", "/v2/queues/{queue}/messages", "echo"),
    ("GET", "/v2/queues/{queue}/messages", "include_claimed"),
    ("GET", "/v2/queues/{queue}/messages", "include_delayed"),
]

TEXT_PARAMETERS = [
    ("GET", "/v2/queues", "marker"),
    ("GET", "/v2/queues", "name"),
    ("GET", "/v2/queues", "key"),
    ("GET", "/v2/queues/{queue}/messages", "marker"),
    ("GET", "/v2/queues/{queue}/messages", "ids"),
    ("DELETE", "/v2/queues/{queue}/messages", "ids"),
    ("DELETE", "/v2/queues/{queue}/messages/{message}", "claim_id"),
]

#: Paths with a place for one hostile segment.
SEGMENTS = [
    ("GET", "/v2/queues/{}"),
    ("PUT", "/v2/queues/{}"),
    ("HEAD", "/v2/queues/{}"),
    ("DELETE", "/v2/queues/{}"),
    ("GET", "/v2/queues/{}/stats"),
    ("GET", "/v2/queues/{}/messages"),
    ("POST", "/v2/queues/{}/claims"),
    ("GET", "/v2/queues/{queue}/messages/{}"),
    ("DELETE", "/v2/queues/{queue}/messages/{}"),
    ("GET", "/v2/queues/{queue}/claims/{}"),
    ("PATCH", "/v2/queues/{queue}/claims/{}"),
    ("DELETE", "/v2/queues/{queue}/claims/{}"),
    ("GET", "/v2/{}"),
    ("GET", "/{}"),
]

#: Targets of requests that are well-formed HTTP all the same, as far as servers care.
ODD_TARGETS = [
    "/v2/queues/%",
    "/v2/queues/%zz",
    "/v2/queues/%c3%28",
    "/v2/queues/a%2Fb",
    "/v2/queues/a%00",
    "/v2/queues/..",
    "/v2/queues/../queues",
    "/v2/queues/./",
    "/v2/queues//",
    "//v2/queues",
    "/v2//queues",
    "/../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/v2/queues/" + "a" * 20_000,
    "/v2/queues/a/messages/" + "a" * 20_000,
    "/v2/queues/a/messages" + "/a" * 5000,
    "/v2/queues/a;b=c/messages",
    "/v2/queues/q?limit=1#fragment",
    "/v2/queues?" + "&" * 10_000,
]

BAD_CLIENT_IDS = [
    "",
    "abc",
    "x" * 36,
    "0" * 31,
    "0" * 33,
    "0" * 20_000,
    "{}",
    "urn:uuid:",
    "00000000-0000-0000-0000-00000000000g",
    "00000000-0000-0000-0000-000000000000, 00000000-0000-0000-0000-000000000000",
    "\u00e9" * 32,
    "\u00b2" * 32,
    "0x" + "0" * 30,
    "+" + "0" * 31,
    "0_0" + "0" * 29,
    "' OR 1=1 --",
]


@pytest.fixture
def there(api, queue):
    """Values for the places in the paths: a queue with a message, a claim and a subscription."""
    create(api, queue)
    post(api, queue, "claimed")
    claim_id, (message,) = claim(api, queue)
    subscribed = api.post(
        f"/v2/queues/{queue}/subscriptions",
        json={"subscriber": f"http://{NOWHERE}/there", "ttl": 300, "options": {}},
    )
    return {
        "queue": queue,
        "message": message["id"],
        "claim": claim_id,
        "subscription": subscribed.json().get("subscription_id", unknown_id()),
        "unknown": f"none-{queue}",
    }


@pytest.fixture(autouse=True)
def gateway_goes_on_answering(api):
    yield
    assert api.get("/v2/ping").status_code == 204
    assert api.get("/v2/queues").status_code == 200


def shown(sent):
    """The start of what was sent, for the report."""
    text = repr(sent)
    return text if len(text) <= 100 else f"{text[:100]}… ({len(sent)} in all)"


def refusals_missed(rows, send, statuses=(400,), title=None):
    """The rows of a table that were not refused as they should be."""
    missed = []
    for row in rows:
        response = send(row)
        problem = problem_of(response)
        if response.status_code not in statuses:
            problem = f"{response.status_code} {response.text[:200]}"
        elif problem is None and title and response.json()["title"] != title:
            problem = f"title {response.json()['title']!r}"
        if problem is not None:
            missed.append(f"{shown(row)}: {problem}")
    return missed


def wrong_answers(rows, send):
    """The rows of a table without one right answer, which were answered as nothing ever should be."""
    wrong = {}
    for row in rows:
        response = send(row)
        problem = "a header was injected" if "X-Injected" in response.headers else problem_of(response)
        if problem is not None:
            wrong[shown(row)] = problem
    return wrong


def sender(api, there, name, headers=None):
    method, path, content_type, _ = BODIES[name]
    url = path.format(**there)
    return lambda body: api.request(method, url, data=body, headers=headers or content_type)


def statuses_for(name):
    return (400,)


# Bodies


@pytest.mark.parametrize("name", BODIES)
def test_body_that_is_no_json_is_refused(api, there, name):
    title = "Invalid request body"

    missed = refusals_missed(NOT_JSON, sender(api, there, name), statuses_for(name), title)

    assert missed == []


@pytest.mark.parametrize("name", BODIES)
def test_body_with_values_beyond_json_is_refused(api, there, name):
    rows = [
        wrapped
        for value in UNSPEAKABLE_VALUES
        for wrapped in (value, b'{"key": ' + value + b"}", b"[" + value + b"]")
    ]
    title = "Invalid request body"

    assert refusals_missed(rows, sender(api, there, name), statuses_for(name), title) == []


@pytest.mark.parametrize("name", BODIES)
def test_body_of_another_type_is_refused(api, there, name):
    other = b"{}" if name == "patch queue" else b"[]"

    assert refusals_missed([*WRONG_TYPES, other], sender(api, there, name), statuses_for(name)) == []


@pytest.mark.parametrize("name", BODIES)
def test_deeply_nested_body_is_refused(api, there, name):
    assert refusals_missed(DEEPLY_NESTED, sender(api, there, name), statuses_for(name)) == []


@pytest.mark.parametrize("name", BODIES)
def test_form_is_refused(api, there, name):
    rows = [b"a=1", json.dumps(BODIES[name][3]).encode()]

    missed = refusals_missed(rows, sender(api, there, name, headers=FORM), title="Invalid Content-Type")

    assert missed == []


def parts_of(document, path=()):
    """The paths to all values within a document, itself included."""
    yield path
    if isinstance(document, dict):
        items = document.items()
    elif isinstance(document, list):
        items = enumerate(document)
    else:
        return
    for key, value in items:
        yield from parts_of(value, (*path, key))


def with_part(document, path, value):
    """A copy of a document with one of its values replaced."""
    if not path:
        return value
    changed = copy.deepcopy(document)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


@pytest.mark.parametrize("name", BODIES)
def test_document_with_a_hostile_value_is_answered_properly(api, there, name):
    document = BODIES[name][3]
    send = sender(api, there, name)

    rows = [
        json.dumps(with_part(document, path, value)).encode()
        for path in parts_of(document)
        for value in HOSTILE_VALUES
    ]

    assert wrong_answers(rows, send) == {}


@pytest.mark.parametrize("name", BODIES)
def test_empty_and_null_bodies_are_answered_properly(api, there, name):
    send = sender(api, there, name)

    assert wrong_answers([None, b"", b"null", b"\xef\xbb\xbf{}", b'{"a": 1, "a": 2}'], send) == {}


@pytest.mark.parametrize("name", BODIES)
def test_huge_body_is_refused(api, there, name):
    rows = [b'{"key":"' + b"x" * (4 * MAX_POST_SIZE) + b'"}', b" " * (4 * MAX_POST_SIZE)]

    assert refusals_missed(rows, sender(api, there, name), (*statuses_for(name), 413)) == []


@pytest.mark.parametrize("value", UNSPEAKABLE_VALUES + DEEPLY_NESTED[:2], ids=shown)
def test_message_with_an_unspeakable_body_is_not_posted(api, queue, value):
    response = api.post(messages_path(queue), data=b'{"messages": [{"body": ' + value + b"}]}", headers=JSON)

    assert_error(response, 400)
    assert listed(api, queue) == []


@pytest.mark.parametrize("key", ["ttl", "delay"])
def test_message_with_an_unspeakable_time_is_not_posted(api, queue, key):
    def send(value):
        body = b'{"messages": [{"body": 1, "' + key.encode() + b'": ' + value + b"}]}"
        return api.post(messages_path(queue), data=body, headers=JSON)

    assert refusals_missed(UNSPEAKABLE_VALUES, send) == []
    assert listed(api, queue) == []


def test_unspeakable_metadata_is_not_patched_in(api, queue):
    create(api, queue)

    def send(value):
        body = b'[{"op": "add", "path": "/metadata/key", "value": ' + value + b"}]"
        return api.patch(queue_path(queue), data=body, headers=JSON_PATCH)

    assert refusals_missed(UNSPEAKABLE_VALUES, send) == []
    assert metadata_of(api, queue) == RESERVED_DEFAULTS


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "\u00e9"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "x" * 10_000},
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "nonsense"},
    ],
    ids=shown,
)
@pytest.mark.parametrize("name", ["create queue", "patch queue", "post messages", "claim"])
def test_other_content_headers_are_answered_properly(api, there, name, headers):
    method, path, content_type, document = BODIES[name]

    response = api.request(
        method, path.format(**there), data=json.dumps(document).encode(), headers={**content_type, **headers}
    )

    assert problem_of(response) is None


# Queries


@pytest.mark.parametrize(("method", "path", "parameter"), INTEGER_PARAMETERS)
def test_bad_integer_in_the_query_is_refused(api, there, method, path, parameter):
    url = path.format(**there)

    missed = refusals_missed(BAD_INTEGERS, lambda value: api.request(method, f"{url}?{parameter}={value}"))

    assert missed == []


@pytest.mark.parametrize(("method", "path", "parameter"), BOOLEAN_PARAMETERS)
def test_bad_boolean_in_the_query_is_refused(api, there, method, path, parameter):
    url = path.format(**there)

    missed = refusals_missed(BAD_BOOLEANS, lambda value: api.request(method, f"{url}?{parameter}={value}"))

    assert missed == []


@pytest.mark.parametrize(("method", "path", "parameter"), TEXT_PARAMETERS)
def test_hostile_text_in_the_query_is_answered_properly(api, there, method, path, parameter):
    url = path.format(**there)

    texts = [*HOSTILE_TEXT, "", ",", ",,,", "a,", "," * 1000, unknown_id()]

    assert wrong_answers(texts, lambda text: api.request(method, f"{url}?{parameter}={text}")) == {}


@pytest.mark.parametrize(
    ("method", "path", "parameter"), INTEGER_PARAMETERS + BOOLEAN_PARAMETERS + TEXT_PARAMETERS
)
def test_odd_query_is_answered_properly(api, queue, method, path, parameter):
    url = path.format(queue=queue, message=unknown_id())
    queries = ["{0}=1&{0}=2", "{0}=1&{0}=abc", "{0}", "{0}=", "={0}", "&&{0}=1&&", "{0}[]=1"]

    wrong = wrong_answers(queries, lambda query: api.request(method, f"{url}?{query.format(parameter)}"))

    assert wrong == {}


@pytest.mark.parametrize("path", ["/v2/queues", "/v2/queues/{queue}/messages"])
def test_queries_of_any_size_and_encoding_are_answered_properly(api, queue, path):
    url = path.format(queue=queue)
    queries = [
        "%",
        "%zz=%zz",
        "%FF=%FF",
        "%00=%00",
        "a" * 10_000,
        "&".join(f"k{index}=1" for index in range(2000)),
        "marker=" + "x" * 10_000,
        "limit=" + quote("\u0661"),
    ]

    assert wrong_answers(queries, lambda query: api.get(f"{url}?{query}")) == {}


# Paths


@pytest.mark.parametrize(("method", "path"), SEGMENTS)
def test_hostile_segment_is_answered_properly(api, there, method, path):
    place = path.replace("{queue}", there["queue"])
    body = b'{"ttl": 60}' if method == "PATCH" else None

    assert (
        wrong_answers(HOSTILE_TEXT, lambda text: api.request(method, place.replace("{}", text), data=body))
        == {}
    )


def test_hostile_ids_of_messages_are_not_found(api, there):
    for text in HOSTILE_TEXT:
        single = api.get(f"{messages_path(there['queue'])}/{text}")
        many = api.get(f"{messages_path(there['queue'])}?ids={text}")

        assert single.status_code in (400, 404), text
        assert many.status_code in (400, 404), text


def test_deleting_hostile_ids_removes_nothing(api, there):
    (kept,) = post(api, there["queue"], "kept")

    for text in HOSTILE_TEXT:
        assert api.delete(f"{messages_path(there['queue'])}/{text}").status_code in (204, 400, 404), text
        assert api.delete(f"{messages_path(there['queue'])}?ids={text}").status_code in (204, 400), text

    assert [message["id"] for message in listed(api, there["queue"])] == [kept]


# Headers


@pytest.mark.parametrize("path", ["/v2/queues", "/v2/queues/q/messages", "/v2/ping"])
def test_bad_client_id_is_refused(api, path):
    missed = refusals_missed(
        BAD_CLIENT_IDS, lambda value: api.get(path, headers={"Client-ID": value.encode()})
    )

    assert missed == []


@pytest.mark.parametrize("size", [257, 300, 10_000])
def test_overlong_project_is_refused(api, queue, size):
    headers = {"X-Project-ID": "p" * size}

    assert_error(api.get(queue_path(queue), headers=headers), 400, title="Invalid queue identification")
    assert_error(api.get(messages_path(queue), headers=headers), 400, title="Invalid queue identification")
    assert_error(
        api.post(messages_path(queue), json={"messages": [{"body": 1}]}, headers=headers),
        400,
        title="Invalid queue identification",
    )
    assert_error(api.get("/v2/queues", headers=headers), 400)


def test_project_is_measured_in_characters(api, queue):
    named = api.other_project()
    named.project = ("\u00e9" * 200).encode()

    assert problem_of(named.get(queue_path(queue))) is None


@pytest.mark.parametrize(
    "header",
    ["X-Project-ID", "Client-ID", "Accept", "X-Roles", "X-Auth-Token", "URL-Signature", "Cookie", "Host"],
)
def test_hostile_header_is_answered_properly(api, queue, header):
    values = [
        "",
        "\u00ff\u00fe".encode("latin-1"),
        "\u2603".encode(),
        "x" * 20_000,
        "a, b",
        ";;;===,,,",
        "application/json;q=abc",
        "*/*;q=-1",
        "%00",
        "'; DROP TABLE messages; --",
        "$where",
        "{{7*7}}",
    ]

    assert wrong_answers(values, lambda value: api.get(queue_path(queue), headers={header: value})) == {}


# By hand: what a decent HTTP library does not send


def by_hand(api, method, target, body=b"", headers=(), length=None):
    """The bytes of a request; `headers` come on top of the usual ones, as lines."""
    lines = [
        f"{method} {target} HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        f"Client-ID: {api.client_id}",
        f"X-Project-ID: {api.project}",
        "Content-Type: application/json",
        *headers,
    ]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def exchange(api, request, half_close=False):
    """The answer, or None when the server hung up without one."""
    try:
        return raw.exchange(api.url, request, half_close=half_close)
    except (ConnectionError, http.client.BadStatusLine):
        return None


def raw_problem(method, response):
    if response.status >= 500:
        return f"{response.status}: {response.body[:300]!r}"
    if response.status >= 400:
        return error_problem(method, response.headers, response.body)
    return None


@pytest.mark.parametrize("length", [None, 0])
def test_queue_is_created_without_a_content_type(api, queue, length):
    request = by_hand(api, "PUT", queue_path(queue), length=length)
    request = request.replace(b"Content-Type: application/json\r\n", b"")

    assert exchange(api, request).status == 201


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
def test_queue_is_created_without_a_content_length(api, queue, content_type):
    request = by_hand(api, "PUT", queue_path(queue)).replace(b"application/json", content_type.encode())

    assert exchange(api, request).status == 201


def test_chunked_post_is_accepted(api, queue):
    body = b'{"messages": [{"body": "chunked"}]}'
    chunks = (b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:10], body[10:]))

    response = exchange(
        api,
        by_hand(
            api, "POST", messages_path(queue), b"".join(chunks) + b"0\r\n\r\n", ["Transfer-Encoding: chunked"]
        ),
    )

    assert response.status == 201
    assert bodies(listed(api, queue)) == ["chunked"]


def test_chunked_post_over_the_size_limit_is_refused(api, queue):
    part = b'{"messages": [{"body": "' + b"x" * MAX_POST_SIZE + b'"}]}'
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(part), part)

    response = exchange(
        api, by_hand(api, "POST", messages_path(queue), chunked, ["Transfer-Encoding: chunked"])
    )

    assert response.status == 400
    assert raw_problem("POST", response) is None
    assert listed(api, queue) == []


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\n{}\r\n0\r\n\r\n",
        b"-1\r\n{}\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\n{}\r\n",
        b"5\r\n{}",
        b"2\r\n{}junk\r\n0\r\n\r\n",
        b"",
    ],
)
def test_broken_chunks_post_nothing(api, queue, chunks):
    body = b'23\r\n{"messages": [{"body": "chunked"}]}\r\n' + chunks

    response = exchange(
        api,
        by_hand(api, "POST", messages_path(queue), body, ["Transfer-Encoding: chunked"]),
        half_close=True,
    )

    assert response is None or 400 <= response.status < 500
    assert listed(api, queue) == []


@pytest.mark.parametrize(
    ("method", "below", "body"),
    [
        ("PUT", "", b'{"key": 1}'),
        ("POST", "/messages", b'{"messages": [{"body": 1}]}'),
        ("POST", "/claims", b'{"ttl": 60}'),
        ("POST", "/purge", b'{"resource_types": ["messages"]}'),
    ],
)
@pytest.mark.parametrize("missing", [1, 1000])
def test_truncated_body_has_no_effect(api, queue, method, below, body, missing):
    create(api, queue)
    (kept,) = post(api, queue, "kept")

    request = by_hand(api, method, queue_path(queue) + below, body, length=len(body) + missing)
    response = exchange(api, request, half_close=True)

    assert response is None or 400 <= response.status < 500
    assert [message["id"] for message in listed(api, queue)] == [kept]
    assert metadata_of(api, queue) == RESERVED_DEFAULTS


def test_body_that_goes_on_after_its_length_is_not_read(api, queue):
    body = b'{"messages": [{"body": 1}]}'

    response = exchange(api, by_hand(api, "POST", messages_path(queue), body + b"junk", length=len(body)))

    assert response.status == 201
    assert bodies(listed(api, queue)) == [1]


@pytest.mark.parametrize("length", ["abc", "-1", "1e1", "0x1", "+1", "1_0", "1 1", "9" * 30, "\u00b2"])
def test_malformed_content_length_is_refused(api, queue, length):
    request = by_hand(api, "POST", messages_path(queue), b'{"messages": [{"body": 1}]}', length=length)

    response = exchange(api, request, half_close=True)

    assert response is None or 400 <= response.status < 500
    assert listed(api, queue) == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_odd_path_is_answered_properly(api, method):
    answers = {shown(target): exchange(api, by_hand(api, method, target, length=0)) for target in ODD_TARGETS}

    problems = {target: raw_problem(method, response) for target, response in answers.items()}
    assert {target: problem for target, problem in problems.items() if problem is not None} == {}


@pytest.mark.parametrize("path", ["/v2/queues", "/v2/queues/q/messages", "/v2/confirm"])
@pytest.mark.parametrize("query", ["a=\u00e9", "\u00ff", "limit=\u00c3", "marker=\u00e9" + "x" * 1000])
def test_query_with_bytes_that_are_no_text_is_refused(api, path, query):
    response = exchange(api, by_hand(api, "GET", f"{path}?{query}"))

    assert response.status == 400
    if path != "/v2/confirm":  # which answers with a page
        assert raw_problem("GET", response) is None


@pytest.mark.parametrize("method", ["FOO", "TRACE", "COPY", "X" * 200])
def test_unknown_method_is_405(api, method):
    response = exchange(api, by_hand(api, method, "/v2/queues"))

    assert response.status == 405
    assert "GET" in response.headers["Allow"]
    assert raw_problem(method, response) is None


@pytest.mark.parametrize(
    "headers",
    [
        ["Client-ID: 00000000-0000-0000-0000-000000000000"],
        ["Client-ID: junk"],
        ["X-Project-ID: another"],
        ["X-Project-ID:"],
        ["Accept: application/json", "Accept: text/html"],
        ["Content-Type: application/x-www-form-urlencoded"],
        ["Content-Type: text/plain"],
        ["Host: another"],
        ["X-Junk: " + "x" * 1000] * 50,
    ],
    ids=shown,
)
def test_repeated_headers_are_answered_properly(api, queue, headers):
    post(api, queue, 1)

    response = exchange(api, by_hand(api, "GET", messages_path(queue) + "?echo=true", headers=headers))

    assert raw_problem("GET", response) is None


def test_two_client_ids_are_refused(api, queue):
    other = f"Client-ID: {unknown_id()}"

    response = exchange(api, by_hand(api, "GET", messages_path(queue), headers=[other]))

    assert response.status == 400
    assert raw_problem("GET", response) is None


def test_two_projects_reach_neither(api, queue):
    victim = api.other_project()
    post(victim, queue, "secret")
    post(api, queue, "own")

    response = exchange(
        api,
        by_hand(api, "GET", messages_path(queue) + "?echo=true", headers=[f"X-Project-ID: {victim.project}"]),
    )

    assert raw_problem("GET", response) is None
    assert b"secret" not in response.body
    assert b"own" not in response.body


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v2/queues\r\n\r\n",
        b"GET  /v2/queues  HTTP/1.1\r\n\r\n",
        b"get /v2/queues HTTP/1.1\r\n\r\n",
        b"GET /v2/queues/\xc3\xa9 HTTP/1.1\r\n\r\n",
        b"GET /v2/queues/\xff\xfe HTTP/1.1\r\n\r\n",
        b"GET /v2/queues?limit=\xe9 HTTP/1.1\r\n\r\n",
        b"GET /v2/queues HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /v2/queues HTTP/1.1\r\n: no name\r\n\r\n",
        b"GET /v2/queues HTTP/1.1\r\nX-Space : 1\r\n\r\n",
        b"GET /v2/queues HTTP/1.1\r\nX-Nul: \x00\r\n\r\n",
        b"GET /v2/queues HTTP/1.1\r\nX-Bare: a\rb\nc\r\n\r\n",
        b"GET /v2/queues HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /v2/queues HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v2/queues HTTP/1.1\r\nX-Long: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
        b"GET http://[::1/v2/queues HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        b"AMQP\x00\x00\x09\x01",
        bytes(range(256)),
        b"GET /v2/queues HTTP/1.1\r\nHost: localhost",
    ],
    ids=shown,
)
def test_broken_http_is_refused(api, request_bytes):
    response = exchange(api, request_bytes, half_close=True)

    assert response is None or 400 <= response.status < 500


def test_request_of_http_1_0_without_a_host_is_answered(api):
    request = by_hand(api, "GET", "/v2/queues").replace(b"HTTP/1.1\r\nHost: localhost", b"HTTP/1.0")

    assert exchange(api, request).status == 200


def test_requests_one_after_the_other_on_a_connection_are_kept_apart(api, queue):
    # A refused request must not leave its body behind as the start of the next one.
    smuggled = b"GET /v2/queues HTTP/1.1\r\nHost: localhost\r\n\r\n"
    refused = api.post(messages_path(queue), data=smuggled, headers=FORM)
    unrouted = api.post("/v2/nothing", data=smuggled, headers=JSON)
    following = api.get("/v2/queues")

    assert_error(refused, 400, title="Invalid Content-Type")
    assert_error(unrouted, 404)
    assert following.status_code == 200


def test_location_of_a_post_cannot_be_split(api):
    response = api.post("/v2/queues/a%0d%0aX-Injected:%201/messages", json={"messages": [{"body": 1}]})

    assert_error(response, 400)
    assert "X-Injected" not in response.headers


def test_ids_of_another_kind_are_kept_apart(api, there):
    path = queue_path(there["queue"])

    assert_error(api.get(f"{path}/messages/{there['claim']}"), 404)
    assert_error(api.get(f"{path}/claims/{there['message']}"), 404)
    assert_error(api.get(f"{path}/subscriptions/{id_of(there['claim'])}"), 404)
