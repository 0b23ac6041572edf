"""The ``marconi`` command. Each subcommand is imported when it is chosen, so that the others need not be paid for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway import __version__

EPILOG = """\
Without --config-file, marconi.conf is looked for in ~/.marconi, ~, /etc/marconi and /etc; without any file the
embedded default is served: no broker, one SQLite file. Each option can also be set in the environment:
[bridge] uri is OS_BRIDGE__URI.
"""


@dataclass(frozen=True)
class Command:
    """A subcommand."""

    #: One line for ``marconi --help``.
    help: str

    #: Declares its arguments.
    declare: Callable[[argparse.ArgumentParser], None]

    #: Runs it with the arguments; the exit status.
    run: Callable[[argparse.Namespace], int]


def parser(chosen: str | None) -> argparse.ArgumentParser:
    """The command line. ``chosen``: the subcommand whose arguments are needed, None if there is none."""
    top = argparse.ArgumentParser(
        prog="marconi",
        description="HTTP messaging gateway: queues, messages and claims in front of AMQP brokers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"marconi {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        text = command.help
        subparser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == chosen:
            command.declare(subparser)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; the exit status: 0, 1 if something is wrong, 2 for a wrong command line."""
    words = sys.argv[1:] if argv is None else argv
    # The options in front of the subcommand take no values.
    chosen = next((word for word in words if not word.startswith("-")), None)
    arguments = parser(chosen).parse_args(words)
    return COMMANDS[arguments.command].run(arguments)


def _declare_config_file(subparser: argparse.ArgumentParser) -> None:
    subparser.add_argument(
        "--config-file", action="append", metavar="FILE",
        help="configuration file; may be repeated, later ones win (sample: etc/marconi.conf.sample)",
    )


def _declare_bench(subparser: argparse.ArgumentParser) -> None:
    from gateway.bench.options import add_arguments

    add_arguments(subparser)


def _serve(arguments: argparse.Namespace) -> int:
    from gateway.commands.serve import serve

    return _with_configuration(arguments, serve)


def _check(arguments: argparse.Namespace) -> int:
    from gateway.commands.check import check

    return _with_configuration(arguments, lambda conf, read_again: 0 if check(conf) else 1)


def _bench(arguments: argparse.Namespace) -> int:
    from gateway.bench.command import bench

    return bench(arguments)


def _with_configuration(arguments: argparse.Namespace, run: Callable[[Any, Callable[[], Any]], int]) -> int:
    """Run what needs the configuration, and may read it again; a refusal is one line."""
    from gateway.config.reader import load
    from gateway.config.refused import REFUSALS, reason

    def read() -> Any:
        return load(config_files=arguments.config_file)

    try:
        return run(read(), read)
    except REFUSALS as error:
        print(f"marconi: {reason(error)}", file=sys.stderr)
        return 1


COMMANDS = {
    "serve": Command("run the gateway until SIGTERM or Ctrl-C", _declare_config_file, _serve),
    "check": Command(
        "test configuration, broker and side-store, and say what is wrong with each", _declare_config_file, _check
    ),
    "bench": Command("measure a gateway, or any server of this API, by its URL", _declare_bench, _bench),
}

if __name__ == "__main__":
    sys.exit(main())
