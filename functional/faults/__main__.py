"""``python -m functional.faults``: faults under load, by hand; see docs/reliability.md."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from functional.faults.kinds import KINDS
from functional.faults.mutants import MUTANTS
from functional.faults.plan import PARTS
from functional.faults.run import CLUSTER, run
from functional.faults.single import BROKERS
from functional.faults.summary import summary


def say(text: str) -> None:
    """Print at once, also into a file."""
    print(text, flush=True)


def main() -> int:
    """The exit status: 0 when every promise was kept in every run."""
    parser = argparse.ArgumentParser(prog="python -m functional.faults", description=__doc__)
    parser.add_argument("--seed", type=int, action="append", help="draws the faults; may be repeated (one at random)")
    parser.add_argument("--duration", type=float, default=300.0, help="seconds of faults in each run (300)")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only faults of this kind; may be repeated")
    parser.add_argument(
        "--on", choices=(CLUSTER, *BROKERS), default=CLUSTER, help="a cluster of three, or single nodes (cluster)"
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part of the load; may be repeated")
    parser.add_argument("--without-keys", action="store_true", help="repeat posts as they are, which is to be found")
    parser.add_argument("--mutant", choices=MUTANTS, help="run gateways with this deliberate bug")
    parser.add_argument(
        "--save", type=Path, metavar="FOLDER", help="keep the history of each run and the gateways' logs there"
    )
    options = parser.parse_args()
    good, histories = True, []
    for seed in options.seed or [random.randrange(1_000_000)]:
        mutant = f", mutant {options.mutant}" if options.mutant else ""
        say(f"seed {seed}, {options.duration:g} s, {options.on}{mutant}")
        report, history = run(
            seed, options.duration, say, options.kind or (), options.mutant, options.save, options.on,
            options.part or (), not options.without_keys,
        )
        say("\n".join(report.lines()))
        histories.append(history)
        good = good and report.good
        say("\n".join(summary([history])))
    if len(histories) > 1:
        say(f"all {len(histories)} runs:")
        say("\n".join(summary(histories)))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
