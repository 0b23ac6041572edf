"""Order: what one producer posts is claimed, listed and popped in the order it was posted."""

from concurrent.futures import ThreadPoolExecutor

from functional.api.helpers import (
    bodies,
    claim,
    delete_message,
    listed,
    messages_path,
    pop,
    post,
    release,
    walk,
)

#: Enough single posts to be spread over all workers of a deployment.
POSTS = 24


def post_one_by_one(api, queue, count=POSTS):
    return [post(api, queue, index)[0] for index in range(count)]


def claim_all(api, queue, limit):
    claimed = []
    while messages := claim(api, queue, limit=limit)[1]:
        claimed += bodies(messages)
    return claimed


def pop_all(api, queue, count):
    popped = []
    while messages := pop(api, queue, count):
        popped += bodies(messages)
    return popped


def list_all(api, queue, limit):
    pages = walk(api, f"{messages_path(queue)}?echo=true&limit={limit}", "messages")
    return [body for messages in pages for body in bodies(messages)]


def test_single_posts_are_claimed_in_order(api, queue):
    post_one_by_one(api, queue)

    assert claim_all(api, queue, limit=5) == list(range(POSTS))


def test_single_posts_are_claimed_in_order_one_by_one(api, queue):
    post_one_by_one(api, queue, 8)

    assert claim_all(api, queue, limit=1) == list(range(8))


def test_single_posts_are_listed_in_order(api, queue):
    post_one_by_one(api, queue)

    assert list_all(api, queue, limit=7) == list(range(POSTS))


def test_single_posts_are_popped_in_order(api, queue):
    post_one_by_one(api, queue)

    assert pop_all(api, queue, count=5) == list(range(POSTS))


def test_batches_are_claimed_in_order(api, queue):
    for start in range(0, 60, 20):
        post(api, queue, *range(start, start + 20))

    assert claim_all(api, queue, limit=7) == list(range(60))


def test_batches_are_listed_and_popped_in_order(api, queue):
    for start in range(0, 60, 20):
        post(api, queue, *range(start, start + 20))

    assert list_all(api, queue, limit=20) == list(range(60))
    assert pop_all(api, queue, count=20) == list(range(60))


def test_claims_listings_and_pops_share_one_order(api, queue):
    post(api, queue, *range(12))

    assert bodies(listed(api, queue, limit=3)) == [0, 1, 2]
    assert bodies(claim(api, queue, limit=2)[1]) == [0, 1]
    assert bodies(pop(api, queue, 2)) == [2, 3]
    assert bodies(listed(api, queue, limit=2)) == [4, 5]
    assert bodies(pop(api, queue, 4)) == [4, 5, 6, 7]
    assert bodies(claim(api, queue, limit=10)[1]) == [8, 9, 10, 11]


def test_released_messages_come_before_newer_ones(api, queue):
    post(api, queue, *range(6))
    claim_id, _ = claim(api, queue, limit=3)
    release(api, queue, claim_id)

    assert claim_all(api, queue, limit=2) == list(range(6))


def test_released_messages_keep_their_place_in_a_listing(api, queue):
    post(api, queue, *range(6))
    claim_id, _ = claim(api, queue, limit=3)
    assert bodies(listed(api, queue)) == [3, 4, 5]

    release(api, queue, claim_id)

    assert bodies(listed(api, queue)) == list(range(6))


def test_message_released_from_the_middle_keeps_its_place(api, queue):
    posted = post(api, queue, *range(4))
    first, _ = claim(api, queue, limit=2)
    second, _ = claim(api, queue, limit=2)
    delete_message(api, queue, posted[1], claim_id=first)

    release(api, queue, second)
    release(api, queue, first)

    assert bodies(claim(api, queue)[1]) == [0, 2, 3]


def test_listing_between_the_posts_changes_no_order(api, queue):
    for index in range(10):
        post(api, queue, index)
        if index % 3 == 0:
            listed(api, queue, limit=2)

    assert claim_all(api, queue, limit=4) == list(range(10))


def test_each_producer_keeps_its_own_order(api, queue):
    producers, count = 4, 12

    def produce(number):
        client = api.other_client()
        for index in range(count):
            post(client, queue, [number, index])

    with ThreadPoolExecutor(producers) as pool:
        list(pool.map(produce, range(producers)))
    seen = list_all(api, queue, limit=20)
    claimed = claim_all(api, queue, limit=10)

    assert len(claimed) == producers * count
    for number in range(producers):
        assert [index for producer, index in seen if producer == number] == list(range(count))
        assert [index for producer, index in claimed if producer == number] == list(range(count))


def test_consumers_that_share_a_queue_get_each_message_once_and_in_order(api, queue):
    consumers, total = 4, 60
    for start in range(0, total, 20):
        post(api, queue, *range(start, start + 20))

    def consume(_):
        client, taken = api.other_client(), []
        while messages := pop(client, queue, 3):
            taken += bodies(messages)
        return taken

    with ThreadPoolExecutor(consumers) as pool:
        shares = list(pool.map(consume, range(consumers)))

    assert sorted(body for share in shares for body in share) == list(range(total))
    assert all(share == sorted(share) for share in shares)


def test_listers_in_parallel_miss_nothing_and_see_nothing_twice(api, queue):
    total = 40
    for start in range(0, total, 20):
        post(api, queue, *range(start, start + 20))

    with ThreadPoolExecutor(4) as pool:
        walks = list(pool.map(lambda _: list_all(api.other_client(), queue, limit=3), range(4)))

    assert walks == [list(range(total))] * 4
