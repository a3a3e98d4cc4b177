"""running_cap: how much of an unknown cap on running tasks is used, for how many rejections.

The whole client with the emulator in memory, in virtual time, and `Limits.max_in_flight` far above the cap. A
batch has 30 tasks for each place under the cap, at least 600. `used` is the mean number of tasks that ran,
from the start until the last was accepted, over the cap: goodput over cap / mean duration. `steady` is that
from a fifth to four fifths of this time. `bound` is the most that is possible if the next create leaves when
an end was seen: d / (d + RTT). `lag` is how long after its end a task was seen, round trip included; `asked`
the queries a task. "told" is a service that sends Retry-After: 1 when the cap rejects.

Targets: used >= 95 %, refused <= 2 % of all creates. In the last table the cap changes after a third of the
time; `used` counts from ten seconds after that.

Not measured: the whole round trip is on the way back, and nobody else uses the account.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import anyio
import attrs
from attrs import define, frozen

from benchmarks._figures import Row, Sample, spread
from benchmarks._harness import Options
from ruxa_async import Limits, NanoBanana, RuxaClient
from ruxa_async.emulator import (
    Durations,
    EmulatorSettings,
    Limit,
    Service,
    ServiceReply,
    SlidingWindow,
    TokenBucket,
)
from ruxa_async.emulator._http import Incoming
from ruxa_async.testing import virtual_time
from ruxa_async.transports import MemoryTransport

__all__ = ("run",)

_TRIPS = (0.001, 0.05, 0.2)
_CAPS = (5, 20, 100)
_TASKS_A_PLACE = 30
_FEWEST = 600
_SETTLING = 10.0
_KEY = "sk-benchmark"

_Draw = Callable[[random.Random], float]
_DURATIONS: Mapping[str, tuple[float, _Draw]] = {
    "3.5 s, sd 0.2": (3.5, lambda chance: max(0.5, chance.gauss(3.5, 0.2))),
    "2 to 5 s": (3.5, lambda chance: chance.uniform(2.0, 5.0)),
    "10 s": (10.0, lambda _: 10.0),
    "10 s, sigma 0.4": (10.83, lambda chance: 10.0 * chance.lognormvariate(0.0, 0.4)),
}


@frozen(kw_only=True)
class _Case:
    cap: int
    law: str
    rtt: float
    told: bool = False
    creates: Limit | None = None
    beside: str = ""
    changed: int | None = None  # the cap after a third of the expected time

    @property
    def mean(self) -> float:
        return _DURATIONS[self.law][0]

    @property
    def count(self) -> int:
        return max(_TASKS_A_PLACE * self.cap, _FEWEST)

    @property
    def changes_at(self) -> float:
        return self.mean * self.count / self.cap / 3

    def cap_at(self, now: float) -> int:
        return self.cap if self.changed is None or now < self.changes_at else self.changed


class _DrawnDurations(dict[str, Durations]):
    """A mapping that draws a duration at each access, from distributions that the emulator does not have."""

    def __init__(self, draw: _Draw, chance: random.Random) -> None:
        self._draw = draw
        self._chance = chance

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ARG002 - the signature of a dict
        return Durations(self._draw(self._chance), 0.0)


class _Account(Service):
    """An account whose running cap changes; with `_Case.told` its rejections carry Retry-After: 1."""

    def __init__(self, case: _Case, seed: int) -> None:
        draw = _DURATIONS[case.law][1]
        super().__init__(
            EmulatorSettings(
                key=_KEY,
                durations=_DrawnDurations(draw, random.Random(seed)),
                latency=case.rtt,
                creates=case.creates,
                max_running=case.cap,
            )
        )
        self._case = case

    def handle(self, request: Incoming, now: float) -> ServiceReply:
        cap = self._case.cap_at(now)
        if cap != self.settings.max_running:
            self.settings = attrs.evolve(self.settings, max_running=cap)
        capped = self.counts.creates_capped
        reply = super().handle(request, now)
        if self._case.told and self.counts.creates_capped > capped:
            reply = attrs.evolve(reply, headers={**reply.headers, "retry-after": "1"})
        return reply

    def runs(self) -> Iterator[tuple[float, float]]:
        """Yield the start and the end of each task."""
        for purchase in self.ledger.entries:
            task = self.task(purchase.task_id)
            assert task is not None
            yield task.created, task.ends


@define
class _Seen:
    lag: float = 0.0
    queries: int = 0


async def _batch(account: _Account, case: _Case) -> _Seen:
    seen = _Seen()
    requests = (NanoBanana(prompt=str(n)) for n in range(case.count))
    most = Limits(max_in_flight=1000)
    transport = MemoryTransport(account)
    async with (
        RuxaClient(api_key=_KEY, base_url="http://localhost", transport=transport, limits=most) as client,
        client.as_completed(requests) as outcomes,
    ):
        async for outcome in outcomes:
            task = account.task(outcome.task_id or "")
            assert outcome.ok
            assert task is not None
            seen.lag += anyio.current_time() - task.ends
            seen.queries += outcome.queries
    return seen


def _used(account: _Account, case: _Case, start: float, end: float) -> float:
    """Return the share of the cap that was used from *start* to *end*, in percent."""
    ran = sum(max(0.0, min(ends, end) - max(began, start)) for began, ends in account.runs())
    changes = min(max(case.changes_at, start), end)
    room = case.cap_at(0.0) * (changes - start) + case.cap_at(changes) * (end - changes)
    return 100 * ran / room


def _measured(case: _Case, seed: int) -> Sample:
    account = _Account(case, seed)
    backend, options = virtual_time("asyncio")
    seen = anyio.run(_batch, account, case, backend=backend, backend_options=options)
    last = max(began for began, _ in account.runs())
    start = 0.0 if case.changed is None else case.changes_at + _SETTLING
    return {
        "used": _used(account, case, start, last),
        "steady": _used(account, case, max(start, 0.2 * last), 0.8 * last),
        "refused": 100 * account.counts.creates_throttled / account.counts.creates,
        "count": account.counts.creates_throttled,
        "lag": seen.lag / case.count,
        "asked": seen.queries / case.count,
    }


def _row(case: _Case, rounds: int) -> Row:
    samples = [_measured(case, seed) for seed in range(rounds)]

    def column(name: str) -> dict[str, Any]:
        return spread(sample[name] for sample in samples)

    return {
        ("cap" if case.changed is None else "changing cap"): (
            f"{case.cap}" if case.changed is None else f"{case.cap} to {case.changed}"
        ),
        "beside": case.beside or "-",
        "duration": case.law,
        "trip, ms": case.rtt * 1000,
        "told": "yes" if case.told else "no",
        "used, %": column("used"),
        "steady, %": column("steady"),
        "bound": 100 * case.mean / (case.mean + case.rtt),
        "refused": column("count"),
        "refused, %": column("refused"),
        "lag, s": column("lag"),
        "asked": column("asked"),
    }


def _cases(*, quick: bool) -> Iterator[_Case]:
    for law in _DURATIONS:
        for cap in _CAPS[:2] if quick else _CAPS:
            for rtt in _TRIPS[1:2] if quick else _TRIPS:
                for told in (False, True):
                    yield _Case(cap=cap, law=law, rtt=rtt, told=told)
    beside: dict[str, Limit] = {
        "10/s, burst 10": TokenBucket(10, 10),
        "20 in any 2 s": SlidingWindow(20, 2.0),
        "6/s, burst 5": TokenBucket(6, 5),
    }
    for name, limit in beside.items():
        for rtt in _TRIPS[1:2] if quick else _TRIPS:
            yield _Case(cap=20, law="2 to 5 s", rtt=rtt, creates=limit, beside=name)
    for cap, changed in ((20, 10), (20, 40), (10, 5), (100, 50), (100, 200)):
        for rtt in _TRIPS[1:2] if quick else _TRIPS:
            yield _Case(cap=cap, law="2 to 5 s", rtt=rtt, changed=changed)


def run(options: Options) -> list[Row]:
    """Run a batch into every cap."""
    rounds = options.times(3, quick=1)
    return [_row(case, rounds) for case in _cases(quick=options.quick)]
