"""Version 1.1 of the API, call by call, where it is not as version 2."""

import pytest

from functional.api.helpers import assert_error, id_of, post_documents, unknown_id
from functional.api_v1.helpers import CLAIM, V1_1, V2, at, bodies, claim, create, documents, listed, post

MESSAGE_KEYS = {"id", "href", "ttl", "age", "body"}


@pytest.fixture
def jobs(api, queue):
    """A queue that exists."""
    create(api, queue, V1_1)
    return queue


# Home, ping, health


def test_home_document(api):
    answer = api.get("/v1.1/")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json-home"
    assert answer.headers["Cache-Control"] == "no-store"
    resources = answer.json()["resources"]
    assert set(resources) == {
        f"rel/{name}" for name in (
            "queues", "queue", "queue_stats", "messages", "post_messages", "messages_delete", "message_delete", "claim",
            "post_claim", "patch_claim", "delete_claim", "ping", "pools", "pool", "flavors", "flavor", "health",
        )
    }
    assert resources.pop("rel/health")["href"] == "/v1.1/health"
    assert all(resource["href-template"].startswith("/v1.1/") for resource in resources.values())
    assert resources["rel/queue"]["hints"]["allow"] == ["GET", "PUT", "DELETE"]
    assert api.get("/v1.1").json() == answer.json()


@pytest.mark.parametrize("header", ["Client-ID", "X-Project-ID"])
def test_both_headers_are_needed_everywhere(api, jobs, header):
    for path in ("/v1.1/", "/v1.1/ping", "/v1.1/queues", at(V1_1, jobs), at(V1_1, jobs, "/messages?ids=a")):
        for value in (None, ""):
            assert_error(api.get(path, headers={header: value}), 400)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ping(api, method):
    answer = api.request(method, "/v1.1/ping")
    assert (answer.status_code, answer.content) == (204, b"")


def test_health(api):
    shown = api.get("/v1.1/health").json()
    assert shown["catalog_reachable"] is True
    for part in (shown, shown["default"]):
        assert part["storage_reachable"] is True
        assert set(part["message_volume"]) == {"free", "claimed", "total"}
        assert all(operation["succeeded"] for operation in part["operation_status"].values())


def test_what_came_later_or_is_gone_is_not_there(api, jobs):
    for below in ("/metadata", "/purge", "/share", "/subscriptions"):
        for method in ("GET", "PUT", "POST"):
            assert_error(api.request(method, at(V1_1, jobs, below), json={}), 404)
    assert_error(api.get("/v1.1/topics"), 404)


def test_no_signature_and_no_content_location(api, jobs):
    answer = api.get(at(V1_1, jobs, "/messages"), headers={"URL-Signature": "0" * 64})
    assert answer.status_code == 200
    assert "Content-Location" not in answer.headers
    assert "Content-Location" not in api.get("/v1.1/queues").headers
    assert api.get("/v1.1/pools?limit=3").headers["Content-Location"] == "/v1.1/pools?limit=3"


def test_roles_do_not_count(api, queue):
    nobody = {"headers": {"X-Roles": "nobody"}}
    assert api.put(at(V2, queue), **nobody).status_code == 403
    assert api.put(at(V1_1, queue), **nobody).status_code == 201
    assert api.post(at(V1_1, queue, "/messages"), json=documents(V1_1, 1), **nobody).status_code == 201


# Queues


def test_methods_of_a_queue(api, jobs):
    for name in (jobs, f"no-{jobs}"):
        for method in ("HEAD", "PATCH", "POST"):
            refused = api.request(method, at(V1_1, name))
            assert_error(refused, 405)
            assert set(refused.headers["Allow"].split(", ")) == {"DELETE", "GET", "PUT", "OPTIONS"}
        offered = api.request("OPTIONS", at(V1_1, name))
        assert offered.status_code == 204
        assert set(offered.headers["Allow"].split(", ")) == {"DELETE", "GET", "PUT", "OPTIONS"}
    assert api.head("/v1.1/queues").status_code == 200
    assert api.head(at(V1_1, jobs, "/stats")).status_code == 200


