"""Run benchmarks, print their tables, and keep their figures in ``benchmarks/results/NAME.json``."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from benchmarks._code import use_code
from benchmarks._figures import table
from benchmarks._harness import Options
from benchmarks._report import regenerate
from benchmarks._results import Measured, record

_NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


def main() -> int:
    """Run the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="+",
        choices=[*_NAMES, "all", "report"],
        metavar="name",
        help=f"{', '.join(_NAMES)}; all of them; or report, which writes docs/performance.md again",
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and smaller sizes: does it run at all?"
    )
    parser.add_argument("--rounds", type=int, help="how often everything is measured, interleaved")
    parser.add_argument(
        "--huge", action="store_true", help="also the sizes that take minutes (scale: 100,000)"
    )
    _add_random_limits(parser)
    given = vars(parser.parse_args())
    names, options = given.pop("names"), Options(**given)
    if names != ["telemetry"]:  # it measures this code and the other one, side by side
        use_code(options.code)
    for name in names:
        if name == "report":
            print("\n".join(f"wrote {path}" for path in regenerate()))
        else:
            for each in _NAMES if name == "all" else [name]:
                _run(each, options)
    return 0


def _add_random_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("random_limits and random_limits_http")
    group.add_argument("--draws", type=int, metavar="N", help="how many limits to draw")
    group.add_argument(
        "--seed",
        default="reporting",
        metavar="S",
        help="the first seed: a number, tuning, or reporting (the default)",
    )
    group.add_argument(
        "--worst", type=int, default=10, metavar="N", help="how many of the worst draws to show"
    )
    group.add_argument("--jobs", type=int, metavar="N", help="how many processes or draws to run at once")
    group.add_argument("--code", metavar="DIR", help="measure the ruxa_async of another checkout")


def _run(name: str, options: Options) -> None:
    module = import_module(f"benchmarks.{name}")
    brought = module.run(options)
    measured = brought if isinstance(brought, Measured) else Measured(brought)
    print(f"{(module.__doc__ or '').strip()}\n")
    print(table(measured.rows))
    print(f"\nkept in {record(name + measured.suffix, measured, options)}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
