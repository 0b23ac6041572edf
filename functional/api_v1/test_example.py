"""The example of docs/examples, run as its first lines say."""

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "docs/examples/v1.py"


def test_example_works(gateway):
    done = subprocess.run(
        [sys.executable, EXAMPLE, gateway.url], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "posted 3", "working on {'job': 0}", "working on {'job': 1}", "working on {'job': 2}", "done",
    ]
