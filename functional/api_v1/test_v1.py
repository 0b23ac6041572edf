"""Version 1 of the API, call by call."""

import uuid

import pytest

from functional.api.helpers import assert_error, id_of, post_documents, unknown_id
from functional.api_v1.helpers import CLAIM, V1, V2, at, bodies, claim, create, documents, listed, post

MESSAGE_KEYS = {"href", "ttl", "age", "body"}


@pytest.fixture
def jobs(api, queue):
    """A queue that exists."""
    create(api, queue)
    return queue


# Home and health


def test_home_document(api):
    answer = api.get("/v1/", headers={"Client-ID": None, "X-Project-ID": None})

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json-home"
    assert answer.headers["Cache-Control"] == "max-age=86400"
    resources = answer.json()["resources"]
    assert set(resources) == {
        "rel/queues", "rel/queue", "rel/queue-metadata", "rel/queue-stats", "rel/messages", "rel/post-messages",
        "rel/claim",
    }
    assert all(resource["href-template"].startswith("/v1/") for resource in resources.values())
    assert resources["rel/claim"]["hints"]["allow"] == ["POST"]
    assert api.get("/v1").json() == answer.json()


def test_health_needs_no_headers(api):
    for method in ("GET", "HEAD"):
        answer = api.request(method, "/v1/health", headers={"Client-ID": None, "X-Project-ID": None})
        assert (answer.status_code, answer.content) == (204, b"")


def test_what_came_later_is_not_there(api, jobs):
    assert_error(api.get("/v1/ping"), 404)
    for below in ("/purge", "/share", "/subscriptions"):
        assert_error(api.post(at(V1, jobs, below), json={}), 404)
    refused = api.patch(at(V1, jobs), json=[])
    assert_error(refused, 405)
    assert set(refused.headers["Allow"].split(", ")) == {"DELETE", "GET", "HEAD", "PUT"}


# Headers


def test_client_id_is_needed_to_post_and_to_list_only(api, jobs):
    (id_,) = post(api, V1, jobs, 1)
    nobody = {"headers": {"Client-ID": None}}

    assert_error(api.post(at(V1, jobs, "/messages"), json=documents(V1, 1), **nobody), 400)
    assert_error(api.get(at(V1, jobs, "/messages"), **nobody), 400)
    assert api.get(at(V1, jobs, f"/messages?ids={id_}"), **nobody).status_code == 200
    assert api.get(at(V1, jobs, f"/messages/{id_}"), **nobody).status_code == 200
    claimed = api.post(at(V1, jobs, "/claims"), json=CLAIM, **nobody)
    assert claimed.status_code == 201
    assert api.get(claimed.headers["Location"], **nobody).status_code == 200
    assert api.patch(claimed.headers["Location"], json=CLAIM, **nobody).status_code == 204
    assert api.delete(claimed.headers["Location"], **nobody).status_code == 204
    assert api.delete(at(V1, jobs, f"/messages/{id_}"), **nobody).status_code == 204
    for path in ("", "/metadata", "/stats"):
        assert api.get(at(V1, jobs, path), **nobody).status_code in (200, 204)
    assert api.get("/v1/queues", **nobody).status_code == 200
    assert api.delete(at(V1, jobs), **nobody).status_code == 204


@pytest.mark.parametrize("client_id", ["", "abc", "x" * 36, "0" * 31])
def test_client_id_that_is_there_is_a_uuid(api, jobs, client_id):
    for path in ("/v1/", "/v1/health", "/v1/queues", at(V1, jobs), at(V1, jobs, "/stats")):
        assert_error(api.get(path, headers={"Client-ID": client_id}), 400)


