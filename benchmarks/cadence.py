"""cadence: how late an end is seen, for how many queries, in virtual time, beside other ways to poll.

A plain loop over `PollingSchedule`, without transport or driver. 100 tasks run at once; one more starts when
the end of one is seen. Durations are log-normal, and the schedule does not know the distribution; `image` in
the name of the model gives it the same hint as a real name. "first 200" are the tasks accepted first, "after
200" those accepted once 200 had ended. After the median has doubled: the next 100 that are accepted, which
cannot be foreseen; the 100 that are accepted once 100 of the longer tasks had ended; and the 100 of them
whose ends are seen next. Lateness and queries are means a task.

`x optimum` is the mean lateness over that of the best schedule that knows the distribution and sends as many
queries, with the same bounds on the gaps: a plain dynamic programme over 1,500 ages, which shares no code
with the library. `fixed` and `growing` are the lateness of a fixed interval, and of gaps that grow
exponentially from a second, for as many queries, over the same optimum. Targets: 1.5 for the first 200 and
once 100 had ended after the shift, 1.15 after 200.

Not measured: round trips, rejections and a limit on queries are left out, and real durations are not quite
log-normal.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from statistics import NormalDist, fmean

from attrs import define, frozen

from benchmarks._figures import Row, Sample, spread
from benchmarks._harness import Measure, Options, interleaved
from benchmarks._results import Measured
from ruxa_async._engine.polling.schedule import PollingSchedule
from ruxa_async.settings import Polling

__all__ = ("run",)

_IN_FLIGHT = 100
_SHORTEST, _LONGEST = 0.25, 30.0
_NORMAL = NormalDist()


@frozen
class _Case:
    name: str
    model: str
    median: float
    sigma: float
    shift: int | None = None  # the number of the task from which on the median is doubled

    def median_of(self, number: int) -> float:
        return self.median * (1 if self.shift is None or number < self.shift else 2)


_CASES = (
    _Case("median 10 s, sigma 0.4", "google/an-image", 10.0, 0.4),
    _Case("median 10 s, sigma 0.15", "google/an-image", 10.0, 0.15),
    _Case("median 120 s, sigma 0.6", "sora-2", 120.0, 0.6),
    _Case("median 10 s, sigma 0.4, unknown name", "x", 10.0, 0.4),
    _Case("median 120 s, sigma 0.6, unknown name", "x", 120.0, 0.6),
    _Case("10 s doubles to 20 s, sigma 0.4", "google/an-image", 10.0, 0.4, 600),
    _Case("10 s doubles to 20 s, sigma 0.15", "google/an-image", 10.0, 0.15, 600),
    _Case("120 s doubles to 240 s, sigma 0.6", "sora-2", 120.0, 0.6, 600),
)


def run(options: Options) -> Measured:
    """Simulate every case."""
    total = 900 if options.quick else 1200
    variants: dict[str, Measure] = {case.name: _measure(case, total) for case in _CASES}
    rounds = interleaved(variants, options.times(15, quick=1), about="cadence")
    rows = []
    for case in _CASES:
        samples = [each[case.name] for each in rounds]
        rows += [_row(case, phase, [sample[phase] for sample in samples]) for phase in samples[0]]
    return Measured(rows, _curves())


def _measure(case: _Case, total: int) -> Measure:
    seeds = iter(range(1000))
    return lambda _: _phases(case, total, random.Random(next(seeds)))


# ---- the simulation


@define(eq=False, order=False)
class _Task:
    number: int
    accepted: float
    duration: float
    ended_before: int
    pending_at: float = 0.0
    due: float = 0.0
    queries: int = 0
    late: float = math.nan


class _Simulation:
    """100 tasks at a time, until *total* have been accepted and all of them have been seen to end."""

    def __init__(self, case: _Case, total: int, chance: random.Random) -> None:
        self._case, self._total, self._chance = case, total, chance
        self._cadence = PollingSchedule(Polling())
        self._running: dict[int, _Task] = {}
        self._heap: list[tuple[float, int]] = []
        #: Every task, in the order of acceptance, and in the order in which their ends were seen.
        self.tasks: list[_Task] = []
        self.ended: list[_Task] = []
        #: The number of ended tasks that follow the measured distribution.
        self._counted = 0

    def run(self) -> None:
        for number in range(_IN_FLIGHT):
            self._accept(0.05 * number)
        while self._heap:
            now, number = heapq.heappop(self._heap)
            task = self.tasks[number]
            if number in self._running and task.due == now:
                self._query(task, now)

    def _accept(self, now: float) -> None:
        number, case = len(self.tasks), self._case
        duration = case.median_of(number) * math.exp(self._chance.gauss(0.0, case.sigma))
        task = _Task(number, now, duration, self._counted)
        self.tasks.append(task)
        self._running[number] = task
        self._plan(task, now + self._cadence.next_poll(case.model, 0.0))

    def _plan(self, task: _Task, when: float) -> None:
        task.due = when
        heapq.heappush(self._heap, (when, task.number))

    def _query(self, task: _Task, now: float) -> None:
        task.queries += 1
        age = now - task.accepted
        if age < task.duration:
            task.pending_at = age
            self._plan(task, task.accepted + self._cadence.next_poll(self._case.model, age))
            return
        task.late = age - task.duration
        del self._running[task.number]
        self.ended.append(task)
        self._counted += task.number >= (self._case.shift or 0)
        if self._cadence.ended(self._case.model, task.pending_at, age, None, self._pending):
            for each in self._running.values():
                when = each.accepted + self._cadence.next_poll(self._case.model, each.pending_at)
                self._plan(each, max(when, now))
        if len(self.tasks) < self._total:
            self._accept(now)

    def _pending(self) -> Iterator[float]:
        return (task.pending_at for task in self._running.values())


def _phases(case: _Case, total: int, chance: random.Random) -> Sample:
    """Return mean queries and lateness by phase."""
    simulation = _Simulation(case, total, chance)
    simulation.run()
    tasks = simulation.tasks
    if case.shift is None:
        phases = {"first 200": tasks[:200], "after 200": [task for task in tasks if task.ended_before >= 200]}
    else:
        since = [task for task in tasks if task.ended_before >= 100]
        ended = [task for task in simulation.ended if task.number >= case.shift]
        phases = {
            "accepted at once": tasks[case.shift : case.shift + 100],
            "accepted after 100 ended": since[:100],
            "101st to 200th to end": ended[100:200],
        }
    return {
        name: (fmean(task.queries for task in some), fmean(task.late for task in some))
        for name, some in phases.items()
    }


def _row(case: _Case, phase: str, samples: Sequence[tuple[float, float]]) -> Row:
    median = case.median * (1 if case.shift is None else 2)
    usual = fmean(queries for queries, _ in samples)
    best = _best(median, case.sigma, usual)
    return {
        "durations": case.name,
        "phase": phase,
        "queries": spread(queries for queries, _ in samples),
        "late, s": spread(late for _, late in samples),
        "optimum, s": best,
        "x optimum": spread(late / _best(median, case.sigma, queries) for queries, late in samples),
        "x optimum, overall": fmean(late for _, late in samples) / best,
        "fixed": _with_as_many(median, case.sigma, usual, _fixed, (_SHORTEST, _LONGEST)) / best,
        "growing": _with_as_many(median, case.sigma, usual, _growing, (1.0, 40.0)) / best,
    }


# ---- other ways to poll


def _curves() -> dict[str, list[tuple[float, float]]]:
    """Return queries and lateness of each way to poll, from often to seldom, by distribution and way."""
    curves = {}
    for case in _CASES[:3]:
        law, steps = (case.median, case.sigma), range(48)
        intervals = [max(_SHORTEST, case.median / 60) * 1.08**i for i in steps]
        factors = [1.02 * 1.03**i for i in steps]
        curves[f"{case.name}: optimum"] = _curve(*law)
        curves[f"{case.name}: fixed"] = [_asked(*law, _fixed(interval)) for interval in intervals]
        curves[f"{case.name}: growing"] = [_asked(*law, _growing(factor)) for factor in factors]
    return curves


def _with_as_many(
    median: float, sigma: float, queries: float, asked: _Schedule, within: tuple[float, float]
) -> float:
    """Return the mean lateness of the schedule of a family with *queries* a task, by bisection."""
    low, high = within
    for _ in range(40):
        middle = math.sqrt(low * high)
        more, late = _asked(median, sigma, asked(middle))
        low, high = (middle, high) if more > queries else (low, middle)
    return late


def _asked(median: float, sigma: float, gaps: Callable[[float], float]) -> tuple[float, float]:
    """Return mean queries and lateness of tasks at 1,000 quantiles, polled after these *gaps*."""
    durations = [median * math.exp(sigma * _NORMAL.inv_cdf((i + 0.5) / 1000)) for i in range(1000)]
    age, count, queries, late = 0.0, 0, 0, 0.0
    for duration in durations:  # ascending, so that one pass along the schedule is enough
        while age < duration:
            age += gaps(age)
            count += 1
        queries += count
        late += age - duration
    return queries / 1000, late / 1000


_Schedule = Callable[[float], Callable[[float], float]]


def _fixed(interval: float) -> Callable[[float], float]:
    return lambda _: interval


def _growing(factor: float) -> Callable[[float], float]:
    """Return gaps that grow by *factor*: the age is a geometric series, which gives their number."""
    return lambda age: min(1.0 + age * (factor - 1.0), _LONGEST)


# ---- the optimum


def _best(median: float, sigma: float, queries: float) -> float:
    """Return the least mean lateness for *queries* a task, interpolated between two solutions.

    The bounds of the gaps bound the number of queries; beyond them, return the value at the bound.
    """
    curve = _curve(median, sigma)
    queries = min(max(queries, curve[-1][0]), curve[0][0])
    (many, late), (few, later) = next(pair for pair in pairwise(curve) if pair[1][0] <= queries)
    part = (math.log(many) - math.log(queries)) / (math.log(many) - math.log(few))
    return math.exp(math.log(late) + part * (math.log(later) - math.log(late)))


@cache
def _curve(median: float, sigma: float) -> list[tuple[float, float]]:
    """Return mean queries and lateness of the optimum for a range of rising prices."""
    prices = [0.002 * 1.25**i for i in range(32)]
    return [_optimum(median, sigma, price * sigma * median) for price in prices]


def _optimum(median: float, sigma: float, price: float) -> tuple[float, float]:
    """Return mean queries and lateness of the schedule that minimises price x queries + lateness."""
    zs = [-4.5 + 10.0 * i / 1499 for i in range(1500)]
    ages = [0.0, *(median * math.exp(sigma * z) for z in zs)]
    left = [1.0, *(_NORMAL.cdf(-z) for z in zs)]
    mean = median * math.exp(sigma * sigma / 2)
    beyond = [mean, *(mean * _NORMAL.cdf(sigma - z) for z in zs)]
    last = len(ages) - 1
    cost, asked, late, bound = [0.0] * len(ages), [0.0] * len(ages), [0.0] * len(ages), last
    for a in range(last - 1, -1, -1):
        # The cost is submodular in age and next age, so the best next age is monotonic.
        chosen, least = a + 1, math.inf
        for b in range(bound, a, -1):
            gap = ages[b] - ages[a]
            if gap > _LONGEST and b > a + 1:
                continue
            if gap < _SHORTEST and least < math.inf:
                break
            wait = ages[b] * (left[a] - left[b]) - (beyond[a] - beyond[b])
            total = wait + price * left[a] + cost[b]
            if total < least:
                chosen, least, waited = b, total, wait
        cost[a], bound = least, chosen
        asked[a] = left[a] + asked[chosen]
        late[a] = waited + late[chosen]
    return asked[0], late[0]
