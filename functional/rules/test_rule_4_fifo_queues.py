"""Rule 4 in queues with `_fifo`: through two gateways, of which one is killed or stopped now and then."""

import threading
import time
from collections import defaultdict

import pytest
import requests

from functional.api.helpers import bodies, claim, claims_path, create, delete_message, messages_path, post_documents
from functional.http import Api

GROUPS = "abcd"
EACH = 40

#: Seconds for which a gateway is stopped: longer than a landing lease lasts.
STOPPED = 12.0

#: Seconds for a call that is tried again.
PATIENCE = 150.0


class Clients:
    """Producers of some groups, and claimers that delete what they have seen, each at any gateway that answers."""

    def __init__(self, gateways, project, queue):
        self.gateways = gateways
        self.project = project
        self.queue = queue
        self.got = defaultdict(list)
        self.failed = []
        self._lock = threading.Lock()
        calls = [(self.produce, group) for group in GROUPS] + [(self.consume, number) for number in range(4)]
        self._threads = [threading.Thread(target=self._run, args=call) for call in calls]
        for thread in self._threads:
            thread.start()

    def join(self):
        for thread in self._threads:
            thread.join(PATIENCE + 30)

    def _run(self, call, which):
        try:
            call(which)
        except BaseException as error:
            self.failed.append(error)

    def _ask(self, first, method, path, **arguments):
        """The first answer that is neither a 503 nor a broken connection, of one gateway or the other."""
        until, turn = time.monotonic() + PATIENCE, first
        while True:
            turn += 1
            try:
                answer = Api(self.gateways[turn % 2].url, self.project).request(
                    method, path, timeout=5, **arguments
                )
                if answer.status_code != 503:
                    return answer
            except requests.RequestException:
                pass
            assert time.monotonic() < until, f"no answer to {method} {path}"
            time.sleep(0.1)

    def produce(self, group):
        for number in range(EACH):
            document = {"messages": [{"body": number, "group": group, "ttl": 600}]}
            answer = self._ask(
                number, "POST", messages_path(self.queue), json=document,
                headers={"Idempotency-Key": f"{group}-{number}"},
            )
            assert answer.status_code == 201, answer.text
            time.sleep(0.02)

    def consume(self, which):
        until = time.monotonic() + PATIENCE
        while sum(map(len, self.got.values())) < EACH * len(GROUPS) and time.monotonic() < until:
            which += 1
            # A claim whose answer is lost keeps its group until it ends, so the test has to wait for that.
            answer = self._ask(which, "POST", f"{claims_path(self.queue)}?limit=3", json={"ttl": 60, "grace": 60})
            if answer.status_code != 201:
                time.sleep(0.05)
                continue
            messages = answer.json()["messages"]
            with self._lock:
                for message in messages:
                    self.got[message["group"]].append(message["body"])
            for message in messages:
                deleted = self._ask(which, "DELETE", message["href"])
                assert deleted.status_code in (204, 400), deleted.text


@pytest.fixture
def fifo(api, queue):
    create(api, queue, _fifo=True)
    return queue


def in_order(numbers):
    """Each number once, in order; those that come again (an answer was lost) come before those after them."""
    highest = -1
    for number in numbers:
        if number > highest + 1:
            return False
        highest = max(highest, number)
    return highest == EACH - 1


def test_groups_are_handed_out_in_order_by_two_gateways(pair, api, fifo):
    clients = Clients(pair, api.project, fifo)
    clients.join()
    assert clients.failed == []
    assert clients.got == {group: list(range(EACH)) for group in GROUPS}


def test_order_is_kept_while_one_gateway_is_stopped_and_goes_on(pair, api, fifo):
    clients = Clients(pair, api.project, fifo)
    time.sleep(0.5)
    pair[0].pause()
    time.sleep(STOPPED)
    pair[0].resume()
    clients.join()
    assert clients.failed == []
    assert {group: in_order(numbers) for group, numbers in clients.got.items()} == dict.fromkeys(GROUPS, True)


def test_order_is_kept_when_a_gateway_is_killed(start_gateway, hybrid, pair, api, fifo):
    gateways = [pair[0], start_gateway(**hybrid)]
    clients = Clients(gateways, api.project, fifo)
    time.sleep(0.5)
    gateways[1].kill()
    gateways[1] = pair[1]
    clients.join()
    assert clients.failed == []
    assert {group: in_order(numbers) for group, numbers in clients.got.items()} == dict.fromkeys(GROUPS, True)


def test_released_messages_go_before_the_backlog_of_their_group(pair, api, fifo):
    other = Api(pair[1].url, api.project)
    post_documents(api, fifo, *({"body": number, "group": "a"} for number in range(5)))
    claim_id, messages = claim(other, fifo, limit=2)
    assert bodies(messages) == [0, 1]
    assert claim(api, fifo) == (None, [])
    assert delete_message(api, fifo, messages[0]["id"], claim_id=claim_id).status_code == 204
    assert api.delete(f"{claims_path(fifo)}/{claim_id}").status_code == 204
    assert bodies(claim(api, fifo, limit=9)[1]) == [1, 2, 3, 4]
