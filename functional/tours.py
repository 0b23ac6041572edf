"""Tours of the documentation, run as they are written.

In a ```console block a line that begins with `$ ` is a command, and the lines below it are its output; `…` stands for a
value that differs each time. All commands of a tour run in one shell.
"""

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Printed in front of each command's output; in no answer.
MARK = "==== next command ===="

#: What `…` matches: a time, an id or a number, and not the rest of the answer with it.
ANY_VALUE = r'[^"\s]*'

#: Seconds for a whole tour: some thirty requests.
TIMEOUT = 60.0


@dataclass(frozen=True)
class Step:
    """A command and the output that the page promises."""

    command: str
    output: str

    def matches(self, actual: str) -> bool:
        pattern = ANY_VALUE.join(re.escape(part) for part in self.output.split("…"))
        return re.fullmatch(pattern, actual) is not None


def section(markdown: str, title: str) -> str:
    """The text below a heading, up to the next one of its level."""
    found = re.search(rf"^(##+) {re.escape(title)}\n(.*?)(?=^\1 |\Z)", markdown, re.DOTALL | re.MULTILINE)
    assert found, title
    return found.group(2)


def blocks(markdown: str, language: str) -> list[str]:
    """The blocks of a language, without what they are indented by."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```$", markdown, re.DOTALL | re.MULTILINE)
    return [re.sub(r"^ +", "", block, flags=re.MULTILINE) if language == "sh" else block for block in found]


def steps(markdown: str) -> list[Step]:
    """The steps of all console blocks, in order."""
    found = []
    for block in blocks(markdown, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append(Step(command, output.strip()))
    return found


def replaced(text: str, here: Mapping[str, str]) -> str:
    """A text with what it names, such as addresses, as it is here."""
    for written, is_here in here.items():
        text = text.replace(written, is_here)
    return text


def take(tour: Sequence[Step], folder: Path, here: Mapping[str, str]) -> None:
    """Run the steps in a folder. Raises AssertionError with those whose output is not as promised."""
    script = "\n".join(f"echo '{MARK}'\n{step.command}" for step in tour)
    done = subprocess.run(
        ["bash", "-c", "trap 'kill $(jobs -p) 2> /dev/null' EXIT\n" + replaced(script, here)],
        cwd=folder,
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
