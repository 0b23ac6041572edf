"""`marconi bench` against real gateways: what it has counted is what they hold."""

import json
import subprocess
import xml.etree.ElementTree as ElementTree
from collections import Counter

from functional.api.helpers import messages_path, next_link
from functional.http import Api
from functional.services.gateway import find_command

#: Seconds for a run of a few turns on a machine that is busy with other things.
TIMEOUT = 100

QUICK = ("--duration", "0.5", "--warm-up", "0.2", "--rounds", "1", "--processes", "2")


def bench(*arguments):
    """Run the installed command; what it printed."""
    done = subprocess.run([find_command(), "bench", *arguments], capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def held(api, queue):
    """How many messages a queue holds, the claimed ones included."""
    path, count = f"{messages_path(queue)}?echo=true&include_claimed=true&limit=20", 0
    while path is not None:
        document = api.get(path).json()
        count += len(document["messages"])
        path = next_link(document)
    return count


def test_counts_are_those_of_the_gateway(gateway, api, tmp_path):
    file, chart = tmp_path / "bench.json", tmp_path / "bench.svg"

    text = bench(
        gateway.url, *QUICK, "-w", "cycle-3", "-w", "post-2", "-w", "list-20", "--connections", "2",
        "--project", api.project, "--keep", "--json", str(file), "--plot", str(chart),
    )

    assert "| cycle-3 |" in text
    works = json.loads(file.read_text())["workloads"]
    assert [work["name"] for work in works] == ["cycle-3", "post-2", "list-20"]
    for work in works:
        ((_, found),) = work["servers"].items()
        assert found["errors"] == {}
        # No number: in so short a turn on a busy machine it may be less than the 10 ms that the system counts in.
        assert found["rounds"][0]["server_cpu_seconds"] is not None
        operations = found["rounds"][0]["operations"]
        moved = {kind: operation["with_warm_up"]["messages"] for kind, operation in operations.items()}
        assert min(moved.values()) > 0
        (queue,) = work["queues"]
        assert held(api, queue) == found["prepared_messages"] + moved.get("post", 0) - moved.get("delete", 0)
    titles = list(ElementTree.parse(chart).iter("{http://www.w3.org/2000/svg}title"))
    assert len(titles) == 3


def test_fifo_queues_hand_out_what_was_posted_and_no_group_stays_blocked(gateway, api, tmp_path):
    file = tmp_path / "bench.json"

    bench(
        gateway.url, *QUICK, "--rounds", "2", "-w", "cycle-3", "-w", "pop-2", "--connections", "4", "--fifo",
        "--groups", "5", "--dedup-ids", "--project", api.project, "--keep", "--json", str(file),
    )

    for work in json.loads(file.read_text())["workloads"]:
        ((_, found),) = work["servers"].items()
        assert found["errors"] == {}
        moved = Counter()
        for turn in found["rounds"]:
            for kind, operation in turn["operations"].items():
                moved[kind] += operation["with_warm_up"]["messages"]
            taken = "pop" if "pop" in turn["operations"] else "delete"
            assert turn["operations"][taken]["with_warm_up"]["messages"] > 0  # in the second turn, too
        (queue,) = work["queues"]
        assert held(api, queue) == moved["post"] - moved["delete"] - moved["pop"]
        assert api.get(f"/v2/queues/{queue}").json()["_fifo"] is True
        assert api.get(f"/v2/queues/{queue}/stats").json()["messages"]["claimed"] == 0


def test_nothing_is_left_and_the_bare_view_takes_part(start_gateway, tmp_path):
    gateway, file = start_gateway(), tmp_path / "bench.json"

    text = bench(
        gateway.url, *QUICK, "--name", "ours", "--ceiling", "-w", "post-1", "-w", "cycle-1", "--json", str(file)
    )

    assert "| ours / bare Flask |" in text
    post, cycle = json.loads(file.read_text())["workloads"]
    assert set(post["servers"]) == {"ours", "bare Flask"} and set(cycle["servers"]) == {"ours"}
    assert [(ratio["of"], ratio["to"]) for ratio in post["ratios"]] == [("ours", "bare Flask")]
    assert Api(gateway.url, "bench").get("/v2/queues").json()["queues"] == []
