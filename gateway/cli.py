"""The ``marconi`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from gateway import __version__
from gateway.bench.options import add_arguments as add_bench_arguments
from gateway.config.reader import load
from gateway.config.refused import REFUSALS, reason

EPILOG = """\
Without --config-file, marconi.conf is looked for in ~/.marconi, ~, /etc/marconi and /etc; without any file the
embedded default is served: no broker, one SQLite file. Each option can also be set in the environment:
[bridge] uri is OS_BRIDGE__URI.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="marconi",
        description="HTTP messaging gateway: queues, messages and claims in front of AMQP brokers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"marconi {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("serve", "run the gateway until SIGTERM or Ctrl-C"),
        ("check", "test configuration, broker and side-store, and say what is wrong with each"),
    ):
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.add_argument(
            "--config-file", action="append", metavar="FILE",
            help="configuration file; may be repeated, later ones win (sample: etc/marconi.conf.sample)",
        )
    add_bench_arguments(commands.add_parser("bench", help="measure a gateway, or any server of this API, by its URL"))
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status: 0, 1 when something is wrong, 2 for a wrong command line."""
    arguments = parser().parse_args(argv)
    if arguments.command == "bench":
        from gateway.bench.command import bench

        return bench(arguments)

    def read() -> Any:
        return load(config_files=arguments.config_file)

    try:
        conf = read()
        if arguments.command == "check":
            # Not above: it brings along what a supervisor has no need of.
            from gateway.commands.check import check

            return 0 if check(conf) else 1
        from gateway.commands.serve import serve

        return serve(conf, read)
    except REFUSALS as error:
        print(f"marconi: {reason(error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
