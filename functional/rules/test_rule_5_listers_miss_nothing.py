"""Rule 5: a lister that follows markers misses no message that was free during its walk, and sees none twice."""

import itertools
import threading
import time
from collections import Counter

from functional.api.helpers import create, id_of
from functional.http import Api

PRODUCERS = 4
CLAIMERS = 4
LISTERS = 4
POSTS_EACH = 60
BATCH = 5

#: Messages that each claimer takes for good: a good part, but not all.
CLAIMS_EACH = 150

#: Seconds for which a lister goes on asking for more after the producers have ended.
PATIENCE = 1.0


class Traffic:
    """Producers, claimers and listers on one queue, taking turns at two gateways."""

    def __init__(self, pair, project, queue):
        self.queue, self.project = queue, project
        self.urls = itertools.cycle([gateway.url for gateway in pair])
        self.posted: set[str] = set()
        self.claimed: set[str] = set()
        self.seen: list[list[str]] = [[] for _ in range(LISTERS)]
        self.produced = threading.Event()

    def client(self):
        return Api(next(self.urls), self.project)

    def produce(self):
        client = self.client()
        for _ in range(POSTS_EACH):
            answer = client.post(
                f"/v2/queues/{self.queue}/messages", json={"messages": [{"body": n} for n in range(BATCH)]}
            )
            assert answer.status_code == 201, answer.text
            self.posted.update(id_of(href) for href in answer.json()["resources"])

    def claim(self):
        client = self.client()
        taken = 0
        while taken < CLAIMS_EACH:
            answer = client.post(f"/v2/queues/{self.queue}/claims?limit=5", json={"ttl": 300, "grace": 60})
            assert answer.status_code in (201, 204), answer.text
            for message in answer.json()["messages"] if answer.status_code == 201 else []:
                self.claimed.add(message["id"])
                taken += 1
                assert client.delete(message["href"]).status_code == 204

    def walk(self, number):
        client = self.client()
        path = f"/v2/queues/{self.queue}/messages?limit={3 + number}"
        end = None
        while end is None or time.monotonic() < end:
            answer = client.get(path)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            self.seen[number] += [message["id"] for message in page["messages"]]
            if page["links"]:
                path = page["links"][0]["href"]
            elif end is None and self.produced.is_set():
                end = time.monotonic() + PATIENCE


def test_listers_miss_nothing_and_see_nothing_twice_under_load(pair, api, queue):
    create(api, queue)
    traffic = Traffic(pair, api.project, queue)
    errors: list[BaseException] = []

    def run(work, *arguments):
        try:
            work(*arguments)
        except BaseException as error:  # an assertion of a thread is the test's
            errors.append(error)

    producers = [threading.Thread(target=run, args=(traffic.produce,)) for _ in range(PRODUCERS)]
    others = [threading.Thread(target=run, args=(traffic.claim,)) for _ in range(CLAIMERS)]
    others += [threading.Thread(target=run, args=(traffic.walk, number)) for number in range(LISTERS)]
    for thread in producers + others:
        thread.start()
    for thread in producers:
        thread.join()
    traffic.produced.set()
    for thread in others:
        thread.join()

    assert errors == []
    free_all_the_time = traffic.posted - traffic.claimed
    assert free_all_the_time, "the claimers have left nothing to list"
    for seen in traffic.seen:
        assert free_all_the_time - set(seen) == set()
        assert [id_ for id_, times in Counter(seen).items() if times > 1] == []
