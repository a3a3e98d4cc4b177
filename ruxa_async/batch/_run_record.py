"""A run as a whole: one line of ``runs.jsonl``, written when it ends. See docs/results.md."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, field

from ruxa_async._version import __version__
from ruxa_async.errors import BudgetExceededError, RateLimitedError
from ruxa_async.events import ClientEvent, CreateSent, CreateThrottled, Event, QueryFailed, QuerySent
from ruxa_async.settings import Budget

if TYPE_CHECKING:
    from ._summary import Summary

__all__ = ("RUNS", "RunRecord")

RUNS = "runs.jsonl"

#: Steps of a series; when they are full, each becomes twice as long. So a week costs no more than a minute.
_STEPS = 240


@define
class _Series:
    """Counts over time in a bounded number of equal steps."""

    step: float = 1.0
    counts: dict[str, list[int]] = field(factory=dict)

    def add(self, name: str, seconds: float) -> None:
        """Count one *name* at *seconds* after the start."""
        while (place := int(max(0.0, seconds) / self.step)) >= _STEPS:
            self.step *= 2
            for counts in self.counts.values():
                counts[:] = [sum(counts[at : at + 2]) for at in range(0, len(counts), 2)]
        counts = self.counts.setdefault(name, [])
        counts.extend([0] * (place + 1 - len(counts)))
        counts[place] += 1


@define(kw_only=True)
class RunRecord:
    """Counts what no single row tells: pass `on_event` to the client, then `write` the line.

    *source* is what the input is called, *started_at* in seconds since the epoch, *began* the same instant on
    the clock of the events, *prices* and *budget* what the person said.
    """

    source: str
    began: float
    started_at: float = field(factory=time.time)
    prices: dict[str, float] = field(factory=dict)
    budget: Budget | None = None
    creates: int = 0
    queries: int = 0
    _throttled: _Series = field(factory=_Series)

    def on_event(self, event: Event | ClientEvent) -> None:
        """Take *event* into account."""
        match event:
            case CreateSent():
                self.creates += 1
            case QuerySent():
                self.queries += 1
            case CreateThrottled():
                self._throttled.add("create", event.at - self.began)
            case QueryFailed(error=RateLimitedError()):
                self._throttled.add("query", event.at - self.began)

    def values(self, summary: Summary, *, now: float, whole: bool) -> dict[str, Any]:
        """Return the line's fields; *whole* tells that nothing interrupted the run, which ended at *now*."""
        ending = "finished" if whole else "interrupted"
        if summary.halted is not None:
            by_budget = isinstance(summary.halted.cause, BudgetExceededError)
            ending = "halted by the budget" if by_budget else "halted by the account"
        elif summary.refused is not None:
            ending = "stopped at a bad row"
        counts = self._throttled.counts
        return {
            "v": 1,
            "version": __version__,
            "source": self.source,
            "started_at": round(self.started_at, 3),
            "ended_at": round(now, 3),
            "ending": ending,
            "states": dict(summary.states),
            "unsubmitted": summary.unsubmitted,
            "prices": self.prices,
            "max_tasks": None if self.budget is None else self.budget.max_tasks,
            "max_credits": None if self.budget is None else self.budget.max_credits,
            "creates_sent": self.creates,
            "queries_sent": self.queries,
            "throttled": {scope: sum(counts.get(scope, ())) for scope in ("create", "query")},
            "throttled_over_time": {
                "step": self._throttled.step,
                **{scope: counts.get(scope, []) for scope in ("create", "query")},
            },
        }

    def write(self, folder: Path, summary: Summary, *, whole: bool) -> None:
        """Add the line to the file in *folder*. Raises OSError if it cannot be written."""
        line = json.dumps(self.values(summary, now=time.time(), whole=whole), ensure_ascii=False)
        with (folder / RUNS).open("ab+", buffering=0) as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = (
                    line if file.read(1) == b"\n" else f"\n{line}"
                )  # the last one was cut off; this one is whole
            file.write(line.encode(errors="replace") + b"\n")
            os.fsync(file.fileno())
