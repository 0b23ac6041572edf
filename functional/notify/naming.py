"""Runs `marconi` with names of the test's own, as a name server would say them: `.test` belongs to tests (RFC 6761).

    python -m functional.notify.naming FILE -- serve --config-file FILE

FILE is a JSON object: for each name a list of answers, which are lists of addresses. Each look-up gets the next answer,
and the last one stays. Containers have no name server that a test may change, so this takes the place of the system's
resolver, for these names alone; whatever becomes of the answers is the gateway's.
"""

import argparse
import json
import os
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from functional.services.gateway import Gateway, Options

ROOT = Path(__file__).parents[2]

#: Answers of each name.
Names = Mapping[str, Sequence[Sequence[str]]]


def answer_for(names: Names) -> None:
    """Have this process resolve these names so."""
    real, lock = socket.getaddrinfo, threading.Lock()
    left = {name: list(answers) for name, answers in names.items()}

    def getaddrinfo(host: Any, port: Any, *arguments: Any, **named: Any) -> Any:
        if host not in left:
            return real(host, port, *arguments, **named)
        with lock:
            answers = left[host]
            addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [found for address in addresses for found in real(address, port, *arguments, **named)]

    socket.getaddrinfo = getaddrinfo


class NamedGateway(Gateway):
    """A gateway that knows these names, with more in its environment."""

    def __init__(self, options: Options, names: Names, environment: Mapping[str, str]) -> None:
        super().__init__(options)
        self._more = environment
        self._names = self.folder / "names"
        self._names.write_text(json.dumps(names))

    def command(self) -> list[str]:
        return [sys.executable, "-m", "functional.notify.naming", str(self._names), "--", *super().command()[1:]]

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        return super().environment() | {"PYTHONPATH": path} | self._more


def main() -> int:
    """As `marconi`; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m functional.notify.naming", description=__doc__)
    parser.add_argument("names", type=Path)
    parser.add_argument("arguments", nargs="+")
    options = parser.parse_args()
    answer_for(json.loads(options.names.read_text()))

    from gateway.cli import main as marconi

    return marconi(options.arguments)


if __name__ == "__main__":
    raise SystemExit(main())