def test_metadata_is_as_it_was_set(api, queue):
    assert (api.get(at(V1_1, queue)).status_code, api.get(at(V1_1, queue)).json()) == (200, {})
    metadata = {"a": [1, None], "_default_message_ttl": 100}
    made = api.put(at(V1_1, queue), json=metadata)
    assert made.status_code == 201
    assert made.headers["Location"] == at(V1_1, queue)
    assert api.get(at(V1_1, queue)).json() == metadata
    for body in (None, {"b": 2}, {}):
        assert api.put(at(V1_1, queue), json=body).status_code == 204
        assert api.get(at(V1_1, queue)).json() == metadata
    assert api.delete(at(V1_1, queue)).status_code == 204
    assert api.delete(at(V1_1, queue)).status_code == 204
    assert api.get(at(V1_1, queue)).json() == {}


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("data", [
    b" ", b"{", b"[]", b"1", b'"text"', b'{"_default_message_ttl": 1}', b'{"_flavor": "no such flavor"}',
    b'{"_max_messages_post_size": "x"}', b'{"a": "' + b"x" * 65536 + b'"}',
])
def test_bad_metadata(api, queue, exists, data):
    if exists:
        create(api, queue, V1_1)
    assert_error(api.put(at(V1_1, queue), data=data), 400)
    assert api.head(at(V2, queue)).status_code == (204 if exists else 404)


def test_fifo_queue_that_exists_is_left_as_it_is(api, queue):
    assert api.put(at(V2, queue), json={"_fifo": True}).status_code == 201
    assert api.put(at(V1_1, queue), json={"a": 1}).status_code == 204
    assert api.get(at(V1_1, queue)).json() == {"_fifo": True}


def test_list_of_queues(api):
    empty = api.get("/v1.1/queues")
    assert (empty.status_code, empty.json()) == (200, {"queues": [], "links": []})
    api.put(at(V1_1, "a"), json={"x": 1})
    create(api, "b", V1_1)

    first = api.get("/v1.1/queues?limit=1&detailed=true&name=nothing&with_count=maybe&x=2").json()
    assert first["queues"] == [{"name": "a", "href": at(V1_1, "a"), "metadata": {"x": 1}}]
    assert "count" not in first
    (link,) = first["links"]
    second = api.get(link["href"]).json()
    assert second["queues"] == [{"name": "b", "href": at(V1_1, "b"), "metadata": {}}]
    assert api.get(second["links"][0]["href"]).json() == {"queues": [], "links": []}


def test_stats(api, jobs):
    zeros = {"messages": {"claimed": 0, "free": 0, "total": 0}}
    assert api.get(at(V1_1, f"no-{jobs}", "/stats")).json() == zeros
    assert api.get(at(V1_1, jobs, "/stats")).json() == zeros
    post(api, V1_1, jobs, 1)
    assert api.get(at(V1_1, jobs, "/stats")).json()["messages"]["oldest"]["href"].startswith(at(V1_1, jobs))


# Messages


def test_post_creates_the_queue(api, queue):
    answer = api.post(at(V1_1, queue, "/messages"), json={"messages": [{"body": 1}, {"body": None, "ttl": 60}]})
    assert answer.status_code == 201
    assert set(answer.json()) == {"resources"}
    first, second = (id_of(href) for href in answer.json()["resources"])
    assert answer.headers["Location"] == at(V1_1, queue, f"/messages?ids={first},{second}")
    found = listed(api, V1_1, queue)
    assert [message["id"] for message in found] == [first, second]
    assert [(message["ttl"], message["body"]) for message in found] == [(3600, 1), (60, None)]
    assert all(set(message) == MESSAGE_KEYS for message in found)
    assert api.head(at(V2, queue)).status_code == 204


