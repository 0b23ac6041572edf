"""What surrounds the other servers that the gateway is compared with."""

import configparser
import stat
import sys
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from functional.peers import brokers, compare, goals, notifications, zaqar
from functional.peers.rabbitmq_management import DIALECT, fetch, publish, routed
from gateway.bench import workloads
from gateway.bench.client import Client
from gateway.bench.outcome import Operation
from gateway.bench.rounds import Result, Server, Turn
from gateway.bench.stats import Spread
from gateway.bench.workloads import Workload, named
from tests.test_bench_numbers import posts


def configured(home, stores):
    """Zaqar's configuration, and the path of its file."""
    zaqar.configure(home, stores)
    file = home / ".zaqar" / "zaqar.conf"
    parsed = configparser.RawConfigParser(default_section="")
    parsed.read(file)
    return parsed, file


def test_zaqar_is_as_durable_as_the_gateway_and_its_file_is_private(tmp_path):
    parsed, file = configured(tmp_path, zaqar.on_mongodb("mongodb://user:pa$$word@127.0.0.1:27017/"))
    for store in ("message", "management"):
        options = parsed[f"drivers:{store}_store:mongodb"]
        assert options["uri"] == "mongodb://user:pa$$$$word@127.0.0.1:27017/?w=majority&journal=true"
        assert "replicaSet" not in options["uri"]  # Zaqar asks pymongo for a class that is gone
        assert options["database"] == ("zaqar_messages" if store == "message" else "zaqar_management")
        assert parsed["drivers"][f"{store}_store"] == "mongodb"
    assert parsed["DEFAULT"]["unreliable"] == "True" and parsed["DEFAULT"]["auth_strategy"] == ""
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_zaqar_on_redis_waits_for_a_busy_disk_and_keeps_messages_and_queues_apart(tmp_path):
    parsed, _ = configured(tmp_path, zaqar.on_redis("redis://127.0.0.1:6379/"))
    for store, database in (("message", "0"), ("management", "1")):
        uri = urlsplit(parsed[f"drivers:{store}_store:redis"]["uri"])
        assert (uri.scheme, uri.netloc) == ("redis", "127.0.0.1:6379")
        assert parse_qs(uri.query) == {"dbid": [database], "socket_timeout": ["10"]}
        assert parsed["drivers"][f"{store}_store"] == "redis"


def test_zaqar_is_installed_once_and_again_when_it_needs_more(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(zaqar.venv, "create", lambda folder, **_: folder.mkdir(exist_ok=True))
    monkeypatch.setattr(zaqar.subprocess, "run", lambda command, **_: made.append(command))
    zaqar.install(tmp_path)
    zaqar.install(tmp_path)
    assert len(made) == 1
    monkeypatch.setattr(zaqar, "REQUIREMENTS", (*zaqar.REQUIREMENTS, "more"))
    zaqar.install(tmp_path)
    assert len(made) == 2 and made[1][-1] == "more"


def test_zaqar_gets_nothing_of_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("OS_DEFAULT__UNRELIABLE", "False")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    found = zaqar.environment(tmp_path)
    assert found["HOME"] == str(tmp_path)
    assert not {"OS_DEFAULT__UNRELIABLE", "PYTHONPATH"} & set(found)


def test_zaqar_notifies_nobody_unless_it_is_told_to(tmp_path):
    stores = zaqar.on_mongodb("mongodb://127.0.0.1:27017/")
    parsed, file = configured(tmp_path, stores)
    assert not parsed.has_section("storage")
    zaqar.configure(tmp_path, stores, notifies=True)
    parsed.read(file)
    assert parsed["storage"]["message_pipeline"] == "zaqar.notification.notifier"


@pytest.mark.parametrize("text", ["127.0.0.1:27017", "mongodb://", "mongodb://h/db", "mongodb://h/?w=1", "http://h"])
def test_zaqar_wants_a_plain_address(text):
    with pytest.raises(ValueError):
        zaqar.mongodb_address(text)


@pytest.mark.parametrize("text", ["127.0.0.1:6379", "redis://", "redis://h/1", "redis://h?dbid=1", "mongodb://h"])
def test_zaqar_wants_a_plain_redis_address(text):
    with pytest.raises(ValueError):
        zaqar.redis_address(text)


def test_zaqar_takes_an_address_of_each_store():
    assert zaqar.mongodb_address("mongodb://h:1") == zaqar.on_mongodb("mongodb://h:1")
    assert zaqar.redis_address("redis://h:1") == zaqar.on_redis("redis://h:1")


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


@pytest.mark.parametrize(("count", "paths"), [(0, ["subscriptions", "purge"]), (2, ["subscriptions"] * 2)])
def test_queue_gets_its_subscribers_and_one_that_had_one_loses_it(count, paths):
    steps = list(notifications.subscribe("http://sink", count, Client(0, 1, "", b"", ("q",), 1, b"")))
    assert [request.data.split()[1].decode() for request in steps] == [
        "/v2/queues/q", *(f"/v2/queues/q/{path}" for path in paths)
    ]


@pytest.mark.parametrize(("count", "cpu", "met"), [(2000, 2.0, "yes"), (1999, 1.9, "no"), (2000, 2.1, "no")])
def test_notifications_are_enough_or_not(count, cpu, met):
    turn = Turn(2.0, {notifications.NOTIFICATION: Operation(messages=count)}, cpu, {}, 0.0, 0.0, 0, "")
    work = Workload("notify-1", (), 1, notifications.NOTIFICATION)
    rows = notifications.rates_table([Result(work, {notifications.NOTIFY: [turn]}, {}, ["q"])]).splitlines()
    assert [cell.strip() for cell in rows[2].split("|")][1:3] == ["notify-1", notifications.NOTIFY]
    assert rows[2].split("|")[-2].strip() == met


def test_goals():
    ours, theirs, bare = posts(100, 0.1), posts(50, 0.1), posts(400)
    turns = {goals.HYBRID: [ours], goals.ZAQAR: [theirs], goals.CEILING: [bare]}
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in goals.goals_table([Result(named("post-1"), turns, {}, ["q"])]).splitlines()[2:]
    ]
    assert rows == [
        ["post-1", "gateway / zaqar", "req/s", "≥ 5×", "2.00×", "2.00–2.00", "no"],
        ["post-1", "gateway / zaqar", "CPU/req", "≤ 0.25×", "0.50×", "0.50–0.50", "no"],
        ["post-1", "gateway / bare Flask", "req/s", "≥ 0.75×", "0.25×", "0.25–0.25", "no"],
    ]


