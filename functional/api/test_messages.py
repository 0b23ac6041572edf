"""Messages: posting, listing, finding, removing and popping them."""

import json
import uuid

import pytest

from functional.api.helpers import (
    DEFAULT_PAGE,
    JSON,
    MAX_DELAY,
    MAX_MESSAGE_TTL,
    MAX_PAGE,
    MAX_POST_SIZE,
    MESSAGE_KEYS,
    MIN_TTL,
    assert_error,
    bodies,
    claim,
    create,
    delete_message,
    eventually,
    get_message,
    id_of,
    ids,
    listed,
    messages_path,
    next_link,
    page,
    pop,
    post,
    post_documents,
    queue_path,
    release,
    unknown_id,
    walk,
)

#: An age in seconds that no message of a test can have reached yet.
YOUNG = 30

BODIES = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    0.1,
    -1.5e300,
    "",
    "text",
    "\u00fcn\u00efc\u00f6d\u00e9 \u2603 \U0001f600 \u202e",
    'nul \u0000, tab \t, line \n, quote ", backslash \\, slash /',
    "<script>&amp;</script>",
    [],
    {},
    [None, [[]], {}],
    {"": "", "a.b": 1, "$set": {"$where": 1}, "_id": 2, "\u00e9": [1, {"x": None}]},
    {"event": "BackupStarted", "id": 1, "body": {"messages": [{"ttl": 1}]}},
]


def post_raw(api, queue, text):
    return api.post(messages_path(queue), data=text.encode(), headers=JSON)


def body_of_size(size):
    """A post of one message whose whole document is exactly so many bytes long."""
    frame = len('{"messages":[{"body":""}]}')
    return '{"messages":[{"body":"' + "x" * (size - frame) + '"}]}'


def posts_refused(api, queue, document):
    response = api.post(messages_path(queue), json=document)
    assert_error(response, 400)
    assert listed(api, queue) == []


# Posting


def test_post_names_the_new_messages_in_order(api, queue):
    response = api.post(messages_path(queue), json={"messages": [{"body": index} for index in range(5)]})

    assert response.status_code == 201
    document = response.json()
    assert list(document) == ["resources"]
    assert all(href.startswith(messages_path(queue) + "/") for href in document["resources"])
    posted = [id_of(href) for href in document["resources"]]
    assert len(set(posted)) == 5
    found = {message_id: get_message(api, queue, message_id).json()["body"] for message_id in posted}
    assert [found[message_id] for message_id in posted] == [0, 1, 2, 3, 4]


def test_location_of_a_post_finds_its_messages(api, queue):
    response = api.post(messages_path(queue), json={"messages": [{"body": 1}, {"body": 2}]})

    location = response.headers["Location"]
    posted = [id_of(href) for href in response.json()["resources"]]
    assert location == f"{messages_path(queue)}?ids={','.join(posted)}"
    assert sorted(bodies(api.get(location).json()["messages"])) == [1, 2]


@pytest.mark.parametrize("body", BODIES, ids=repr)
def test_body_comes_back_as_it_was_posted(api, queue, body):
    (posted,) = post(api, queue, body)

    (in_list,) = bodies(listed(api, queue))
    alone = get_message(api, queue, posted).json()["body"]

    for found in (in_list, alone):
        assert found == body
        assert type(found) is type(body)


def test_nested_body_comes_back(api, queue):
    depth = 100
    nested = "[" * depth + "1" + "]" * depth

    response = post_raw(api, queue, '{"messages":[{"body":' + nested + "}]}")

    assert response.status_code == 201, response.text
    assert bodies(listed(api, queue)) == [json.loads(nested)]


def test_escaped_and_plain_text_are_the_same_body(api, queue):
    response = post_raw(api, queue, r'{"messages":[{"body":"\u00e9\ud83d\ude00\/"},{"body":"é😀/"}]}')

    assert response.status_code == 201
    assert bodies(listed(api, queue)) == ["\u00e9\U0001f600/"] * 2