def test_settings_of_the_queue_do_not_count_for_posts(api, queue):
    settings = {"_default_message_ttl": 100, "_default_message_delay": 300, "_max_messages_post_size": 40}
    assert api.put(at(V2, queue), json=settings).status_code == 201
    answer = api.post(at(V1_1, queue, "/messages"), json={"messages": [
        {"body": "x" * 100, "delay": 500, "group": 1, "dedup_id": {}, "properties": 3},
    ]}, headers={"Idempotency-Key": '"broken'})
    assert answer.status_code == 201
    (found,) = listed(api, V1_1, queue)
    assert (found["ttl"], set(found)) == (3600, MESSAGE_KEYS)


def test_fifo_queue(api, queue):
    assert api.put(at(V2, queue), json={"_fifo": True}).status_code == 201
    for number in range(3):
        body = {"messages": [{"body": number, "group": str(number), "dedup_id": "same"}]}
        assert api.post(at(V1_1, queue, "/messages"), json=body).status_code == 201
    post_documents(api, queue, {"body": "v2", "group": "g", "dedup_id": "d"})
    location, first = claim(api, V1_1, queue, limit=1)
    assert bodies(first) == [0]
    _, others = claim(api, V1_1, queue)
    assert bodies(others) == ["v2"]  # the rest is in the group of what is claimed
    assert set(others[0]) == MESSAGE_KEYS
    assert api.delete(location).status_code == 204
    assert bodies(claim(api, V1_1, queue)[1]) == [0, 1, 2]


@pytest.mark.parametrize("data", [
    None, b"", b"[]", b"{}", b"[", b".", b'{"messages": []}', b'{"messages": {}}', b'{"messages": [1]}',
    b'{"messages": [{}]}', b'{"messages": [{"ttl": 60}]}', b'{"messages": [{"body": 1, "ttl": null}]}',
    b'{"messages": [{"body": 1, "ttl": 59}]}', b'{"messages": [{"body": 1, "ttl": 1209601}]}',
    b'{"messages": [{"body": 1, "ttl": "x"}]}', b'[{"body": 1, "ttl": 60}]',
    b'{"messages": [{"body": "' + b"x" * 262144 + b'"}]}',
])
def test_bad_post(api, queue, data):
    assert_error(api.post(at(V1_1, queue, "/messages"), data=data), 400)
    assert api.head(at(V2, queue)).status_code == 404


def test_pages_end_with_an_empty_one(api, jobs):
    post(api, V1_1, jobs, *range(10))
    found, pages, path = [], 0, at(V1_1, jobs, "/messages?limit=3&echo=true&include_delayed=maybe")
    while True:
        document = api.get(path).json()
        if not document["messages"]:
            assert document == {"messages": [], "links": []}
            break
        found += bodies(document["messages"])
        path = document["links"][0]["href"]
        assert path.startswith(at(V1_1, jobs, "/messages?"))
        pages += 1
    assert (found, pages) == ([*range(10)], 4)


def test_claimed_messages_name_their_claim(api, jobs):
    (id_,) = post(api, V1_1, jobs, 1)
    location, _ = claim(api, V1_1, jobs)
    href = at(V1_1, jobs, f"/messages/{id_}?claim_id={id_of(location)}")
    assert listed(api, V1_1, jobs) == []
    shown = [
        *listed(api, V1_1, jobs, include_claimed="true"), *listed(api, V1_1, jobs, ids=id_),
        api.get(at(V1_1, jobs, f"/messages/{id_}")).json(), *api.get(location).json()["messages"],
    ]
    assert [message["href"] for message in shown] == [href] * 4
    assert all(set(message) == MESSAGE_KEYS for message in shown)


def test_no_message_of_these_ids_is_404(api, jobs):
    (id_,) = post(api, V1_1, jobs, 1)
    assert_error(api.get(at(V1_1, jobs, f"/messages?ids={unknown_id()}")), 404)
    assert_error(api.get(at(V1_1, f"no-{jobs}", f"/messages?ids={id_}")), 404)
    assert_error(api.get(at(V1_1, jobs, "/messages?ids=" + ",".join([id_] * 21))), 400)
    assert_error(api.get(at(V1_1, jobs, f"/messages/{unknown_id()}")), 404)


