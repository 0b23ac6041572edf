"""Rule 4: messages of one producer are claimed, listed and popped in the order posted, through any gateway."""

import threading

import pytest

from functional.api.helpers import bodies, claim, create, pop, post, release
from functional.http import Api

LETTERS = 300


@pytest.fixture
def turns(pair, api):
    """The same client at one gateway and then at the other, endlessly."""

    def alternate():
        while True:
            for gateway in pair:
                yield api.at(gateway.url)

    return alternate()


def post_in_turns(turns, queue):
    for number in range(0, LETTERS, 3):
        post(next(turns), queue, number, number + 1, number + 2)


def test_claims_through_two_gateways_follow_the_order_of_posts(turns, queue):
    post_in_turns(turns, queue)

    got = []
    while messages := claim(next(turns), queue, limit=7)[1]:
        got += bodies(messages)

    assert got == list(range(LETTERS))


def test_pops_through_two_gateways_follow_the_order_of_posts(turns, queue):
    post_in_turns(turns, queue)

    got = []
    while messages := pop(next(turns), queue, 7):
        got += bodies(messages)

    assert got == list(range(LETTERS))


def test_list_through_two_gateways_follows_the_order_of_posts(turns, queue):
    post_in_turns(turns, queue)

    got, path = [], f"/v2/queues/{queue}/messages?echo=true&limit=7"
    while path:
        page = next(turns).get(path).json()
        got += bodies(page["messages"])
        path = page["links"][0]["href"] if page["links"] else None

    assert got == list(range(LETTERS))


def test_claimer_sees_no_message_behind_one_that_a_lister_is_landing(pair, turns, queue):
    """Listers land from the front of the queue at one gateway, while one claimer takes from the other."""
    post_in_turns(turns, queue)
    client = next(turns)
    stop = threading.Event()

    def list_again_and_again() -> None:
        lister = Api(pair[0].url, client.project)
        path = start = f"/v2/queues/{queue}/messages?limit=5"
        while not stop.is_set():
            page = lister.get(path).json()
            path = page["links"][0]["href"] if page["links"] else start

    listers = [threading.Thread(target=list_again_and_again) for _ in range(3)]
    for lister in listers:
        lister.start()
    got = []
    while messages := claim(client.at(pair[1].url), queue, limit=4)[1]:
        got += bodies(messages)
    stop.set()
    for lister in listers:
        lister.join()

    assert got == list(range(LETTERS))


def test_released_messages_go_before_the_backlog(turns, queue):
    create(next(turns), queue)
    post(next(turns), queue, *range(6))
    claim_id, _ = claim(next(turns), queue, limit=3)

    release(next(turns), queue, claim_id)

    assert bodies(claim(next(turns), queue, limit=6)[1]) == list(range(6))
