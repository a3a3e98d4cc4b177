"""bulk_quota: 100 tasks of 10 s under one unknown quota. Which client gets all results, and when?

The quota is a token bucket of 10 requests a second with a burst of 10, over creates and queries together.
Above it, the emulator replies 429 with ``Retry-After: 1``. A client that knew quota and durations would have
the last result after 20 s: 200 requests, less the burst. Each contender has an emulator and a process of its
own, on this machine. It is used as its documentation shows, with its own defaults, all tasks at once; three
run side by side, since they mostly sleep. The clients of other services talk to a shim with their service's
API over the same limiter and ledger. "told 10/s" (a configured rate) and "40 retries" are what a person would
try next. A run that takes longer than 150 s is cut off.

`lost` tasks were paid for and their result never arrived; `twice` were bought more than once; `429` counts
rejections. Targets: 100 finished, none lost, at most 5 rejections and 24 s; 15 and 26 s at a round trip of
200 ms.

Not measured: Replicate's own service holds a create until its picture is there if asked to, which Ruxa does
not, so its `run` needs no query here. How real services limit their own clients is not known.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from attrs import frozen

from benchmarks._children import Child
from benchmarks._figures import Row, Sample, spread
from benchmarks._harness import Options
from benchmarks._results import Measured

__all__ = ("run",)

_TASKS = 100
_CUT_OFF = 150
_TRIPS = (0.0, 0.2)
_GROUPS = 4


@frozen
class _Case:
    name: str
    contender: str
    wire: str = "ruxa"
    settings: Mapping[str, Any] = {}


_CASES = (
    _Case("ruxa_async", "ours"),
    _Case("aiohttp, gather, six tries", "gather"),
    _Case("aiohttp, gather, obeying for ever", "gather_obeying"),
    _Case("aiometer, told 10/s, six tries", "aiometer"),
    _Case("tenacity, six attempts", "tenacity"),
    _Case("fal-client subscribe", "fal", "fal"),
    _Case("replicate run (held)", "replicate", "replicate"),
    _Case("replicate create, wait", "replicate_polling", "replicate"),
    _Case("openai create_and_poll", "openai", "openai"),
    _Case("openai, 40 retries", "openai", "openai", {"max_retries": 40}),
    _Case("runwayml wait_for_task_output", "runwayml", "runwayml"),
    _Case("runwayml, 40 retries", "runwayml", "runwayml", {"max_retries": 40}),
)


def run(options: Options) -> Measured:
    """Measure every contender, at both round trips."""
    tasks = 20 if options.quick else _TASKS
    rounds = options.times(3, quick=1)
    rows: list[Row] = []
    lines: dict[str, list[float]] = {}
    for rtt in _TRIPS:
        samples: dict[str, list[Sample]] = {case.name: [] for case in _CASES}
        for number in range(1, rounds + 1):
            print(f"bulk_quota at {rtt * 1000:g} ms: round {number} of {rounds}", file=sys.stderr, flush=True)
            for first in range(_GROUPS):
                for name, sample in _side_by_side(_CASES[first::_GROUPS], tasks, rtt).items():
                    samples[name].append(sample)
        rows += [_row(case, rtt, samples[case.name]) for case in _CASES]
        for case in _CASES:
            middle = sorted(samples[case.name], key=lambda sample: len(sample.get("at", ())))
            lines[f"{rtt * 1000:g} ms: {case.name}"] = middle[len(middle) // 2].get("at", [])
    return Measured(rows=rows, series=lines)


def _side_by_side(cases: Sequence[_Case], tasks: int, rtt: float) -> dict[str, Sample]:
    """Run each of *cases* once, each against a server of its own, from the same moment."""
    with ExitStack() as stack:
        pairs = {}
        for case in cases:
            server, client = stack.enter_context(Child("_limited")), stack.enter_context(Child("_contenders"))
            limit = {"creates": "token:rate=10,burst=10", "shared": True, "retry_after": "seconds"}
            url = server.ask({"median": 10.0, "wire": case.wire, "latency": rtt, **limit})["url"]
            job = {"contender": case.contender, "url": url, "tasks": tasks, "limit": _CUT_OFF}
            missing = client.ask({**job, **case.settings})["missing"]
            pairs[case.name] = (server, client, missing)
        for _, client, missing in pairs.values():
            if missing is None:
                client.tell("go")
        return {
            name: {"missing": missing} if missing else _sample(client.hear(), server.ask("report"))
            for name, (server, client, missing) in pairs.items()
        }


def _sample(result: dict[str, Any], report: dict[str, Any]) -> Sample:
    paid = {prompt for _, prompt in report["accepted"]}
    finished = {prompt for _, prompt in result["finished"]}
    return {
        "missing": None,
        "finished": len(finished),
        "lost": len(paid - finished),
        "twice": report["bought_twice"],
        "throttled": report["throttled"],
        "requests": report["creates"] + report["queries"],
        "last": max((at for at, _ in result["finished"]), default=math.nan),
        "at": sorted(round(at, 2) for at, _ in result["finished"]),
    }


def _row(case: _Case, rtt: float, samples: Sequence[Sample]) -> Row:
    there = [sample for sample in samples if sample["missing"] is None]

    def figure(name: str) -> dict[str, Any]:
        return spread(sample[name] for sample in there)

    return {
        "client": case.name if there else f"{case.name}: not installed",
        "trip, ms": rtt * 1000,
        "finished": figure("finished"),
        "lost": figure("lost"),
        "twice": figure("twice"),
        "429": figure("throttled"),
        "requests": figure("requests"),
        "last result, s": figure("last"),
    }
