"""``python -m functional.migration``: queues move under load, by hand; see docs/reliability.md."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from functional.faults.mutants import MUTANTS
from functional.migration.kinds import KINDS
from functional.migration.run import run


def say(text: str) -> None:
    """Print at once, also into a file."""
    print(text, flush=True)


def main() -> int:
    """The exit status: 0 when every promise was kept in every run."""
    parser = argparse.ArgumentParser(prog="python -m functional.migration", description=__doc__)
    parser.add_argument("--seed", type=int, action="append", help="draws the faults; may be repeated (one at random)")
    parser.add_argument("--duration", type=float, default=180.0, help="seconds of each run (180)")
    parser.add_argument("--calm", action="store_true", help="no faults: posts must not be refused, nor wait for long")
    parser.add_argument("--pool", action="append", help="of the brokers' pools only this one; may be repeated")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only faults of this kind; may be repeated")
    parser.add_argument("--mutant", choices=MUTANTS, help="run gateways with this deliberate bug")
    parser.add_argument(
        "--save", type=Path, metavar="FOLDER", help="keep the history of each run and the gateways' logs there"
    )
    options = parser.parse_args()
    good = True
    for seed in options.seed or [random.randrange(1_000_000)]:
        say(f"seed {seed}, {options.duration:g} s" + (f", mutant {options.mutant}" if options.mutant else ""))
        result = run(
            seed, options.duration, say, not options.calm, options.pool or (), options.kind or (), options.mutant,
            options.save,
        )
        say("\n".join(result.lines()))
        good = good and result.report.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
