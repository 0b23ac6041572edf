"""Queues: making, finding, listing and removing them."""

import json
import string
import uuid

import pytest

from functional.api.helpers import (
    DEFAULT_PAGE,
    MAX_METADATA_SIZE,
    MAX_PAGE,
    RESERVED_DEFAULTS,
    assert_error,
    claim,
    claims_path,
    create,
    eventually,
    get_message,
    listed,
    messages_path,
    metadata_of,
    next_link,
    pop,
    post,
    queue_path,
    walk,
)

LONGEST_NAME = 64


def names(response):
    assert response.status_code == 200, response.text
    return [queue["name"] for queue in response.json()["queues"]]


# PUT


def test_new_queue_is_created(api, queue):
    response = api.put(queue_path(queue), json={})

    assert response.status_code == 201
    assert response.headers["Location"] == queue_path(queue)


def test_existing_queue_is_not_created_again(api, queue):
    api.put(queue_path(queue), json={})

    response = api.put(queue_path(queue), json={})

    assert response.status_code == 204
    assert response.headers["Location"] == queue_path(queue)
    assert response.content == b""


def test_queue_is_created_without_a_body(api, queue):
    assert api.put(queue_path(queue)).status_code == 201


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded"]
)
def test_queue_is_created_by_an_empty_body_of_any_content_type(api, queue, content_type):
    response = api.put(queue_path(queue), data=b"", headers={"Content-Type": content_type})

    assert response.status_code == 201


@pytest.mark.parametrize("body", [b" ", b"\r\n\t", b"[]", b"text", b'"text"', b"1", b"true", b"{"])
def test_queue_is_not_created_by_a_body_that_is_no_object(api, queue, body):
    response = api.put(queue_path(queue), data=body, headers={"Content-Type": "application/json"})

    assert_error(response, 400)
    assert api.head(queue_path(queue)).status_code == 404


def test_put_with_a_body_replaces_the_metadata(api, queue):
    create(api, queue, old=1, both=2)

    response = api.put(queue_path(queue), json={"both": 3, "new": 4})

    assert response.status_code == 204
    eventually(lambda: metadata_of(api, queue) == {**RESERVED_DEFAULTS, "both": 3, "new": 4})


def test_put_without_a_body_keeps_the_metadata(api, queue):
    create(api, queue, kept=1)

    response = api.put(queue_path(queue))

    assert response.status_code == 204
    assert metadata_of(api, queue)["kept"] == 1


def test_put_keeps_the_messages(api, queue):
    post(api, queue, "kept")

    api.put(queue_path(queue), json={"x": 1})

    assert [message["body"] for message in pop(api, queue, 1)] == ["kept"]


@pytest.mark.parametrize(
    "name",
    ["a", "0", "-", "_", string.ascii_letters, string.digits + "_-.", "a.b", "a" * LONGEST_NAME],
)
def test_name_of_allowed_characters_is_good(api, name):
    assert api.put(queue_path(name)).status_code == 201
    assert api.head(queue_path(name)).status_code == 204
    assert names(api.get("/v2/queues")) == [name]
    post(api, name, 1)
    assert [message["body"] for message in pop(api, name, 1)] == [1]


@pytest.mark.parametrize(
    "name", ["a" * (LONGEST_NAME + 1), "a b", "%C3%A9", "a%00b", "a:b", "a$b", "a*", "a%0A"]
)
@pytest.mark.parametrize(
    ("method", "below"),
    [
        ("put", ""),
        ("get", ""),
        ("head", ""),
        ("delete", ""),
        ("get", "/stats"),
        ("post", "/purge"),
        ("get", "/messages"),
        ("delete", "/messages?pop=1"),
        ("post", "/claims"),
    ],
)
def test_malformed_name_is_refused(api, method, below, name):
    response = getattr(api, method)(queue_path(name) + below)

    assert_error(response, 400, title=None if method == "head" else "Invalid queue identification")


def test_message_for_a_malformed_name_is_refused(api):
    response = api.post(messages_path("a b"), json={"messages": [{"body": 1}]})

    assert_error(response, 400, title="Invalid queue identification")


def test_names_differ_by_case(api, queue):
    post(api, queue + "a", "lower")
    post(api, queue + "A", "upper")

    assert [message["body"] for message in pop(api, queue + "A", 2)] == ["upper"]
    assert sorted(names(api.get("/v2/queues"))) == [queue + "A", queue + "a"]