def test_post_may_hold_more_messages_than_a_page(api, queue):
    posted = post(api, queue, *range(100))

    assert len(set(posted)) == 100
    found = [
        body
        for messages in walk(api, messages_path(queue) + "?echo=true&limit=20", "messages")
        for body in bodies(messages)
    ]
    assert found == list(range(100))


def test_ttl_has_a_default(api, queue):
    post(api, queue, 1)

    assert [message["ttl"] for message in listed(api, queue)] == [3600]


@pytest.mark.parametrize("ttl", [MIN_TTL, 300, MAX_MESSAGE_TTL])
def test_ttl_is_kept(api, queue, ttl):
    post(api, queue, 1, ttl=ttl)

    assert [message["ttl"] for message in listed(api, queue)] == [ttl]


@pytest.mark.parametrize(
    "ttl", [MIN_TTL - 1, 0, -1, MAX_MESSAGE_TTL + 1, 2**31, 2**63 - 1, 60.5, "60", True, [60], {}], ids=repr
)
def test_wrong_ttl_is_refused(api, queue, ttl):
    posts_refused(api, queue, {"messages": [{"body": 1, "ttl": ttl}]})


@pytest.mark.parametrize("delay", [-1, MAX_DELAY + 1, 2**31, 2**63 - 1, 1.5, "1", True, [1], {}], ids=repr)
def test_wrong_delay_is_refused(api, queue, delay):
    posts_refused(api, queue, {"messages": [{"body": 1, "delay": delay}]})


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"messages": []},
        {"messages": None},
        {"messages": {}},
        {"messages": {"body": 1}},
        {"messages": "text"},
        {"messages": 1},
        {"messages": [1]},
        {"messages": [None]},
        {"messages": ["text"]},
        {"messages": [[]]},
        {"messages": [{}]},
        {"messages": [{"ttl": 60}]},
        {"message": [{"body": 1}]},
        [{"body": 1}],
        [],
        "text",
        1,
    ],
    ids=json.dumps,
)
def test_malformed_post_is_refused(api, queue, document):
    posts_refused(api, queue, document)


def test_one_wrong_message_refuses_the_whole_post(api, queue):
    posts_refused(api, queue, {"messages": [{"body": 1}, {"body": 2, "ttl": 1}, {"body": 3}]})


def test_refused_post_does_not_create_the_queue(api, queue):
    posts_refused(api, queue, {"messages": [{"ttl": 60}]})

    assert api.head(queue_path(queue)).status_code == 404


def test_post_of_the_largest_size_is_accepted(api, queue):
    response = post_raw(api, queue, body_of_size(MAX_POST_SIZE))

    assert response.status_code == 201, response.text
    (body,) = bodies(listed(api, queue))
    assert set(body) == {"x"}


@pytest.mark.parametrize("size", [MAX_POST_SIZE + 1, 4 * MAX_POST_SIZE])
def test_post_over_the_size_limit_is_refused(api, queue, size):
    assert_error(post_raw(api, queue, body_of_size(size)), 400)
    assert listed(api, queue) == []


