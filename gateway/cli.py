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


def _declare_notify(subparser: argparse.ArgumentParser) -> None:
    _declare_config_file(subparser)
    subparser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="number of processes that share the work (default: 1)"
    )
    subparser.epilog = (
        "`marconi serve` delivers too, unless [notification] deliver is false. All processes of all machines share the"
        " subscriptions."
    )


def _notify(arguments: argparse.Namespace) -> int:
    from gateway.commands.notify import notify

    if arguments.processes < 1:
        print("marconi: notify needs at least one process", file=sys.stderr)
        return 2
    return _with_configuration(arguments, lambda conf, read_again: notify(conf, arguments.processes, read_again))


def _declare_check(subparser: argparse.ArgumentParser) -> None:
    subparser.add_argument(
        "url", nargs="*", metavar="URL",
        help="a subscriber, as in https://hooks.example.org/orders: say whether notifications may be delivered to it,"
             " to which of its addresses, and which option of [notification] decides; nothing is sent there",
    )
    _declare_config_file(subparser)
    subparser.epilog = (
        "Exit status: 0 all is well, or each URL is allowed; 1 something is wrong, or a URL is refused. Names are"
        " resolved on this machine: ask on each that delivers."
    )


def _check(arguments: argparse.Namespace) -> int:
    if arguments.url:
        from gateway.commands.check_addresses import check_addresses

        return _with_configuration(
            arguments, lambda conf, read_again: 0 if check_addresses(conf, arguments.url) else 1
        )
    from gateway.commands.check import check

    return _with_configuration(arguments, lambda conf, read_again: 0 if check(conf) else 1)


def _declare_migrate(subparser: argparse.ArgumentParser) -> None:
    subparser.add_argument("queue", metavar="QUEUE", help="name of the queue")
    subparser.add_argument("pool", metavar="POOL", nargs="?", help="name of the pool that it moves to")
    subparser.add_argument("--project", required=True, metavar="PROJECT", help="id of the project that owns the queue")
    _declare_move(subparser, "leave the queue where it is; possible until posts have switched")


def _declare_evacuate(subparser: argparse.ArgumentParser) -> None:
    subparser.add_argument("pool", metavar="POOL", help="name of the pool that all queues leave")
    subparser.add_argument(
        "--to", metavar="POOL", default="",
        help="name of the pool that they move to; without it each goes where a new queue would be put",
    )
    _declare_move(subparser, "move no more queues; those on their way go on")


def _declare_move(subparser: argparse.ArgumentParser, cancel: str) -> None:
    how = subparser.add_mutually_exclusive_group()
    how.add_argument("--cancel", action="store_true", help=cancel)
    how.add_argument("--no-wait", action="store_true", help="begin, and leave the rest to the gateways")
    _declare_config_file(subparser)
    subparser.epilog = (
        "The queues stay in use. Ctrl-C leaves the work to the gateways. Exit status: 0 it is done, or has begun with"
        " --no-wait; 1 it can't be done or somebody has cancelled it; 130 after Ctrl-C."
    )


def _migrate(arguments: argparse.Namespace) -> int:
    from gateway.commands.moving import migrate

    if arguments.pool is None and not arguments.cancel:
        print("marconi: migrate needs the POOL that the queue moves to, or --cancel", file=sys.stderr)
        return 2
    return _with_configuration(arguments, lambda conf, read_again: migrate(
        conf, arguments.project, arguments.queue, arguments.pool, arguments.cancel, not arguments.no_wait
    ))


def _evacuate(arguments: argparse.Namespace) -> int:
    from gateway.commands.moving import evacuate

    return _with_configuration(arguments, lambda conf, read_again: evacuate(
        conf, arguments.pool, arguments.to, arguments.cancel, not arguments.no_wait
    ))


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
    "notify": Command("deliver notifications until SIGTERM or Ctrl-C, and serve nobody", _declare_notify, _notify),
    "check": Command(
        "test configuration, broker and side-store and say what is wrong with each, or where notifications may go",
        _declare_check, _check,
    ),
    "migrate": Command("move a queue to another pool while it is used", _declare_migrate, _migrate),
    "evacuate": Command("move all queues of a pool to others while they are used", _declare_evacuate, _evacuate),
    "bench": Command("measure a gateway, or any server of this API, by its URL", _declare_bench, _bench),
}

if __name__ == "__main__":
    sys.exit(main())
