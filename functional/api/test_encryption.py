"""`_enable_encrypt_messages`: what clients see is the same, whatever is kept at rest."""

import pytest

from functional.api.helpers import (
    MAX_PAGE,
    bodies,
    claim,
    create,
    delete_message,
    eventually,
    get_claim,
    get_message,
    listed,
    messages_path,
    metadata_of,
    patch_metadata,
    pop,
    post,
    release,
)

BODIES = [
    None,
    0,
    1.5,
    True,
    "",
    "text",
    "\u00fcn\u00efc\u00f6d\u00e9 \U0001f600 \u0000",
    [],
    [1, [2, None]],
    {},
    {"event": {"nested": [{"a.b": "$c"}]}},
    "x" * 1000,
]


@pytest.fixture
def encrypted(api, queue):
    create(api, queue, _enable_encrypt_messages=True)
    return queue


def switch_encryption(api, queue, value):
    operation = {"op": "replace", "path": "/metadata/_enable_encrypt_messages", "value": value}
    response = patch_metadata(api, queue, operation)
    assert response.status_code == 200, response.text
    eventually(lambda: metadata_of(api, queue)["_enable_encrypt_messages"] is value)


def test_queue_shows_that_it_encrypts(api, encrypted):
    assert metadata_of(api, encrypted)["_enable_encrypt_messages"] is True


def test_encrypted_bodies_are_listed_in_the_clear(api, encrypted):
    post(api, encrypted, *BODIES)

    assert bodies(listed(api, encrypted)) == BODIES


def test_encrypted_bodies_are_claimed_in_the_clear(api, encrypted):
    post(api, encrypted, *BODIES)

    claim_id, messages = claim(api, encrypted)

    assert bodies(messages) == BODIES
    assert bodies(get_claim(api, encrypted, claim_id).json()["messages"]) == BODIES
    assert delete_message(api, encrypted, messages[0]["id"], claim_id=claim_id).status_code == 204


def test_encrypted_bodies_survive_a_release(api, encrypted):
    post(api, encrypted, *BODIES)
    claim_id, _ = claim(api, encrypted)
    release(api, encrypted, claim_id)

    assert bodies(claim(api, encrypted)[1]) == BODIES


def test_encrypted_bodies_are_found_by_id_in_the_clear(api, encrypted):
    posted = post(api, encrypted, *BODIES)

    alone = [get_message(api, encrypted, message_id).json()["body"] for message_id in posted]
    together = api.get(messages_path(encrypted), params={"ids": ",".join(posted)}).json()["messages"]

    assert alone == BODIES
    assert {message["id"]: message["body"] for message in together} == dict(zip(posted, BODIES, strict=True))


def test_encrypted_bodies_are_popped_in_the_clear(api, encrypted):
    post(api, encrypted, *BODIES)

    assert bodies(pop(api, encrypted, MAX_PAGE)) == BODIES


def test_encrypted_dead_letter_is_read_in_the_clear(api, queue):
    dead = f"{queue}-dead"
    create(api, queue, _enable_encrypt_messages=True, _max_claim_count=1, _dead_letter_queue=dead)
    post(api, queue, {"poison": 1})
    claim_id, _ = claim(api, queue)
    release(api, queue, claim_id)

    assert claim(api, queue) == (None, [])

    eventually(lambda: bodies(listed(api, dead)) == [{"poison": 1}])


def test_large_encrypted_body_comes_back(api, encrypted):
    body = {"text": "x" * 200_000}

    post(api, encrypted, body)

    assert bodies(listed(api, encrypted)) == [body]
    assert bodies(pop(api, encrypted, 1)) == [body]


def test_messages_from_before_encryption_stay_readable(api, queue):
    create(api, queue)
    post(api, queue, "plain")
    switch_encryption(api, queue, True)
    post(api, queue, "secret")

    assert bodies(listed(api, queue)) == ["plain", "secret"]
    assert bodies(pop(api, queue, 2)) == ["plain", "secret"]


def test_encrypted_messages_stay_readable_after_it_is_switched_off(api, encrypted):
    post(api, encrypted, "secret")
    switch_encryption(api, encrypted, False)
    post(api, encrypted, "plain")

    assert bodies(listed(api, encrypted)) == ["secret", "plain"]
    assert bodies(pop(api, encrypted, 2)) == ["secret", "plain"]


def test_two_equal_secrets_are_two_messages(api, encrypted):
    first, second = post(api, encrypted, "same", "same")

    assert first != second
    assert bodies(listed(api, encrypted)) == ["same", "same"]
