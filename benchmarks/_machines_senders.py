"""Part 1 and part 2 of the benchmark `machines`: one sending process, and who asks it."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from attrs import frozen

from benchmarks._children import Child
from benchmarks._figures import Row, Sample, figures
from benchmarks._harness import Options, interleaved
from benchmarks._machines_caller import prompt
from benchmarks._machines_parts import Deployment, Servers, Worker, cpu_seconds, deployment, until
from benchmarks._machines_program import JOURNALS
from benchmarks._yield import Yield

__all__ = ("BURST", "RATE", "sender_rows", "submitter_rows")

#: The configured limit: creates a second, and at once.
RATE, BURST = 50, 10
#: The limit of a client that is not to be slowed down.
_NO_LIMIT = {"rate": 10_000, "burst": 1_000}
#: seconds that a task takes, log-normal
_DURATIONS = {"median": 0.5, "sigma": 0.3}
#: Calls a second where latency is measured.
_CALLS = 20
#: Callers that wait at the same time, where the number of tasks a second is measured.
_CALLERS = 500


@frozen
class _Sizes:
    """The number of tasks of each measurement."""

    limited: int
    unlimited: int
    latency: int
    submitted: int

    @classmethod
    def of(cls, options: Options) -> _Sizes:
        """Return the sizes of a full or a quick run."""
        return cls(100, 200, 60, 200) if options.quick else cls(400, 1_000, 200, 1_000)


@contextmanager
def _asking(world: Deployment, through: str, **limits: int) -> Iterator[tuple[Child, int]]:
    """Start the sending process and the one that asks; give the second, and the id of the first."""
    with ExitStack() as stack:
        job = world.job(through, **limits)
        if through == "taskiq":
            _start_worker(stack, world, job)
        child = stack.enter_context(Child("_machines_caller"))
        _open(child, job)
        child.ask({"name": f"warm {limits['rate']}", "keys": [0, 20], "callers": 20})
        yield child, world.holder() if through == "taskiq" else child.pid


def _start_worker(stack: ExitStack, world: Deployment, job: dict[str, Any]) -> None:
    worker = stack.enter_context(Worker(job, world.servers.redis.folder / "worker.log"))
    worker.hear()
    until(world.holder)


def _open(child: Child, job: dict[str, Any]) -> None:
    child.tell(job)
    child.hear()
    child.hear()


# ---- the plain client beside one sending process


def sender_rows(servers: Servers, options: Options) -> list[Row]:
    """Measure each way to buy through one sending process."""
    sizes = _Sizes.of(options)

    def measured(through: str) -> Sample:
        with deployment(servers, **_DURATIONS) as world:
            return {
                **_limited(world, through, sizes.limited),
                **_unlimited(world, through, sizes.unlimited),
                **_latency(world, through, sizes.latency),
            }

    variants = {name: lambda _, name=name: measured(name) for name in (*JOURNALS, "taskiq")}
    rounds = interleaved(variants, options.times(3), about="one sending process")
    return [
        {"one sending process": name, **figures([each[name] for each in rounds], _COLUMNS)}
        for name in variants
    ]


_COLUMNS = {
    "goodput, %": lambda sample: sample["goodput"],
    "tasks/s": lambda sample: sample["rate"],
    "CPU ms/task": lambda sample: sample["cpu"],
    "asking, CPU ms/task": lambda sample: sample["asking"],
    "to create p50 ms": lambda sample: _percentile(sample["before"], 50),
    "back p50 ms": lambda sample: _percentile(sample["after"], 50),
    "added p50 ms": lambda sample: _percentile(sample["added"], 50),
    "added p99 ms": lambda sample: _percentile(sample["added"], 99),
    "failed": lambda sample: sample["failed"],
}


def _limited(world: Deployment, through: str, count: int) -> Sample:
    with _asking(world, through, rate=RATE, burst=BURST) as (child, _):
        done = child.ask({"name": "limited", "keys": [0, count], "callers": 200})
    return {"goodput": _goodput(_instants(world, "limited")), "failed": count - len(done["times"])}


def _unlimited(world: Deployment, through: str, count: int) -> Sample:
    with _asking(world, through, **_NO_LIMIT) as (child, sender):
        before, asking = cpu_seconds(sender), cpu_seconds(child.pid)
        done = child.ask({"name": "unlimited", "keys": [0, count], "callers": _CALLERS})
        cpu, asking = cpu_seconds(sender) - before, cpu_seconds(child.pid) - asking
    own = sender != child.pid
    return {
        "rate": len(done["times"]) / done["wall"],
        "cpu": 1e3 * cpu / count,
        "asking": 1e3 * asking / count if own else math.nan,
    }


def _latency(world: Deployment, through: str, count: int) -> Sample:
    """Ask at a steady rate, and take the service's part from the time of each call."""
    with _asking(world, through, **_NO_LIMIT) as (child, _):
        done = child.ask({"name": "latency", "keys": [0, count], "calls_per_second": _CALLS})
    report = world.report()
    seen = {
        text: (at, queried) for (at, text), queried in zip(report["accepted"], report["queried"], strict=True)
    }
    pairs = [(*times, *seen[prompt(key)]) for key, times in done["times"].items()]
    before = [1e3 * (accepted - called) for called, _, accepted, _ in pairs]
    after = [1e3 * (returned - queried) for _, returned, _, queried in pairs]
    added = [one + other for one, other in zip(before, after, strict=True)]
    return {"before": before, "after": after, "added": added}


