"""Publishing once: a request that is sent again under its Idempotency-Key, and messages with the same dedup_id."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from functional.api.helpers import (
    assert_error,
    bodies,
    claim,
    create,
    delete_message,
    id_of,
    ids,
    listed,
    messages_path,
    pop,
    post,
    post_documents,
    queue_path,
)

#: Requests with the same key at the same moment.
CROWD = 8

LETTERS = {"messages": [{"body": number} for number in range(3)]}


@pytest.fixture
def key():
    return str(uuid.uuid4())


def send(api, queue, key, document=LETTERS):
    return api.post(messages_path(queue), json=document, headers={"Idempotency-Key": key})


def posted(answer):
    """The ids that a post was answered with."""
    assert answer.status_code == 201, answer.text
    return [id_of(href) for href in answer.json()["resources"]]


def take_all(api, queue):
    """Claim and delete what there is; the ids."""
    taken = []
    while True:
        claim_id, messages = claim(api, queue)
        if not messages:
            return taken
        taken += ids(messages)
        for message in messages:
            assert delete_message(api, queue, message["id"], claim_id=claim_id).status_code == 204


def test_request_that_is_sent_again_gets_the_first_answer(api, queue, key):
    first = send(api, queue, key)
    second = send(api, queue, key)

    assert first.status_code == 201
    assert (second.status_code, second.content) == (201, first.content)
    assert second.headers["Location"] == first.headers["Location"]
    assert ids(listed(api, queue)) == posted(first)


def test_quotes_around_the_key_mean_nothing(api, queue, key):
    assert posted(send(api, queue, f'"{key}"')) == posted(send(api, queue, key))


def test_request_that_is_sent_again_brings_nothing_back(api, queue, key):
    first = posted(send(api, queue, key))
    assert take_all(api, queue) == first

    assert posted(send(api, queue, key)) == first
    assert take_all(api, queue) == []
    assert pop(api, queue, 10) == []


@pytest.mark.parametrize("how", ["claimed", "listed", "popped"])
def test_messages_with_a_key_are_handed_out_like_others(api, queue, key, how):
    first = posted(send(api, queue, key))
    if how == "listed":
        assert ids(listed(api, queue)) == first
    if how == "popped":
        assert ids(pop(api, queue, 2)) == first[:2]
        assert ids(pop(api, queue, 2)) == first[2:]
    else:
        assert take_all(api, queue) == first
    assert listed(api, queue, include_claimed="true") == []


def test_delayed_messages_are_posted_once(api, queue, key):
    document = {"messages": [{"body": 1, "delay": 60}, {"body": 2}]}
    first = posted(send(api, queue, key, document))

    assert posted(send(api, queue, key, document)) == first
    assert sorted(ids(listed(api, queue, include_delayed="true"))) == sorted(first)


def test_other_client_with_the_same_key_and_body_gets_the_same_answer(api, queue, key):
    assert posted(send(api.other_client(), queue, key)) == posted(send(api, queue, key))


def test_other_projects_and_queues_have_keys_of_their_own(api, queue, key):
    first = posted(send(api, queue, key))
    other = api.other_project()

    assert not set(posted(send(other, queue, key))) & set(first)
    assert not set(posted(send(api, f"{queue}-2", key))) & set(first)
    assert len(listed(other, queue)) == len(listed(api, f"{queue}-2")) == 3


def test_other_body_under_the_same_key_is_422(api, queue, key):
    send(api, queue, key)

    assert_error(send(api, queue, key, {"messages": [{"body": "other"}]}), 422, "Unprocessable content")
    assert len(listed(api, queue)) == 3


def test_queue_that_was_deleted_since_knows_no_keys(api, queue, key):
    first = posted(send(api, queue, key))
    assert api.delete(queue_path(queue)).status_code == 204

    second = posted(send(api, queue, key, {"messages": [{"body": "other"}]}))
    assert second != first
    assert ids(listed(api, queue)) == second


def test_of_requests_at_the_same_moment_one_posts(api, queue, key):
    with ThreadPoolExecutor(CROWD) as crowd:
        answers = list(crowd.map(lambda _: send(api, queue, key), range(CROWD)))

    assert {answer.status_code for answer in answers} <= {201, 409}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers if answer.status_code == 409)
    (first,) = {tuple(posted(answer)) for answer in answers if answer.status_code == 201}
    assert ids(listed(api, queue)) == list(first)


def test_many_messages_in_one_request(api, queue, key):
    document = {"messages": [{"body": number} for number in range(500)]}
    first = posted(send(api, queue, key, document))

    assert posted(send(api, queue, key, document)) == first
    assert take_all(api, queue) == first


@pytest.mark.parametrize("wrong", ["", '""', "x" * 256, "caf\u00e9".encode("latin-1"), '"unfinished'])
def test_wrong_key_is_400_and_posts_nothing(api, queue, wrong):
    assert_error(send(api, queue, wrong), 400, "Invalid Idempotency-Key")
    assert api.head(queue_path(queue)).status_code == 404


def test_wrong_request_leaves_the_key_free(api, queue, key):
    assert_error(send(api, queue, key, {"messages": [{"body": 1, "ttl": 1}]}), 400)
    assert api.head(queue_path(queue)).status_code == 404

    assert len(posted(send(api, queue, key))) == 3


def test_topic_takes_a_key(api, queue, key):
    path = f"/v2/topics/{queue}/messages"
    answers = [api.post(path, json=LETTERS, headers={"Idempotency-Key": key}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content


def test_same_dedup_id_is_the_same_message(api, queue):
    create(api, queue, _fifo=True)
    first = post(api, queue, "one", dedup_id="d", group="g")

    assert post(api, queue, "again", dedup_id="d", group="g") == first
    (message,) = listed(api, queue)
    assert (message["body"], message["dedup_id"], message["group"]) == ("one", "d", "g")
    assert take_all(api, queue) == first
    assert post(api, queue, "again", dedup_id="d") == first
    assert take_all(api, queue) == []


def test_duplicates_are_left_out_of_a_request(api, queue):
    create(api, queue, _fifo=True)
    (first,) = post(api, queue, 1, dedup_id="a")

    made = post_documents(
        api, queue, {"body": 2, "dedup_id": "b"}, {"body": "again", "dedup_id": "a"}, {"body": 3},
        {"body": "again", "dedup_id": "b"}, {"body": 4, "dedup_id": "c"},
    )

    assert (made[1], made[3]) == (first, made[0])
    assert bodies(claim(api, queue)[1]) == [1, 2, 3, 4]


def test_same_dedup_id_at_the_same_moment_is_one_message(api, queue):
    create(api, queue, _fifo=True)
    with ThreadPoolExecutor(CROWD) as crowd:
        answers = list(crowd.map(lambda number: post(api, queue, number, dedup_id="d"), range(CROWD)))

    (first,) = {tuple(answer) for answer in answers}
    assert take_all(api, queue) == list(first)


def test_key_and_dedup_id_go_together(api, queue, key):
    create(api, queue, _fifo=True)
    (first,) = post(api, queue, 1, dedup_id="a")
    document = {"messages": [{"body": 1, "dedup_id": "a"}, {"body": 2, "dedup_id": "b"}]}

    made = posted(send(api, queue, key, document))

    assert made[0] == first
    assert posted(send(api, queue, key, document)) == made
    assert take_all(api, queue) == made


@pytest.mark.parametrize("name", ["group", "dedup_id"])
def test_group_and_dedup_id_of_an_ordinary_queue_are_400(api, queue, name):
    answer = api.post(messages_path(queue), json={"messages": [{"body": 1, name: "x"}]})

    assert_error(answer, 400)
    assert "_fifo" in answer.json()["description"]


@pytest.mark.parametrize("name", ["group", "dedup_id"])
@pytest.mark.parametrize("value", ["", "x" * 129, "a\nb", 1, ["x"]])
def test_wrong_group_or_dedup_id_is_400(api, queue, name, value):
    create(api, queue, _fifo=True)

    assert_error(api.post(messages_path(queue), json={"messages": [{"body": 1, name: value}]}), 400)
    assert listed(api, queue) == []
