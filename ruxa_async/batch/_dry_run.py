"""The dry run of a batch: read every row and look it up in the journal; send, create and change nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field

from ruxa_async._client.job import ClientJob
from ruxa_async._client.spending import add_recorded, budget_error
from ruxa_async._engine.budget import Spending
from ruxa_async.errors import BudgetExceededError, JournalInUseError, RuxaError
from ruxa_async.journal import JobState, JournalCounts
from ruxa_async.journal._postgres_view import read_only_postgres
from ruxa_async.journal._store import Store
from ruxa_async.journal._view import read_only_store
from ruxa_async.requests import GenerationRequest
from ruxa_async.settings import Budget

from ._input_rows import Row
from ._layout import JOURNAL, RUN

__all__ = ("DryRun", "dry_run")


@define(kw_only=True)
class DryRun:
    """What a run would do with its rows.

    *finished* rows succeeded in earlier runs, *failed* ones failed and would not be bought again. *picked_up*
    tasks were accepted and would be polled; *unknown* creates would not be sent again. *refused* is true if a
    bad row would end the run.

    *wanted* counts the tasks that the run would buy, by price key: the model, with parameters if prices name
    them. *fitting* are those of them that the budget permits; *halted* is the error of the first that exceeds
    it. *prices* are the credits of a task by price key, as far as they are known, and *before* the counts of
    the journal. *in_use* names the process that has the journal open; then earlier purchases are not known.
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
        """The credits that the wanted tasks cost, as far as their prices are known."""
        return sum(count * self.prices[key] for key, count in self.wanted.items() if key in self.prices)

    def count_known(self, state: JobState | None, *, retry_failed: bool, resend_unknown: bool) -> bool:
        """Count a row that the journal knows in *state*; return False if the run would buy it."""
        if state is JobState.SUCCEEDED:
            self.finished += 1
        elif state is JobState.FAILED and not retry_failed:
            self.failed += 1
        elif state in (JobState.ACCEPTED, JobState.ADOPTED):
            self.picked_up += 1
        elif state in (JobState.UNKNOWN, JobState.INTENDED) and not resend_unknown:
            self.unknown += 1
        else:
            return False
        return True

    def count_wanted(self, request: GenerationRequest, spending: Spending[ClientJob]) -> None:
        """Count a task that the run would buy, and spend its price."""
        job = ClientJob(request=request, model=request.model)
        key = spending.price_key(job)
        self.wanted[key] += 1
        if self.halted is not None:
            return
        shortfall = spending.reserve(job)
        spending.on_answer(job)
        if shortfall is None:
            self.fitting[key] += 1
        else:
            self.halted = budget_error(shortfall, spending.budget)


def dry_run(
    rows: Iterable[Row],
    out: Path,
    *,
    journal: str | None = None,
    run: str = RUN,
    budget: Budget | None = None,
    prices: dict[str, float] | None = None,
    retry_failed: bool = False,
    resend_unknown: bool = False,
    strict: bool = False,
    on_bad: Callable[[int, Exception], object] = lambda _line, _error: None,
) -> DryRun:
    """Return what a run of *rows* in *out* would buy, as the journal in *out* shows, which is only read.

    *journal* is the DSN of a journal on a server instead, and *run* the name of the run in it.
    *on_bad* is called with the line and the error of each bad row. With *strict* no row is read after the
    first bad one. Raises `InputError`, `JournalError`, OSError.
    """
    found = DryRun()
    with _store(out, journal, found) as store:
        # Without a budget, spending still knows the prices that the service reported.
        spending: Spending[ClientJob] = Spending(budget or Budget(max_tasks=1 << 62, prices=prices or {}))
        found.before = store.counts(run, spending.price_list.key_of)
        add_recorded(spending, found.before.models)
        number = store.open_run(run, 0.0)
        for row in rows:
            found.rows += 1
            error = row.error
            if row.request is not None:
                try:
                    known = store.match(number, run, row.request).known
                except RuxaError as exc:
                    error = exc
                else:
                    state = None if known is None else known.state
                    if not found.count_known(state, retry_failed=retry_failed, resend_unknown=resend_unknown):
                        found.count_wanted(row.request, spending)
            if error is not None:
                found.bad += 1
                on_bad(row.line, error)
                if strict:
                    found.refused = True
                    break
    known_prices = ((key, spending.price(key)) for key in found.wanted)
    found.prices = {key: price for key, price in known_prices if price is not None}
    return found


@contextmanager
def _store(out: Path, journal: str | None, found: DryRun) -> Iterator[Store]:
    """Yield the journal in *out* or at *journal*, read-only; an empty one if there is none.

    A file that is in use counts as empty.
    """
    if journal is not None:
        with read_only_postgres(journal) as shared, read_only_store(None) as empty:
            yield shared or empty
        return
    try:
        with read_only_store(out / JOURNAL) as store:
            yield store
            return
    except JournalInUseError as error:
        found.in_use = error
    with read_only_store(None) as store:
        yield store