def test_size_limit_holds_for_the_whole_document(api, queue):
    half = "x" * (MAX_POST_SIZE // 2)

    posts_refused(api, queue, {"messages": [{"body": half}, {"body": half}]})


# Listing


def test_listed_message_has_the_keys_clients_know(api, queue):
    (posted,) = post(api, queue, "hello", ttl=300)

    (message,) = listed(api, queue)

    assert set(message) <= MESSAGE_KEYS
    assert message["id"] == posted
    assert message["href"] == f"{messages_path(queue)}/{posted}"
    assert message["ttl"] == 300
    assert isinstance(message["age"], int)
    assert 0 <= message["age"] < YOUNG
    assert message["body"] == "hello"
    assert message.get("claim_id") is None


def test_message_alone_looks_as_it_does_in_a_list(api, queue):
    (posted,) = post(api, queue, "hello", ttl=300)

    message = get_message(api, queue, posted).json()

    assert set(message) <= MESSAGE_KEYS
    assert message["id"] == posted
    assert message["href"] == f"{messages_path(queue)}/{posted}"
    assert (message["ttl"], message["body"]) == (300, "hello")


def test_messages_are_listed_oldest_first(api, queue):
    for index in range(6):
        post(api, queue, index)

    assert bodies(listed(api, queue)) == list(range(6))


def test_listing_removes_nothing(api, queue):
    post(api, queue, 1, 2)

    assert ids(listed(api, queue)) == ids(listed(api, queue))
    assert bodies(pop(api, queue, 2)) == [1, 2]


@pytest.mark.parametrize("made", [True, False], ids=["empty", "unknown"])
def test_queue_without_messages_lists_nothing(api, queue, made):
    if made:
        create(api, queue)

    response = api.get(messages_path(queue))

    assert response.status_code == 200
    assert response.json() == {"messages": [], "links": []}


def test_own_messages_are_left_out(api, queue):
    post(api, queue, "mine")
    other = api.other_client()
    post(other, queue, "theirs")

    assert bodies(api.get(messages_path(queue)).json()["messages"]) == ["theirs"]
    assert bodies(other.get(messages_path(queue)).json()["messages"]) == ["mine"]


@pytest.mark.parametrize(
    ("echo", "seen"), [("true", 1), ("1", 1), ("yes", 1), ("false", 0), ("0", 0), ("no", 0)]
)
def test_echo_shows_own_messages(api, queue, echo, seen):
    post(api, queue, "mine")

    response = api.get(messages_path(queue), params={"echo": echo})

    assert len(response.json()["messages"]) == seen


@pytest.mark.parametrize(
    "respell", [lambda text: uuid.UUID(text).hex, lambda text: str(uuid.UUID(text)).upper()]
)
def test_client_is_the_same_in_any_spelling_of_its_id(api, queue, respell):
    api.post(
        messages_path(queue),
        json={"messages": [{"body": "mine"}]},
        headers={"Client-ID": str(uuid.UUID(api.client_id))},
    )

    response = api.get(messages_path(queue), headers={"Client-ID": respell(api.client_id)})

    assert response.json()["messages"] == []


def test_own_messages_do_not_use_up_a_page(api, queue):
    other = api.other_client()
    for index in range(6):
        post(api if index % 2 else other, queue, index)

    response = api.get(messages_path(queue), params={"limit": 3})

    assert bodies(response.json()["messages"]) == [0, 2, 4]


def test_pages_of_messages_follow_their_links(api, queue):
    posted = post(api, queue, *range(7))

    pages = walk(api, messages_path(queue) + "?limit=3&echo=true", "messages")

    assert [bodies(messages) for messages in pages] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [message_id for messages in pages for message_id in ids(messages)] == posted


def test_next_link_is_a_path_with_the_query(api, queue):
    post(api, queue, 1, 2)

    link = next_link(page(api, queue, limit=1, include_claimed="true"))

    assert link.startswith(messages_path(queue) + "?")
    query = dict(pair.split("=") for pair in link.partition("?")[2].split("&"))
    assert query["limit"] == "1"
    assert query["echo"].lower() in ("true", "1", "yes")
    assert query["include_claimed"].lower() in ("true", "1", "yes")
    assert query["marker"]


def test_last_page_links_to_what_will_come(api, queue):
    post(api, queue, "first")
    last = page(api, queue)

    beyond = api.get(next_link(last)).json()
    post(api, queue, "second")
    later = api.get(next_link(last)).json()

    assert beyond == {"messages": [], "links": []}
    assert bodies(later["messages"]) == ["second"]


def test_message_id_is_a_marker_too(api, queue):
    posted = post(api, queue, *range(4))
    listed(api, queue)

    document = page(api, queue, marker=posted[1])

    assert bodies(document["messages"]) == [2, 3]


def test_id_of_the_last_message_is_a_marker_for_what_will_come(api, queue):
    (first,) = post(api, queue, "first")
    listed(api, queue)
    post(api, queue, "second")

    assert bodies(page(api, queue, marker=first)["messages"]) == ["second"]


def test_unknown_marker_gives_an_empty_page(api, queue):
    post(api, queue, 1, 2)
    (elsewhere,) = post(api, f"{queue}-other", 3)

    assert page(api, queue, marker=elsewhere) == {"messages": [], "links": []}


def test_page_of_messages_has_a_default_size(api, queue):
    post(api, queue, *range(DEFAULT_PAGE + 1))

    assert bodies(page(api, queue)["messages"]) == list(range(DEFAULT_PAGE))


def test_page_of_messages_may_have_the_largest_size(api, queue):
    post(api, queue, *range(MAX_PAGE + 1))

    assert bodies(page(api, queue, limit=MAX_PAGE)["messages"]) == list(range(MAX_PAGE))


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE + 1])
def test_limit_of_messages_out_of_range_is_refused(api, queue, limit):
    assert_error(api.get(messages_path(queue), params={"limit": limit}), 400)


