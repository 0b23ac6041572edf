"""Claims: hiding messages for a while, renewing, releasing, and who may hold what."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from functional.api.helpers import (
    DEFAULT_PAGE,
    JSON,
    MAX_CLAIM_GRACE,
    MAX_CLAIM_TTL,
    MAX_PAGE,
    MESSAGE_KEYS,
    MIN_TTL,
    assert_error,
    bodies,
    claim,
    claims_path,
    create,
    delete_message,
    eventually,
    get_claim,
    id_of,
    ids,
    listed,
    messages_path,
    pop,
    post,
    release,
    unknown_id,
)

DEFAULT_CLAIM_TTL = 300

#: An age in seconds that no claim of a test can have reached yet.
YOUNG = 30

WRONG_TIMES = [
    *(
        {"ttl": ttl}
        for ttl in (MIN_TTL - 1, 0, -1, MAX_CLAIM_TTL + 1, 2**31, 2**63 - 1, 60.5, "60", True, [], {})
    ),
    *(
        {"grace": grace}
        for grace in (MIN_TTL - 1, 0, -1, MAX_CLAIM_GRACE + 1, 2**63 - 1, 60.5, "60", True, [], {})
    ),
    {"ttl": 59, "grace": 60},
    {"ttl": 60, "grace": 59},
]


def new_claim(api, queue, document=None, **params):
    return api.post(claims_path(queue), json=document, params=params)


# Making a claim


def test_claim_answers_the_messages_and_its_location(api, queue):
    posted = post(api, queue, "a", "b")

    response = new_claim(api, queue, {"ttl": 100, "grace": 60})

    assert response.status_code == 201
    location = response.headers["Location"]
    assert location.startswith(claims_path(queue) + "/")
    document = response.json()
    assert list(document) == ["messages"]
    assert ids(document["messages"]) == posted
    assert bodies(document["messages"]) == ["a", "b"]


def test_claimed_message_has_the_keys_clients_know(api, queue):
    (posted,) = post(api, queue, "a", ttl=1000)

    claim_id, (message,) = claim(api, queue)

    assert {"href", "id", "ttl", "age", "body"} <= set(message) <= MESSAGE_KEYS
    assert message["href"] == f"{messages_path(queue)}/{posted}?claim_id={claim_id}"
    assert message["ttl"] >= 1000
    assert 0 <= message["age"] < YOUNG


@pytest.mark.parametrize("document", [None, {}, {"ttl": None, "grace": None}], ids=repr)
def test_claim_has_default_times(api, queue, document):
    post(api, queue, 1)

    response = new_claim(api, queue, document)

    assert response.status_code == 201
    assert api.get(response.headers["Location"]).json()["ttl"] == DEFAULT_CLAIM_TTL


def test_claim_takes_an_empty_body(api, queue):
    post(api, queue, 1)

    assert api.post(claims_path(queue), data=b"", headers=JSON).status_code == 201


@pytest.mark.parametrize(
    "times",
    [
        {"ttl": MIN_TTL},
        {"grace": MIN_TTL},
        {"ttl": MIN_TTL, "grace": MIN_TTL},
        {"ttl": MAX_CLAIM_TTL, "grace": MAX_CLAIM_GRACE},
    ],
    ids=repr,
)
def test_claim_takes_times_within_their_range(api, queue, times):
    post(api, queue, 1)

    response = new_claim(api, queue, times)

    assert response.status_code == 201
    assert api.get(response.headers["Location"]).json()["ttl"] == times.get("ttl", DEFAULT_CLAIM_TTL)


@pytest.mark.parametrize("times", WRONG_TIMES, ids=json.dumps)
def test_claim_with_wrong_times_is_refused(api, queue, times):
    post(api, queue, 1)

    assert_error(new_claim(api, queue, times), 400)
    assert len(listed(api, queue)) == 1


@pytest.mark.parametrize(
    "body", [b"[]", b"1", b'"ttl"', b"true", b"{", b" ", b"{'ttl': 60}", b'{"ttl": NaN}']
)
def test_claim_with_a_body_that_is_no_object_is_refused(api, queue, body):
    post(api, queue, 1)

    assert_error(api.post(claims_path(queue), data=body, headers=JSON), 400)
    assert len(listed(api, queue)) == 1


@pytest.mark.parametrize("made", [True, False], ids=["empty", "unknown"])
def test_nothing_to_claim_answers_204(api, queue, made):
    if made:
        create(api, queue)

    response = new_claim(api, queue, {"ttl": 60, "grace": 60})

    assert (response.status_code, response.content) == (204, b"")


def test_own_messages_can_be_claimed(api, queue):
    post(api, queue, "mine")

    assert bodies(claim(api, queue)[1]) == ["mine"]


def test_messages_of_others_can_be_claimed(api, queue):
    post(api.other_client(), queue, "theirs")

    assert bodies(claim(api, queue)[1]) == ["theirs"]


# How many


def test_claim_has_a_default_size(api, queue):
    post(api, queue, *range(DEFAULT_PAGE + 1))

    assert bodies(new_claim(api, queue).json()["messages"]) == list(range(DEFAULT_PAGE))


@pytest.mark.parametrize("limit", [1, 3, MAX_PAGE])
def test_limit_of_a_claim_in_the_query(api, queue, limit):
    post(api, queue, *range(MAX_PAGE + 1))

    assert bodies(new_claim(api, queue, limit=limit).json()["messages"]) == list(range(limit))


@pytest.mark.parametrize("limit", [1, 3, MAX_PAGE])
def test_limit_of_a_claim_in_the_body(api, queue, limit):
    # openstacksdk puts it there
    post(api, queue, *range(MAX_PAGE + 1))

    response = new_claim(api, queue, {"ttl": 60, "grace": 60, "limit": limit})

    assert bodies(response.json()["messages"]) == list(range(limit))


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE + 1, "abc"])
def test_wrong_limit_of_a_claim_in_the_query_is_refused(api, queue, limit):
    post(api, queue, 1)

    assert_error(new_claim(api, queue, limit=limit), 400)
    assert len(listed(api, queue)) == 1


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE + 1, "abc", 1.5, [], True], ids=repr)
def test_wrong_limit_of_a_claim_in_the_body_is_refused(api, queue, limit):
    post(api, queue, 1)

    assert_error(new_claim(api, queue, {"limit": limit}), 400)
    assert len(listed(api, queue)) == 1


def test_claim_takes_what_is_there(api, queue):
    post(api, queue, 1, 2)

    assert bodies(claim(api, queue, limit=5)[1]) == [1, 2]


# What a claim does to its messages


def test_claimed_messages_are_not_claimed_again(api, queue):
    post(api, queue, *range(4))

    first = bodies(claim(api, queue, limit=2)[1])
    second = bodies(claim(api, queue, limit=5)[1])
    third = claim(api, queue)

    assert (first, second) == ([0, 1], [2, 3])
    assert third == (None, [])


def test_claims_of_another_client_leave_claimed_messages(api, queue):
    post(api, queue, 1)
    claim(api, queue)

    assert claim(api.other_client(), queue) == (None, [])


def test_claims_hold_no_message_twice(api, queue):
    workers, rounds, size, total = 8, 6, 3, 60
    for start in range(0, total, 20):
        post(api, queue, *range(start, start + 20))

    def work(_):
        return [message for _ in range(rounds) for message in claim(api.other_client(), queue, limit=size)[1]]

    with ThreadPoolExecutor(workers) as pool:
        held = [message for messages in pool.map(work, range(workers)) for message in messages]

    assert len(ids(held)) == len(set(ids(held))), "two live claims hold the same message"
    rest = []
    while found := claim(api, queue)[1]:
        rest += found
    assert sorted(bodies(held + rest)) == list(range(total))


def test_listing_before_a_claim_does_not_change_it(api, queue):
    post(api, queue, *range(4))
    listed(api, queue, limit=2)

    assert bodies(claim(api, queue)[1]) == [0, 1, 2, 3]


# Looking at a claim


def test_new_claim_has_no_age(api, queue):
    post(api, queue, 1)
    claim_id, _ = claim(api, queue)

    assert get_claim(api, queue, claim_id).json()["age"] == 0


def test_claim_shows_its_messages(api, queue):
    posted = post(api, queue, "a", "b")
    response = new_claim(api, queue, {"ttl": 100, "grace": 60})

    shown = api.get(response.headers["Location"])

    assert shown.status_code == 200
    document = shown.json()
    assert set(document) == {"href", "ttl", "age", "messages"}
    assert document["href"] == response.headers["Location"]
    assert document["ttl"] == 100
    assert 0 <= document["age"] < YOUNG
    assert ids(document["messages"]) == posted
    assert bodies(document["messages"]) == ["a", "b"]
    for message in document["messages"]:
        assert set(message) <= MESSAGE_KEYS
        assert message["href"] == f"{messages_path(queue)}/{message['id']}?claim_id={id_of(document['href'])}"


def test_claim_shows_the_messages_that_remain(api, queue):
    first, second = post(api, queue, 1, 2)
    claim_id, _ = claim(api, queue)

    delete_message(api, queue, first, claim_id=claim_id)

    assert ids(get_claim(api, queue, claim_id).json()["messages"]) == [second]


@pytest.mark.parametrize("made", [True, False], ids=["queue", "no queue"])
def test_unknown_claim_is_404(api, queue, made):
    if made:
        create(api, queue)

    assert_error(get_claim(api, queue, unknown_id()), 404)


def test_claim_is_found_in_its_own_queue_only(api, queue):
    post(api, queue, 1)
    claim_id, _ = claim(api, queue)
    other = f"{queue}-other"
    create(api, other)

    assert_error(get_claim(api, other, claim_id), 404)
    assert_error(get_claim(api.other_project(), queue, claim_id), 404)


def test_message_id_is_no_claim_id(api, queue):
    (posted,) = post(api, queue, 1)
    claim(api, queue)

    assert_error(get_claim(api, queue, posted), 404)


# Renewing


def test_renewed_claim_has_the_new_ttl(api, queue):
    post(api, queue, 1)
    claim_id, _ = claim(api, queue, ttl=60, grace=60)

    response = api.patch(f"{claims_path(queue)}/{claim_id}", json={"ttl": 600, "grace": 100})

    assert (response.status_code, response.content) == (204, b"")
    assert get_claim(api, queue, claim_id).json()["ttl"] == 600


def test_renewed_claim_is_young_again(api, queue):
    post(api, queue, 1)
    claim_id, _ = claim(api, queue)
    eventually(lambda: get_claim(api, queue, claim_id).json()["age"] >= 1)

    api.patch(f"{claims_path(queue)}/{claim_id}", json={"ttl": 300})

    assert get_claim(api, queue, claim_id).json()["age"] == 0


def test_renewed_claim_keeps_its_messages(api, queue):
    posted = post(api, queue, 1, 2)
    claim_id, _ = claim(api, queue)

    api.patch(f"{claims_path(queue)}/{claim_id}", json={"ttl": 300, "grace": 60})

    assert ids(get_claim(api, queue, claim_id).json()["messages"]) == posted
    assert claim(api, queue) == (None, [])
    assert delete_message(api, queue, posted[0], claim_id=claim_id).status_code == 204


@pytest.mark.parametrize("document", [{"ttl": 60}, {"grace": 60}, {"ttl": 60, "grace": None}], ids=json.dumps)
def test_claim_is_renewed_by_either_time_alone(api, queue, document):
    post(api, queue, 1)
    claim_id, _ = claim(api, queue)

    assert api.patch(f"{claims_path(queue)}/{claim_id}", json=document).status_code == 204


@pytest.mark.parametrize("times", WRONG_TIMES, ids=json.dumps)
def test_renewal_with_wrong_times_is_refused(api, queue, times):
    post(api, queue, 1)
    claim_id, _ = claim(api, queue, ttl=600)

    assert_error(api.patch(f"{claims_path(queue)}/{claim_id}", json=times), 400)
    assert get_claim(api, queue, claim_id).json()["ttl"] == 600


@pytest.mark.parametrize("body", [b"[]", b"1", b'"ttl"', b"{", b" "])
def test_renewal_with_a_body_that_is_no_object_is_refused(api, queue, body):
    post(api, queue, 1)
    claim_id, _ = claim(api, queue)

    assert_error(api.patch(f"{claims_path(queue)}/{claim_id}", data=body, headers=JSON), 400)


@pytest.mark.parametrize("made", [True, False], ids=["queue", "no queue"])
def test_renewal_of_an_unknown_claim_is_404(api, queue, made):
    if made:
        create(api, queue)

    assert_error(api.patch(f"{claims_path(queue)}/{unknown_id()}", json={"ttl": 60, "grace": 60}), 404)


def test_renewal_of_a_released_claim_is_404(api, queue):
    post(api, queue, 1)
    claim_id, _ = claim(api, queue)
    release(api, queue, claim_id)

    assert_error(api.patch(f"{claims_path(queue)}/{claim_id}", json={"ttl": 60}), 404)


# Releasing


def test_released_messages_are_free_at_once(api, queue):
    posted = post(api, queue, 1, 2)
    claim_id, _ = claim(api, queue)

    response = api.delete(f"{claims_path(queue)}/{claim_id}")

    assert (response.status_code, response.content) == (204, b"")
    assert ids(listed(api, queue)) == posted
    assert ids(claim(api.other_client(), queue)[1]) == posted


def test_released_claim_is_404(api, queue):
    post(api, queue, 1)
    claim_id, _ = claim(api, queue)

    release(api, queue, claim_id)

    assert_error(get_claim(api, queue, claim_id), 404)


def test_release_frees_only_what_remains(api, queue):
    first, second = post(api, queue, 1, 2)
    claim_id, _ = claim(api, queue)
    delete_message(api, queue, first, claim_id=claim_id)

    release(api, queue, claim_id)

    assert ids(listed(api, queue)) == [second]


def test_release_leaves_other_claims_alone(api, queue):
    post(api, queue, 1, 2)
    first, _ = claim(api, queue, limit=1)
    second, _ = claim(api, queue, limit=1)

    release(api, queue, first)

    assert bodies(listed(api, queue)) == [1]
    assert bodies(get_claim(api, queue, second).json()["messages"]) == [2]


@pytest.mark.parametrize("made", [True, False], ids=["queue", "no queue"])
def test_release_of_an_unknown_claim_answers_204(api, queue, made):
    if made:
        create(api, queue)

    assert api.delete(f"{claims_path(queue)}/{unknown_id()}").status_code == 204


def test_release_through_another_queue_frees_nothing(api, queue):
    post(api, queue, 1)
    claim_id, _ = claim(api, queue)

    release(api, f"{queue}-other", claim_id)
    release(api.other_project(), queue, claim_id)

    assert get_claim(api, queue, claim_id).status_code == 200
    assert listed(api, queue) == []


def test_released_message_can_be_popped(api, queue):
    post(api, queue, 1)
    claim_id, _ = claim(api, queue)
    release(api, queue, claim_id)

    assert bodies(pop(api, queue, 1)) == [1]


def test_many_claims_and_releases_lose_nothing(api, queue):
    post(api, queue, *range(10))

    for _ in range(5):
        claim_id, messages = claim(api, queue, limit=4)
        assert bodies(messages) == [0, 1, 2, 3]
        release(api, queue, claim_id)

    assert bodies(listed(api, queue)) == list(range(10))
