"""The scripts behind docs/performance.md run; what they measure here, in moments, says nothing."""

import subprocess
import sys

#: Seconds for a run of a few short turns on a machine that is busy with other things.
TIMEOUT = 100


def run(*arguments):
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=TIMEOUT)


def test_scaling_compares_with_the_first_case():
    done = run("functional.scaling", "--duration", "0.3", "--warm-up", "0.1", "--rounds", "1", "--backlog", "60",
               "--claimed", "40", "--queues", "3", "backlog", "claimed", "queues")

    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    labels = [(row[0], row[1], row[4]) for row in rows if row[0].startswith("cycle")]
    assert [label[1] for label in labels] == [
        "empty queue", "60 waiting", "empty queue", "60 waiting", "none", "40 claimed", "none", "40 claimed", "1 queue",
        "3 queues, 1 busy",
    ]
    assert all(ratio == "1.00×" for _, label, ratio in labels if label in ("empty queue", "none", "1 queue"))
    assert "errors" not in done.stdout


def test_soak_counts_messages_and_memory():
    done = run("functional.soak", "--embedded", "--messages", "10000", "--step", "0.3")

    if "too few messages" not in done.stderr:
        assert "times that after 20% of the messages" in done.stdout, done.stderr
    assert " messages: " in done.stderr