def test_claimed_messages_are_left_out(api, queue):
    post(api, queue, "claimed", "free")
    claim_id, _ = claim(api, queue, limit=1)

    free = listed(api, queue)
    everything = listed(api, queue, include_claimed="true")

    assert bodies(free) == ["free"]
    assert bodies(everything) == ["claimed", "free"]
    assert everything[0]["href"] == f"{messages_path(queue)}/{everything[0]['id']}?claim_id={claim_id}"
    assert everything[1]["href"] == f"{messages_path(queue)}/{everything[1]['id']}"


def test_walk_misses_nothing_while_others_post(api, queue):
    seen = []
    post(api, queue, *range(5))
    path = messages_path(queue) + "?limit=2&echo=true"

    for index in range(5, 10):
        document = api.get(path).json()
        seen += bodies(document["messages"])
        path = next_link(document) or path
        post(api, queue, index)
    seen += [body for messages in walk(api, path, "messages") for body in bodies(messages)]

    assert seen == list(range(10))


# Delay


def test_delayed_message_is_hidden(api, queue):
    post(api, queue, "later", delay=MAX_DELAY)
    post(api, queue, "now")

    assert bodies(listed(api, queue)) == ["now"]
    assert bodies(listed(api, queue, include_delayed="false")) == ["now"]


def test_delayed_message_can_be_listed_on_request(api, queue):
    post(api, queue, "later", delay=MAX_DELAY)

    assert bodies(listed(api, queue, include_delayed="true")) == ["later"]


def test_delayed_message_cannot_be_claimed_or_popped(api, queue):
    post(api, queue, "later", delay=MAX_DELAY)

    assert claim(api, queue) == (None, [])
    assert pop(api, queue, 1) == []


def test_delayed_message_appears_when_its_time_comes(api, queue):
    (posted,) = post(api, queue, "soon", delay=1)

    found = eventually(lambda: listed(api, queue), seconds=10)

    assert ids(found) == [posted]


def test_delayed_message_can_be_claimed_when_its_time_comes(api, queue):
    (posted,) = post(api, queue, "soon", delay=1)

    claimed = eventually(lambda: claim(api, queue)[1], seconds=10)

    assert ids(claimed) == [posted]


def test_delay_of_one_message_does_not_hold_up_others(api, queue):
    post_documents(
        api, queue, {"body": "later", "delay": MAX_DELAY}, {"body": "now"}, {"body": "too", "delay": 0}
    )

    assert bodies(claim(api, queue)[1]) == ["now", "too"]


# Getting by id


