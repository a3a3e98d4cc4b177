"""The record of one run, a line of ``runs.jsonl`` that is written at its end. See docs/results.md."""

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

from ._layout import RUNS

if TYPE_CHECKING:
    from ._summary import Summary

__all__ = ("RunRecord",)

_SCOPES = ("create", "query")
#: The most steps of a series. An event beyond the last step doubles the length of all steps.
_STEPS = 240


@define
class _Series:
    """The number of events in each step of *step* seconds since the start, by name."""

    step: float = 1.0
    counts: dict[str, list[int]] = field(factory=dict)

    def add(self, name: str, seconds: float) -> None:
        """Count one event *name* at *seconds* after the start."""
        while (place := int(max(0.0, seconds) / self.step)) >= _STEPS:
            self.step *= 2
            for counts in self.counts.values():
                counts[:] = [sum(counts[at : at + 2]) for at in range(0, len(counts), 2)]
        counts = self.counts.setdefault(name, [])
        counts.extend([0] * (place + 1 - len(counts)))
        counts[place] += 1


@define(kw_only=True)
class RunRecord:
    """Counts requests and rejections (429) of a run: pass `on_event` to the client, call `write` at the end.

    *source* is the input as the user named it. *began* is the start on the clock of the events, *started_at*
    the same instant in seconds since the epoch. *prices* and *budget* are those that the user gave.
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
        """Count *event* if it is a request or a rejection."""
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
        """Return the fields of the line. *now* is when the run ended; *whole*: nothing interrupted it."""
        counts = {scope: self._throttled.counts.get(scope, []) for scope in _SCOPES}
        return {
            "v": 1,
            "version": __version__,
            "source": self.source,
            "started_at": round(self.started_at, 3),
            "ended_at": round(now, 3),
            "ending": _ending(summary, whole=whole),
            "states": dict(summary.states),
            "unsubmitted": summary.unsubmitted,
            "prices": self.prices,
            "max_tasks": None if self.budget is None else self.budget.max_tasks,
            "max_credits": None if self.budget is None else self.budget.max_credits,
            "creates_sent": self.creates,
            "queries_sent": self.queries,
            "throttled": {scope: sum(each) for scope, each in counts.items()},
            "throttled_over_time": {"step": self._throttled.step, **counts},
        }

    def write(self, folder: Path, summary: Summary, *, whole: bool) -> None:
        """Append the line to ``runs.jsonl`` in *folder* and sync it. Raises OSError."""
        line = json.dumps(self.values(summary, now=time.time(), whole=whole), ensure_ascii=False)
        with (folder / RUNS).open("ab+", buffering=0) as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a kill cut the last line off
                    line = f"\n{line}"
            file.write(line.encode(errors="replace") + b"\n")
            os.fsync(file.fileno())


def _ending(summary: Summary, *, whole: bool) -> str:
    if summary.halted is not None:
        by_budget = isinstance(summary.halted.cause, BudgetExceededError)
        return "halted by the budget" if by_budget else "halted by the account"
    if summary.refused is not None:
        return "stopped at a bad row"
    return "finished" if whole else "interrupted"