def test_all_who_say_no_project_share_one(api, queue):
    nobodies = {"X-Project-ID": None}
    try:
        assert api.put(at(V1, queue), headers=nobodies).status_code == 201
        posted = api.post(at(V1, queue, "/messages"), json=documents(V1, "a"), headers=nobodies)
        assert posted.status_code == 201
        other = {**nobodies, "Client-ID": str(uuid.uuid4())}
        found = api.get(at(V1, queue, "/messages"), headers=other)
        assert bodies(found.json()["messages"]) == ["a"]
        assert queue in [shown["name"] for shown in api.get("/v1/queues?limit=20", headers=nobodies).json()["queues"]]
        claimed = api.post(at(V1, queue, "/claims"), json=CLAIM, headers=nobodies)
        assert bodies(claimed.json()) == ["a"]

        assert_error(api.get(at(V1, queue)), 404)
        for name in ("nameless", "None", "null", "default", "%00nameless"):
            assert_error(api.get(at(V1, queue), headers={"X-Project-ID": name}), 404)
        assert_error(api.get(at(V1, queue), headers={"X-Project-ID": ""}), 400)
    finally:
        assert api.delete(at(V1, queue), headers=nobodies).status_code == 204
    assert_error(api.get(at(V1, queue), headers=nobodies), 404)


def test_form_is_refused_with_a_body_only(api, jobs):
    form = {"headers": {"Content-Type": "application/x-www-form-urlencoded"}}

    assert api.get("/v1/queues", **form).status_code == 200
    assert api.put(at(V1, jobs), **form).status_code == 204
    assert_error(api.put(at(V1, jobs), data=b"a=1", **form), 400)
    assert_error(api.post(at(V1, jobs, "/messages"), data=b"a=1", **form), 400)


def test_signature_is_no_credential(api, jobs):
    shared = api.post(at(V2, jobs, "/share"), json={"paths": ["messages"], "methods": ["GET"]}).json()
    signed = {
        "URL-Signature": shared["signature"], "URL-Paths": ",".join(shared["paths"]), "URL-Methods": "GET",
        "URL-Expires": shared["expires"],
    }

    assert api.get(at(V2, jobs, "/messages"), headers=signed).status_code == 200
    assert api.get(at(V1, jobs, "/messages"), headers=signed).status_code == 204
    signed["URL-Signature"] = "0" * 64
    assert api.get(at(V2, jobs, "/messages"), headers=signed).status_code == 404
    assert api.get(at(V1, jobs, "/messages"), headers=signed).status_code == 204


@pytest.mark.parametrize(("below", "with_query", "statuses"), [
    ("", False, (204,)), ("/metadata", False, (200,)), ("/stats", False, (200,)), ("/messages", True, (200, 204)),
])
def test_content_location(api, jobs, below, with_query, statuses):
    post(api, V1, jobs, 1)
    for query in ("?x=a%2Fb&echo=true", "?marker=nothing"):
        answer = api.get(at(V1, jobs, below) + query)
        assert answer.status_code in statuses
        assert answer.headers["Content-Location"] == at(V1, jobs, below) + (query if with_query else "")
    missing = api.get(at(V1, f"no-{jobs}", below))
    assert missing.headers.get("Content-Location") == (
        at(V1, f"no-{jobs}", below) if below in ("", "/messages") else None
    )


def test_content_location_of_single_things_and_lists(api, jobs):
    (id_,) = post(api, V1, jobs, 1)
    location, _ = claim(api, V1, jobs)
    for path in (at(V1, jobs, f"/messages/{id_}?x=1"), f"{location}?x=1", "/v1/queues?limit=3"):
        assert api.get(path).headers["Content-Location"] == path
        assert "Content-Location" not in api.get(path.replace("/v1/", "/v2/")).headers
    assert "Content-Location" not in api.other_project().get("/v1/queues").headers
    assert "Content-Location" not in api.get(at(V1, jobs, f"/messages/{unknown_id()}")).headers
    head = api.head(at(V1, jobs))
    assert head.headers["Content-Location"] == at(V1, jobs)


# Queues


