"""Clients of all versions on one queue at the same time: operations by versions."""

import itertools
from urllib.parse import urlsplit

import pytest

from functional.api.helpers import assert_error, id_of
from functional.api_v1.helpers import V1, V1_1, V2, at, bodies, claim, create, listed, post

VERSIONS = (V1, V1_1, V2)

#: Who does it first, and who is the other one.
PAIRS = [pytest.param(one, other, id=f"{one[1:]}-{other[1:]}") for one, other in itertools.product(VERSIONS, VERSIONS)]

both = pytest.mark.parametrize(("one", "other"), PAIRS)


def hrefs(root, queue, messages):
    """The ids in links, which all begin as the version's do."""
    assert all(message["href"].startswith(at(root, queue, "/messages/")) for message in messages)
    return [id_of(message["href"]) for message in messages]


@both
def test_queue_of_one_is_there_for_the_other(api, queue, one, other):
    create(api, queue, one)
    assert api.put(at(other, queue)).status_code == 204
    listing = api.get(f"{other}/queues").json()["queues"]
    assert {"name": queue, "href": at(other, queue)} in listing
    assert api.delete(at(other, queue)).status_code == 204
    assert api.get(f"{one}/queues").status_code == (204 if one == V1 else 200)
    assert_error(api.get(at(V1, queue)), 404)


@both
def test_messages_of_one_are_listed_and_read_by_the_other(api, queue, one, other):
    create(api, queue, one)
    ids = post(api, one, queue, "a", {"b": [2.5, None]}, "é")
    found = listed(api, other, queue)
    assert hrefs(other, queue, found) == ids
    assert bodies(found) == ["a", {"b": [2.5, None]}, "é"]
    for id_ in ids:
        shown = api.get(at(other, queue, f"/messages/{id_}")).json()
        assert shown["href"] == at(other, queue, f"/messages/{id_}")
    assert listed(api, other, queue, echo="false") == []  # the client is the same
    assert len(listed(api.other_client(), other, queue, echo="false")) == 3


@both
def test_marker_of_one_leads_the_other_on(api, queue, one, other):
    create(api, queue, one)
    post(api, one, queue, *range(5))
    first = api.get(at(one, queue, "/messages?limit=2&echo=true")).json()
    (link,) = first["links"]
    moved = api.get(at(other, queue, f"/messages?{urlsplit(link['href']).query}")).json()
    assert bodies(first["messages"]) + bodies(moved["messages"]) == [0, 1, 2, 3]


@both
def test_claim_of_one_holds_for_the_other(api, queue, one, other):
    create(api, queue, one)
    ids = post(api, other, queue, 1, 2, 3)
    location, claimed = claim(api, one, queue, limit=2)
    claim_id = id_of(location)
    assert location == at(one, queue, f"/claims/{claim_id}")
    assert hrefs(one, queue, claimed) == ids[:2]
    assert all(message["href"].endswith(f"?claim_id={claim_id}") for message in claimed)
    assert bodies(listed(api, other, queue)) == [3]
    there = at(other, queue, f"/claims/{claim_id}")
    shown = api.get(there).json()
    assert (shown["href"], hrefs(other, queue, shown["messages"])) == (there, ids[:2])
    assert_error(api.delete(at(other, queue, f"/messages/{ids[0]}")), 403)
    assert api.delete(at(other, queue, f"/messages/{ids[0]}?claim_id={claim_id}")).status_code == 204
    assert api.patch(there, json={"ttl": 1000, "grace": 60}).status_code == 204
    assert api.get(location).json()["ttl"] == 1000
    assert bodies(claim(api, other, queue)[1]) == [3]
    assert api.delete(there).status_code == 204
    assert_error(api.get(location), 404)
    assert bodies(listed(api, one, queue)) == [2]


@both
def test_what_one_deletes_is_gone_for_the_other(api, queue, one, other):
    create(api, queue, one)
    ids = post(api, one, queue, 1, 2, 3)
    assert api.delete(at(other, queue, f"/messages/{ids[0]}")).status_code == 204
    assert api.delete(at(other, queue, f"/messages?ids={ids[1]}")).status_code == 204
    assert bodies(listed(api, one, queue)) == [3]
    assert_error(api.get(at(one, queue, f"/messages/{ids[0]}")), 404)


@both
def test_pop_and_stats(api, queue, one, other):
    create(api, queue, one)
    post(api, one, queue, 1, 2, 3)
    assert api.get(at(other, queue, "/stats")).json()["messages"]["total"] == 3
    if other != V1:
        assert bodies(api.delete(at(other, queue, "/messages?pop=2")).json()["messages"]) == [1, 2]
        assert api.get(at(one, queue, "/stats")).json()["messages"]["total"] == 1


def test_metadata_is_one(api, queue):
    create(api, queue, V1)
    api.put(at(V1, queue, "/metadata"), json={"a": 1})
    assert api.get(at(V1_1, queue)).json() == {"a": 1}
    assert api.get(at(V2, queue)).json()["a"] == 1
    api.put(at(V2, queue), json={"b": 2, "_default_message_ttl": 100})
    for path in (at(V1, queue, "/metadata"), at(V1_1, queue)):
        assert api.get(path).json() == {"b": 2, "_default_message_ttl": 100}
    assert api.put(at(V1_1, queue), json={"c": 3}).status_code == 204
    assert api.get(at(V1, queue, "/metadata")).json() == {"b": 2, "_default_message_ttl": 100}
    api.put(at(V1, queue, "/metadata"), json={})
    assert api.get(at(V2, queue)).json()["_default_message_ttl"] == 3600


def test_metadata_of_a_fifo_queue_is_not_replaced_by_v1(api, queue):
    assert api.put(at(V2, queue), json={"_fifo": True}).status_code == 201
    assert_error(api.put(at(V1, queue, "/metadata"), json={"a": 1}), 409)
    assert api.get(at(V1, queue, "/metadata")).json() == {"_fifo": True}


def test_fifo_queue_keeps_the_order_for_all(api, queue):
    assert api.put(at(V2, queue), json={"_fifo": True}).status_code == 201
    for number, root in enumerate(VERSIONS):
        post(api, root, queue, number)
    location, (first,) = claim(api, V1, queue, limit=1)
    assert first["body"] == 0
    assert claim(api, V1_1, queue) == (None, [])
    assert set(first) == {"href", "ttl", "age", "body"}
    assert api.delete(location.replace("/v1/", "/v1.1/")).status_code == 204
    assert bodies(claim(api, V1_1, queue)[1]) == [0, 1, 2]


def test_dead_letter_queue_of_v2_works_for_v1(api, queue):
    metadata = {"_max_claim_count": 1, "_dead_letter_queue": f"dead-{queue}"}
    assert api.put(at(V2, queue), json=metadata).status_code == 201
    post(api, V1, queue, "poisonous")
    location, _ = claim(api, V1, queue)
    assert api.delete(location).status_code == 204
    assert claim(api, V1, queue) == (None, [])
    assert bodies(listed(api, V1, f"dead-{queue}")) == ["poisonous"]
