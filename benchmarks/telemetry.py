"""telemetry: what events cost, by who gets them.

A batch of tasks that are done at their third query, in memory, so that the CPU is the client's own, without
HTTP. *nothing, again* is the same as *nothing*: its ratio shows the noise. *OpenTelemetry, no SDK* is the API
alone, which discards all. *OpenTelemetry* makes spans and metrics and exports none. ``--code DIR`` adds
the code of another checkout, for example the one before there was telemetry, as *earlier code*. The
ratios are of CPU a task, within a round.
"""

from __future__ import annotations

from benchmarks._figures import Row, Sample, figures, ratios
from benchmarks._harness import Measure, Options, interleaved
from benchmarks._processes import client

__all__ = ("run",)

_WATCHES = ("nothing", "a function", "OpenTelemetry, no SDK", "OpenTelemetry")


def run(options: Options) -> list[Row]:
    """Measure the CPU of a task with each kind of watcher."""
    tasks = 500 if options.quick else 5_000

    def watched(watch: str, code: str | None = None) -> Measure:
        return lambda _: client("in_memory", tasks=tasks, hold=False, watch=watch, code=code)

    variants = {watch: watched(watch) for watch in _WATCHES}
    variants["nothing, again"] = watched("nothing")
    if options.code is not None:
        variants["earlier code"] = watched("nothing", options.code)
    measured = interleaved(variants, options.times(15), about="telemetry")
    return [
        {
            "events go to": name,
            **figures([each[name] for each in measured], {"CPU us/task": lambda each: _cpu(each, tasks)}),
            "x nothing": ratios(measured, name, "nothing", lambda each: each["cpu"]),
        }
        for name in variants
    ]


def _cpu(sample: Sample, tasks: int) -> float:
    return float(1e6 * sample["cpu"] / tasks)
