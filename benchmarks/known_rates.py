"""known_rates: limits that the user configured, through the whole client, in virtual time.

`create_rate=RateLimit(count, per, burst)` is what the service enforces. "burst not told" configures
`RateLimit(rate)` only, so the client learns from rejections that the service accepts fewer at once. The
emulator is in this process; N = 30 x rate + burst creates (twelve windows of 20 in 10 s), tasks of half a
second, queries without a limit, and at most 64 creates on the wire, because the default of 16 would be the
limit at 200 ms. In "uneven" rows a request takes up to 30 ms longer to arrive, each its own time. `whole` is
(N - burst) / rate over the time from the first acceptance to the last; `steady` is what was accepted from a
fifth to four fifths of the run, over what the limit accepts. `displacement` is the mean distance between a
request's place in the order of submission and in that of acceptance, over N; that of an unknown limit is
below, too.

The second table is one quota of 200/s with a burst of 40 for creates and queries, and 600 tasks of 2 to 5 s,
uniformly. `floor` is when a client that made all creates at the full rate would have the last result.
"creates only" configures `create_rate` alone, "both" the same rate for both; no setting says that they share
it.

Targets: with its burst, 99 % and 0.5 % rejected; without, 97 %; displacement 0.005; for the shared quota 1.12
x the floor, and 1.25 x if it is unknown.

Not measured: only the round trips vary. `goodput_http` is the same over sockets.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import anyio
import attrs
from attrs import frozen

from benchmarks._figures import Row, Sample, spread
from benchmarks._harness import Options
from benchmarks._yield import Yield, displacement
from ruxa_async import Limits, NanoBanana, RateLimit, RuxaClient
from ruxa_async.emulator import Durations, EmulatorSettings, Service, Shape, SlidingWindow, TokenBucket
from ruxa_async.emulator._tasks import EmulatedTask
from ruxa_async.testing import virtual_time
from ruxa_async.transports import MemoryTransport, Request, Response

__all__ = ("run",)

_KEY = "sk-emulated"
_TRIPS = (0.001, 0.05, 0.2)
_ON_WIRE = 64
_SHARED = TokenBucket(200, 40)


@frozen
class _Case:
    name: str
    limit: Shape
    configured: RateLimit | None
    how: str
    rate: float
    burst: int
    count: int
    target: float | None = None
    uneven: float = 0.0  # seconds; the longest way to the service


def _cases() -> Iterator[_Case]:
    for rate, burst in ((20, 1), (50, 10), (120, 100), (200, 40), (10, 10)):
        name, limit, count = f"{rate}/s, burst {burst}", TokenBucket(rate, burst), 30 * rate + burst
        yield _Case(name, limit, RateLimit(rate, 1.0, burst), "with burst", rate, burst, count, 99)
        yield _Case(name, limit, RateLimit(rate, 1.0, burst), "uneven", rate, burst, count, 99, 0.03)
        yield _Case(name, limit, RateLimit(rate), "burst not told", rate, burst, count, 97)
    yield _Case("20 in any 10 s", SlidingWindow(20, 10), RateLimit(20, 10.0), "as it is", 2, 20, 240, 99)
    yield _Case("50/s, burst 10", TokenBucket(50, 10), None, "unknown", 50, 10, 1510)


def run(options: Options) -> list[Row]:
    """Run every case at every round trip, and the shared quota."""
    rtts = _TRIPS[:1] if options.quick else _TRIPS
    rows = [_row(case, rtt) for case in _cases() for rtt in rtts]
    return rows + [
        _shared_row(how, limits, rtt, options.times(5, quick=1))
        for how, limits in _shared_cases()
        for rtt in rtts
    ]


# ---- one limit on creates


def _row(case: _Case, rtt: float) -> Row:
    service = Service(EmulatorSettings(key=_KEY, creates=case.limit, image=Durations(0.5, 0.0), latency=rtt))
    limits = Limits(max_in_flight=case.count, max_concurrent_creates=_ON_WIRE, create_rate=case.configured)
    _buy(service, case.count, limits, uneven=case.uneven)
    entries = service.ledger.entries
    got = Yield.since_first([entry.at for entry in entries])
    return {
        "limit": case.name,
        "told": case.how,
        "trip, ms": rtt * 1000,
        "N": case.count,
        "whole, %": got.whole(case.rate, case.burst),
        "target": case.target if case.target is not None else "-",
        "steady, %": got.steady(case.limit.limiter()),
        "refused": service.counts.throttled,
        "refused, %": 100 * service.counts.throttled / case.count,
        "displacement": displacement([int(entry.input["prompt"]) for entry in entries]),
    }


class _UnevenTransport:
    """A transport that delays each request by a random time of up to *most* seconds."""

    def __init__(self, service: Service, most: float) -> None:
        self._inner = MemoryTransport(service)
        self._most = most
        self._chance = random.Random(1)
        self.stream, self.aclose = self._inner.stream, self._inner.aclose

    async def send(self, request: Request) -> Response:
        await anyio.sleep(self._chance.uniform(0.0, self._most))
        return await self._inner.send(request)


def _buy(service: Service, count: int, limits: Limits, *, uneven: float = 0.0) -> float:
    """Buy *count* pictures and return the virtual seconds until the last result."""

    async def main() -> float:
        transport = _UnevenTransport(service, uneven) if uneven else MemoryTransport(service)
        client = RuxaClient(api_key=_KEY, transport=transport, limits=limits)
        requests = (NanoBanana(prompt=str(place)) for place in range(count))
        last, fine = 0.0, 0
        async with client as ruxa, ruxa.as_completed(requests) as outcomes:
            async for outcome in outcomes:
                fine += outcome.ok
                last = anyio.current_time()
        if fine != count or service.ledger.charged != count:
            raise RuntimeError(
                f"{fine} of {count} tasks succeeded, and {service.ledger.charged} were charged"
            )
        return last

    backend, options = virtual_time("asyncio")
    return anyio.run(main, backend=backend, backend_options=options)


# ---- one quota for everything


def _shared_cases() -> list[tuple[str, dict[str, Any]]]:
    configured = RateLimit(200, 1.0, 40)
    return [
        ("unknown", {}),
        ("creates only", {"create_rate": configured}),
        ("both", {"create_rate": configured, "query_rate": configured}),
    ]


class _UniformService(Service):
    """A service whose tasks take 2 to 5 s, uniformly distributed."""

    def __init__(self, settings: EmulatorSettings, chance: random.Random) -> None:
        super().__init__(settings)
        self._maker = _UniformTaskMaker(self._maker, chance)  # type: ignore[assignment]


@frozen
class _UniformTaskMaker:
    _maker: Any
    _chance: random.Random

    def make(self, *given: Any) -> EmulatedTask:
        """Create a task with a uniform duration."""
        task: EmulatedTask = self._maker.make(*given)
        return attrs.evolve(task, ends=task.created + self._chance.uniform(2.0, 5.0))


def _shared_row(how: str, configured: dict[str, Any], rtt: float, rounds: int) -> Row:
    samples: list[Sample] = []
    for seed in range(rounds):
        settings = EmulatorSettings(key=_KEY, creates=_SHARED, shared=True, latency=rtt)
        service = _UniformService(settings, random.Random(seed))
        last = _buy(service, 600, Limits(max_in_flight=600, max_concurrent_creates=_ON_WIRE, **configured))
        samples.append(_shared_sample(service, last))
    figures = {name: spread(sample[name] for sample in samples) for name in samples[0]}
    return {
        "200/s, burst 40, shared": how,
        "trip, ms": rtt * 1000,
        **{name: figures.pop(name) for name in ("last create, s", "last result, s", "floor, s", "x floor")},
        "target": 1.25 if how == "unknown" else 1.12,
        **figures,
    }


def _shared_sample(service: Service, last: float) -> Sample:
    """Return the time of the last result, and the floor: every create as early as the limit permits."""
    limiter, now, floor = _SHARED.limiter(), 0.0, 0.0
    for entry in service.ledger.entries:
        now += limiter.take(now)
        limiter.take(now)
        task = service.task(entry.task_id)
        assert task is not None
        floor = max(floor, now + task.ends - task.created)
    return {
        "last create, s": service.ledger.entries[-1].at,
        "last result, s": last,
        "floor, s": floor,
        "x floor": last / floor,
        "refused": service.counts.throttled,
        "queries": service.counts.queries,
    }