def test_queue_is_created_once(api, queue):
    made = api.put(at(V1, queue), data=b"{no json")

    assert made.status_code == 201
    assert made.headers["Location"] == at(V1, queue)
    assert made.headers["Content-Type"].startswith("application/json")
    again = api.put(at(V1, queue), json={"key": 1})
    assert (again.status_code, again.content) == (204, b"")
    assert again.headers["Location"] == at(V1, queue)
    assert api.get(at(V1, queue, "/metadata")).json() == {}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_existence(api, queue, method):
    missing = api.request(method, at(V1, queue))
    assert missing.status_code == 404
    create(api, queue)
    found = api.request(method, at(V1, queue))
    assert (found.status_code, found.content) == (204, b"")
    assert api.delete(at(V1, queue)).status_code == 204
    assert api.delete(at(V1, queue)).status_code == 204
    assert api.request(method, at(V1, queue)).status_code == 404


def test_list_of_queues(api):
    assert (api.get("/v1/queues").status_code, api.get("/v1/queues").content) == (204, b"")
    names = [f"q{number}" for number in range(5)]
    for name in names:
        create(api, name)
    api.put(at(V1, "q0", "/metadata"), json={"a": 1})

    found, path = [], "/v1/queues?limit=2&detailed=true&name=nothing&with_count=maybe&a=2"
    while True:
        page = api.get(path)
        if page.status_code == 204:
            assert page.content == b""
            break
        found += page.json()["queues"]
        (link,) = page.json()["links"]
        assert link["rel"] == "next"
        path = link["href"]
        assert path.startswith("/v1/queues?")
    assert found == [
        {"name": name, "href": at(V1, name), "metadata": {"a": 1} if name == "q0" else {}} for name in names
    ]
    assert set(api.get("/v1/queues").json()["queues"][0]) == {"name", "href"}
    assert "count" not in api.get("/v1/queues?with_count=true").json()


@pytest.mark.parametrize("limit", ["0", "-1", "21", "abc", str(2**64), "9" * 400])
def test_bad_limits(api, jobs, limit):
    assert_error(api.get(f"/v1/queues?limit={limit}"), 400)
    assert_error(api.get(at(V1, jobs, f"/messages?limit={limit}")), 400)
    assert_error(api.post(at(V1, jobs, f"/claims?limit={limit}"), json=CLAIM), 400)


def test_metadata_is_replaced(api, jobs):
    path = at(V1, jobs, "/metadata")
    assert api.get(path).json() == {}

    answer = api.put(path, json={"a": {"b": [1, None]}, "c": None})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["Location"] == path
    assert api.get(path).json() == {"a": {"b": [1, None]}, "c": None}
    api.put(path, json={"d": "é"})
    assert api.get(path).json() == {"d": "é"}
    api.put(path, json={})
    assert api.get(path).json() == {}


def test_metadata_of_no_queue(api, queue):
    assert_error(api.get(at(V1, queue, "/metadata")), 404)
    assert_error(api.put(at(V1, queue, "/metadata"), json={}), 404)
    assert_error(api.get(at(V1, queue)), 404)


@pytest.mark.parametrize("data", [
    None, b"", b" ", b"{", b"[]", b"1", b'"text"', b"null", b'{"_default_message_ttl": 60}', b'{"_x": 1}', b'{"_": 1}',
    b'{"a": "' + b"x" * 65536 + b'"}',
])
def test_bad_metadata(api, jobs, data):
    api.put(at(V1, jobs, "/metadata"), json={"kept": True})
    assert_error(api.put(at(V1, jobs, "/metadata"), data=data), 400)
    assert api.get(at(V1, jobs, "/metadata")).json() == {"kept": True}


def test_largest_metadata(api, jobs):
    data = b'{"a":"' + b"x" * (65536 - 8) + b'"}'
    assert api.put(at(V1, jobs, "/metadata"), data=data).status_code == 204