def test_messages_are_found_by_their_ids(api, queue):
    posted = post(api, queue, *range(4))

    response = api.get(messages_path(queue), params={"ids": f"{posted[0]},{posted[2]}"})

    assert response.status_code == 200
    assert sorted(bodies(response.json()["messages"])) == [0, 2]
    assert all(set(message) <= MESSAGE_KEYS for message in response.json()["messages"])


def test_ids_may_be_repeated_parameters(api, queue):
    posted = post(api, queue, *range(3))

    response = api.get(messages_path(queue), params={"ids": [posted[0], posted[1]]})

    assert sorted(bodies(response.json()["messages"])) == [0, 1]


def test_ids_that_are_not_there_are_left_out(api, queue):
    (posted,) = post(api, queue, "here")

    response = api.get(messages_path(queue), params={"ids": f"{unknown_id()},{posted}"})

    assert response.status_code == 200
    assert bodies(response.json()["messages"]) == ["here"]


@pytest.mark.parametrize("made", [True, False], ids=["queue", "no queue"])
def test_ids_of_which_none_is_there_answer_404(api, queue, made):
    if made:
        post(api, queue, 1)

    assert_error(api.get(messages_path(queue), params={"ids": f"{unknown_id()},{unknown_id()}"}), 404)


def test_more_ids_than_a_page_are_refused(api, queue):
    posted = post(api, queue, *range(MAX_PAGE + 1))

    most = api.get(messages_path(queue), params={"ids": ",".join(posted[:MAX_PAGE])})
    too_many = api.get(messages_path(queue), params={"ids": ",".join(posted)})

    assert len(most.json()["messages"]) == MAX_PAGE
    assert_error(too_many, 400)


@pytest.mark.parametrize("made", [True, False], ids=["queue", "no queue"])
def test_unknown_message_is_404(api, queue, made):
    if made:
        post(api, queue, 1)

    assert_error(get_message(api, queue, unknown_id()), 404)


def test_message_is_found_in_its_own_queue_only(api, queue):
    (posted,) = post(api, queue, 1)

    assert_error(get_message(api, f"{queue}-other", posted), 404)
    assert_error(get_message(api.other_project(), queue, posted), 404)


def test_claimed_message_tells_its_claim_in_its_href(api, queue):
    (posted,) = post(api, queue, 1)
    claim_id, _ = claim(api, queue)

    while_claimed = get_message(api, queue, posted).json()
    release(api, queue, claim_id)
    afterwards = get_message(api, queue, posted).json()

    assert while_claimed["href"] == f"{messages_path(queue)}/{posted}?claim_id={claim_id}"
    assert afterwards["href"] == f"{messages_path(queue)}/{posted}"


# Deleting


@pytest.mark.parametrize("landed", [True, False], ids=["after a listing", "straight away"])
def test_deleted_message_is_gone(api, queue, landed):
    gone, kept = post(api, queue, "gone", "kept")
    if landed:
        listed(api, queue)

    response = delete_message(api, queue, gone)

    assert (response.status_code, response.content) == (204, b"")
    assert_error(get_message(api, queue, gone), 404)
    assert ids(listed(api, queue)) == [kept]
    assert ids(claim(api, queue)[1]) == [kept]


def test_delete_answers_204_whether_or_not_the_message_is_there(api, queue):
    (posted,) = post(api, queue, 1)

    assert delete_message(api, queue, posted).status_code == 204
    assert delete_message(api, queue, posted).status_code == 204
    assert delete_message(api, queue, unknown_id()).status_code == 204
    assert delete_message(api, f"{queue}-unknown", unknown_id()).status_code == 204


def test_message_is_not_deleted_through_another_queue(api, queue):
    (posted,) = post(api, queue, "kept")
    listed(api, queue)

    delete_message(api, f"{queue}-other", posted)
    delete_message(api.other_project(), queue, posted)

    assert bodies(listed(api, queue)) == ["kept"]


def test_claimed_message_is_not_deleted_without_the_claim(api, queue):
    (posted,) = post(api, queue, 1)
    claim(api, queue)

    assert_error(delete_message(api, queue, posted), 403)
    assert get_message(api, queue, posted).status_code == 200


