"""Counters of outcomes, and the snapshot that `RuxaClient.stats` returns."""

from __future__ import annotations

import math
import statistics
from collections import deque

from attrs import define, field

from ruxa_async._engine.engine import Engine
from ruxa_async.results import Stats

from .job import ClientJob

__all__ = ("Counters", "snapshot")

#: Durations that are kept for each model; `Stats.durations` shows their median.
_DURATIONS_KEPT = 64


@define
class Counters:
    """How many tasks ended in which way, and their latest durations in seconds by model."""

    succeeded: int = 0
    failed: int = 0
    stopped: int = 0
    orphaned: int = 0
    durations: dict[str, deque[float]] = field(factory=dict)

    def on_end(self, model: str | None, seconds: float, *, succeeded: bool) -> None:
        """Count a task that ended after *seconds*."""
        if succeeded:
            self.succeeded += 1
        else:
            self.failed += 1
        if model is not None:
            if model not in self.durations:
                self.durations[model] = deque(maxlen=_DURATIONS_KEPT)
            self.durations[model].append(seconds)


def snapshot(engine: Engine[ClientJob], counters: Counters, now: float) -> Stats:
    """Return the figures of a client at *now*, in seconds of the event loop's clock."""
    counts, spending, breaker = engine.counts, engine.spending, engine.breaker
    return Stats(
        in_flight=counts.in_flight,
        queued=engine.queued,
        creates_on_wire=counts.creates_on_wire,
        queries_on_wire=counts.queries_on_wire,
        creates_sent=counts.creates_sent,
        accepted=counts.accepted,
        refused=counts.refused,
        unknown=counts.unknown,
        withdrawn=counts.withdrawn,
        succeeded=counters.succeeded,
        failed=counters.failed,
        stopped=counters.stopped,
        orphaned=counters.orphaned,
        queries_sent=counts.queries_sent,
        throttled={"create": engine.scopes.create.rejections, "query": engine.scopes.query.rejections},
        rates={"create": engine.scopes.create.rate, "query": engine.scopes.query.rate},
        durations={
            **{model: math.exp(law["mu"]) for model, law in engine.schedule.export().items()},
            **{model: statistics.median(latest) for model, latest in counters.durations.items()},
        },
        spent_tasks=None if spending is None else spending.tasks,
        spent_credits=None if spending is None else spending.known_credits,
        is_circuit_open=breaker.is_open,
        outages=breaker.openings,
        outage_seconds=breaker.seconds_open + (breaker.open_for(now) if breaker.is_open else 0.0),
    )
