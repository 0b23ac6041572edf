"""Topics, on every broker and side-store: what is posted is kept by their subscriptions alone."""

import uuid

import pytest

from functional.api.helpers import assert_error, eventually, listed, queue_path

#: A name that leads nowhere (RFC 6761, 6.4).
NOWHERE = "http://subscriber.invalid"


@pytest.fixture
def topic():
    """The path of a topic that nobody has used."""
    return f"/v2/topics/topic-{uuid.uuid4().hex[:12]}"


def post(api, topic, *bodies, **fields):
    answer = api.post(f"{topic}/messages", json={"messages": [{"body": body, **fields} for body in bodies]})
    assert answer.status_code == 201, answer.text
    return [href.rpartition("/")[2] for href in answer.json()["resources"]]


def subscribe(api, topic, subscriber):
    answer = api.post(f"{topic}/subscriptions", json={"subscriber": subscriber})
    assert answer.status_code == 201, answer.text
    return f"{topic}/subscriptions/{answer.json()['subscription_id']}"


def paused(api, topic, name="hook"):
    """A subscription that gets what is posted, and keeps it."""
    path = subscribe(api, topic, f"{NOWHERE}/{name}")
    assert api.put(f"{path}/state", json={"state": "paused"}).status_code == 204
    return path


def waits(api, subscription, count):
    eventually(lambda: api.get(f"{subscription}?detailed=true").json()["pending"] == count)


def test_topic_and_queue_of_one_name_are_two(api, queue):
    topic = f"/v2/topics/{queue}"
    assert api.put(topic, json={"kind": "topic"}).status_code == 201
    assert api.put(queue_path(queue), json={"kind": "queue"}).status_code == 201
    assert api.get(topic).json()["kind"] == "topic"
    assert [each["name"] for each in api.get("/v2/topics").json()["topics"]] == [queue]
    assert api.delete(topic).status_code == 204
    assert api.get(queue_path(queue)).json()["kind"] == "queue"
    assert api.get(topic).json() == {
        "_max_messages_post_size": 262144, "_default_message_ttl": 3600, "_default_message_delay": 0,
    }


@pytest.mark.parametrize("delay", [0, 1])
def test_what_is_posted_waits_for_the_subscriptions_and_is_nowhere_else(api, topic, delay):
    first = paused(api, topic)
    second = paused(api, topic, "other")
    (id_, *_) = post(api, topic, 1, 2, 3, delay=delay)
    waits(api, first, 3)
    waits(api, second, 3)
    assert api.get(f"{topic}/messages?echo=true&include_delayed=true").json() == {"messages": [], "links": []}
    assert_error(api.get(f"{topic}/messages/{id_}"), 404)
    assert api.get(f"{topic}/stats").json()["messages"] == {"claimed": 0, "free": 0, "total": 0}

    assert api.delete(first).status_code == 204
    post(api, topic, 4)
    waits(api, second, 4)


def test_topic_without_subscriptions_takes_messages(api, topic):
    post(api, topic, 1)
    post(api, topic, 2, delay=1)
    subscription = paused(api, topic)
    post(api, topic, 3)
    waits(api, subscription, 1)


def test_queue_that_subscribes_to_a_topic_gets_its_messages(api, topic, queue):
    subscription = subscribe(api, topic, f"marconi:{queue}")
    ids = post(api, topic, "a", "b") + post(api, topic, "c", delay=1)
    eventually(lambda: sorted(message["id"] for message in listed(api, queue)) == sorted(ids))
    assert api.delete(subscription).status_code == 204
    post(api, topic, "d")
    assert len(listed(api, queue)) == 3


def test_topic_that_is_created_again_serves_its_subscriptions(api, topic):
    subscription = paused(api, topic)
    post(api, topic, 1)
    assert api.delete(topic).status_code == 204
    post(api, topic, 2)
    waits(api, subscription, 2)
    assert api.post(f"{topic}/purge").status_code == 204
    assert_error(api.get(subscription), 404)
