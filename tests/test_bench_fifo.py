"""`marconi bench --fifo`: groups of messages, cycles in which a claim may be empty, and turns that leave no claims."""

import json
import time
from collections import Counter
from itertools import islice

import pytest

from gateway.bench import workloads
from gateway.bench.client import EMPTY_PAUSE, ERROR_PAUSE, Client, Pause, Reply
from gateway.bench.driver import Driver, Task, Window
from gateway.bench.messages import messages
from gateway.bench.wire import Address
from gateway.bench.workloads import cycle, fill_queues, make_queues
from tests.queue_server import queue_server
from tests.test_bench_load import run


@pytest.fixture(autouse=True)
def no_settling(monkeypatch):
    monkeypatch.setattr("gateway.bench.rounds.SETTLE_TIME", 0.0)


@pytest.fixture
def server():
    with queue_server() as running:
        yield running


def client(index=0, count=1, batch=1, groups=1, dedup_ids=False, **more):
    return Client(index, count, "", b"Host: h\r\n", ("q",), batch, b'"b"', groups=groups, dedup_ids=dedup_ids, **more)


def some(client, number):
    return [json.loads(message) for message in islice(messages(client), number)]


def replied(items=(), ok=True):
    return Reply(ok, 200 if ok else 503, b"", items)


HELD = [{"href": "/v2/queues/q/messages/1?claim_id=c"}, {"href": "/v2/queues/q/messages/2?claim_id=c"}]


def test_messages_are_in_one_group_after_the_other():
    assert [message["group"] for message in some(client(groups=3), 7)] == ["0", "1", "2", "0", "1", "2", "0"]
    assert some(client(), 1) == [{"ttl": 3600, "group": "0", "body": "b"}]


def test_connections_begin_with_different_groups_and_each_uses_all():
    found = [[message["group"] for message in some(client(index, 4, groups=10), 10)] for index in range(4)]
    assert [groups[0] for groups in found] == ["0", "2", "5", "7"]
    assert all(len(set(groups)) == 10 for groups in found)


def test_dedup_ids_are_never_the_same():
    found = [message["dedup_id"] for index in (0, 0, 1) for message in some(client(index, 2, dedup_ids=True), 50)]
    assert len(set(found)) == 150
    assert all(0 < len(id_) <= 128 for id_ in found)


def test_ordinary_messages_have_neither_group_nor_dedup_id():
    assert some(client(groups=0, dedup_ids=True), 1) == [{"ttl": 3600, "body": "b"}]


@pytest.mark.parametrize(("groups", "metadata"), [(0, {}), (5, {"_fifo": True})])
def test_queues_are_made_as_asked(groups, metadata):
    (request,) = make_queues(client(groups=groups))
    assert json.loads(request.data.partition(b"\r\n\r\n")[2]) == metadata


def test_filling_goes_on_with_the_next_group():
    steps = fill_queues(client(groups=30, amount=45))
    requests = [next(steps), steps.send(replied()), steps.send(replied())]
    found = [
        message["group"] for request in requests
        for message in json.loads(request.data.partition(b"\r\n\r\n")[2])["messages"]
    ]
    assert found == [str(number % 30) for number in range(45)]


def test_cycle_whose_claim_is_empty_waits_and_posts_no_more_before_it_has_taken_a_batch():
    steps = cycle(client(batch=2))
    assert [next(steps).kind, steps.send(replied()).kind] == ["post", "claim"]
    assert steps.send(replied()) == Pause(EMPTY_PAUSE)
    assert steps.send(None).kind == "claim"
    assert [steps.send(replied(HELD)).kind, steps.send(replied()).kind, steps.send(replied()).kind] == [
        "delete", "delete", "post",
    ]


def test_cycle_that_took_the_messages_of_others_leaves_them_its_own():
    steps = cycle(client())
    next(steps)
    steps.send(replied())
    steps.send(replied(HELD))
    steps.send(replied())
    assert [steps.send(replied()).kind, steps.send(replied()).kind] == ["post", "claim"]


@pytest.mark.parametrize("replies", [[False, True], [True, False]])
def test_error_in_a_cycle_is_followed_by_a_pause(replies):
    steps = cycle(client())
    next(steps)
    assert steps.send(replied(ok=replies[0])).kind == "claim"
    assert steps.send(replied(ok=replies[1])) == Pause(ERROR_PAUSE)


@pytest.mark.parametrize("job", [workloads.cycle, workloads.claim_and_delete])
def test_turn_leaves_no_claim_that_would_block_a_group(server, job):
    server.fifo.add("q")
    server.messages["0"] = server.messages["1"] = {"group": "0"}
    server.queues["q"] = {"0": ["b", False], "1": ["b", False]}
    now = time.monotonic()
    window = Window(now, now, now + 1.5)

    def slow(method, _):
        if method == "DELETE":  # no delete is answered before the turn has ended
            time.sleep(max(0.0, window.end + 0.1 - time.monotonic()))

    server.fault = slow
    operations = Driver(Task(Address.of(server.url), ((job, client(batch=2)),), window, 5.0)).run().operations
    assert (operations["delete"].all_messages, operations["delete"].messages) == (2, 0)
    assert not any(claim for _, claim in server.queues["q"].values())


def test_options_reach_the_server(server, tmp_path):
    file = tmp_path / "out.json"
    assert run(
        server.url, "-w", "cycle-4", "-w", "pop-3", "--fifo", "--groups", "3", "--dedup-ids", "--keep",
        "--json", str(file),
    ) == 0
    assert server.fifo == set(server.queues) and len(server.fifo) == 2
    assert {message["group"] for message in server.messages.values()} == {"0", "1", "2"}
    assert len({message["dedup_id"] for message in server.messages.values()}) == len(server.messages)
    found = json.loads(file.read_text())
    assert (found["settings"]["fifo"], found["settings"]["groups"], found["settings"]["dedup_ids"]) == (True, 3, True)
    for work in found["workloads"]:
        (measured,) = work["servers"].values()
        assert measured["errors"] == {}
        moved = Counter()
        for turn in measured["rounds"]:
            for kind, operation in turn["operations"].items():
                moved[kind] += operation["with_warm_up"]["messages"]
        assert moved["post"] > 0
        (queue,) = work["queues"]
        assert len(server.queues[queue]) == moved["post"] - moved["delete"] - moved["pop"]
        assert not any(claim for _, claim in server.queues[queue].values())
