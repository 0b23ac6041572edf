"""Queues with `_fifo`: a group is handed out in order, to one claim at a time."""

import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import pytest

from functional.api.helpers import (
    assert_error,
    bodies,
    claim,
    create,
    delete_message,
    ids,
    listed,
    messages_path,
    metadata_of,
    patch_metadata,
    pop,
    post_documents,
    queue_path,
    release,
    walk,
)

FIFO = "_fifo"


@pytest.fixture
def fifo(api, queue):
    """A queue whose groups are kept in order."""
    create(api, queue, **{FIFO: True})
    return queue


def put(api, queue, *names, **fields):
    """Post messages with these names as bodies; the part before the dash is the group. Their ids."""
    return post_documents(
        api, queue, *({"body": name, "group": name.partition("-")[0], **fields} for name in names)
    )


def finish(api, queue, claim_id, messages):
    for message in messages:
        assert delete_message(api, queue, message["id"], claim_id=claim_id).status_code == 204


def test_group_is_handed_out_to_one_claim_at_a_time(api, fifo):
    put(api, fifo, "a-1", "a-2", "b-1", "a-3")
    first, messages = claim(api, fifo, limit=1)
    assert bodies(messages) == ["a-1"]

    other, others = claim(api, fifo, limit=20)
    assert bodies(others) == ["b-1"]
    assert pop(api, fifo, 10) == []
    assert claim(api, fifo, limit=20) == (None, [])

    finish(api, fifo, first, messages)
    assert bodies(claim(api, fifo, limit=20)[1]) == ["a-2", "a-3"]


def test_released_messages_come_before_those_after_them(api, fifo):
    put(api, fifo, "a-1", "a-2")
    claim_id, _ = claim(api, fifo, limit=1)
    put(api, fifo, "a-3", "b-1")
    release(api, fifo, claim_id)

    assert bodies(claim(api, fifo, limit=20)[1]) == ["a-1", "a-2", "a-3", "b-1"]


def test_messages_without_a_group_are_one_group(api, fifo):
    post_documents(api, fifo, {"body": 1}, {"body": 2}, {"body": 3})
    assert bodies(claim(api, fifo, limit=2)[1]) == [1, 2]
    assert claim(api, fifo) == (None, [])


def test_pop_follows_the_order(api, fifo):
    put(api, fifo, "a-1", "b-1", "a-2")
    claim_id, _ = claim(api, fifo, limit=1)
    assert bodies(pop(api, fifo, 10)) == ["b-1"]
    release(api, fifo, claim_id)
    assert bodies(pop(api, fifo, 1)) == ["a-1"]
    assert bodies(pop(api, fifo, 10)) == ["a-2"]


def test_delayed_message_delays_its_group(api, fifo):
    put(api, fifo, "a-1")
    put(api, fifo, "a-2", delay=2)
    put(api, fifo, "a-3", "b-1")
    claim_id, messages = claim(api, fifo, limit=20)
    assert bodies(messages) == ["a-1", "b-1"]
    finish(api, fifo, claim_id, messages)
    assert pop(api, fifo, 10) == []
    time.sleep(2.1)
    assert bodies(pop(api, fifo, 10)) == ["a-2", "a-3"]


def test_list_is_in_order_and_shows_groups(api, fifo):
    names = [f"{group}-{number}" for number in range(8) for group in "abc"]
    for name in names:
        put(api, fifo, name)
    claim(api, fifo, limit=1)
    pages = walk(api, f"{messages_path(fifo)}?echo=true&include_claimed=true&limit=5", "messages")
    messages = [message for page in pages for message in page]
    assert bodies(messages) == names
    assert [message["group"] for message in messages] == [name[0] for name in names]


def test_message_is_found_and_deleted_where_it_waits(api, fifo):
    first, second, third = put(api, fifo, "a-1", "a-2", "a-3")
    assert api.get(f"{messages_path(fifo)}/{third}").json()["body"] == "a-3"
    assert delete_message(api, fifo, first).status_code == 204
    assert bodies(claim(api, fifo, limit=1)[1]) == ["a-2"]
    assert ids(listed(api, fifo)) == [third]


def test_dead_letters_keep_their_group_and_its_order(api, queue):
    letters = f"{queue}-letters"
    create(api, letters, **{FIFO: True})
    create(api, queue, **{FIFO: True}, _max_claim_count=1, _dead_letter_queue=letters)
    put(api, queue, "a-1", "a-2", "a-3")
    claim_id, _ = claim(api, queue, limit=2)
    release(api, queue, claim_id)
    assert bodies(claim(api, queue, limit=20)[1]) == ["a-3"]
    messages = listed(api, letters)
    assert [(message["body"], message["group"]) for message in messages] == [("a-1", "a"), ("a-2", "a")]
    assert bodies(claim(api, letters, limit=1)[1]) == ["a-1"]
    assert claim(api, letters) == (None, [])


def test_many_clients_get_each_group_in_order(api, fifo):
    groups, total = "abcdef", 20
    got, held, mistakes, lock = defaultdict(list), {}, [], threading.Lock()

    def produce(group):
        client = api.other_client()
        for number in range(total):
            put(client, fifo, f"{group}-{number}")

    def consume(_):
        client = api.other_client()
        until = time.monotonic() + 60
        while sum(map(len, got.values())) < total * len(groups) and time.monotonic() < until:
            claim_id, messages = claim(client, fifo, limit=3)
            with lock:
                for message in messages:
                    group, number = message["body"].split("-")
                    if held.setdefault(group, claim_id) != claim_id:
                        mistakes.append(message)
                    got[group].append(int(number))
            with lock:
                for message in messages:
                    held.pop(message["body"][0], None)
            finish(client, fifo, claim_id, messages)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda call: call[0](call[1]), [(produce, group) for group in groups] + [(consume, 0)] * 4))
    assert mistakes == []
    assert got == {group: list(range(total)) for group in groups}


def test_fifo_is_shown_and_cannot_be_changed(api, queue):
    plain = f"{queue}-plain"
    create(api, plain)
    create(api, queue, **{FIFO: True}, color="red")
    assert (metadata_of(api, plain)[FIFO], metadata_of(api, queue)[FIFO]) == (False, True)
    for name, value in ((plain, True), (queue, False)):
        assert_error(api.put(queue_path(name), json={FIFO: value}), 409)
        operation = {"op": "replace", "path": f"/metadata/{FIFO}", "value": value}
        assert_error(patch_metadata(api, name, operation), 409)
    assert_error(api.put(queue_path(queue), json={"color": "blue"}), 409)
    assert api.put(queue_path(queue), json={FIFO: True, "color": "blue"}).status_code == 204
    assert api.put(queue_path(queue)).status_code == 204
    assert metadata_of(api, queue)["color"] == "blue"


@pytest.mark.parametrize("value", [1, "true", []], ids=repr)
def test_fifo_is_a_boolean(api, queue, value):
    assert_error(api.put(queue_path(queue), json={FIFO: value}), 400, "Invalid metadata")


def test_queue_of_others_cannot_be_kept_in_order(api, queue):
    answer = api.put(queue_path(queue), json={FIFO: True, "_bridge": {"source": {"queue": "theirs"}}})
    assert_error(answer, 400, "Invalid metadata")


def test_queue_that_is_created_again_begins_anew(api, fifo):
    put(api, fifo, "a-1")
    claim(api, fifo)
    assert api.delete(queue_path(fifo)).status_code == 204
    create(api, fifo, **{FIFO: True})
    put(api, fifo, "a-2")
    assert bodies(claim(api, fifo)[1]) == ["a-2"]
