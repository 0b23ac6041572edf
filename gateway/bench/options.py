"""The command line of ``marconi bench``; light, as each run of ``marconi`` declares it."""

from __future__ import annotations

import argparse
from pathlib import Path

from gateway.bench.settings import Settings
from gateway.bench.workloads import STANDARD

#: Where the password of --user may be.
PASSWORD = "MARCONI_BENCH_PASSWORD"  # nosec B105

DESCRIPTION = """\
Measure a gateway, or any server of the Messaging API, by its URL. With --against a second one is measured in the same
run, in turns with the first, and the ratios are shown. The load comes from processes of its own.
"""

EPILOG = """\
workloads, N messages each:
  post-N   post N messages
  list-N   list the first N messages
  cycle-N  post N, claim N, delete each of them
  pop-N    post N, take N out in one step
A mix (--producers, --claimers, --listers) has them work on the same queues at the same time.

Queues of its own are made and removed: bench-... in the project. Latencies are of requests that went well.
msg/s counts what was posted, listed, popped, or deleted in a cycle and by claimers.
"""



def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("url", metavar="URL", help="root of the server: http://127.0.0.1:8888")
    _servers(parser.add_argument_group("servers"))
    _work(parser.add_argument_group("work"))
    _load(parser.add_argument_group("load"))
    output = parser.add_argument_group("output")
    output.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    output.add_argument("--plot", type=Path, metavar="FILE", help="write a bar chart there, SVG")


def _servers(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--against", metavar="URL", help="a second server")
    group.add_argument("--name", help="what to call the first server (its host and port)")
    group.add_argument("--against-name", metavar="NAME", help="what to call the second one")
    group.add_argument(
        "--ceiling", action="store_true",
        help="measure a bare Flask view under waitress with 8 threads too; it takes part in posts and lists",
    )
    group.add_argument("--project", default=Settings.project, help="X-Project-ID (%(default)s)")
    group.add_argument(
        "--header", action="append", default=[], metavar="LINE",
        help="'Name: value' to send with each request, or @FILE with such lines; may be repeated",
    )
    group.add_argument("--against-header", action="append", default=[], metavar="LINE", help="for the second server")
    group.add_argument(
        "--user", metavar="NAME",
        help=f"for basic authentication at the first server; the password is asked for, or in {PASSWORD}",
    )
    group.add_argument(
        "--pid", type=int, action="append", metavar="PID",
        help="process whose CPU time counts, with all below it; found by the port if it listens on this machine",
    )
    group.add_argument("--against-pid", type=int, action="append", metavar="PID", help="of the second server")
    group.add_argument(
        "--watch", action="append", default=[], metavar="NAME=PID", type=_watched,
        help="another process whose CPU time is shown, such as a broker; may be repeated",
    )


def _work(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-w", "--workload", action="append", metavar="NAME",
        help=f"see below; may be repeated ({', '.join(STANDARD)}, if no mix is asked for)",
    )
    for role, text in (("producers", "post"), ("claimers", "claim and delete"), ("listers", "list on with markers")):
        _number(group, f"--{role}", 0, f"connections of a mix that {text}")
    _number(group, "--batch", 1, "messages of each request of a mix")
    _number(group, "--body-size", Settings.body_size, "of a message", "BYTES")
    _number(group, "--queues", Settings.queues, "to spread the work over")
    _number(group, "--idle-queues", Settings.idle_queues, "more queues, one message in each")
    _number(group, "--backlog", Settings.backlog, "messages in each queue before it begins")
    _number(group, "--claimed", Settings.claimed, "as many more, claimed before it begins")
    group.add_argument("--keep", action="store_true", help="leave the queues and what is in them")


def _load(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--connections", type=int, metavar="N", help="(8 for posts, lists and pops, 4 for cycles)")
    _seconds(group, "--duration", Settings.duration, "of a turn")
    _seconds(group, "--warm-up", Settings.warm_up, "before each turn, not counted")
    _number(group, "--rounds", Settings.rounds, "turns of each server")
    _number(group, "--processes", Settings().processes, "of the client")
    _seconds(group, "--timeout", Settings.timeout, "for an answer")


def _number(group: argparse._ArgumentGroup, name: str, default: int, text: str, metavar: str = "N") -> None:
    group.add_argument(name, type=int, default=default, metavar=metavar, help=f"{text} (%(default)s)")


def _seconds(group: argparse._ArgumentGroup, name: str, default: float, text: str) -> None:
    group.add_argument(name, type=float, default=default, metavar="SECONDS", help=f"{text} (%(default)g)")


def _watched(text: str) -> tuple[str, int]:
    name, _, pid = text.partition("=")
    if not name or not pid.isdigit():
        raise argparse.ArgumentTypeError("must be NAME=PID")
    return name, int(pid)