@pytest.mark.parametrize(("what", "median", "met"), [
    ("rate", 3.0, True), ("rate", 2.99, False), ("cpu_per_request", 3.0, True), ("cpu_per_request", 3.01, False),
    ("total_cpu_per_message", 3.0, True), ("total_cpu_per_message", 3.01, False),
])
def test_goal_is_met_by_the_median(what, median, met):
    assert goals.Goal("post-1", "a", "b", what, 3).met(Spread(median, 0, 100)) is met


def test_goals_are_not_shown_if_none_was_measured():
    turns = {brokers.RABBITMQ: [posts(100)], brokers.ZAQAR: [posts(50)]}
    assert goals.goals_table([Result(named("post-1"), turns, {}, ["q"])]) == ""


def run_compare(monkeypatch, *arguments):
    """Run the command with parts that measure nothing; the parts that were run, in that order."""
    ran = []

    def part(name):
        def measure(*_):
            ran.append(name)
            return compare.Part([Result(named("post-1"), {name: [posts(100)]}, {}, ["q"])], {}, f"text of {name}")

        return measure

    monkeypatch.setattr(sys, "argv", ["compare", *arguments])
    monkeypatch.setattr(compare.signal, "signal", lambda *_: None)
    monkeypatch.setattr(compare.elasticmq, "fetch", lambda _: ran.append("fetch"))
    monkeypatch.setattr(compare, "messaging", part("messaging"))
    monkeypatch.setattr(compare, "by_broker", part("brokers"))
    monkeypatch.setattr(compare, "management", part("management"))
    monkeypatch.setattr(compare, "possible", part("physical"))
    monkeypatch.setattr(compare, "notified", part("notifications"))
    monkeypatch.setattr(compare, "in_order", part("fifo"))
    assert compare.main() == 0
    return ran


@pytest.mark.parametrize(("arguments", "parts"), [
    ((), ["messaging", "physical", "brokers", "management", "notifications", "fifo"]),
    (("--part", "fifo"), ["fifo"]),
    (("-p", "physical"), ["physical"]),
    (("--part", "brokers"), ["brokers"]),
    (("-p", "management", "-p", "messaging"), ["messaging", "management"]),
])
def test_parts_can_be_chosen(monkeypatch, capsys, arguments, parts):
    assert run_compare(monkeypatch, *arguments) == (["fetch"] if "fifo" in parts else []) + parts
    printed = capsys.readouterr().out
    assert [line.removeprefix("## ") for line in printed.splitlines() if line.startswith("## ")] == parts
    assert all(f"text of {part}" in printed for part in parts)


def test_chart_is_of_the_first_part(monkeypatch, tmp_path):
    run_compare(monkeypatch, "-p", "brokers", "-p", "management", "--plot", str(tmp_path / "chart.svg"))
    chart = (tmp_path / "chart.svg").read_text()
    assert "brokers" in chart and "management" not in chart


def test_unknown_part_is_refused(capsys):
    with pytest.raises(SystemExit):
        compare.parse(["--part", "zaqar"])
    assert "invalid choice: 'zaqar'" in capsys.readouterr().err


@pytest.mark.parametrize("with_mongodb", [True, False])
def test_gateway_on_a_broker_has_defaults_but_for_its_services(monkeypatch, tmp_path, with_mongodb):
    def configure(self, options):
        self.options = options

    monkeypatch.setattr(brokers.Gateway, "__init__", lambda self, options: setattr(self, "folder", tmp_path))
    monkeypatch.setattr(brokers.Gateway, "configure", configure)
    broker = SimpleNamespace(name="redis", uri="redis://h:1/0")
    mongodb = SimpleNamespace(database_uri=lambda name: f"mongodb://h/{name}")
    side_store = "mongodb://h/marconi_redis" if with_mongodb else f"sqlite:///{tmp_path}/marconi.db"
    assert brokers.on(broker, mongodb if with_mongodb else None).options == {
        "bridge": {"uri": "redis://h:1/0"}, "side_store": {"uri": side_store},
    }
