"""overhead: what is left of the client's cost once the requests themselves are taken off, and bytes a task in flight.

*same times*: ``as_completed`` with defaults (except that all tasks may be in flight) against the emulator on
loopback, with tasks of 2..5 s; and plain aiohttp that repeats its requests (``session.post(json=)``,
``await response.json()``) at the times at which they reached the server. *saturated*: tasks that are done when they
are first asked for, so that ours goes as fast as it can; and the same requests over plain aiohttp, as fast as they
go. The ratio is of CPU a request, taken within a round. *wall* says who was faster where nobody waited.

*in flight*: a handler in the same process that ends no task before all were accepted and asked once; bytes a task are
what the process then holds more than before, when it held the same requests in a list.

What it does not say: plain aiohttp here knows every id beforehand, waits for nothing, and survives no error.
TLS and distance are missing; they cost both the same and would bring the ratios nearer to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from benchmarks._figures import Row, Sample, figures, ratios
from benchmarks._harness import Measure, Options, Round, interleaved
from benchmarks._processes import Server, client

__all__ = ("run",)

#: What ours has on the wire at most: 16 creates and 32 queries.
_WORKERS = 48
_IN_FLIGHT = (1_000, 10_000, 100_000)


@frozen(kw_only=True)
class _Case:
    name: str
    tasks: int
    median: float
    sigma: float
    paced: bool


_CASES = (
    _Case(name="same times", tasks=1_000, median=3.16, sigma=0.23, paced=True),
    _Case(name="saturated", tasks=3_000, median=0.001, sigma=0.0, paced=False),
)


def run(options: Options) -> list[Row]:
    """Measure CPU beside plain aiohttp, then memory at every size."""
    rounds = options.times(15)
    rows = [row for case in _CASES for row in _cpu(case, rounds, scale=5 if options.quick else 1)]
    sizes = _IN_FLIGHT[: 1 if options.quick else len(_IN_FLIGHT)]
    return rows + _memory(sizes, options.times(5))


def _cpu(case: _Case, rounds: int, *, scale: int) -> list[Row]:
    tasks = case.tasks // scale

    def repeated(done: Round) -> Sample:
        return _measured(case, "replay", tasks, log=done["ours"]["log"], paced=case.paced, workers=_WORKERS)

    variants: dict[str, Measure] = {"ours": lambda _: _measured(case, "ours", tasks), "plain": repeated}
    measured = interleaved(variants, rounds, about=case.name)
    return [
        {
            "case": f"{case.name} x {tasks:,}",
            "variant": name,
            **figures([each[name] for each in measured], _CPU),
            "x plain": ratios(measured, name, "plain", _CPU["CPU us/request"]),
        }
        for name in variants
    ]


def _measured(case: _Case, name: str, tasks: int, **job: Any) -> Sample:
    """Run one client against a server of its own, and add what the server saw."""
    with Server(median=case.median, sigma=case.sigma) as server:
        sample = client(name, url=server.url, tasks=tasks, **job)
        report = server.report()
    sample["requests"] = report["creates"] + report["queries"]
    return {**sample, "log": report["log"], "tasks": tasks}


def _memory(sizes: tuple[int, ...], rounds: int) -> list[Row]:
    def holding(size: int) -> Measure:
        return lambda _: {**client("in_memory", tasks=size, hold=True), "tasks": size}

    measured = interleaved({f"{size:,}": holding(size) for size in sizes}, rounds, about="in flight")
    return [
        {"case": "in flight", "tasks": size, **figures([each[f"{size:,}"] for each in measured], _MEMORY)}
        for size in sizes
    ]


_CPU: dict[str, Callable[[Sample], float]] = {
    "wall s": lambda sample: sample["wall"],
    "requests/task": lambda sample: sample["requests"] / sample["tasks"],
    "CPU us/task": lambda sample: 1e6 * sample["cpu"] / sample["tasks"],
    "CPU us/request": lambda sample: 1e6 * sample["cpu"] / sample["requests"],
    "client load": lambda sample: sample["cpu"] / sample["wall"],
    "failed": lambda sample: len(sample["failures"]),
}
_MEMORY: dict[str, Callable[[Sample], float]] = {
    "bytes/task": lambda sample: sample["memory"] / sample["tasks"],
    "CPU us/task": lambda sample: 1e6 * sample["cpu"] / sample["tasks"],
    "failed": lambda sample: len(sample["failures"]),
}
