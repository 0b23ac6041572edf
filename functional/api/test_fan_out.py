"""Queues that subscribe to other queues, on every broker and side-store."""

import time
import uuid

import pytest

from functional.api.helpers import (
    assert_error,
    claim,
    create,
    delete_message,
    eventually,
    get_message,
    listed,
    pop,
    post,
    queue_path,
)


@pytest.fixture
def target():
    """A queue name that nobody has used."""
    return f"target-{uuid.uuid4().hex[:12]}"


def lead(api, queue, target):
    answer = api.post(f"{queue_path(queue)}/subscriptions", json={"subscriber": f"marconi:{target}"})
    assert answer.status_code == 201, answer.text
    return answer.json()["subscription_id"]


def bodies(messages):
    return [message["body"] for message in messages]


def arrives(api, queue, *expected):
    """Wait until a queue has these messages, and see that no others come."""
    eventually(lambda: sorted(bodies(listed(api, queue)), key=str) == sorted(expected, key=str))
    time.sleep(0.2)
    assert sorted(bodies(listed(api, queue)), key=str) == sorted(expected, key=str)


def test_target_has_messages_of_its_own_from_the_answer_on(api, queue, target):
    post(api, queue, "before")
    lead(api, queue, target)

    first, second, third = post(api, queue, 1, 2, 3, ttl=600)
    assert bodies(claim(api, target, limit=2)[1]) == [1, 2]
    assert bodies(pop(api, target, 1)) == [3]

    assert bodies(listed(api, queue)) == ["before", 1, 2, 3]
    assert delete_message(api, queue, second).status_code == 204
    shown = get_message(api, target, second)
    assert (shown.status_code, shown.json()["ttl"]) == (200, 600)
    assert get_message(api, queue, second).status_code == 404
    assert get_message(api, target, third).status_code == 404
    assert get_message(api, queue, third).status_code == get_message(api, queue, first).status_code == 200


def test_one_that_was_deleted_in_one_queue_before_it_landed_is_in_the_other(api, queue, target):
    lead(api, queue, target)
    (id_,) = post(api, queue, 1)
    assert delete_message(api, target, id_).status_code == 204
    assert listed(api, target) == []
    assert bodies(listed(api, queue)) == [1]


def test_delayed_message_is_delayed_in_both(api, queue, target):
    lead(api, queue, target)
    post(api, queue, "later", delay=2)
    assert listed(api, queue) == listed(api, target) == []
    arrives(api, target, "later")
    arrives(api, queue, "later")


def test_copies_go_one_way_and_one_hop(api, queue, target):
    third = f"{target}-3"
    lead(api, queue, target)
    lead(api, target, third)
    lead(api, target, queue)
    post(api, queue, "q")
    post(api, target, "t")
    arrives(api, queue, "q", "t")
    arrives(api, target, "q", "t")
    arrives(api, third, "t")


def test_end_of_the_subscription_leaves_the_target_as_it_is(api, queue, target):
    id_ = lead(api, queue, target)
    post(api, queue, 1)
    assert api.delete(f"{queue_path(queue)}/subscriptions/{id_}").status_code == 204
    post(api, queue, 2)
    post(api, target, 3)
    arrives(api, target, 1, 3)
    arrives(api, queue, 1, 2)


@pytest.mark.parametrize("order", ["source first", "target first"])
def test_queues_that_are_created_again_are_joined_again(api, queue, target, order):
    lead(api, queue, target)
    post(api, queue, 1)
    names = (queue, target) if order == "source first" else (target, queue)
    for name in names:
        assert api.delete(queue_path(name)).status_code == 204
    for name in names:
        create(api, name)
    post(api, queue, 2)
    post(api, queue, 3, delay=1)
    arrives(api, target, 2, 3)


def test_target_that_is_gone_gets_nothing_and_is_led_into_when_it_comes_again(api, queue, target):
    lead(api, queue, target)
    assert api.delete(queue_path(target)).status_code == 204
    post(api, queue, 1)
    assert api.head(queue_path(target)).status_code == 404
    post(api, target, "own")
    post(api, queue, 2)
    arrives(api, target, "own", 2)
    arrives(api, queue, 1, 2)


def test_encrypted_message_can_be_read_in_the_target(api, queue, target):
    create(api, queue, _enable_encrypt_messages=True)
    lead(api, queue, target)
    post(api, queue, {"secret": 1})
    assert bodies(listed(api, target)) == [{"secret": 1}]


def test_queue_is_not_its_own_subscriber(api, queue):
    answer = api.post(f"{queue_path(queue)}/subscriptions", json={"subscriber": f"marconi:{queue}"})
    assert_error(answer, 400)
    assert api.get(f"{queue_path(queue)}/subscriptions").json()["subscriptions"] == []
