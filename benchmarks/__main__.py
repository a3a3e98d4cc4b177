"""Run one benchmark, print its table, and keep its figures in ``benchmarks/results/NAME.json``."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from benchmarks._figures import table
from benchmarks._harness import Options
from benchmarks._results import record

_NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


def main() -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=_NAMES)
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and smaller sizes: does it run at all?"
    )
    parser.add_argument("--rounds", type=int, help="how often everything is measured, interleaved")
    parser.add_argument(
        "--huge", action="store_true", help="also the sizes that take minutes (scale: 100,000)"
    )
    given = parser.parse_args()
    options = Options(rounds=given.rounds, quick=given.quick, huge=given.huge)
    module = import_module(f"benchmarks.{given.name}")
    rows = module.run(options)
    print(f"{(module.__doc__ or '').strip()}\n")
    print(table(rows))
    print(f"\nkept in {record(given.name, rows, options)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