def _percentile(values: Sequence[float], number: int) -> float:
    return statistics.quantiles(values, n=100)[number - 1]


def _instants(world: Deployment, name: str) -> list[float]:
    """Return when the creates of the batch *name* were accepted."""
    beginning = prompt(f"{name} ")
    return [at for at, text in world.report()["accepted"] if text.startswith(beginning)]


def _goodput(instants: Sequence[float]) -> float:
    return Yield.since_first(instants).whole(RATE, BURST)


# ---- 1, 4 and 16 submitters


def submitter_rows(servers: Servers, options: Options) -> list[Row]:
    """Measure submitters that ask one sending process for the same keys, each key in two of them."""
    count = _Sizes.of(options).submitted
    return [_submitted(servers, number, count) for number in ((1, 4) if options.quick else (1, 4, 16))]


def _submitted(servers: Servers, submitters: int, count: int) -> Row:
    with deployment(servers, **_DURATIONS) as world, ExitStack() as stack:
        job = world.job("taskiq", rate=RATE, burst=BURST)
        _start_worker(stack, world, job)
        children = [stack.enter_context(Child("_machines_caller")) for _ in range(submitters)]
        for child in children:
            _open(child, job)
        share = count // submitters
        for place, child in enumerate(children):
            # The second half is the first half of the next one.
            start = place * share
            keys = [start, start + (share if submitters == 1 else 2 * share)]
            child.tell({"name": "submitted", "keys": keys, "callers": 200, "seed": place})
        answers = [child.hear() for child in children]
        report = world.report()
    instants = sorted(at for at, _ in report["accepted"])
    return {
        "submitters": submitters,
        "keys": len({text for _, text in report["accepted"]}),
        "asked": sum(len(answer["times"]) for answer in answers),
        "goodput, %": _goodput(instants),
        "most in 1 s": _most_in_a_second(instants),
        "allowed": RATE + BURST,
        "bought twice": report["bought_twice"],
        "failed": sum(sum(answer["failures"].values()) for answer in answers),
    }


def _most_in_a_second(instants: Sequence[float]) -> int:
    window: deque[float] = deque()
    most = 0
    for at in instants:
        window.append(at)
        while window[0] <= at - 1.0:
            window.popleft()
        most = max(most, len(window))
    return most
