"""`_max_claim_count`: what has been claimed too often goes to the dead letter queue."""

import pytest

from functional.api.helpers import (
    bodies,
    claim,
    create,
    delete_message,
    eventually,
    ids,
    listed,
    metadata_of,
    patch_metadata,
    pop,
    post,
    queue_path,
    release,
)

DEAD_TTL = 7200


@pytest.fixture
def dead(queue):
    return f"{queue}-dead"


def limited(api, queue, dead, count, **metadata):
    create(
        api,
        queue,
        _max_claim_count=count,
        _dead_letter_queue=dead,
        _dead_letter_queue_messages_ttl=DEAD_TTL,
        **metadata,
    )


def claim_and_release(api, queue, limit=20):
    claim_id, messages = claim(api, queue, limit=limit)
    release(api, queue, claim_id)
    return bodies(messages)


@pytest.mark.parametrize("count", [1, 3])
def test_message_is_claimed_as_often_as_allowed(api, queue, dead, count):
    limited(api, queue, dead, count)
    post(api, queue, "poison")

    claimed = [claim_and_release(api, queue) for _ in range(count)]

    assert claimed == [["poison"]] * count
    assert claim(api, queue) == (None, [])


@pytest.mark.parametrize("made", [True, False], ids=["existing", "new"])
def test_message_claimed_too_often_goes_to_the_dead_letter_queue(api, queue, dead, made):
    if made:
        create(api, dead)
    limited(api, queue, dead, 1)
    post(api, queue, {"poison": ["\u00fc", 1]}, ttl=100)
    claim_and_release(api, queue)

    assert claim(api, queue) == (None, [])

    (message,) = eventually(lambda: listed(api, dead))
    assert message["body"] == {"poison": ["\u00fc", 1]}
    assert message["ttl"] == DEAD_TTL
    assert listed(api, queue, include_claimed="true") == []


def test_dead_letter_is_there_once(api, queue, dead):
    limited(api, queue, dead, 1)
    post(api, queue, "poison")
    claim_and_release(api, queue)

    for _ in range(3):
        assert claim(api, queue) == (None, [])

    eventually(lambda: len(listed(api, dead)) == 1)
    assert bodies(pop(api, dead, 5)) == ["poison"]
    assert pop(api, dead, 5) == []


def test_dead_letter_can_be_claimed_and_deleted(api, queue, dead):
    limited(api, queue, dead, 1)
    post(api, queue, "poison")
    claim_and_release(api, queue)
    claim(api, queue)

    claim_id, (message,) = eventually(lambda: (found := claim(api, dead))[0] and found)

    assert message["body"] == "poison"
    assert delete_message(api, dead, message["id"], claim_id=claim_id).status_code == 204
    assert listed(api, dead, include_claimed="true") == []


def test_messages_within_their_limit_are_claimed_past_the_dead_ones(api, queue, dead):
    limited(api, queue, dead, 1)
    post(api, queue, "poison", "good", "better")
    claim_and_release(api, queue, limit=1)

    _, messages = claim(api, queue)

    assert bodies(messages) == ["good", "better"]
    eventually(lambda: bodies(listed(api, dead)) == ["poison"])


def test_full_page_of_dead_letters_does_not_hide_what_follows(api, queue, dead):
    limited(api, queue, dead, 1)
    post(api, queue, *range(20))
    claim_and_release(api, queue)
    post(api, queue, "good")

    claimed = eventually(lambda: claim(api, queue)[1])

    assert bodies(claimed) == ["good"]
    eventually(lambda: sorted(bodies(listed(api, dead))) == list(range(20)))


def test_message_deleted_in_its_last_claim_is_no_dead_letter(api, queue, dead):
    limited(api, queue, dead, 1)
    (posted,) = post(api, queue, "done")
    claim_id, _ = claim(api, queue)

    delete_message(api, queue, posted, claim_id=claim_id)
    release(api, queue, claim_id)

    assert claim(api, queue) == (None, [])
    assert listed(api, dead) == []


def test_message_held_by_its_last_claim_is_no_dead_letter(api, queue, dead):
    limited(api, queue, dead, 1)
    post(api, queue, "held")
    claim(api, queue)

    assert claim(api, queue) == (None, [])
    assert listed(api, dead) == []
    assert bodies(listed(api, queue, include_claimed="true")) == ["held"]


def test_renewal_is_not_another_claim(api, queue, dead):
    limited(api, queue, dead, 2)
    post(api, queue, "slow")
    claim_id, _ = claim(api, queue)
    for _ in range(3):
        assert api.patch(f"{queue_path(queue)}/claims/{claim_id}", json={"ttl": 300}).status_code == 204
    release(api, queue, claim_id)

    assert bodies(claim(api, queue)[1]) == ["slow"]


def test_queue_without_a_limit_gives_a_message_again_and_again(api, queue):
    (posted,) = post(api, queue, "again")

    for _ in range(12):
        claim_id, messages = claim(api, queue)
        assert ids(messages) == [posted]
        release(api, queue, claim_id)


def test_limit_set_later_counts_earlier_claims(api, queue, dead):
    post(api, queue, "poison")
    claim_and_release(api, queue)
    claim_and_release(api, queue)

    response = patch_metadata(
        api,
        queue,
        {"op": "add", "path": "/metadata/_max_claim_count", "value": 1},
        {"op": "add", "path": "/metadata/_dead_letter_queue", "value": dead},
    )
    assert response.status_code == 200, response.text

    eventually(lambda: metadata_of(api, queue)["_max_claim_count"] == 1)
    eventually(lambda: claim_and_release_if_any(api, queue) == [] and bodies(listed(api, dead)) == ["poison"])


def claim_and_release_if_any(api, queue):
    claim_id, messages = claim(api, queue)
    if claim_id is not None:
        release(api, queue, claim_id)
    return bodies(messages)
