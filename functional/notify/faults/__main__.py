"""``python -m functional.notify.faults``: notifications under faults, by hand; see docs/reliability.md."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from functional.faults.cluster import SIZE
from functional.faults.mutants import MUTANTS
from functional.notify.faults.kinds import KINDS
from functional.notify.faults.run import run


def say(text: str) -> None:
    """Print at once, also into a file."""
    print(text, flush=True)


def main() -> int:
    """The exit status: 0 when every promise was kept in every run."""
    parser = argparse.ArgumentParser(prog="python -m functional.notify.faults", description=__doc__)
    parser.add_argument("--seed", type=int, action="append", help="draws the faults; may be repeated (one at random)")
    parser.add_argument("--duration", type=float, default=180.0, help="seconds of faults in each run (180)")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only faults of this kind; may be repeated")
    parser.add_argument("--mutant", choices=MUTANTS, help="run gateways and notifiers with this deliberate bug")
    parser.add_argument(
        "--cluster", action="store_true", help=f"{SIZE} brokers and {SIZE} mongods instead of one of each"
    )
    parser.add_argument(
        "--save", type=Path, metavar="FOLDER", help="keep the history of each run and the logs there"
    )
    options = parser.parse_args()
    good = True
    for seed in options.seed or [random.randrange(1_000_000)]:
        say(f"seed {seed}, {options.duration:g} s" + (f", mutant {options.mutant}" if options.mutant else ""))
        report, _ = run(
            seed, options.duration, say, options.kind or (), options.mutant, options.save,
            SIZE if options.cluster else 1,
        )
        say("\n".join(report.lines()))
        good = good and report.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