def test_claimed_message_is_not_deleted_with_another_claim(api, queue):
    first, second = post(api, queue, 1, 2)
    first_claim, _ = claim(api, queue, limit=1)
    second_claim, _ = claim(api, queue, limit=1)

    assert_error(delete_message(api, queue, first, claim_id=second_claim), 403)
    assert_error(delete_message(api, queue, second, claim_id=first_claim), 403)
    assert get_message(api, queue, first).status_code == 200
    assert get_message(api, queue, second).status_code == 200


def test_claimed_message_is_deleted_with_its_claim(api, queue):
    (posted,) = post(api, queue, 1)
    claim_id, _ = claim(api, queue)

    response = delete_message(api, queue, posted, claim_id=claim_id)

    assert (response.status_code, response.content) == (204, b"")
    assert_error(get_message(api, queue, posted), 404)
    assert listed(api, queue, include_claimed="true") == []


def test_message_deleted_with_its_claim_can_be_deleted_again(api, queue):
    first, _ = post(api, queue, 1, 2)
    claim_id, _ = claim(api, queue)

    assert delete_message(api, queue, first, claim_id=claim_id).status_code == 204
    assert delete_message(api, queue, first, claim_id=claim_id).status_code == 204


def test_href_of_a_claimed_message_deletes_it(api, queue):
    post(api, queue, 1)
    _, (message,) = claim(api, queue)

    assert api.delete(message["href"]).status_code == 204
    assert_error(get_message(api, queue, message["id"]), 404)


def test_released_claim_cannot_delete(api, queue):
    (posted,) = post(api, queue, 1)
    claim_id, _ = claim(api, queue)
    release(api, queue, claim_id)

    assert_error(delete_message(api, queue, posted, claim_id=claim_id), 400)
    assert get_message(api, queue, posted).status_code == 200


def test_unknown_claim_cannot_delete_an_unclaimed_message(api, queue):
    (posted,) = post(api, queue, 1)
    listed(api, queue)

    assert_error(delete_message(api, queue, posted, claim_id=unknown_id()), 400)
    assert get_message(api, queue, posted).status_code == 200


def test_live_claim_cannot_delete_a_message_it_does_not_hold(api, queue):
    _, free = post(api, queue, "held", "free")
    claim_id, _ = claim(api, queue, limit=1)
    listed(api, queue)

    assert_error(delete_message(api, queue, free, claim_id=claim_id), 400)
    assert get_message(api, queue, free).status_code == 200


def test_unknown_claim_cannot_delete_a_claimed_message(api, queue):
    (posted,) = post(api, queue, 1)
    claim(api, queue)

    response = delete_message(api, queue, posted, claim_id=unknown_id())

    assert response.status_code in (400, 403)
    assert_error(response, response.status_code)
    assert get_message(api, queue, posted).status_code == 200


def test_many_messages_are_deleted_at_once(api, queue):
    posted = post(api, queue, *range(5))

    response = api.delete(messages_path(queue), params={"ids": ",".join(posted[1:4])})

    assert (response.status_code, response.content) == (204, b"")
    assert bodies(listed(api, queue)) == [0, 4]


def test_ids_to_delete_may_be_repeated_parameters(api, queue):
    posted = post(api, queue, *range(3))

    response = api.delete(messages_path(queue), params={"ids": posted[:2]})

    assert response.status_code == 204
    assert bodies(listed(api, queue)) == [2]


def test_delete_of_many_leaves_claimed_messages(api, queue):
    posted = post(api, queue, "claimed", "free")
    claim(api, queue, limit=1)

    response = api.delete(messages_path(queue), params={"ids": ",".join(posted)})

    assert response.status_code == 204
    assert bodies(listed(api, queue, include_claimed="true")) == ["claimed"]


def test_delete_of_many_unknown_ids_answers_204(api, queue):
    response = api.delete(messages_path(queue), params={"ids": f"{unknown_id()},{unknown_id()}"})

    assert response.status_code == 204


