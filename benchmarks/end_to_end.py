"""end_to_end: what the client costs beside plain aiohttp, from the first create to the last result.

Against the emulator in a process of its own on loopback. *ours* is ``as_completed`` with defaults, except
that all tasks may be in flight. *plain* is aiohttp with gather and a semaphore that creates and then polls at
a fixed interval. *same times* and *at once* are plain aiohttp that repeats the requests of *ours* in the same
round (``session.post(json=)``, ``await response.json()``): at the times at which they reached the server, or
as fast as possible. They wait for nothing and know every id, so they are the floor. *2..5 s* are tasks of
that length (95 % of them), *instant* are tasks that are done at their first query.

Lag is from a task's end, as the server knows it, to its outcome. Bought is the ledger's. A ratio is of CPU a
request, round by round, over *plain* and over both floors. The server's ceiling is what 32 raw connections
get from it; its load in a run shows whether it was the bottleneck (1 is a full core).

Not measured: TLS, compression and distance are missing; they cost every client the same and would bring the
ratios nearer to 1. Ours and plain poll at different times, so compare requests a task and lag together. No
rate is limited here.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from attrs import frozen

from benchmarks._ceiling import ceiling
from benchmarks._figures import Row, Sample, figures, ratios
from benchmarks._harness import Measure, Options, Round, interleaved
from benchmarks._processes import Server, client

__all__ = ("run",)

#: The most that ours has on the wire: 16 creates and 32 queries.
_WORKERS = 48


@frozen(kw_only=True)
class _Case:
    name: str
    tasks: int
    median: float
    sigma: float
    interval: float


def run(options: Options) -> list[Row]:
    """Measure both cases, and the server."""
    scale = 5 if options.quick else 1
    cases = (
        _Case(name="2..5 s", tasks=1000 // scale, median=3.16, sigma=0.23, interval=1.0),
        _Case(name="instant", tasks=3000 // scale, median=0.001, sigma=0.0, interval=0.25),
    )
    rounds = options.times(7)
    return [row for case in cases for row in _rows(case, rounds)] + [ceiling(min(rounds, 3))]


def _rows(case: _Case, rounds: int) -> list[Row]:
    variants: dict[str, Measure] = {
        "ours": lambda _: _measured(case, "ours"),
        "plain": lambda _: _measured(case, "plain", interval=case.interval),
        "same times": lambda done: _repeated(case, done, paced=True),
        "at once": lambda done: _repeated(case, done, paced=False),
    }
    measured = interleaved(variants, rounds, about=case.name)
    return [_row(case, name, measured) for name in variants]


def _row(case: _Case, name: str, measured: list[Round]) -> Row:
    a_request = _COLUMNS["CPU us/request"]
    return {
        "case": f"{case.name} x {case.tasks:,}",
        "variant": name,
        **figures([each[name] for each in measured], _COLUMNS),
        "x plain": ratios(measured, name, "plain", a_request),
        "x same times": ratios(measured, name, "same times", a_request),
        "x at once": ratios(measured, name, "at once", a_request),
    }


def _measured(case: _Case, name: str, **job: Any) -> Sample:
    """Run one client against a server of its own, and add the server's counts."""
    with Server(median=case.median, sigma=case.sigma) as server:
        before = server.report()["cpu"]
        sample = client(name, url=server.url, tasks=case.tasks, **job)
        report = server.report()
    sample["server_cpu"] = report["cpu"] - before
    sample["tasks"] = case.tasks
    sample["lag"] = [at - report["ends"][task_id] for task_id, at in sample["seen"].items()]
    return {
        **sample,
        **{name: report[name] for name in ("creates", "queries", "throttled", "charged", "log")},
    }


def _repeated(case: _Case, done: Round, *, paced: bool) -> Sample:
    return _measured(case, "replay", log=done["ours"]["log"], paced=paced, workers=_WORKERS)


def _requests(sample: Sample) -> int:
    requests: int = sample["creates"] + sample["queries"]
    return requests


def _lag(sample: Sample) -> float:
    return 1e3 * statistics.fmean(sample["lag"]) if sample["lag"] else float("nan")


_COLUMNS: dict[str, Callable[[Sample], float]] = {
    "wall s": lambda sample: sample["wall"],
    "CPU us/task": lambda sample: 1e6 * sample["cpu"] / sample["tasks"],
    "requests/task": lambda sample: _requests(sample) / sample["tasks"],
    "CPU us/request": lambda sample: 1e6 * sample["cpu"] / _requests(sample),
    "lag ms": _lag,
    "failed": lambda sample: len(sample["failures"]),
    "bought": lambda sample: sample["charged"],
    "429s": lambda sample: sample["throttled"],
    "client load": lambda sample: sample["cpu"] / sample["wall"],
    "server load": lambda sample: sample["server_cpu"] / sample["wall"],
}