def test_stats(api, jobs):
    path = at(V1, jobs, "/stats")
    assert api.get(path).json() == {"messages": {"claimed": 0, "free": 0, "total": 0}}
    post(api, V1, jobs, 1, 2, 3)
    claim(api, V1, jobs, limit=1)
    counts = api.get(path).json()["messages"]
    assert (counts["claimed"], counts["free"], counts["total"]) == (1, 2, 3)
    for edge in ("oldest", "newest"):
        assert set(counts[edge]) == {"href", "age", "created"}
        assert counts[edge]["href"].startswith(at(V1, jobs, "/messages/"))
    assert_error(api.get(at(V1, f"no-{jobs}", "/stats")), 404)


# Messages


def test_post(api, jobs):
    answer = api.post(at(V1, jobs, "/messages"), json=[
        {"ttl": 100, "body": {"a": 1}, "delay": 300, "group": 5, "dedup_id": [], "properties": 1, "other": {}},
        {"ttl": 200, "body": "text"},
    ], headers={"Idempotency-Key": '"broken'})

    assert answer.status_code == 201
    assert answer.headers["Content-Type"].startswith("application/json")
    document = answer.json()
    assert set(document) == {"resources", "partial"}
    assert document["partial"] is False
    ids = [id_of(href) for href in document["resources"]]
    assert document["resources"] == [at(V1, jobs, f"/messages/{id_}") for id_ in ids]
    assert answer.headers["Location"] == at(V1, jobs, f"/messages?ids={ids[0]},{ids[1]}")
    found = api.get(answer.headers["Location"]).json()
    assert [(message["ttl"], message["body"]) for message in found] == [(100, {"a": 1}), (200, "text")]
    assert all(set(message) == MESSAGE_KEYS for message in found)


def test_queue_must_exist(api, queue):
    assert_error(api.post(at(V1, queue, "/messages"), json=documents(V1, 1)), 404)
    assert api.head(at(V2, queue)).status_code == 404
    assert api.get(at(V1, queue, "/messages")).status_code == 204
    assert api.get(at(V1, queue, "/messages?ids=a,b")).status_code == 204
    assert api.delete(at(V1, queue, "/messages?ids=a,b")).status_code == 204
    assert api.post(at(V1, queue, "/claims"), json=CLAIM).status_code == 204
    assert_error(api.get(at(V1, queue, f"/claims/{unknown_id()}")), 404)
    assert_error(api.patch(at(V1, queue, f"/claims/{unknown_id()}"), json=CLAIM), 404)
    assert api.delete(at(V1, queue, f"/claims/{unknown_id()}")).status_code == 204
    assert_error(api.get(at(V1, queue, f"/messages/{unknown_id()}")), 404)
    assert api.delete(at(V1, queue, f"/messages/{unknown_id()}")).status_code == 204


def test_queue_that_was_deleted_is_not_posted_to(api, jobs):
    post(api, V1, jobs, 1)
    api.delete(at(V1, jobs))
    assert_error(api.post(at(V1, jobs, "/messages"), json=documents(V1, 1)), 404)
    assert_error(api.get(at(V1, jobs)), 404)


@pytest.mark.parametrize("data", [
    None, b"", b"[]", b"{}", b"[", b".", b"1", b"null", b"[1]", b"[[]]", b"[{}]", b'[{"ttl": 60}]', b'[{"body": 1}]',
    b'[{"body": 1, "ttl": null}]', b'[{"body": 1, "ttl": "60"}]', b'[{"body": 1, "ttl": true}]',
    b'[{"body": 1, "ttl": 59}]', b'[{"body": 1, "ttl": 1209601}]', b'[{"body": 1, "ttl": 18446744073709551616}]',
    b'[{"body": 1, "ttl": 60}, {"body": 1}]', b'{"messages": [{"body": 1, "ttl": 60}]}',
    b'[{"ttl": 60, "body": "' + b"x" * 262144 + b'"}]',
])
def test_bad_post(api, jobs, data):
    assert_error(api.post(at(V1, jobs, "/messages"), data=data), 400)
    assert listed(api, V1, jobs) == []


