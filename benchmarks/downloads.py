"""downloads: a batch that downloads its outputs, beside the same batch that does not.

Both are `run_batch` as the command line runs it, with its journal and results file on disk, against the
emulator in a process of its own on loopback: pictures that take 2 to 5 s, a hundred at once. *without*
differs in one thing: `Generation.save` downloads nothing. All pictures are the same bytes, because drawing
them would make the server the bottleneck. *x without* is of the wall time from the first create to the last
file, round by round.

CPU is the client's. The server's load in a run shows whether it was the bottleneck (1 is a full core).

Not measured: a distant server and TLS make a download longer and cost more, and a slow line may be the
bottleneck. Then the downloads take all the time, and this ratio has no meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from benchmarks._figures import Row, Sample, figures, ratios
from benchmarks._harness import Measure, Options, Round, interleaved
from benchmarks._processes import Server, client

__all__ = ("run",)

_AT_ONCE = 100
_TARGET = 1.1


@frozen(kw_only=True)
class _Case:
    name: str
    tasks: int
    file_bytes: int


def run(options: Options) -> list[Row]:
    """Measure small and large pictures."""
    scale = 5 if options.quick else 1
    cases = (
        _Case(name="0.1 MB", tasks=500 // scale, file_bytes=100_000),
        _Case(name="2 MB", tasks=500 // scale, file_bytes=2_000_000),
    )
    rounds = options.times(7)
    return [row for case in cases for row in _rows(case, rounds)]


def _rows(case: _Case, rounds: int) -> list[Row]:
    variants: dict[str, Measure] = {
        "without": lambda _: _measured(case, downloads=False),
        "with downloads": lambda _: _measured(case, downloads=True),
    }
    measured = interleaved(variants, rounds, about=case.name)
    return [_row(case, name, measured) for name in variants]


def _row(case: _Case, name: str, measured: list[Round]) -> Row:
    return {
        "case": f"{case.tasks:,} pictures of {case.name}",
        "variant": name,
        "x without": ratios(measured, name, "without", lambda sample: float(sample["wall"])),
        "target": _TARGET if name == "with downloads" else "",
        **figures([each[name] for each in measured], _COLUMNS),
    }


def _measured(case: _Case, *, downloads: bool) -> Sample:
    with Server(median=3.16, sigma=0.23, file_bytes=case.file_bytes) as server:
        before = server.report()["cpu"]
        job: dict[str, Any] = {"url": server.url, "tasks": case.tasks, "at_once": _AT_ONCE}
        sample = client("batch", downloads=downloads, **job)
        report = server.report()
    return {**sample, "server_cpu": report["cpu"] - before, "tasks": case.tasks, "charged": report["charged"]}


_COLUMNS: dict[str, Callable[[Sample], float]] = {
    "wall s": lambda sample: sample["wall"],
    "files": lambda sample: sample["files"],
    "bought": lambda sample: sample["charged"],
    "CPU ms/task": lambda sample: 1e3 * sample["cpu"] / sample["tasks"],
    "client load": lambda sample: sample["cpu"] / sample["wall"],
    "server load": lambda sample: sample["server_cpu"] / sample["wall"],
}
