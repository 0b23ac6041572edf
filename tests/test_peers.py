"""What surrounds the other servers that the gateway is compared with."""

import configparser
import stat

import orjson
import pytest

from functional.peers import compare, zaqar
from functional.peers.rabbitmq_management import DIALECT, fetch, publish, routed
from gateway.bench import workloads
from gateway.bench.rounds import Result, Server
from gateway.bench.stats import Spread
from gateway.bench.workloads import Client, named
from tests.test_bench_numbers import posts


def test_zaqar_is_as_durable_as_the_gateway_and_its_file_is_private(tmp_path):
    zaqar.configure(tmp_path, "mongodb://user:pa$$word@127.0.0.1:27017/")
    file = tmp_path / ".zaqar" / "zaqar.conf"
    parsed = configparser.RawConfigParser(default_section="")
    parsed.read(file)
    for store in ("message", "management"):
        uri = parsed[f"drivers:{store}_store:mongodb"]["uri"]
        assert uri == "mongodb://user:pa$$$$word@127.0.0.1:27017/?w=majority&journal=true"
        assert "replicaSet" not in uri  # Zaqar asks pymongo for a class that is gone
    assert parsed["DEFAULT"]["unreliable"] == "True" and parsed["DEFAULT"]["auth_strategy"] == ""
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_zaqar_gets_nothing_of_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("OS_DEFAULT__UNRELIABLE", "False")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    found = zaqar.environment(tmp_path)
    assert found["HOME"] == str(tmp_path)
    assert not {"OS_DEFAULT__UNRELIABLE", "PYTHONPATH"} & set(found)


@pytest.mark.parametrize("text", ["127.0.0.1:27017", "mongodb://", "mongodb://h/db", "mongodb://h/?w=1", "http://h"])
def test_zaqar_wants_a_plain_address(text):
    with pytest.raises(ValueError):
        zaqar.address(text)


def test_management_suits_what_it_can_do():
    server = Server("management", "http://127.0.0.1", dialect=DIALECT)
    assert [work for work in (*workloads.STANDARD, "pop-1") if server.suits(named(work))] == [
        "post-1", "post-20", "pop-1",
    ]


def test_management_message_that_went_nowhere_is_an_error():
    assert len(routed(b'{"routed":true}')) == 1
    with pytest.raises(KeyError):
        routed(b'{"routed":false}')


def test_management_publishes_the_body_as_it_is():
    client = Client(0, 1, "", b"", ("q",), 2, b'"body"')
    request = next(publish(client))
    document = orjson.loads(request.data.partition(b"\r\n\r\n")[2])
    assert (document["routing_key"], document["payload"]) == ("q", '"body"')
    assert document["properties"]["delivery_mode"] == 2
    steps = fetch(client)
    assert [next(steps).kind, steps.send(None).kind, steps.send(None).kind] == ["post", "post", "pop"]


def test_goals():
    ours, theirs, bare = posts(100, 0.1), posts(50, 0.1), posts(400)
    turns = {compare.HYBRID: [ours], compare.ZAQAR: [theirs], compare.CEILING: [bare]}
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in compare.goals_table([Result(named("post-1"), turns, {}, ["q"])]).splitlines()[2:]
    ]
    assert rows == [
        ["post-1", "gateway / zaqar", "req/s", "≥ 5×", "2.00×", "2.00–2.00", "no"],
        ["post-1", "gateway / zaqar", "CPU/req", "≤ 0.25×", "0.50×", "0.50–0.50", "no"],
        ["post-1", "gateway / bare Flask", "req/s", "≥ 0.75×", "0.25×", "0.25–0.25", "no"],
    ]


@pytest.mark.parametrize(("what", "median", "met"), [
    ("rate", 3.0, True), ("rate", 2.99, False), ("cpu_per_request", 3.0, True), ("cpu_per_request", 3.01, False),
])
def test_goal_is_met_by_the_median(what, median, met):
    assert compare.Goal("post-1", "a", "b", what, 3).met(Spread(median, 0, 100)) is met