@pytest.mark.parametrize("ttl", [60, 1209600])
def test_ttl_at_its_ends(api, jobs, ttl):
    post(api, V1, jobs, 1, ttl=ttl)
    assert listed(api, V1, jobs)[0]["ttl"] == ttl


def test_pages_end_with_204(api, jobs):
    post(api, V1, jobs, *range(10))
    found, pages, path = [], 0, at(V1, jobs, "/messages?limit=3&echo=true")
    while True:
        answer = api.get(path)
        if answer.status_code == 204:
            break
        document = answer.json()
        assert set(document) == {"messages", "links"}
        found += bodies(document["messages"])
        (link,) = document["links"]
        path = link["href"]
        assert path.startswith(at(V1, jobs, "/messages?"))
        pages += 1
    assert (found, pages) == ([*range(10)], 4)


def test_listing_leaves_out_own_and_claimed_ones(api, jobs):
    post(api, V1, jobs, 1, 2)
    own = api.get(at(V1, jobs, "/messages"))
    assert (own.status_code, own.content) == (204, b"")
    assert bodies(listed(api.other_client(), V1, jobs, echo="false")) == [1, 2]
    _, (first,) = claim(api, V1, jobs, limit=1)
    assert bodies(listed(api, V1, jobs)) == [2]
    both = listed(api, V1, jobs, include_claimed="true")
    assert bodies(both) == [1, 2]
    assert all("?" not in message["href"] and set(message) == MESSAGE_KEYS for message in both)
    single = api.get(first["href"].partition("?")[0]).json()
    assert single == {**single, "href": first["href"].partition("?")[0]}
    assert set(single) == MESSAGE_KEYS
    (by_id,) = api.get(at(V1, jobs, f"/messages?ids={id_of(first['href'])}")).json()
    assert "?" not in by_id["href"]


@pytest.mark.parametrize("marker", ["None", "9223372036854775807", "abc", "x-y_z"])
def test_unknown_marker_is_204(api, jobs, marker):
    post(api, V1, jobs, 1)
    assert api.get(at(V1, jobs, f"/messages?echo=true&marker={marker}")).status_code == 204


def test_messages_by_their_ids(api, jobs):
    ids = post(api, V1, jobs, 1, 2, 3)
    found = api.get(at(V1, jobs, f"/messages?ids={ids[0]},{unknown_id()},{ids[2]}"))
    assert bodies(found.json()) == [1, 3]
    assert api.get(at(V1, jobs, f"/messages?ids={unknown_id()}")).status_code == 204
    assert_error(api.get(at(V1, jobs, "/messages?ids=" + ",".join([ids[0]] * 21))), 400)
    assert_error(api.get(at(V1, jobs, f"/messages/{unknown_id()}")), 404)


def test_delayed_messages_are_hidden(api, jobs):
    post_documents(api, jobs, {"body": "later", "delay": 300}, {"body": "now"})
    assert bodies(listed(api, V1, jobs, include_delayed="true")) == ["now"]
    _, claimed = claim(api, V1, jobs)
    assert bodies(claimed) == ["now"]


def test_deletes(api, jobs):
    ids = post(api, V1, jobs, 1, 2, 3, 4)
    location, claimed = claim(api, V1, jobs, limit=2)
    path = at(V1, jobs, "/messages/")
    assert_error(api.delete(path + ids[0]), 403)
    assert_error(api.delete(path + ids[0], params={"claim_id": unknown_id()}), 403)
    assert_error(api.delete(path + ids[2], params={"claim_id": id_of(location)}), 400)
    assert_error(api.delete(path + ids[2], params={"claim_id": unknown_id()}), 400)
    for message in claimed:
        assert api.delete(message["href"]).status_code == 204
    assert api.delete(path + ids[2]).status_code == 204
    assert api.delete(path + ids[2]).status_code == 204
    assert bodies(listed(api, V1, jobs, include_claimed="true")) == [4]


