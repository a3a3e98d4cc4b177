"""The counts of a run, kept up to date while it is under way."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from attrs import define, field

from ruxa_async._price_list import PriceList
from ruxa_async.errors import SubmissionHalted
from ruxa_async.journal import Bought
from ruxa_async.results import Stats

from ._input_rows import Row
from ._result_line import Result, State, kind_of

__all__ = ("Resumed", "Summary")

#: Kinds of failures that are counted apart; further ones count as "other".
_MAX_KINDS = 30
#: Rows of unknown outcome that are listed.
_MAX_UNKNOWN = 20


@define
class Resumed:
    """What a run took over from earlier runs.

    *finished* rows had ended before. *picked_up* tasks were accepted before and are polled in this run.
    *fetched* counts files that were missing and are downloaded again, *unknown* creates whose outcome is
    still unknown.
    """

    finished: int = 0
    picked_up: int = 0
    fetched: int = 0
    unknown: int = 0

    def __bool__(self) -> bool:
        return bool(self.finished or self.picked_up or self.fetched or self.unknown)


@define(kw_only=True)
class Summary:
    """The counts of a run, kept up to date while it is under way.

    *states* counts the rows by state, *kinds* the failures by a short description. *files* counts the saved
    outputs. *queries* is the number of queries, *asked* that of the tasks that they were for. *credits* is
    the sum that the service reported for this run. *models* are the purchases that this run made, picked up
    or may have made, by model, with parameters if *prices* name them; *lost* are those of them that failed
    after they were accepted. *prices* are the credits of a task that the user gave. *unknown* lists the first
    20 rows that may have been charged.

    *stats* are the client's counters at the end. *callbacks* is the number of callbacks received, None if
    none were requested. *unsubmitted* counts rows that were read and not submitted. *halted* is the reason
    why the client stopped buying, *refused* the bad row that ended a strict run. *moved* is true if the
    folder was moved, replaced or removed during the run. *store* is the URL of the object store that has the
    outputs, None if the folder has them. *shared* is true if its journal is on a server.
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
    store: str | None = None
    shared: bool = False
    _price_list: PriceList = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        self._price_list = PriceList(self.prices)

    @property
    def done(self) -> int:
        """The number of rows that have a result."""
        return self.states.total()

    @property
    def bought(self) -> Bought:
        """The sum of *models*."""
        each = self.models.values()
        return Bought(
            tasks=sum(model.tasks for model in each),
            unpriced=sum(model.unpriced for model in each),
            credits=sum(model.credits for model in each),
        )

    @property
    def downloaded(self) -> int:
        """The number of generations whose download ended, successful or not."""
        return self.states["succeeded"] + self.states["download_failed"]

    @property
    def failed(self) -> int:
        """The number of rows that ended without an output on disk, without unfinished and unknown ones."""
        return self.states["failed"] + self.states["download_failed"] + self.states["invalid"]

    def count(self, result: Result, *, ended_before: bool = False) -> None:
        """Count *result*. *ended_before* is true if the task ended, and was paid for, in an earlier run."""
        self.states[result.state] += 1
        self.files += len(result.files)
        self.queries += result.queries
        self.asked += result.queries > 0
        if ended_before:
            self.resumed.finished += 1
        else:
            self.credits += result.credits or 0.0
            if result.task_id is not None or result.state == "unknown":
                self._count_purchase(result)
        if result.state == "unknown" and len(self.unknown) < _MAX_UNKNOWN:
            self.unknown.append(result)
        if result.error is not None:
            kind = kind_of(result.error, result.state)
            self.kinds[kind if kind in self.kinds or len(self.kinds) < _MAX_KINDS else "other"] += 1

    def _count_purchase(self, result: Result) -> None:
        """Count a task that was bought, or a create that may have been."""
        key = self._price_list.key_of(result.model or "not known", result.input or {})
        self.models.setdefault(key, Bought()).add(result.credits)
        if result.state == "failed":
            self.lost.setdefault(key, Bought()).add(result.credits)
