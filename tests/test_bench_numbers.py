"""What `marconi bench` makes of its measurements: statistics, tables, the document, the chart."""

import json
import re
import xml.etree.ElementTree as ElementTree
from array import array
from collections import Counter

import orjson
import pytest

from gateway.bench.outcome import Operation, Outcome
from gateway.bench.plot import plot
from gateway.bench.progress import Progress
from gateway.bench.report import (
    client_cpu,
    compare,
    document,
    notes,
    ratios_table,
    results_table,
    summary,
    table,
    watched_table,
)
from gateway.bench.rounds import Result, Server, Turn
from gateway.bench.settings import Settings
from gateway.bench.stats import Latency, Spread, percentile, ratios
from gateway.bench.workloads import named


def operation(milliseconds, messages, statuses=None, errors=None):
    errors = Counter(errors or {})
    statuses = Counter(statuses or {"201": len(milliseconds)})
    seconds = array("d", [value / 1000 for value in milliseconds])
    return Operation(seconds, messages, statuses, errors, messages, statuses, errors)


def turn(operations, cpu=None, seconds=2.0, busy=0.1, watched=None, first_error=""):
    return Turn(seconds, operations, cpu, watched or {}, 0.2, busy, 0, first_error)


def posts(requests, cpu=None, **more):
    return turn({"post": operation([5.0] * requests, requests)}, cpu, **more)


@pytest.fixture
def result():
    """Twice and four times as fast, with half the CPU; the second one has no CPU time known in its first round."""
    return Result(
        named("post-1"), {"ours": [posts(100, 0.1), posts(80, 0.1)], "theirs": [posts(50), posts(20, 0.05)]},
        {"ours": 0, "theirs": 0}, ["q"],
    )


# -- statistics -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "part", "expected"),
    [
        ([7], 50, 7), ([7], 99, 7), ([1, 2], 50, 1), ([1, 2, 3], 50, 2),
        (range(1, 101), 50, 50), (range(1, 101), 95, 95), (range(1, 101), 99, 99), (range(1, 101), 100, 100),
        (range(1, 11), 99, 10), (range(1, 11), 0, 1),
    ],
)
def test_percentile_is_by_nearest_rank(values, part, expected):
    assert percentile(list(values), part) == expected


def test_latency_is_in_milliseconds_whatever_the_order():
    assert Latency.of([0.4, 0.1, 0.3, 0.2]) == Latency(p50=200, p95=400, p99=400, max=400)


def test_latency_of_nothing_is_not_zero():
    assert Latency.of([]) is None


def test_spread():
    assert Spread.of([3.0, 1.0, 8.0]) == Spread(3.0, 1.0, 8.0)


def test_ratios_pair_the_rounds():
    # The machine was twice as slow in the second round; that is not in the ratios.
    assert ratios([100, 50], [10, 5]) == Spread(10, 10, 10)


def test_rounds_without_both_numbers_have_no_ratio():
    assert ratios([1, None, 6, 8], [1, 2, None, 0]) == Spread(1, 1, 1)
    assert ratios([None], [1]) is None
    assert ratios([1], [0]) is None


def test_ratios_need_the_same_rounds():
    with pytest.raises(ValueError):
        ratios([1, 2], [1])


def test_outcomes_of_processes_add_up():
    total = Outcome()
    total.add(Outcome({"post": operation([1, 2], 2, errors={"503": 1})}, cpu=1.0, busy=0.5, reconnects=1))
    total.add(Outcome({"post": operation([3], 1), "list": operation([4], 20)}, cpu=0.5, busy=0.2, first_error="why"))
    assert list(total.operations["post"].seconds) == [0.001, 0.002, 0.003]
    assert (total.operations["post"].messages, total.operations["list"].messages) == (3, 20)
    assert total.operations["post"].errors == {"503": 1}
    assert (total.cpu, total.busy, total.reconnects, total.first_error) == (1.5, 0.5, 1, "why")


def test_summary_tells_503_from_other_errors():
    wrong = {"503": 3, "500": 2, "timeout": 1}
    found = summary([turn({"post": operation([1.0], 1, errors=wrong)}, cpu=0.002)], "post")
    assert (found.unavailable, found.other_errors) == (3, 3)
    assert found.cpu_per_request == found.cpu_per_message == Spread(2, 2, 2)


def test_cpu_is_shared_by_requests_and_by_messages():
    turns = [turn({"post": operation([1.0] * 10, 200)}, cpu=0.1)]
    assert summary(turns, "post").cpu_per_request == Spread(10, 10, 10)
    assert summary(turns, "post").cpu_per_message == Spread(0.5, 0.5, 0.5)


def test_nothing_done_has_no_cpu_per_request():
    found = summary([turn({}, cpu=0.1)], "post")
    assert found.rate == Spread(0, 0, 0)
    assert found.cpu_per_request is None and found.latency is None


def test_comparison(result):
    found = compare(result, "ours", "theirs")
    assert found.rate == Spread(3, 2, 4)
    assert found.cpu_per_request == Spread(0.5, 0.5, 0.5)
    assert found.p99 == Spread(1, 1, 1)


# -- text -----------------------------------------------------------------------------------------------------------


def test_table_is_aligned():
    assert table(("a", "b", "c"), [("1", "22", "3"), ("", "x", "4,444")]) == (
        "| a | b  |     c |\n"
        "|---|----|------:|\n"
        "| 1 | 22 |     3 |\n"
        "|   | x  | 4,444 |"
    )


def cells(text, row):
    return [cell.strip() for cell in text.splitlines()[row].strip("|").split("|")]


