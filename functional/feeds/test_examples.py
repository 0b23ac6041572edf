"""docs/examples/feed.py does what it says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from functional.api.helpers import post
from functional.http import Api
from functional.wait import wait_until

PROGRAM = Path(__file__).parents[2] / "docs" / "examples" / "feed.py"

#: Seconds for what the program does; it opens a feed again after up to 4 s.
PATIENCE = 60.0


@pytest.fixture
def run(tmp_path):
    """Run the program with these arguments: the process, and a function that gives the bodies that it has printed."""
    running = []

    def run(*arguments):
        output = tmp_path / f"output-{len(running)}"
        with output.open("w") as file:
            process = subprocess.Popen([sys.executable, str(PROGRAM), *arguments], stdout=file, stderr=subprocess.PIPE)
        running.append(process)
        return process, lambda: [json.loads(line)["body"] for line in output.read_text().splitlines()]

    yield run
    for process in running:
        process.kill()
        process.wait()
        process.stderr.close()


def test_program_goes_on_after_restarts_of_both_sides(start_gateway, run, queue, tmp_path):
    gateway = start_gateway()
    api = Api(gateway.url)
    state = tmp_path / "marker"
    arguments = (gateway.url, queue, "--project", api.project, "--state", str(state))
    post(api, queue, 1, 2)
    first, printed = run(*arguments)
    wait_until(lambda: printed() == [1, 2], PATIENCE, "what was there")

    gateway.kill()
    gateway.start()
    post(api, queue, 3)
    wait_until(lambda: printed() == [1, 2, 3], PATIENCE, "what came after a crash")
    gateway.restart()
    before = state.read_text()
    post(api, queue, 4)
    wait_until(lambda: printed() == [1, 2, 3, 4], PATIENCE, "what came after a restart")
    wait_until(lambda: state.read_text() not in ("", before), PATIENCE, "the place to be kept")

    first.kill()
    first.wait()
    post(api, queue, 5)
    _, printed_later = run(*arguments)
    wait_until(lambda: printed_later() == [5], PATIENCE, "what came meanwhile")


def test_program_says_what_is_wrong(start_gateway, run, queue):
    process, _ = run(start_gateway().url, "a queue", "--project", "p")
    assert process.wait(PATIENCE) == 1
    assert b"400" in process.stderr.read()