def test_delete_of_more_ids_than_a_page_is_refused(api, queue):
    posted = post(api, queue, *range(MAX_PAGE + 1))

    response = api.delete(messages_path(queue), params={"ids": ",".join(posted)})

    assert_error(response, 400)
    assert len(listed(api, queue)) == MAX_PAGE


def test_delete_of_messages_needs_ids_or_pop(api, queue):
    post(api, queue, 1)

    assert_error(api.delete(messages_path(queue)), 400)
    assert len(listed(api, queue)) == 1


def test_delete_of_messages_takes_either_ids_or_pop(api, queue):
    (posted,) = post(api, queue, 1)

    assert_error(api.delete(messages_path(queue), params={"ids": posted, "pop": 1}), 400)
    assert len(listed(api, queue)) == 1


# Popping


def test_popped_messages_are_removed_oldest_first(api, queue):
    posted = post(api, queue, *range(5))

    first = pop(api, queue, 2)
    second = pop(api, queue, 2)

    assert (bodies(first), bodies(second)) == ([0, 1], [2, 3])
    assert ids(first + second) == posted[:4]
    assert bodies(listed(api, queue)) == [4]
    assert_error(get_message(api, queue, posted[0]), 404)


def test_popped_message_has_its_own_set_of_keys(api, queue):
    (posted,) = post(api, queue, "hello", ttl=300)

    (message,) = pop(api, queue, 1)

    assert set(message) - {"checksum"} == {"id", "ttl", "age", "body", "claim_id", "claim_count"}
    assert (message["id"], message["ttl"], message["body"]) == (posted, 300, "hello")
    assert 0 <= message["age"] < YOUNG
    assert message["claim_id"] is None
    assert message["claim_count"] == 0


def test_popped_message_tells_how_often_it_was_claimed(api, queue):
    post(api, queue, 1)
    for _ in range(2):
        claim_id, _ = claim(api, queue)
        release(api, queue, claim_id)

    (message,) = pop(api, queue, 1)

    assert message["claim_count"] == 2


def test_pop_takes_what_is_there(api, queue):
    post(api, queue, 1, 2)

    assert bodies(pop(api, queue, MAX_PAGE)) == [1, 2]
    assert pop(api, queue, MAX_PAGE) == []


@pytest.mark.parametrize("made", [True, False], ids=["empty", "unknown"])
def test_pop_of_a_queue_without_messages_gives_an_empty_list(api, queue, made):
    if made:
        create(api, queue)

    response = api.delete(messages_path(queue), params={"pop": 1})

    assert response.status_code == 200
    assert response.json() == {"messages": []}


def test_pop_passes_over_claimed_messages(api, queue):
    post(api, queue, "claimed", "free")
    claim(api, queue, limit=1)

    assert bodies(pop(api, queue, 5)) == ["free"]


def test_pop_takes_released_messages(api, queue):
    post(api, queue, "released", "waiting")
    claim_id, _ = claim(api, queue, limit=1)
    release(api, queue, claim_id)

    assert bodies(pop(api, queue, 5)) == ["released", "waiting"]


@pytest.mark.parametrize("count", [0, -1, MAX_PAGE + 1, "", "abc", "1.5", "99999999999999999999"])
def test_pop_out_of_range_is_refused(api, queue, count):
    post(api, queue, 1)

    assert_error(api.delete(f"{messages_path(queue)}?pop={count}"), 400)
    assert len(listed(api, queue)) == 1


def test_bulk_delete_ignores_claims_of_other_queues(api, queue):
    other = f"{queue}-other"
    (posted,) = post(api, queue, "kept")
    post(api, other, "held")
    claim_id, _ = claim(api, other)
    claim(api, queue)

    assert_error(delete_message(api, queue, posted, claim_id=claim_id), 403)
    assert get_message(api, queue, posted).status_code == 200
