"""The outcomes of many draws as JSON: of this code, and of earlier code as the baseline."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Self

import attrs
from attrs import frozen

from benchmarks._code import prepare
from benchmarks._draws import draw
from benchmarks._harness import Options
from benchmarks._judge import Result, run
from benchmarks._recovery import recovered_after

__all__ = ("BASELINES", "Outcome", "baseline", "outcomes")

#: Outcomes of earlier code; not in ``figures``, which belong to one commit.
BASELINES = Path(__file__).parent / "baselines"
_SHOWN_EVERY = 100


@frozen(kw_only=True)
class Outcome:
    """A `Result` in a line: *share* and *rejected* in percent, the rest in seconds or requests."""

    seed: int
    draw: str
    family: str
    disturbance: str
    hint: str
    share: float
    rejected: float
    ideal: float
    seconds: float
    accepted: int
    count: int
    recovered: float

    @classmethod
    def of(cls, result: Result) -> Self:
        """Return the outcome of *result*."""
        drawn = result.draw
        return cls(
            seed=drawn.seed,
            draw=str(drawn),
            family=drawn.family,
            disturbance=drawn.disturbance,
            hint=drawn.hint,
            share=100 * result.share,
            rejected=100 * result.rejected_share,
            ideal=result.ideal,
            seconds=result.seconds,
            accepted=result.accepted,
            count=drawn.count,
            recovered=recovered_after(drawn, result.arrivals),
        )

    def kept(self) -> Mapping[str, Any]:
        """Return it as JSON values."""
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in attrs.asdict(self).items()
        }


def outcomes(seeds: Sequence[int], options: Options) -> list[Outcome]:
    """Run the draws of *seeds* in ``options.jobs`` processes, one for each core by default."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs or os.cpu_count(), context, prepare, (options.code,)) as pool:
        return list(_shown(pool.map(_outcome, seeds, chunksize=5), len(seeds)))


def _outcome(seed: int) -> Outcome:
    return Outcome.of(run(draw(seed)))


def _shown(some: Iterable[Outcome], total: int) -> Iterable[Outcome]:
    for number, each in enumerate(some, 1):
        if number % _SHOWN_EVERY == 0:
            print(f"{number} of {total} draws", file=sys.stderr, flush=True)
        yield each


def baseline(name: str, seeds: Sequence[int]) -> dict[str, list[Outcome]]:
    """Return the stored outcomes of earlier commits for *seeds*."""
    found: dict[str, list[Outcome]] = {}
    for path in sorted(BASELINES.glob(f"{name}_[0-9a-f]*.json")):
        kept = json.loads(path.read_text(encoding="utf-8"))
        known = {each["seed"]: Outcome(**each) for each in kept["series"]["outcomes"]}
        if any(seed >= 0 and seed in known for seed in seeds):
            found[path.stem.rpartition("_")[2]] = [known[seed] for seed in seeds if seed in known]
    return found