def test_results_table(result):
    text = results_table([result])
    assert cells(text, 2) == [
        "post-1", "ours", "45.0", "40.0–50.0", "45.0", "5.0", "5.0", "5.0", "5.0", "1.125", "1.125", "0", "0",
    ]
    assert len(text.splitlines()) == 4  # one kind of request has no row of its own


def test_results_table_shows_each_kind_of_request_of_a_cycle():
    operations = {"post": operation([1], 1), "claim": operation([2], 1), "delete": operation([3], 1, {"503": 1})}
    operations["delete"].all_errors["503"] += 4
    text = results_table([Result(named("cycle-1"), {"s": [turn(operations)]}, {"s": 0}, ["q"])])
    assert cells(text, 2)[:3] == ["cycle-1", "s", "1.5"]
    assert [cells(text, row)[1] for row in (3, 4, 5)] == ["claim", "delete", "post"]
    assert cells(text, 4)[-2:] == ["0", "4"]
    assert cells(text, 2)[-2:] == ["0", "4"]


def test_ratios_table_leaves_out_servers_that_did_not_take_part(result):
    text = ratios_table([result], [("ours", "theirs"), ("ours", "nobody")])
    assert len(text.splitlines()) == 3
    assert cells(text, 2)[:4] == ["post-1", "ours / theirs", "3.00×", "2.00–4.00"]
    assert ratios_table([result], [("ours", "nobody")]) == ""


def test_watched_processes_have_a_table():
    turns = [posts(10, 0.1, watched={"broker": 0.02, "store": 0.0})]
    text = watched_table([Result(named("post-1"), {"s": turns}, {"s": 0}, ["q"])])
    assert cells(text, 0) == ["work", "server", "broker", "store", "all, with the server's own"]
    assert cells(text, 2) == ["post-1", "s", "2.000", "0.000", "12.000"]


def test_notes_tell_errors_and_a_busy_client():
    wrong = turn({"post": operation([], 0, errors={"503": 1200, "timeout": 1})}, first_error="post: 503 later")
    result = Result(named("post-1"), {"a": [wrong], "b": [posts(1, busy=0.9)]}, {}, ["q"])
    first, second = notes([result])
    assert "503: 1,200, timeout: 1" in first and "post: 503 later" in first
    assert second.startswith("post-1, b: the client was busy for 90%")
    assert client_cpu([result]) == 0.1


def test_good_run_has_no_notes(result):
    assert notes([result]) == []


# -- document -------------------------------------------------------------------------------------------------------


def test_document(result):
    servers = [Server("ours", "http://a", {"Authorization": "secret"}), Server("theirs", "http://b")]
    text = orjson.dumps(document([result], servers, Settings(), [("ours", "theirs")]))
    assert b"secret" not in text
    found = json.loads(text)
    assert found["servers"] == [{"name": "ours", "url": "http://a"}, {"name": "theirs", "url": "http://b"}]
    (work,) = found["workloads"]
    assert (work["name"], work["connections"], work["batch"]) == ("post-1", 8, 1)
    assert work["servers"]["ours"]["requests_per_second"] == {"median": 45, "low": 40, "high": 50}
    assert work["servers"]["theirs"]["rounds"][0]["server_cpu_seconds"] is None
    assert work["ratios"][0]["rate"] == {"median": 3, "low": 2, "high": 4}
    assert found["settings"]["body_size"] == 1024


def test_document_of_a_round_without_requests():
    empty = Result(named("post-1"), {"s": [turn({"post": operation([], 0, errors={"lost": 2})})]}, {"s": 0}, ["q"])
    (work,) = json.loads(orjson.dumps(document([empty], [], Settings(), [])))["workloads"]
    assert work["servers"]["s"]["errors"] == {"lost": 2}
    assert work["servers"]["s"]["rounds"][0]["operations"]["post"]["milliseconds"] is None


# -- chart ----------------------------------------------------------------------------------------------------------


def test_plot_has_a_bar_for_each_server_and_workload(result):
    root = ElementTree.fromstring(plot([result]))
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["post-1, ours: 45 req/s, 40–50", "post-1, theirs: 18 req/s, 10–25"]
    bars = [bar for bar in root.iter("{http://www.w3.org/2000/svg}rect") if len(bar)]
    first, second = (float(bar.get("height")) for bar in bars)
    assert first / second == pytest.approx(45 / 17.5, rel=0.01)


def test_plot_escapes_names():
    text = plot([Result(named("post-1"), {"<a & b>": [posts(1)]}, {}, ["q"])])
    ElementTree.fromstring(text)
    assert "<a" not in text


def test_plot_of_nothing_done():
    ElementTree.fromstring(plot([Result(named("post-1"), {"s": [turn({})]}, {}, ["q"])]))


# -- progress -------------------------------------------------------------------------------------------------------


class Terminal:
    def __init__(self, is_one):
        self.is_one, self.text = is_one, ""

    def isatty(self):
        return self.is_one

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def quarter_done(stream):
    progress = Progress(stream)
    progress.expect(20)
    progress.say("post-1")
    progress.done(5)
    return progress


def test_progress_on_a_terminal():
    terminal = Terminal(True)
    quarter_done(terminal)
    last = terminal.text.rpartition("\r")[2]
    assert re.search(r"\[######  +\]  25%  15 s left  post-1$", last)


def test_progress_is_silent_elsewhere():
    pipe = Terminal(False)
    progress = quarter_done(pipe)
    progress.close()
    assert pipe.text == ""
    progress.note("something")
    assert pipe.text == "something\n"
