"""goodput_http: how much of a limit on creates is used over sockets, for how many rejections.

The whole client with its defaults, all tasks in flight, against the emulator's limits and against nginx:
`limit_req` with `nodelay` in front of an emulator without a limit. N = 30 x rate + burst creates (twelve
windows of 20 in 10 s) of tasks of one second; queries have no limit. Client, emulator and nginx are processes
of their own on loopback. "unknown" configures nothing, "known" the rate and the burst, "burst not told" the
rate alone. nginx sends no Retry-After, and the emulator sends it only in the rows that say so.

`whole` is (N - burst) / rate over the time from the first acceptance to the last, less what Retry-After
forbade; `steady` is what was accepted from a fifth to four fifths of the run, over what is accepted of a
client that knows the limit. `429` is of N. nginx counts a burst over the one request that is not excess: its
burst of 10 accepts 11 at once. Targets: unknown: whole 95 %, steady 99 %, 1 % rejected (burst 1: 92, 95 and
2); known: 99 % and 0.5 %; burst not configured: 97 %.

Not measured: the round trip is about a millisecond. Runs are side by side while the sum of their rates is
below 150/s, and a loaded machine shows first in the figures at a burst of 1.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from attrs import evolve, frozen

from benchmarks._children import Child
from benchmarks._figures import Row, Sample, spread
from benchmarks._harness import Options
from benchmarks._nginx import missing, nginx
from benchmarks._yield import Yield
from ruxa_async.emulator import LeakyBucket, parse_limit

__all__ = ("run",)

_RATES_AT_ONCE = 150.0
_CUT_OFF = 200


@frozen
class _Case:
    """A limit and its configuration; *limit* has the form of `parse_limit`; nginx has *burst* and *cap*."""

    name: str
    limit: str
    rate: float
    burst: int
    count: int
    how: str = "unknown"
    configured: Mapping[str, Any] | None = None
    by_nginx: bool = False
    cap: int | None = None
    latency: float = 0.0
    retry_after: str = "none"


def run(options: Options) -> list[Row]:
    """Measure every limit; without nginx, those of the emulator."""
    why = missing()
    if why:
        print(f"goodput_http: left out what needs nginx: {why}", file=sys.stderr, flush=True)
    cases = [case for case in _cases() if not (case.by_nginx and why)]
    if options.quick:
        cases = [evolve(case, count=int(3 * case.rate) + case.burst) for case in cases if case.rate == 50]
    rounds = options.times(1)
    samples: list[list[Sample]] = [[] for _ in cases]
    for number in range(1, rounds + 1):
        for batch in _batches(cases):
            names = ", ".join(f"{cases[index].name} ({cases[index].how})" for index in batch)
            print(f"goodput_http: round {number} of {rounds}: {names}", file=sys.stderr, flush=True)
            for index, sample in zip(batch, _side_by_side([cases[index] for index in batch]), strict=True):
                samples[index].append(sample)
    return [_row(case, some) for case, some in zip(cases, samples, strict=True)]


# ---- what is measured


def _cases() -> Iterator[_Case]:
    for rate, burst in ((10, 0), (10, 10), (50, 20)):
        yield from _thrice(_of_nginx(rate, burst), burst + 1)
    capped = _of_nginx(50, 20)
    yield evolve(capped, name=f"{capped.name}, limit_conn 8, 100 ms", cap=8, latency=0.1)
    for rate, burst in ((20, 1), (50, 10), (120, 100), (200, 40)):
        limit, count = f"token:rate={rate},burst={burst}", 30 * rate + burst
        yield from _thrice(_Case(f"{rate}/s, burst {burst}", limit, rate, burst, count), burst)
    yield _Case("100 in windows of 1 s", "fixed:count=100,per=1", 100, 100, 3100)
    window = _Case("20 in any 10 s", "sliding:count=20,per=10", 2, 20, 240)
    yield window
    yield evolve(window, how="unknown, Retry-After", retry_after="seconds")
    yield evolve(window, how="known", configured={"count": 20, "per": 10.0})


def _of_nginx(rate: int, burst: int) -> _Case:
    limit, count = f"leaky:rate={rate},burst={burst}", 30 * rate + burst + 1
    return _Case(f"nginx {rate}r/s burst={burst}", limit, rate, burst + 1, count, by_nginx=True)


def _thrice(case: _Case, burst: int) -> Iterator[_Case]:
    yield case
    # `RateLimit` takes whole requests a period: a burst above one second of requests needs a longer period.
    per = 1.0 if burst <= case.rate else 2.0
    count = int(case.rate * per)
    yield evolve(case, how="known", configured={"count": count, "per": per, "burst": burst})
    yield evolve(case, how="burst not told", configured={"count": int(case.rate)})


# ---- how it is measured


def _batches(cases: Sequence[_Case]) -> Iterator[list[int]]:
    """Return groups of positions in *cases* that may run side by side, long ones together."""
    batch: list[int] = []
    total = 0.0
    for index in sorted(range(len(cases)), key=lambda index: cases[index].rate):
        if batch and total + cases[index].rate > _RATES_AT_ONCE:
            yield batch
            batch, total = [], 0.0
        batch.append(index)
        total += cases[index].rate
    yield batch


def _side_by_side(cases: Iterable[_Case]) -> list[Sample]:
    with ExitStack() as stack:
        pairs = []
        for case in cases:
            server, client = stack.enter_context(Child("_limited")), stack.enter_context(Child("_contenders"))
            limit = None if case.by_nginx else case.limit
            url = server.ask(
                {"median": 1.0, "creates": limit, "latency": case.latency, "retry_after": case.retry_after}
            )["url"]
            if case.by_nginx:
                url = stack.enter_context(
                    nginx(url, rate=int(case.rate), burst=case.burst - 1, connections=case.cap)
                )
            limits = {"max_in_flight": case.count} | (
                {"create_rate": case.configured} if case.configured else {}
            )
            job = {"contender": "ours", "url": url, "tasks": case.count, "limit": _CUT_OFF, "limits": limits}
            client.ask(job)
            pairs.append((case, server, client))
        for _, _, client in pairs:
            client.tell("go")
        return [_sample(case, client.hear(), server.ask("report")) for case, server, client in pairs]


def _sample(case: _Case, result: dict[str, Any], report: dict[str, Any]) -> Sample:
    if len(result["finished"]) != case.count or report["charged"] != case.count:
        print(f"{case.name} ({case.how}): {result['failures']}", file=sys.stderr, flush=True)
    forbidden = [(at, at + wait) for at, wait in report["refusals"] if wait]
    got = Yield.since_first([at for at, _ in report["accepted"]], forbidden)
    limit = parse_limit(case.limit, start=0.0)
    return {
        "whole": got.whole(case.rate, case.burst),
        # The phase of a fixed window is unknown, and a client that knew its rate would reach the same.
        "steady": got.steady((LeakyBucket(case.rate) if "fixed" in case.limit else limit).limiter()),
        "refused": result["throttled"]["create"],
        "accepted": report["charged"],
    }


def _row(case: _Case, samples: Sequence[Sample]) -> Row:
    def figure(name: str, factor: float = 1.0) -> dict[str, Any]:
        return spread(factor * sample[name] for sample in samples)

    whole, steady, refused = _targets(case)
    return {
        "limit": case.name,
        "told": case.how,
        "N": case.count,
        "accepted": figure("accepted"),
        "whole, %": figure("whole"),
        "target": whole,
        "steady, %": figure("steady"),
        "target ": steady,
        "429": figure("refused"),
        "429, %": figure("refused", 100 / case.count),
        "target  ": refused,
    }


def _targets(case: _Case) -> tuple[float | str, float | str, float | str]:
    """Return the targets: whole, steady and rejected, in percent."""
    if case.cap is not None:
        return "-", "-", "-"
    if case.how == "known":
        return 99, "-", 0.5
    if case.how == "burst not told":
        return 97, "-", "-"
    if case.rate == 2:
        return 95, "-", 100 * (2 if "Retry" in case.how else 6) / case.count
    return (92, 95, 2) if case.burst == 1 else (95, 99, 1)
