"""Subscriptions over REST, on every broker and side-store: who gets what is posted, and from when to when.

Nothing is delivered here: subscriptions are paused, and what waits for them is counted.
"""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from functional.api.helpers import assert_error, claim, eventually, listed, post, queue_path

#: A name that leads nowhere (RFC 6761, 6.4).
NOWHERE = "subscriber.invalid"

KEYS = {"id", "source", "subscriber", "ttl", "age", "options", "confirmed"}


def path_of(queue, id_=None, below=""):
    path = f"{queue_path(queue)}/subscriptions"
    return path if id_ is None else f"{path}/{id_}{below}"


def subscribe(api, queue, name="hook", **document):
    answer = api.post(path_of(queue), json={"subscriber": f"http://{NOWHERE}/{name}", **document})
    assert answer.status_code == 201, answer.text
    return answer.json()["subscription_id"]


def paused(api, queue, name="hook"):
    """A subscription that gets what is posted, and keeps it."""
    id_ = subscribe(api, queue, name)
    assert api.put(path_of(queue, id_, "/state"), json={"state": "paused"}).status_code == 204
    return id_


def pending(api, queue, id_):
    answer = api.get(path_of(queue, id_, "?detailed=true"))
    assert answer.status_code == 200, answer.text
    return answer.json()["pending"]


def waits(api, queue, id_, count):
    """Wait until so many messages wait for a subscription, and see that it stays so."""
    eventually(lambda: pending(api, queue, id_) == count)
    time.sleep(0.2)
    assert pending(api, queue, id_) == count


def test_subscription_from_its_creation_to_its_end(api, queue):
    id_ = subscribe(api, queue, ttl=300, options={"post_headers": {"X-Key": "1"}})

    shown = api.get(path_of(queue, id_)).json()
    assert set(shown) == KEYS
    assert (shown["id"], shown["source"], shown["ttl"], shown["confirmed"]) == (id_, queue, 300, False)
    assert api.get(path_of(queue)).json()["subscriptions"] == [shown]
    assert api.head(queue_path(queue)).status_code == 204

    changed = api.patch(path_of(queue, id_), json={"ttl": 600, "options": {}})
    assert (changed.status_code, changed.headers["Location"]) == (204, path_of(queue, id_))
    shown = api.get(path_of(queue, id_)).json()
    assert (shown["ttl"], shown["options"]) == (600, {})

    for _ in range(2):
        assert api.delete(path_of(queue, id_)).status_code == 204
    assert_error(api.get(path_of(queue, id_)), 404)
    assert api.get(path_of(queue)).json() == {"subscriptions": [], "links": []}


def test_each_subscription_gets_each_message(api, queue):
    post(api, queue, "before")
    ids = [paused(api, queue, name) for name in ("a", "b")]

    post(api, queue, 1, 2, 3)

    for id_ in ids:
        waits(api, queue, id_, 3)
    assert len(listed(api, queue)) == 4
    claimed = claim(api, queue, limit=4)[1]
    assert len(claimed) == 4, "the queue keeps its own"
    waits(api, queue, ids[0], 3)


def test_first_subscription_counts_from_its_answer_on(api, queue):
    """Also for a gateway that has just used the queue, and remembers it without any."""
    post(api, queue, "known")
    id_ = subscribe(api, queue)
    post(api, queue, "after")
    state = api.put(path_of(queue, id_, "/state"), json={"state": "paused"})
    assert state.status_code == 204
    waits(api, queue, id_, 1)


def test_delayed_messages_are_copied(api, queue):
    id_ = paused(api, queue)
    answer = api.post(f"{queue_path(queue)}/messages", json={"messages": [{"body": 1, "delay": 300}, {"body": 2}]})
    assert answer.status_code == 201
    waits(api, queue, id_, 2)


def test_deleted_queue_leaves_its_subscriptions_to_the_next_one(api, queue):
    id_ = paused(api, queue)
    post(api, queue, 1)

    assert api.delete(queue_path(queue)).status_code == 204
    assert [found["id"] for found in api.get(path_of(queue)).json()["subscriptions"]] == [id_]
    waits(api, queue, id_, 1)

    post(api, queue, 2, 3)
    waits(api, queue, id_, 3)
    assert len(listed(api, queue)) == 2


def test_purge_of_messages_leaves_what_waits_for_subscribers(api, queue):
    id_ = paused(api, queue)
    post(api, queue, 1)
    purged = api.post(f"{queue_path(queue)}/purge", json={"resource_types": ["messages"]})
    assert purged.status_code == 204
    assert listed(api, queue) == []
    waits(api, queue, id_, 1)


def test_purge_deletes_all_subscriptions(api, queue):
    for number in range(12):
        subscribe(api, queue, number)
    purged = api.post(f"{queue_path(queue)}/purge", json={"resource_types": ["subscriptions"]})
    assert purged.status_code == 204
    assert api.get(path_of(queue)).json()["subscriptions"] == []
    post(api, queue, 1)


def test_end_drops_what_waits_and_confirming_begins_again(api, queue):
    id_ = paused(api, queue)
    post(api, queue, 1)
    waits(api, queue, id_, 1)

    assert api.put(path_of(queue, id_, "/confirm"), json={"confirmed": False}).status_code == 204
    post(api, queue, 2)
    assert pending(api, queue, id_) == 0

    assert api.put(path_of(queue, id_, "/confirm"), json={"confirmed": True}).status_code == 204
    assert api.put(path_of(queue, id_, "/state"), json={"state": "paused"}).status_code == 204
    post(api, queue, 3)
    eventually(lambda: pending(api, queue, id_) == 1)


def test_many_clients_create_one_subscription(api, queue):
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda _: subscribe(api, queue), range(16)))

    assert len(set(ids)) == 1
    assert len(api.get(path_of(queue)).json()["subscriptions"]) == 1


def test_pages_lead_to_the_end(api, queue):
    ids = [subscribe(api, queue, number) for number in range(12)]
    seen, path = [], f"{path_of(queue)}?limit=5"
    while found := (page := api.get(path).json())["subscriptions"]:
        seen += [each["id"] for each in found]
        path = page["links"][0]["href"]
    assert seen == ids


def test_what_the_queue_still_has_is_repeated(api, queue):
    post(api, queue, 1, 2)
    id_ = paused(api, queue)
    again = api.post(path_of(queue, id_, "/replay"), json={"all": True, "only": "delivered"})
    assert (again.status_code, again.json()) == (202, {"accepted": 2})
    waits(api, queue, id_, 2)


@pytest.mark.parametrize("metadata", [{"_enable_encrypt_messages": True}, {"_default_message_delay": 1}])
def test_queues_of_any_kind_have_subscriptions(api, queue, metadata):
    assert api.put(queue_path(queue), json=metadata).status_code == 201
    id_ = paused(api, queue)
    post(api, queue, 1)
    waits(api, queue, id_, 1)


def test_subscriptions_of_other_projects_are_not_seen(api, queue):
    id_ = subscribe(api, queue)
    other = {"X-Project-ID": f"project-{uuid.uuid4().hex}"}
    assert api.get(path_of(queue), headers=other).json()["subscriptions"] == []
    assert_error(api.get(path_of(queue, id_), headers=other), 404)
    assert api.delete(path_of(queue, id_), headers=other).status_code == 204
    assert api.get(path_of(queue, id_)).status_code == 200
