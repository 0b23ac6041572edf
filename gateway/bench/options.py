"""The command line of ``marconi bench``. Imports little, because every ``marconi`` command declares it."""

from __future__ import annotations

import argparse
from pathlib import Path

from gateway.bench.settings import Settings
from gateway.bench.workloads import STANDARD

#: Environment variable for the password of --user.
PASSWORD = "MARCONI_BENCH_PASSWORD"  # nosec B105

DESCRIPTION = """\
Measure a gateway, or any server of the Messaging API, by its URL. With --against, a second server is measured in the
same run, in turns with the first, and the ratios are shown. Separate processes generate the load.
"""

EPILOG = """\
workloads, N messages each:
  post-N   post N messages
  list-N   list the first N messages
  cycle-N  post N, claim N, delete each of them
  pop-N    post N, pop N in one request
With xC at the end, as in cycle-20x16, a workload has C connections. --connections wins over it.
In FIFO queues a cycle posts only while it has taken all that it posted before, because a claim may be empty while
others hold all groups. In a mix, --producers, --claimers and --listers work on the same queues at the same time.

The command creates queues named bench-... in the project and deletes them at the end. Latencies are those of successful
requests. msg/s counts messages posted, listed, popped, or, in cycles and by claimers, deleted.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("url", metavar="URL", help="root of the server: http://127.0.0.1:8888")
    _servers(parser.add_argument_group("servers"))
    _work(parser.add_argument_group("work"))
    _load(parser.add_argument_group("load"))
    output = parser.add_argument_group("output")
    output.add_argument("--json", type=Path, metavar="FILE", help="write all results to this file, as JSON")
    output.add_argument("--plot", type=Path, metavar="FILE", help="write a bar chart to this file, as SVG")


def _servers(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--against", metavar="URL", help="a second server")
    group.add_argument("--name", help="name of the first server in the report (its host and port)")
    group.add_argument("--against-name", metavar="NAME", help="name of the second server")
    group.add_argument(
        "--ceiling", action="store_true",
        help="also measure a bare Flask view under waitress with 8 threads, with posts and lists only",
    )
    group.add_argument("--project", default=Settings.project, help="X-Project-ID (%(default)s)")
    group.add_argument(
        "--header", action="append", default=[], metavar="LINE",
        help="header 'Name: value' for each request, or @FILE with such lines; may be repeated",
    )
    group.add_argument(
        "--against-header", action="append", default=[], metavar="LINE", help="header for the second server"
    )
    group.add_argument(
        "--user", metavar="NAME",
        help=f"user for basic authentication at the first server; the password is read from {PASSWORD} or asked for",
    )
    group.add_argument(
        "--pid", type=int, action="append", metavar="PID",
        help="process to measure CPU time of, with its descendants (default: the local listener on the port)",
    )
    group.add_argument("--against-pid", type=int, action="append", metavar="PID", help="process of the second server")
    group.add_argument(
        "--watch", action="append", default=[], metavar="NAME=PID", type=_watched,
        help="another process whose CPU time is shown, like a broker; may be repeated",
    )


def _work(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-w", "--workload", action="append", metavar="NAME",
        help=f"workload, see below; may be repeated (without a mix: {', '.join(STANDARD)})",
    )
    for role, text in (("producers", "post"), ("claimers", "claim and delete"), ("listers", "list page after page")):
        _number(group, f"--{role}", 0, f"connections of a mix that {text}")
    _number(group, "--batch", 1, "messages per request of a mix")
    _number(group, "--body-size", Settings.body_size, "size of a message's body", "BYTES")
    _number(group, "--queues", Settings.queues, "queues that share the work")
    _number(group, "--idle-queues", Settings.idle_queues, "further queues, with one message in each")
    _number(group, "--backlog", Settings.backlog, "messages in each queue at the start")
    _number(group, "--claimed", Settings.claimed, "further messages in each queue, claimed at the start")
    group.add_argument("--fifo", action="store_true", help="make the queues FIFO queues")
    _number(group, "--groups", Settings.groups, "groups that the messages of a FIFO queue are in")
    group.add_argument("--dedup-ids", action="store_true", help="give each message in a FIFO queue a dedup_id")
    group.add_argument("--keep", action="store_true", help="don't delete the queues at the end")


def _load(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--connections", type=int, metavar="N",
        help="connections of each workload (8 for posts, lists and pops, 4 for cycles)",
    )
    _seconds(group, "--duration", Settings.duration, "length of a turn")
    _seconds(group, "--warm-up", Settings.warm_up, "warm-up before each turn, not counted")
    _number(group, "--rounds", Settings.rounds, "turns of each server and workload")
    _number(group, "--processes", Settings().processes, "processes that generate the load")
    _seconds(group, "--timeout", Settings.timeout, "timeout of a request")


def _number(group: argparse._ArgumentGroup, name: str, default: int, text: str, metavar: str = "N") -> None:
    group.add_argument(name, type=int, default=default, metavar=metavar, help=f"{text} (%(default)s)")


def _seconds(group: argparse._ArgumentGroup, name: str, default: float, text: str) -> None:
    group.add_argument(name, type=float, default=default, metavar="SECONDS", help=f"{text} (%(default)g)")


def _watched(text: str) -> tuple[str, int]:
    name, _, pid = text.partition("=")
    if not name or not pid.isdigit():
        raise argparse.ArgumentTypeError("must be NAME=PID")
    return name, int(pid)
