"""stages: three stages with `then`, beside one stage after the other, in virtual time.

Sketch, painting and film of each row, with a round trip of 50 ms and no limit of the service. Durations are
log-normal. `path` is the critical path: the time of a client without any delay, which starts each task as
soon as its row is ready and its stage has room. It is computed for the very durations that the run drew, and
`x path` is the time of the run over it. Without windows the slowest row decides. With windows, as many tasks
of each stage run at once; they are in the ratio of the medians, so that all stages are equally busy.

Targets: 1.1 with `then`, where one stage after the other takes 2 or more.

Not measured: limits of the service, which all stages share. Where they bound the time, no order of the
requests is faster than another.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import anyio
from attrs import frozen

from benchmarks._figures import Row, Sample, spread
from benchmarks._harness import Options
from ruxa_async import GenerationRequest, Limits, NanoBanana, NanoBananaPro, RuxaClient, Sora2, Succeeded
from ruxa_async.emulator import Durations, EmulatorSettings, Service
from ruxa_async.testing import virtual_time
from ruxa_async.transports import MemoryTransport

__all__ = ("run",)

_KEY = "sk-benchmark"
_MODELS = (NanoBanana.model, NanoBananaPro.model, Sora2.model)


@frozen
class _Case:
    rows: int
    medians: tuple[float, float, float]
    sigma: float
    windows: tuple[int, int, int] | None = None

    def window(self, stage: int) -> int | None:
        return None if self.windows is None else self.windows[stage]

    def __str__(self) -> str:
        medians = "/".join(f"{median:.0f}" for median in self.medians)
        windows = "none" if self.windows is None else "/".join(map(str, self.windows))
        return f"{medians} s, sigma {self.sigma}, windows {windows}"


_CASES = (
    _Case(100, (30.0, 30.0, 30.0), 1.2),
    _Case(300, (20.0, 40.0, 120.0), 0.4, (10, 20, 60)),
)


def _paint(sketch: Succeeded) -> GenerationRequest:
    return NanoBananaPro(prompt=f"{sketch.index}", image_input=sketch.generation.urls)


def _film(painting: Succeeded) -> GenerationRequest:
    return Sora2(prompt=f"{painting.index}", input_reference=painting.generation.urls[0])


async def _chained(ruxa: RuxaClient, case: _Case) -> None:
    sketches = ruxa.as_completed(_sketches(case), window=case.window(0))
    films = sketches.then(_paint, window=case.window(1)).then(_film, window=case.window(2))
    assert len([outcome async for outcome in films]) == case.rows


async def _one_after_the_other(ruxa: RuxaClient, case: _Case) -> None:
    requests = _sketches(case)
    for stage, make in enumerate((_paint, _film, None)):
        outcomes = [outcome async for outcome in ruxa.as_completed(requests, window=case.window(stage))]
        assert all(outcome.ok for outcome in outcomes)
        requests = [make(each) for each in outcomes if make is not None and isinstance(each, Succeeded)]


def _sketches(case: _Case) -> list[GenerationRequest]:
    return [NanoBanana(prompt=str(row)) for row in range(case.rows)]


def _path(durations: Sequence[Sequence[float]], case: _Case) -> float:
    """Return the critical path: *durations* has those of the stages of each row."""
    ready = [0.0] * len(durations)
    for stage in range(len(_MODELS)):
        free = [0.0] * (case.window(stage) or case.rows)  # when each place of the stage is free
        for row in sorted(range(len(durations)), key=ready.__getitem__):
            start = max(heapq.heappop(free), ready[row])
            ready[row] = start + durations[row][stage]
            heapq.heappush(free, ready[row])
    return max(ready)


def _durations(service: Service, rows: int) -> list[list[float]]:
    found = [[0.0] * len(_MODELS) for _ in range(rows)]
    for entry in service.ledger.entries:
        task = service.task(entry.task_id)
        assert task is not None
        found[int(entry.input["prompt"])][_MODELS.index(entry.model)] = task.ends - task.created
    return found


async def _run(case: _Case, service: Service, *, chained: bool) -> float:
    async with RuxaClient(
        api_key=_KEY,
        base_url="http://localhost",
        transport=MemoryTransport(service),
        limits=Limits(max_in_flight=3 * case.rows),
    ) as ruxa:
        began = anyio.current_time()
        await (_chained if chained else _one_after_the_other)(ruxa, case)
        return anyio.current_time() - began


def _measured(case: _Case, seed: int, *, chained: bool) -> Sample:
    service = Service(
        EmulatorSettings(
            key=_KEY,
            durations={
                model: Durations(median, case.sigma)
                for model, median in zip(_MODELS, case.medians, strict=True)
            },
            latency=0.05,
            seed=seed,
        )
    )
    backend, options = virtual_time("asyncio")

    async def main() -> float:
        return await _run(case, service, chained=chained)

    total = anyio.run(main, backend=backend, backend_options=options)
    return {"total": total, "path": _path(_durations(service, case.rows), case)}


def _row(case: _Case, way: str, rounds: int, *, chained: bool) -> Row:
    samples = [_measured(case, seed, chained=chained) for seed in range(rounds)]
    return {
        "durations": str(case),
        "rows": str(case.rows),
        "stages": way,
        "path, s": spread(sample["path"] for sample in samples),
        "took, s": spread(sample["total"] for sample in samples),
        "x path": spread(sample["total"] / sample["path"] for sample in samples),
    }


def run(options: Options) -> list[Row]:
    """Run three stages in both ways."""
    rounds = options.times(9, quick=1)
    return [
        _row(case, way, rounds, chained=chained)
        for case in _CASES
        for way, chained in (("then", True), ("one after the other", False))
    ]
