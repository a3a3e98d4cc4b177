"""What a run came to, counted while it goes on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from attrs import define, field

from ruxa_async.errors import SubmissionHalted
from ruxa_async.journal import Bought
from ruxa_async.results import Stats

from ._input_rows import Row
from ._result_line import Result, State, kind_of

__all__ = ("Resumed", "Summary")

_MAX_KINDS = 30
_MAX_LISTED = 20


@define
class Resumed:
    """What a run found of earlier ones.

    Rows *finished* before, tasks *picked_up*, files *fetched* again, and *unknown* creates that are left.
    """

    finished: int = 0
    picked_up: int = 0
    fetched: int = 0
    unknown: int = 0

    def __bool__(self) -> bool:
        return bool(self.finished or self.picked_up or self.fetched or self.unknown)


@define(kw_only=True)
class Summary:
    """What a run came to; it counts while the run goes on.

    *states* counts the rows by their state, *kinds* the failures in a few words. *queries* is over *asked*
    tasks. *models* are the tasks by model that this run bought or picked up, or may have bought, *lost* those
    of them that failed after they were accepted; *prices* are what the person says that they cost. *stats* is
    the client's last word, *callbacks* how many posts came; None if none were asked for. *unknown* are the
    first rows that may have been charged. *halted* says why nothing more was submitted, *refused* is the row
    that ended a strict run, *moved* that the folder was moved, replaced or removed while the run was under
    way.
    """

    folder: Path
    resumed: Resumed = field(factory=Resumed)
    unknown: list[Result] = field(factory=list)
    states: Counter[State] = field(factory=Counter)
    kinds: Counter[str] = field(factory=Counter)
    files: int = 0
    queries: int = 0
    asked: int = 0
    credits: float = 0.0
    models: dict[str, Bought] = field(factory=dict)
    lost: dict[str, Bought] = field(factory=dict)
    prices: dict[str, float] = field(factory=dict)
    stats: Stats | None = None
    callbacks: int | None = None
    unsubmitted: int = 0
    halted: SubmissionHalted | None = None
    refused: Row | None = None
    moved: bool = False

    @property
    def done(self) -> int:
        """The number of rows whose outcome is known."""
        return self.states.total()

    @property
    def bought(self) -> Bought:
        """All that is in *models*."""
        each = self.models.values()
        return Bought(
            tasks=sum(model.tasks for model in each),
            unpriced=sum(model.unpriced for model in each),
            credits=sum(model.credits for model in each),
        )

    @property
    def downloaded(self) -> int:
        """The generations whose download is over, well or not."""
        return self.states["succeeded"] + self.states["download_failed"]

    @property
    def failed(self) -> int:
        """The rows that ended without a picture on disk; those whose end is not known are not among them."""
        return self.states["failed"] + self.states["download_failed"] + self.states["invalid"]

    def count(self, result: Result, *, before: bool = False) -> None:
        """Take *result* into account; *before* says that an earlier run saw its end, and paid for it."""
        self.states[result.state] += 1
        self.files += len(result.files)
        self.queries += result.queries
        self.asked += result.queries > 0
        self.resumed.finished += before
        self.credits += 0.0 if before else result.credits or 0.0
        if not before and (result.task_id is not None or result.state == "unknown"):
            self._bill(result)
        if result.state == "unknown" and len(self.unknown) < _MAX_LISTED:
            self.unknown.append(result)
        if result.error is not None:
            kind = kind_of(result.error, result.state)
            self.kinds[kind if kind in self.kinds or len(self.kinds) < _MAX_KINDS else "other"] += 1

    def _bill(self, result: Result) -> None:
        """Count a task that was bought, or may have been."""
        model = result.model or "not known"
        self.models.setdefault(model, Bought()).add(result.credits)
        if result.state == "failed":
            self.lost.setdefault(model, Bought()).add(result.credits)
