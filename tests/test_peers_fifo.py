"""ElasticMQ and the kinds of queues that FIFO queues are compared with."""

import pickle
from types import SimpleNamespace

import orjson
import pytest

from functional.peers import elasticmq, fifo
from functional.services.process import Missing
from gateway.bench import workloads
from gateway.bench.client import Client, Reply
from gateway.bench.outcome import Operation
from gateway.bench.rounds import Result, Turn
from gateway.bench.workloads import named

# -- ElasticMQ ------------------------------------------------------------------------------------------------------


def in_groups(batch=1, groups=3):
    return Client(0, 1, "", b"", ("q",), batch, b'"body"', groups=groups)


def action(request):
    """Name and document of an action of SQS."""
    head, _, body = request.data.partition(b"\r\n\r\n")
    (target,) = [line for line in head.decode().split("\r\n") if line.startswith("X-Amz-Target: AmazonSQS.")]
    assert f"Content-Length: {len(body)}" in head.decode()
    return target.rpartition(".")[2], orjson.loads(body)


def answered(items=()):
    return Reply(True, 200, b"", items)


def test_elasticmq_gets_a_message_with_group_and_dedup_id():
    made = elasticmq.entries(in_groups())
    found = [action(elasticmq.send(in_groups(), "q", made)) for _ in range(4)]
    assert {name for name, _ in found} == {"SendMessage"}
    assert [document["MessageGroupId"] for _, document in found] == ["0", "1", "2", "0"]
    assert len({document["MessageDeduplicationId"] for _, document in found}) == 4
    assert {(document["QueueUrl"], document["MessageBody"]) for _, document in found} == {
        ("http://elasticmq/000000000000/q-3.fifo", "body")
    }


def test_elasticmq_gets_a_batch_in_one_request():
    client = in_groups(4)
    name, document = action(elasticmq.send(client, "q", elasticmq.entries(client)))
    assert name == "SendMessageBatch"
    assert [(entry["Id"], entry["MessageGroupId"]) for entry in document["Entries"]] == [
        ("0", "0"), ("1", "1"), ("2", "2"), ("3", "0"),
    ]


def test_message_of_a_batch_that_elasticmq_refuses_is_an_error():
    assert len(elasticmq.sent(b'{"Successful":[{"Id":"0"}]}')) == 1
    with pytest.raises(KeyError):
        elasticmq.sent(b'{"Successful":[{"Id":"0"}],"Failed":[{"Id":"1"}]}')


def test_elasticmq_may_have_nothing():
    assert [len(elasticmq.received(body)) for body in (b"{}", b'{"Messages":[]}', b'{"Messages":[{}]}')] == [0, 0, 1]


def test_elasticmq_deletes_all_that_it_has_handed_out_even_after_the_end():
    steps = elasticmq.cycle(in_groups(2))
    requests = [next(steps), steps.send(answered())]
    requests += [steps.send(answered([{"ReceiptHandle": "a"}, {"ReceiptHandle": "b"}])), steps.send(answered())]
    assert [(action(request)[0], request.more) for request in requests] == [
        ("SendMessageBatch", False), ("ReceiveMessage", True), ("DeleteMessage", True), ("DeleteMessage", False),
    ]
    assert [action(request)[1]["ReceiptHandle"] for request in requests[2:]] == ["a", "b"]
    assert steps.send(answered()).kind == "post"


def test_elasticmq_has_a_queue_for_each_number_of_groups():
    names = []
    for groups in fifo.GROUPS:
        client = in_groups(groups=groups)
        (made,), (deleted,) = elasticmq.create_queues(client), elasticmq.delete_queues(client)
        _, document = action(made)
        assert document["Attributes"]["FifoQueue"] == "true"
        assert action(deleted)[1]["QueueUrl"].endswith(f"/{document['QueueName']}")
        names.append(document["QueueName"])
    assert len(set(names)) == len(fifo.GROUPS) and all(name.endswith(".fifo") for name in names)


def test_elasticmq_writes_before_it_answers():
    text = elasticmq.CONFIG.format(port=1234, folder="/folder")
    assert 'uri = "jdbc:h2:file:/folder/messages;WRITE_DELAY=0"' in text and "enabled = true, bind-port = 1234" in text


def test_elasticmq_that_can_not_be_fetched_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(elasticmq.shutil, "which", lambda name: name)
    monkeypatch.setattr(elasticmq, "FETCH", tmp_path / "fails.sh")
    (tmp_path / "fails.sh").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "fails.sh").chmod(0o700)
    with pytest.raises(Missing, match=r"fails\.sh"):
        elasticmq.fetch(tmp_path)


# -- FIFO queues ----------------------------------------------------------------------------------------------------


def test_kinds_of_queues_are_servers_that_can_do_cycles_and_nothing_else(monkeypatch):
    monkeypatch.setattr(fifo, "CPUMeter", lambda pids: None)
    peer = SimpleNamespace(url="http://h:1", pid=1)
    kinds = [*fifo.kinds_of("gateway", peer), *fifo.kinds_of("embedded", peer), *fifo.kinds_of_elasticmq(peer)]
    servers = {server.name: server for server, _ in kinds}
    assert {name for pair in fifo.PAIRS for name in pair} == set(servers)
    for server in servers.values():
        assert all(server.suits(named(work)) for work in fifo.WORKS)
        assert (server.dialect is None) is ("ordinary" in server.name)
        pickle.dumps(server.dialect)  # jobs go to the processes of the load
    assert len({server.headers["X-Project-ID"] for server in list(servers.values())[:7]}) == 7


@pytest.mark.parametrize("dedup_ids", [True, False])
def test_job_of_a_kind_posts_to_its_groups(dedup_ids):
    ours = {job: job for job in (workloads.cycle, workloads.make_queues)}
    jobs = fifo.in_groups(ours, 5, dedup_ids)
    client = Client(0, 1, "", b"", ("q",), 6, b'"body"')
    posted = orjson.loads(next(jobs[workloads.cycle](client)).data.partition(b"\r\n\r\n")[2])["messages"]
    assert [message["group"] for message in posted] == ["0", "1", "2", "3", "4", "0"]
    assert all(("dedup_id" in message) is dedup_ids for message in posted)
    assert b"_fifo" in next(jobs[workloads.make_queues](client)).data


@pytest.mark.parametrize(("left", "agreed"), [(3, "yes"), (2, "no"), (4, "no")])
def test_messages_have_to_add_up(left, agreed):
    turn = Turn(1.0, {"post": Operation(all_messages=5), "delete": Operation(all_messages=2)}, 0, {}, 0, 0, 0, "")
    results = [Result(named("cycle-1"), {"a": [turn, turn]}, {}, ["q", "r"])]
    row = fifo.flow_table(results, {"a": {"q": left + 3, "r": 0}.get}).splitlines()[2]
    assert [cell.strip() for cell in row.split("|")[3:7]] == ["10", "4", str(left + 3), agreed]