def test_delete_by_ids(api, jobs):
    ids = post(api, V1, jobs, 1, 2, 3)
    path = at(V1, jobs, "/messages")
    assert api.delete(path, params={"ids": f"{ids[0]},{ids[2]},{unknown_id()}"}).status_code == 204
    for query in ("", "?pop=1", "?x=1"):
        refused = api.delete(path + query)
        assert_error(refused, 400)
        assert "Missing parameter" in refused.json()["description"]
    assert_error(api.delete(path, params={"ids": ",".join([ids[1]] * 21)}), 400)
    assert bodies(listed(api, V1, jobs)) == [2]


# Claims


def test_claim(api, jobs):
    assert api.post(at(V1, jobs, "/claims"), json=CLAIM).status_code == 204
    ids = post(api, V1, jobs, *range(12))
    answer = api.post(at(V1, jobs, "/claims"), json={**CLAIM, "limit": 1, "other": 2})

    assert answer.status_code == 201
    assert answer.headers["Content-Type"].startswith("application/json")
    location = answer.headers["Location"]
    assert location.startswith(at(V1, jobs, "/claims/"))
    messages = answer.json()
    assert bodies(messages) == [*range(10)]
    assert all(set(message) == MESSAGE_KEYS for message in messages)
    assert messages[0]["href"] == at(V1, jobs, f"/messages/{ids[0]}?claim_id={id_of(location)}")

    shown = api.get(location)
    assert shown.status_code == 200
    document = shown.json()
    assert set(document) == {"href", "ttl", "age", "messages"}
    assert (document["href"], document["ttl"], bodies(document["messages"])) == (location, 300, [*range(10)])
    assert document["messages"][0]["href"] == messages[0]["href"]
    assert set(document["messages"][0]) == MESSAGE_KEYS

    assert api.patch(location, json={"ttl": 600}).status_code == 204
    assert api.get(location).json()["ttl"] == 600
    assert api.delete(location).status_code == 204
    assert api.delete(location).status_code == 204
    assert_error(api.get(location), 404)
    assert_error(api.patch(location, json=CLAIM), 404)
    assert len(listed(api, V1, jobs)) == 12


@pytest.mark.parametrize("data", [
    None, b"", b"[]", b"{}", b"[", b".", b'{"ttl": 60}', b'{"grace": 60}', b'{"ttl": null, "grace": 60}',
    b'{"ttl": 60, "grace": null}', b'{"ttl": 59, "grace": 60}', b'{"ttl": 43201, "grace": 60}',
    b'{"ttl": 60, "grace": 59}', b'{"ttl": 60, "grace": 43201}', b'{"ttl": "60", "grace": 60}',
])
def test_bad_claim(api, jobs, data):
    post(api, V1, jobs, 1)
    assert_error(api.post(at(V1, jobs, "/claims"), data=data), 400)
    assert bodies(listed(api, V1, jobs)) == [1]


@pytest.mark.parametrize("data", [
    None, b"", b"[]", b"{}", b"[", b".", b'{"grace": 60}', b'{"ttl": null}', b'{"ttl": 59}', b'{"ttl": 43201}',
    b'{"ttl": 60, "grace": "x"}', b'{"ttl": 60.5}',
])
def test_bad_renewal(api, jobs, data):
    post(api, V1, jobs, 1)
    location, _ = claim(api, V1, jobs)
    assert_error(api.patch(location, data=data), 400)
    assert api.get(location).json()["ttl"] == 300


@pytest.mark.parametrize("grace", [0, 1, 99999999, -1, -(2**63), 2**64 - 1])
def test_any_grace_of_a_renewal(api, jobs, grace):
    post(api, V1, jobs, 1)
    location, _ = claim(api, V1, jobs)
    assert api.patch(location, json={"ttl": 600, "grace": grace}).status_code == 204
    assert bodies(api.get(location).json()["messages"]) == [1]