def test_pop(api, jobs):
    path = at(V1_1, jobs, "/messages")
    assert (api.delete(f"{path}?pop=1").status_code, api.delete(f"{path}?pop=1").json()) == (200, {"messages": []})
    ids = post(api, V1_1, jobs, *range(5))
    claim(api, V1_1, jobs, limit=1)
    popped = api.delete(f"{path}?pop=2").json()["messages"]
    assert bodies(popped) == [1, 2]
    assert all(set(message) == {"id", "ttl", "age", "body", "claim_id", "claim_count"} for message in popped)
    assert {message["claim_id"] for message in popped} == {None}
    for query in ("", "?pop=0", "?pop=21", "?pop=x", f"?pop=1&ids={ids[4]}"):
        assert_error(api.delete(path + query), 400)
    assert api.delete(f"{path}?ids={ids[3]},{ids[0]}&claim_ids=x").status_code == 204
    assert bodies(listed(api, V1_1, jobs, include_claimed="true")) == [0, 4]  # one is claimed


def test_deletes(api, jobs):
    ids = post(api, V1_1, jobs, 1, 2)
    location, (claimed,) = claim(api, V1_1, jobs, limit=1)
    path = at(V1_1, jobs, "/messages/")
    assert_error(api.delete(path + ids[0]), 403)
    assert_error(api.delete(path + ids[1], params={"claim_id": id_of(location)}), 400)
    assert api.delete(claimed["href"]).status_code == 204
    assert api.delete(path + ids[1]).status_code == 204
    assert api.delete(path + ids[1]).status_code == 204


# Claims


@pytest.mark.parametrize("data", [None, b"", b"{}", b'{"ttl": 60}', b'{"grace": 60}'])
def test_claim_with_default_times(api, jobs, data):
    assert api.post(at(V1_1, jobs, "/claims"), data=data).status_code == 204
    assert api.post(at(V1_1, f"no-{jobs}", "/claims"), data=data).status_code == 204
    post(api, V1_1, jobs, 1)
    answer = api.post(at(V1_1, jobs, "/claims"), data=data)
    assert answer.status_code == 201
    assert set(answer.json()) == {"messages"}
    assert all(set(message) == MESSAGE_KEYS for message in answer.json()["messages"])
    shown = api.get(answer.headers["Location"]).json()
    assert set(shown) == {"href", "ttl", "age", "messages"}
    assert shown["href"] == answer.headers["Location"]
    assert shown["ttl"] == (60 if data == b'{"ttl": 60}' else 300)


@pytest.mark.parametrize("data", [
    b"[]", b"[", b".", b'{"ttl": 59}', b'{"ttl": 43201}', b'{"grace": 59}', b'{"grace": 43201}', b'{"ttl": "x"}',
])
def test_bad_claim(api, jobs, data):
    post(api, V1_1, jobs, 1)
    assert_error(api.post(at(V1_1, jobs, "/claims"), data=data), 400)
    assert bodies(listed(api, V1_1, jobs)) == [1]


def test_renewal(api, jobs):
    post(api, V1_1, jobs, 1)
    location, _ = claim(api, V1_1, jobs, ttl=600)
    for data in (None, b"", b"[]", b"[", b'{"ttl": 59}', b'{"ttl": 43201}', b'{"grace": "x"}'):
        assert_error(api.patch(location, data=data), 400)
    assert api.get(location).json()["ttl"] == 600
    for body, ttl in (({}, 300), ({"ttl": 100}, 100), ({"grace": 1}, 300), ({"ttl": 60, "grace": 99999999}, 60)):
        assert api.patch(location, json=body).status_code == 204
        assert api.get(location).json()["ttl"] == ttl
    assert api.delete(location).status_code == 204
    assert_error(api.patch(location, json=CLAIM), 404)
    assert_error(api.get(location), 404)
