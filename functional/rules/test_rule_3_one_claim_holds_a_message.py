"""Rule 3: two live claims never hold the same message, whatever number of gateways and threads claim at once."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from functional.api.helpers import create, post
from functional.http import Api

MESSAGES = 5_000
CLAIMERS_EACH = 8


def drain(url, project, queue, limit):
    """Claim till there is nothing left; the ids that were handed out."""
    client = Api(url, project)
    got = []
    while True:
        answer = client.post(f"/v2/queues/{queue}/claims?limit={limit}", json={"ttl": 300, "grace": 60})
        if answer.status_code == 204:
            return got
        assert answer.status_code == 201, answer.text
        got += [message["id"] for message in answer.json()["messages"]]


@pytest.mark.timeout(300)
def test_two_gateways_with_eight_claimers_each_hand_out_every_message_once(pair, api, queue):
    create(api, queue)
    with ThreadPoolExecutor(8) as pool:
        batches = pool.map(lambda start: post(api, queue, *range(start, start + 20)), range(0, MESSAGES, 20))
        posted = [id_ for batch in batches for id_ in batch]

    with ThreadPoolExecutor(2 * CLAIMERS_EACH) as pool:
        claimers = [
            pool.submit(drain, gateway.url, api.project, queue, 1 + number)
            for gateway in pair for number in range(CLAIMERS_EACH)
        ]
        handed_out = Counter(id_ for claimer in claimers for id_ in claimer.result())

    assert [id_ for id_, times in handed_out.items() if times > 1] == []
    assert set(handed_out) == set(posted)


def test_claimers_of_landed_messages_get_each_once(pair, api, queue):
    """The same race on messages that are in the side-store already."""
    posted = [id_ for start in range(0, 200, 20) for id_ in post(api, queue, *range(start, start + 20))]
    path = f"/v2/queues/{queue}/messages?limit=20"
    while path:
        page = api.other_client().get(path).json()
        path = page["links"][0]["href"] if page["links"] else None

    with ThreadPoolExecutor(2 * CLAIMERS_EACH) as pool:
        claimers = [
            pool.submit(drain, gateway.url, api.project, queue, 7)
            for gateway in pair for _ in range(CLAIMERS_EACH)
        ]
        handed_out = Counter(id_ for claimer in claimers for id_ in claimer.result())

    assert handed_out == Counter(posted)
