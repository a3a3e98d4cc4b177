"""goodput: how much of an unknown limit is used, for how many rejections, in virtual time.

Discovery alone, without transport or driver, with the emulator's own limiters: N = 30 x rate + burst requests
(twelve windows of 20 in 10 s), at most 64 of them on the wire. A request arrives half a round trip after it
left, and a client wakes up to 0.4 ms late. A service that names a wait sends Retry-After in whole seconds.

`whole` is (N - burst) / rate over the time that it took, less the time that the service forbade; a burst that
refills during a forbidden time can raise it above 100 %. `share` is what was accepted, over what is accepted
of a client that knows the limit and avoids the same forbidden times; `steady` is that from a fifth to four
fifths of the run. Too few windows of seconds lie there for a meaningful figure, so for them it is `whole`
without the first two. `refused %` are the rejections, of N. Targets: steady >= 99 %, whole >= 95 %, refused
<= 1 % (at a burst of 1: 95, 92 and 2 %); for 20 in 10 s at most 6 rejections, and 2 with Retry-After. The
last table: what is used from the tenth second after a limit of 50/s halves or doubles, with a target of 95 %.

Not measured: no request is lost, all round trips are equal, and creates and queries do not share the limit.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from attrs import define, field, frozen

from benchmarks._figures import Row, Sample, spread
from benchmarks._harness import Measure, Options, interleaved
from benchmarks._results import Measured
from benchmarks._yield import Yield
from ruxa_async._engine.rate_limits.discovery import Discovery
from ruxa_async.emulator import FixedWindow, Limit, Limiter, SlidingWindow, TokenBucket

__all__ = ("DRAWN", "run")

_TRIPS = (0.001, 0.05, 0.2)
_ON_WIRE = 64
_LATE = 0.0004
_CHANGED_AT, _SETTLED_AT, _CHANGED_UNTIL = 15.0, 25.0, 40.0


@frozen
class _Case:
    name: str
    limit: Limit
    rate: float
    burst: int
    count: int
    most_refused: tuple[int, int] | None = None  # the target without and with Retry-After
    in_windows: bool = False  # of several seconds, so that a run has few of them


def _tokens(rate: float, burst: int) -> _Case:
    return _Case(
        f"{rate:g}/s, burst {burst}",
        TokenBucket(rate, burst),
        rate,
        burst,
        int(30 * rate + burst),
    )


_CASES = (
    *(
        _tokens(*each)
        for each in ((20, 1), (50, 1), (50, 10), (20, 10), (120, 100), (200, 40), (10, 10), (2, 20))
    ),
    _Case("20 in any 10 s", SlidingWindow(20, 10.0), 2, 20, 240, (6, 2), in_windows=True),
    _Case("20 in any 2 s", SlidingWindow(20, 2.0), 10, 20, 320, in_windows=True),
    _Case("20 in windows of 10 s", FixedWindow(20, 10.0, -3.0), 2, 20, 240, in_windows=True),
    _Case("100 in windows of 1 s", FixedWindow(100, 1.0, -0.3), 100, 100, 3100),
)
#: The limits of the plot, with their seconds.
DRAWN = {"20/s, burst 10": 30.0, "20 in any 10 s": 60.0}
_CHANGES = tuple((after, burst) for after in (25, 100) for burst in (1, 10))


def run(options: Options) -> Measured:
    """Simulate every limit, at every round trip, without and with Retry-After."""
    rounds = options.times(8, quick=1)
    rows: list[Row] = []
    for rtt in _TRIPS:
        for names_wait in (False, True):
            about = f"goodput at {rtt * 1000:g} ms, {'Retry-After' if names_wait else 'no Retry-After'}"
            variants: dict[str, Measure] = {
                case.name: _measure(case, rtt, names_wait=names_wait) for case in _CASES
            }
            samples = interleaved(variants, rounds, about=about)
            rows += [
                _row(case, rtt, [each[case.name] for each in samples], names_wait=names_wait)
                for case in _CASES
            ]
    rows.sort(key=lambda row: [case.name for case in _CASES].index(row["limit"]))
    rows += [
        _changed(after, burst, rtt, rounds, names_wait=names_wait)
        for after, burst in _CHANGES
        for rtt in _TRIPS
        for names_wait in (False, True)
    ]
    return Measured(rows, {case.name: _drawn(case) for case in _CASES if case.name in DRAWN})


def _drawn(case: _Case) -> dict[str, Any]:
    """Return the points of the plot of the first seconds of a run."""
    done = _simulate(case.limit.limiter(), 0.05, random.Random(0), names_wait=False, until=DRAWN[case.name])
    return {"accepted": done.passed, "rejected": done.rejected, "rates": done.rates}


# ---- the simulation


@define(eq=False)
class _Changing:
    """One limit until it changes, then another without any requests so far."""

    before: Limiter
    after: Limiter

    def take(self, now: float) -> float:
        return (self.before if now < _CHANGED_AT else self.after).take(now)


@define(eq=False)
class _Run:
    """The times at which accepted and rejected requests left, estimated rates, and forbidden intervals."""

    passed: list[float] = field(factory=list)
    rejected: list[float] = field(factory=list)
    rates: list[tuple[float, float]] = field(factory=list)
    forbidden: list[tuple[float, float]] = field(factory=list)


def _simulate(
    limit: Limiter,
    rtt: float,
    chance: random.Random,
    *,
    names_wait: bool,
    count: float = math.inf,
    until: float = math.inf,
) -> _Run:
    discovery, done = Discovery(), _Run()
    answers: deque[tuple[float, float, float]] = deque()
    now = opens = 0.0
    while len(done.passed) < count and now < until:
        while answers and answers[0][0] <= now:
            _, sent_at, wait = answers.popleft()
            if not wait:
                discovery.on_accept(now, sent_at=sent_at)
                continue
            hint = float(math.ceil(wait)) if names_wait else None
            discovery.on_reject(now, hint, sent_at=sent_at)
            if hint is not None:
                opens = max(opens, now + hint)
                done.forbidden.append((now, now + hint))
        ready = max(discovery.ready_at(now), opens) if len(answers) < _ON_WIRE else math.inf
        if ready > now:
            answer = answers[0][0] if answers else math.inf
            now = max(now, min(ready + chance.random() * _LATE, answer))
            continue
        discovery.on_send(now)
        wait = limit.take(now + rtt / 2)
        answers.append((now + rtt, now, wait))
        (done.rejected if wait else done.passed).append(now)
        if discovery.rate is not None:
            done.rates.append((now, discovery.rate))
    return done


# ---- the figures


def _measure(case: _Case, rtt: float, *, names_wait: bool) -> Measure:
    seeds = iter(range(1000))
    return lambda _: _sample(case, rtt, random.Random(next(seeds)), names_wait=names_wait)


def _sample(case: _Case, rtt: float, chance: random.Random, *, names_wait: bool) -> Sample:
    done = _simulate(case.limit.limiter(), rtt, chance, names_wait=names_wait, count=case.count)
    got = Yield(done.passed, done.forbidden)
    best, end = got.best(case.limit.limiter()), got.passed[-1]
    return {
        "whole": got.whole(case.rate, case.burst),
        "share": got.share(best, 0.0, end),
        "steady": _after_two_windows(case, got) if case.in_windows else got.share(best, 0.2 * end, 0.8 * end),
        "refused": len(done.rejected),
    }


def _after_two_windows(case: _Case, got: Yield) -> float:
    """Return the accepted requests after the first two windows, in percent of what the limit accepts then."""
    first = got.passed[2 * case.burst - 1]
    forbidden = [(start - first, end - first) for start, end in got.forbidden]
    return Yield([at - first for at in got.passed if at >= first], forbidden).whole(case.rate, 1)


def _row(case: _Case, rtt: float, samples: Sequence[Sample], *, names_wait: bool) -> Row:
    whole, steady, part = (92, 95, 2.0) if case.burst == 1 else (95, 99, 1.0)
    most = part * case.count / 100 if case.most_refused is None else float(case.most_refused[names_wait])
    refused = fmean(sample["refused"] for sample in samples)
    return {
        "limit": case.name,
        "told": "yes" if names_wait else "no",
        "trip, ms": rtt * 1000,
        "N": case.count,
        "whole, %": spread(sample["whole"] for sample in samples),
        "target": whole,
        "share, %": spread(sample["share"] for sample in samples),
        "steady, %": spread(sample["steady"] for sample in samples),
        "target ": steady,
        "refused": spread(sample["refused"] for sample in samples),
        "target  ": most,
        "refused %": 100 * refused / case.count,
    }


def _changed(after: int, burst: int, rtt: float, rounds: int, *, names_wait: bool) -> Row:
    def fresh() -> Limiter:
        return _Changing(TokenBucket(50, burst).limiter(), TokenBucket(after, burst).limiter())

    shares, refused = [], []
    for seed in range(rounds):
        done = _simulate(fresh(), rtt, random.Random(seed), names_wait=names_wait, until=_CHANGED_UNTIL)
        got = Yield(done.passed, done.forbidden)
        shares.append(got.share(got.best(fresh()), _SETTLED_AT, _CHANGED_UNTIL))
        refused.append(len(done.rejected))
    return {
        "limit": f"50/s, then {after}/s, burst {burst}",
        "told": "yes" if names_wait else "no",
        "trip, ms": rtt * 1000,
        "share, %": spread(shares),
        "target": 95,
        "refused": spread(refused),
    }
