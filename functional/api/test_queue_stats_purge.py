"""Statistics of a queue, and emptying it. Counts are estimates, so they are waited for."""

import datetime

import pytest

from functional.api.helpers import (
    JSON,
    assert_error,
    bodies,
    claim,
    create,
    eventually,
    get_message,
    id_of,
    listed,
    messages_path,
    metadata_of,
    post,
    queue_path,
    release,
    stats,
)

NOTHING = {"claimed": 0, "free": 0, "total": 0}

#: An age in seconds that no message of a test can have reached yet.
YOUNG = 30


def counts(api, queue):
    found = stats(api, queue)
    return found["claimed"], found["free"], found["total"]


def purge(api, queue, document=None):
    return api.post(queue_path(queue) + "/purge", json=document)


# Stats


def test_stats_of_an_unknown_queue_are_zero(api, queue):
    response = api.get(queue_path(queue) + "/stats")

    assert response.status_code == 200
    assert response.json() == {"messages": NOTHING}


def test_stats_of_an_empty_queue_name_no_message(api, queue):
    create(api, queue)

    assert stats(api, queue) == NOTHING


def test_stats_count_waiting_messages(api, queue):
    post(api, queue, *range(3))

    eventually(lambda: counts(api, queue) == (0, 3, 3))


def test_stats_count_claimed_messages(api, queue):
    post(api, queue, *range(3))

    claim_id, _ = claim(api, queue, limit=2)
    eventually(lambda: counts(api, queue) == (2, 1, 3))

    release(api, queue, claim_id)
    eventually(lambda: counts(api, queue) == (0, 3, 3))


def test_stats_forget_removed_messages(api, queue):
    post(api, queue, *range(3))

    api.delete(messages_path(queue), params={"pop": 3})

    eventually(lambda: stats(api, queue) == NOTHING)


def test_stats_name_the_oldest_and_the_newest_message(api, queue):
    posted = post(api, queue, "first", "middle", "last")
    listed(api, queue)

    found = eventually(lambda: counts(api, queue) == (0, 3, 3) and stats(api, queue))

    for end, message_id in (("oldest", posted[0]), ("newest", posted[-1])):
        assert set(found[end]) == {"href", "age", "created"}
        assert found[end]["href"].startswith(messages_path(queue) + "/")
        assert id_of(found[end]["href"]) == message_id
        assert 0 <= found[end]["age"] < YOUNG


def test_stats_tell_when_a_message_was_created(api, queue):
    post(api, queue, 1)
    listed(api, queue)

    created = eventually(lambda: stats(api, queue).get("oldest"))["created"]

    moment = datetime.datetime.fromisoformat(created.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    assert abs((datetime.datetime.now(datetime.UTC) - moment).total_seconds()) < YOUNG


# Purge


@pytest.mark.parametrize(
    "document",
    [None, {"resource_types": ["messages"]}, {"resource_types": ["messages", "subscriptions"]}],
    ids=["everything", "messages", "both"],
)
def test_purge_removes_the_messages(api, queue, document):
    posted = post(api, queue, 1, 2)

    response = purge(api, queue, document)

    assert (response.status_code, response.content) == (204, b"")
    assert listed(api, queue) == []
    assert claim(api, queue) == (None, [])
    assert get_message(api, queue, posted[0]).status_code == 404


def test_purge_removes_claimed_and_delayed_messages(api, queue):
    post(api, queue, "claimed")
    claim_id, _ = claim(api, queue)
    post(api, queue, "delayed", delay=900)
    post(api, queue, "waiting")

    response = purge(api, queue, {"resource_types": ["messages"]})

    assert response.status_code == 204
    assert listed(api, queue, include_claimed="true", include_delayed="true") == []
    release(api, queue, claim_id)
    assert claim(api, queue) == (None, [])


def test_purge_keeps_the_queue_and_its_metadata(api, queue):
    create(api, queue, kept=1)
    post(api, queue, 1)

    purge(api, queue)

    assert api.head(queue_path(queue)).status_code == 204
    assert metadata_of(api, queue)["kept"] == 1


def test_purged_queue_can_be_used_again(api, queue):
    post(api, queue, "old")
    purge(api, queue)

    post(api, queue, "new")

    assert bodies(listed(api, queue)) == ["new"]


def test_purge_of_subscriptions_keeps_the_messages(api, queue):
    post(api, queue, "kept")

    response = purge(api, queue, {"resource_types": ["subscriptions"]})

    assert response.status_code == 204
    assert bodies(listed(api, queue)) == ["kept"]


def test_purge_of_an_unknown_queue_answers_204(api, queue):
    assert purge(api, queue).status_code == 204


def test_purge_leaves_other_queues_alone(api, queue):
    other = f"{queue}-other"
    post(api, queue, "gone")
    post(api, other, "kept")

    purge(api, queue)

    assert bodies(listed(api, other)) == ["kept"]


@pytest.mark.parametrize(
    "types",
    [
        ["claims"],
        ["messages", "queues"],
        [""],
        [1],
        [None],
        [["messages"]],
        "messages",
        {"messages": 1},
        1,
        True,
    ],
    ids=repr,
)
def test_purge_of_other_types_is_refused(api, queue, types):
    post(api, queue, "kept")

    response = purge(api, queue, {"resource_types": types})

    assert_error(response, 400)
    assert bodies(listed(api, queue)) == ["kept"]


@pytest.mark.parametrize("body", [b"[]", b'["messages"]', b"1", b'"messages"', b"{", b"NaN"])
def test_purge_with_a_body_that_is_no_object_is_refused(api, queue, body):
    post(api, queue, "kept")

    response = api.post(queue_path(queue) + "/purge", data=body, headers=JSON)

    assert_error(response, 400)
    assert bodies(listed(api, queue)) == ["kept"]
