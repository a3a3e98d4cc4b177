"""overhead: the client's own cost, without that of its requests, and how it grows.

*same times*: ``as_completed`` with defaults (except that all tasks may be in flight) against the emulator on
loopback, with tasks of 2..5 s; and plain aiohttp that repeats its requests (one session, its defaults,
``session.post(json=)``, ``await response.json()``) at the times at which they reached the server.
*saturated*: tasks that are done at their first query, on a server that costs next to nothing, so that ours
runs as fast as it can; and the same requests over plain aiohttp, as fast as possible. *plain* is what people
write: a task a request, which sleeps until its time. *plain, 48 workers* starts no task for a request and has
as many workers as ours. It cannot follow tasks, but the difference to it is all that ours decides, stores and
delivers. The ratios are of CPU a request, within a round. *wall* shows which was faster if nothing waited.

*in flight*: a handler in the same process that ends no task before all were accepted and queried once; bytes
a task are the memory of the process above that with the same requests in a list. *batch*: the same without
waiting, one create and three queries a task, so that its CPU is the client's own, without HTTP. A cost that
grows linearly shows the same figure in every line (a batch of 100 also pays for the start). ``--huge`` adds a
batch of 100,000 *over HTTP*, which takes some minutes. The last tables are the ceiling of the server, and the
cost of imports.

Not measured: plain aiohttp knows every id beforehand, waits for nothing, and survives no error. TLS and
distance are missing; they cost both the same and would bring the ratios nearer to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from attrs import frozen

from benchmarks import imports
from benchmarks._ceiling import ceiling
from benchmarks._figures import Row, Sample, figures, ratios
from benchmarks._harness import Measure, Options, Round, interleaved
from benchmarks._processes import Server, client

__all__ = ("run",)

#: The most that ours has on the wire: 16 creates and 32 queries.
_WORKERS = 48
_IN_FLIGHT = (1_000, 10_000, 100_000)
_BATCHES = (100, 1_000, 10_000, 100_000)


@frozen(kw_only=True)
class _Case:
    name: str
    tasks: int
    median: float
    sigma: float
    paced: bool
    instant: bool = False


_CASES = (
    _Case(name="same times", tasks=1_000, median=3.16, sigma=0.23, paced=True),
    _Case(name="saturated", tasks=3_000, median=0.0, sigma=0.0, paced=False, instant=True),
)


def run(options: Options) -> list[Row]:
    """Measure CPU beside plain aiohttp, then memory and growth at every size, the server, and imports."""
    rounds = options.times(15)
    rows = [row for case in _CASES for row in _cpu(case, rounds, scale=5 if options.quick else 1)]
    few = min(rounds, 3)
    rows += _sizes("in flight", _IN_FLIGHT[: 1 if options.quick else None], few, _HELD, hold=True)
    rows += _sizes("batch", _BATCHES[: 2 if options.quick else None], few, _GROWTH, hold=False)
    if options.huge:
        rows.append(_over_http(_BATCHES[-1]))
    # Imports come last, because they keep this process and its later children on one core.
    return [*rows, ceiling(few), *imports.run(options)]


def _cpu(case: _Case, rounds: int, *, scale: int) -> list[Row]:
    tasks = case.tasks // scale

    def repeated(workers: int) -> Measure:
        def measure(done: Round) -> Sample:
            log = done["ours"]["log"]
            return _measured(case, "replay", tasks, log=log, paced=case.paced, workers=workers)

        return measure

    variants: dict[str, Measure] = {
        "ours": lambda _: _measured(case, "ours", tasks, watched=False),
        "plain": repeated(0),
        f"plain, {_WORKERS} workers": repeated(_WORKERS),
    }
    measured = interleaved(variants, rounds, about=case.name)
    return [
        {
            "case": f"{case.name} x {tasks:,}",
            "variant": name,
            **figures([each[name] for each in measured], _CPU),
            "x plain": ratios(measured, name, "plain", _CPU["CPU us/request"]),
            "x workers": ratios(measured, name, f"plain, {_WORKERS} workers", _CPU["CPU us/request"]),
        }
        for name in variants
    ]


def _measured(case: _Case, name: str, tasks: int, **job: Any) -> Sample:
    """Run one client against a server of its own, and add the server's counts."""
    with Server(median=case.median, sigma=case.sigma, instant=case.instant) as server:
        sample = client(name, url=server.url, tasks=tasks, **job)
        report = server.report()
    sample["requests"] = report["creates"] + report["queries"]
    return {**sample, "log": report["log"], "tasks": tasks}


def _sizes(case: str, sizes: Sequence[int], rounds: int, columns: _Columns, *, hold: bool) -> list[Row]:
    """Measure batches of all *sizes* in memory; with *hold* all tasks are in flight at once."""

    def of(size: int) -> Measure:
        return lambda _: {**client("in_memory", tasks=size, hold=hold), "tasks": size}

    measured = interleaved({f"{size:,}": of(size) for size in sizes}, rounds, about=case)
    return [
        {"case": case, "tasks": size, **figures([each[f"{size:,}"] for each in measured], columns)}
        for size in sizes
    ]


def _over_http(tasks: int) -> Row:
    """Buy a batch of tasks that take long enough for nearly all of it to be in flight at once."""
    with Server(median=tasks / 500, sigma=0.05) as server:
        sample = client("ours", url=server.url, tasks=tasks)
        report = server.report()
    sample["tasks"], sample["requests"] = tasks, report["creates"] + report["queries"]
    return {
        "case": "over HTTP",
        "tasks": tasks,
        "most in flight": sample["most_in_flight"],
        "bought": report["charged"],
        **figures([sample], _CPU),
    }


_Columns: TypeAlias = dict[str, Callable[[Sample], float]]
_CPU: _Columns = {
    "wall s": lambda sample: sample["wall"],
    "requests/task": lambda sample: sample["requests"] / sample["tasks"],
    "CPU us/task": lambda sample: 1e6 * sample["cpu"] / sample["tasks"],
    "CPU us/request": lambda sample: 1e6 * sample["cpu"] / sample["requests"],
    "client load": lambda sample: sample["cpu"] / sample["wall"],
    "failed": lambda sample: len(sample["failures"]),
}
_GROWTH: _Columns = {
    "CPU us/task": lambda sample: 1e6 * sample["cpu"] / sample["tasks"],
    "CPU us/request": lambda sample: 1e6 * sample["cpu"] / sample["requests"],
    "failed": lambda sample: len(sample["failures"]),
}
_HELD: _Columns = {"bytes/task": lambda sample: sample["memory"] / sample["tasks"], **_GROWTH}
