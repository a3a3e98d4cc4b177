"""What a run would buy: every row is read and looked up, and nothing is sent, made or changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field, frozen

from ruxa_async._client.spending import add_recorded, budget_error
from ruxa_async._engine.budget import Spending
from ruxa_async._engine.job import Job
from ruxa_async.errors import BudgetExceededError, JournalInUseError, RuxaError
from ruxa_async.journal import JobState, JournalCounts
from ruxa_async.journal._store import Store
from ruxa_async.journal._view import read_only_store
from ruxa_async.requests import GenerationRequest
from ruxa_async.settings import Budget

from ._layout import JOURNAL, RUN
from ._readers import Row

__all__ = ("DryRun", "dry_run")

_PICKED_UP = (JobState.ACCEPTED, JobState.ADOPTED)
_IN_DOUBT = (JobState.UNKNOWN, JobState.INTENDED)


@define(kw_only=True)
class DryRun:
    """What a run would do with its rows.

    *finished* rows have succeeded before, *failed* ones have not; *refused* says that a bad row would end the
    run. *wanted* are the tasks that it would buy by model, *fitting* those of them that the budget has room
    for: *halted* says why the others have none. *prices* are what a task counts for, as far as that is known.
    *in_use* says who holds the journal, so that nobody knows what was bought before.
    """

    rows: int = 0
    bad: int = 0
    finished: int = 0
    failed: int = 0
    refused: bool = False
    picked_up: int = 0
    unknown: int = 0
    wanted: Counter[str] = field(factory=Counter)
    fitting: Counter[str] = field(factory=Counter)
    prices: dict[str, float] = field(factory=dict)
    before: JournalCounts | None = None
    halted: BudgetExceededError | None = None
    in_use: JournalInUseError | None = None

    @property
    def credits(self) -> float:
        """What the wanted tasks cost, as far as their prices are known."""
        return sum(count * self.prices[model] for model, count in self.wanted.items() if model in self.prices)


@frozen(kw_only=True)
class _Allowed:
    """What the user allows to be bought again."""

    retry_failed: bool
    resend_unknown: bool


def dry_run(
    rows: Iterable[Row],
    out: Path,
    *,
    budget: Budget | None = None,
    prices: dict[str, float] | None = None,
    retry_failed: bool = False,
    resend_unknown: bool = False,
    strict: bool = False,
    on_bad: Callable[[int, Exception], object] = lambda _line, _error: None,
) -> DryRun:
    """Return what a run of *rows* in *out* would buy. *on_bad* gets the line and the error of each bad row.

    With *strict* no row is read after the first bad one.

    The journal in *out*, if there is one, is only read. Raises `InputError`, `JournalError`, OSError.
    """
    allowed = _Allowed(retry_failed=retry_failed, resend_unknown=resend_unknown)
    found = DryRun()
    with _store(out, found) as store:
        found.before = store.counts(RUN)
        spending = _spending_before(budget, prices or {}, found.before)
        run = store.open_run(RUN, 0.0)
        for row in rows:
            found.rows += 1
            error = (
                row.error
                if row.request is None
                else _count_row(row.request, run, store, allowed, found, spending)
            )
            if error is not None:
                found.bad += 1
                on_bad(row.line, error)
                if strict:
                    found.refused = True
                    break
    for model in found.wanted:
        if (price := spending.price(model)) is not None:
            found.prices[model] = price
    return found


@contextmanager
def _store(out: Path, found: DryRun) -> Iterator[Store]:
    """Yield the journal in *out*, read-only; an empty one if there is none or it is in use."""
    try:
        with read_only_store(out / JOURNAL) as store:
            yield store
            return
    except JournalInUseError as error:
        found.in_use = error
    with read_only_store(None) as store:
        yield store


def _spending_before(budget: Budget | None, prices: dict[str, float], before: JournalCounts) -> Spending[Job]:
    """Return the spending that the run would find; without a budget it still knows reported prices."""
    if budget is None:
        most = 1 << 62
        budget = Budget(max_tasks=most, prices=prices)
    spending: Spending[Job] = Spending(budget)
    add_recorded(spending, before.models)
    return spending


def _count_row(
    request: GenerationRequest,
    run: int,
    store: Store,
    allowed: _Allowed,
    found: DryRun,
    spending: Spending[Job],
) -> Exception | None:
    """Count the outcome of *request*; return what is wrong with it, if anything is."""
    try:
        known = store.match(run, RUN, request).known
    except RuxaError as error:
        return error
    state = None if known is None else known.state
    if state is JobState.SUCCEEDED:
        found.finished += 1
    elif state is JobState.FAILED and not allowed.retry_failed:
        found.failed += 1
    elif state in _PICKED_UP:
        found.picked_up += 1
    elif state in _IN_DOUBT and not allowed.resend_unknown:
        found.unknown += 1
    else:
        _count_wanted(request.model, found, spending)
    return None


def _count_wanted(model: str, found: DryRun, spending: Spending[Job]) -> None:
    found.wanted[model] += 1
    if found.halted is not None:
        return
    job = Job(model=model)
    shortfall = spending.reserve(job, model)
    spending.on_answer(job)
    if shortfall is None:
        found.fitting[model] += 1
    else:
        found.halted = budget_error(shortfall, spending.budget)