def test_metadata_up_to_the_limit_is_kept(api, queue):
    frame = len(b'{"k":""}')
    value = "x" * (MAX_METADATA_SIZE - frame)

    response = api.put(queue_path(queue), data=json.dumps({"k": value}, separators=(",", ":")).encode())

    assert response.status_code == 201, response.text
    assert metadata_of(api, queue)["k"] == value


def test_metadata_over_the_limit_is_refused(api, queue):
    frame = len(b'{"k":""}')
    value = "x" * (MAX_METADATA_SIZE - frame + 1)

    response = api.put(queue_path(queue), data=json.dumps({"k": value}, separators=(",", ":")).encode())

    assert_error(response, 400)
    assert api.head(queue_path(queue)).status_code == 404


def test_unknown_flavor_is_refused(api, queue):
    assert_error(api.put(queue_path(queue), json={"_flavor": f"no-{queue}"[:64]}), 400)
    assert api.head(queue_path(queue)).status_code == 404


# HEAD: python-zaqarclient's exists()


def test_head_tells_whether_a_queue_exists(api, queue):
    assert api.head(queue_path(queue)).status_code == 404

    create(api, queue)

    eventually(lambda: api.head(queue_path(queue)).status_code == 204)


def test_post_creates_the_queue(api, queue):
    post(api, queue, 1)

    assert api.head(queue_path(queue)).status_code == 204
    assert names(api.get("/v2/queues")) == [queue]


@pytest.mark.parametrize("look", ["get", "list", "claim", "stats"])
def test_looking_at_a_queue_does_not_create_it(api, queue, look):
    if look == "get":
        api.get(queue_path(queue))
    elif look == "list":
        listed(api, queue)
    elif look == "claim":
        api.post(claims_path(queue))
    else:
        api.get(queue_path(queue) + "/stats")

    assert api.head(queue_path(queue)).status_code == 404
    assert names(api.get("/v2/queues")) == []


# DELETE


def test_deleted_queue_is_gone(api, queue):
    create(api, queue, x=1)

    response = api.delete(queue_path(queue))

    assert (response.status_code, response.content) == (204, b"")
    eventually(lambda: api.head(queue_path(queue)).status_code == 404)
    eventually(lambda: names(api.get("/v2/queues")) == [])
    eventually(lambda: metadata_of(api, queue) == RESERVED_DEFAULTS)


def test_delete_of_an_unknown_queue_answers_204(api, queue):
    assert api.delete(queue_path(queue)).status_code == 204


def test_deleting_a_queue_twice_answers_204(api, queue):
    create(api, queue)

    assert api.delete(queue_path(queue)).status_code == 204
    assert api.delete(queue_path(queue)).status_code == 204


def test_messages_go_with_their_queue(api, queue):
    waiting, claimed = post(api, queue, "waiting", "claimed")
    claim_id, _ = claim(api, queue, limit=1)
    post(api, queue, "never landed")

    api.delete(queue_path(queue))

    eventually(lambda: listed(api, queue, include_claimed="true") == [])
    assert get_message(api, queue, waiting).status_code == 404
    assert get_message(api, queue, claimed).status_code == 404
    assert api.get(f"{claims_path(queue)}/{claim_id}").status_code == 404
    assert claim(api, queue) == (None, [])


def test_deleted_queue_can_be_used_again(api, queue):
    post(api, queue, "old")
    api.delete(queue_path(queue))
    eventually(lambda: api.head(queue_path(queue)).status_code == 404)

    post(api, queue, "new")

    assert [message["body"] for message in pop(api, queue, 10)] == ["new"]


def test_delete_leaves_other_queues_alone(api, queue):
    other = f"{queue}.b"
    post(api, queue, 1)
    post(api, other, 2)

    api.delete(queue_path(queue))

    assert [message["body"] for message in pop(api, other, 2)] == [2]
    eventually(lambda: names(api.get("/v2/queues")) == [other])


# Listing


def make_queues(api, count):
    made = [f"q{index:02d}" for index in range(count)]
    for name in made:
        create(api, name, number=int(name[1:]))
    return made


def test_empty_project_lists_nothing(api):
    response = api.get("/v2/queues")

    assert response.status_code == 200
    assert response.json() == {"queues": [], "links": []}


