"""Runs `marconi` with a clock of the day that can be stepped, and with a deliberate bug if one is asked for.

    python -m functional.faults.gateway FOLDER [--mutant NAME] [--shortest-claim SECONDS] -- serve --config-file FILE
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from functional.faults.mutants import MUTANTS
from gateway.config import limits

#: File in FOLDER with the seconds by which the clock is wrong.
CLOCK_FILE = "clock"

#: Seconds for which that is remembered.
REMEMBERED = 0.2


def make_steppable(file: Path) -> None:
    """Shift what this process takes for the time of the day by what a file says, now and whenever it changes."""
    real, monotonic = time.time, time.monotonic
    offset, read_at = 0.0, float("-inf")

    def shifted() -> float:
        nonlocal offset, read_at
        if monotonic() - read_at > REMEMBERED:
            text = file.read_text()
            offset, read_at = float(text) if text else offset, monotonic()
        return real() + offset

    time.time = shifted
    time.time_ns = lambda: int(shifted() * 1e9)


def main() -> int:
    """As `marconi`; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m functional.faults.gateway", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mutant", choices=MUTANTS)
    parser.add_argument("--shortest-claim", type=int, help="accept claims of so many seconds")
    parser.add_argument("arguments", nargs="+")
    options = parser.parse_args()
    make_steppable(options.folder / CLOCK_FILE)
    if options.shortest_claim:
        limits.MIN_CLAIM_TTL = options.shortest_claim  # read by others when they are imported, below
    if options.mutant:
        MUTANTS[options.mutant]()

    from gateway.cli import main as marconi

    return marconi(options.arguments)


if __name__ == "__main__":
    raise SystemExit(main())
