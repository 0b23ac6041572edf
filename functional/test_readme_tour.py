"""The README's tour, run as it is written.

In a ```console block a line that begins with `$ ` is a command, and the lines below it are its output; `…` stands for a
value that differs each time. All commands run in one shell.
"""

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from functional.services.gateway import Gateway

README = Path(__file__).parents[1] / "README.md"

#: Where the tour thinks that the gateway is.
ADDRESS = "http://127.0.0.1:8888"

#: Printed in front of each command's output; in no answer.
MARK = "==== next command ===="

#: What `…` matches: a time, an id or a number, and not the rest of the answer with it.
ANY_VALUE = r'[^"\s]*'

#: Seconds for the whole tour: some thirty requests.
TIMEOUT = 60.0


@dataclass(frozen=True)
class Step:
    """A command and the output that the README promises."""

    command: str
    output: str

    def matches(self, actual: str) -> bool:
        pattern = ANY_VALUE.join(re.escape(part) for part in self.output.split("…"))
        return re.fullmatch(pattern, actual) is not None


def steps(markdown: str) -> list[Step]:
    """The steps of all console blocks, in order."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", markdown, re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append(Step(command, output.strip()))
    return found


def test_tour_shows_what_happens(start_gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    gateway = start_gateway()
    tour = steps(README.read_text())
    assert len(tour) > 10
    script = "\n".join(f"echo '{MARK}'\n{step.command}" for step in tour).replace(ADDRESS, gateway.url)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    outputs = [output.strip() for output in done.stdout.split(MARK)[1:]]
    wrong = [
        f"$ {step.command}\nexpected: {step.output}\n     got: {output}"
        for step, output in zip(tour, outputs, strict=True)
        if not step.matches(output)
    ]
    assert not wrong, "\n\n".join(wrong)