def test_queue_is_listed_with_name_and_href(api, queue):
    create(api, queue, x=1)

    document = api.get("/v2/queues").json()

    assert document["queues"] == [{"name": queue, "href": queue_path(queue)}]


def test_queues_are_listed_by_name(api):
    for name in ["b", "a", "c", "B", "1", "a.b", "_", "-"]:
        create(api, name)

    assert names(api.get("/v2/queues")) == ["-", "1", "B", "_", "a", "a.b", "b", "c"]


def test_detailed_list_shows_metadata(api, queue):
    create(api, queue, x=1, _default_message_ttl=90)

    (found,) = api.get("/v2/queues", params={"detailed": "true"}).json()["queues"]

    assert found["name"] == queue
    assert found["metadata"]["x"] == 1
    assert found["metadata"]["_default_message_ttl"] == 90


@pytest.mark.parametrize("value", ["true", "True", "yes", "1"])
def test_true_is_spelled_in_several_ways(api, queue, value):
    create(api, queue)

    (found,) = api.get("/v2/queues", params={"detailed": value}).json()["queues"]

    assert "metadata" in found


@pytest.mark.parametrize("value", ["false", "False", "no", "0"])
def test_false_is_spelled_in_several_ways(api, queue, value):
    create(api, queue)

    (found,) = api.get("/v2/queues", params={"detailed": value}).json()["queues"]

    assert "metadata" not in found


def test_pages_of_queues_follow_their_links(api):
    made = make_queues(api, 7)

    pages = walk(api, "/v2/queues?limit=3&detailed=true", "queues")

    assert [[queue["name"] for queue in page] for page in pages] == [made[:3], made[3:6], made[6:]]
    assert all("metadata" in queue for page in pages for queue in page)


def test_page_of_queues_links_to_the_next_even_when_it_is_the_last(api, queue):
    create(api, queue)

    last = api.get("/v2/queues").json()
    beyond = api.get(next_link(last)).json()

    assert next_link(last).startswith("/v2/queues?")
    assert "marker=" in next_link(last)
    assert beyond == {"queues": [], "links": []}


def test_marker_of_queues_is_exclusive(api):
    make_queues(api, 3)

    assert names(api.get("/v2/queues", params={"marker": "q01"})) == ["q02"]


def test_marker_of_queues_need_not_exist(api):
    make_queues(api, 3)

    assert names(api.get("/v2/queues", params={"marker": "q005"})) == ["q01", "q02"]
    assert names(api.get("/v2/queues", params={"marker": "zzz"})) == []


def test_page_of_queues_has_a_default_size(api):
    made = make_queues(api, DEFAULT_PAGE + 1)

    assert names(api.get("/v2/queues")) == made[:DEFAULT_PAGE]


def test_page_of_queues_may_have_the_largest_size(api, queue):
    create(api, queue)

    assert names(api.get("/v2/queues", params={"limit": MAX_PAGE})) == [queue]


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE + 1])
def test_limit_of_queues_out_of_range_is_refused(api, limit):
    assert_error(api.get("/v2/queues", params={"limit": limit}), 400)


def test_count_covers_all_pages(api):
    make_queues(api, 3)

    document = api.get("/v2/queues", params={"with_count": "true", "limit": 2}).json()

    assert document["count"] == 3
    assert len(document["queues"]) == 2


def test_count_of_an_empty_project_is_zero(api):
    assert api.get("/v2/queues", params={"with_count": "true"}).json()["count"] == 0


def test_count_is_absent_unless_asked_for(api, queue):
    create(api, queue)

    assert "count" not in api.get("/v2/queues").json()
    assert "count" not in api.get("/v2/queues", params={"with_count": "false"}).json()


def test_name_filter_finds_the_queue(api):
    wanted = f"n{uuid.uuid4().hex}"
    create(api, wanted)
    create(api, "another")

    assert names(api.get("/v2/queues", params={"name": wanted})) == [wanted]
    assert names(api.get("/v2/queues", params={"name": f"x{wanted}"})) == []


@pytest.mark.parametrize("name", ["(" * 50, "[", "*", "(a+)+$", "\\", "^", "%", "_"])
def test_name_filter_is_not_a_trap(api, name):
    create(api, "a" * 40)

    assert api.get("/v2/queues", params={"name": name}).status_code in (200, 400)
