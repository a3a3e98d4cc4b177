"""The messages of budget errors, and the spending that the journal recorded for a run."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote
from typing import TypeVar

import anyio

from ruxa_async._engine.budget import BudgetLimit, BudgetShortfall, Spending
from ruxa_async._engine.job import Job
from ruxa_async.errors import BudgetExceededError
from ruxa_async.journal import Bought, LastingJournal
from ruxa_async.settings import Budget

from .job import ClientJob

__all__ = ("RunSpending", "add_recorded", "budget_error")

_J = TypeVar("_J", bound=Job)


def budget_error(shortfall: BudgetShortfall, budget: Budget) -> BudgetExceededError:
    """Return the error for a request that was not sent because of *shortfall*."""
    return BudgetExceededError(
        f"{_reason(shortfall, budget)}. Nothing was sent for it",
        model=shortfall.price_key.partition("[")[0],
        price_key=shortfall.price_key,
        price=shortfall.price,
        tasks=shortfall.tasks,
        credits=shortfall.credits,
    )


def _reason(shortfall: BudgetShortfall, budget: Budget) -> str:
    key = shortfall.price_key
    limit = f"max_credits={budget.max_credits:,.10g}" if budget.max_credits else "max_credits=0"
    set_price = f"set it with prices={{{key!r}: CREDITS}} (--price {quote(f'{key}=CREDITS')})"
    if shortfall.lack is BudgetLimit.TASKS:
        return (
            f"one more task would pass the budget of max_tasks={budget.max_tasks:,}: "
            f"{shortfall.tasks:,} are bought or may be. Raise it (--max-tasks) and run again to go on"
        )
    if shortfall.lack is BudgetLimit.CREDITS:
        return (
            f"{key} for {shortfall.price:,.10g} credits would pass the budget of {limit}: "
            f"{shortfall.credits:,.10g} are spent or may be. Raise it (--max-credits) and run again to go on"
        )
    if shortfall.lack is BudgetLimit.PAST_PRICE:
        return (
            f"tasks of {key} were bought before and their price is not known, so the budget of {limit} "
            f"cannot be kept: {set_price}"
        )
    known = f"; prices names {', '.join(sorted(budget.prices))}" if budget.prices else ""
    return f"the price of {key} is not known, so the budget of {limit} cannot be kept: {set_price}{known}"


def add_recorded(spending: Spending[_J], purchases: Mapping[str, Bought]) -> None:
    """Add to *spending* the recorded *purchases* of each price key."""
    for key, bought in purchases.items():
        spending.count_recorded(
            key,
            tasks=bought.tasks,
            unpriced=bought.unpriced,
            credits=bought.credits,
            highest_price=bought.highest_price,
        )


class RunSpending:
    """Adds what the journal recorded for each run to the *spending* of one client, once a run."""

    def __init__(self, spending: Spending[ClientJob]) -> None:
        self.spending: Spending[ClientJob] = spending
        self._loaded: set[str] = set()
        self._loading = anyio.Lock()

    async def load(self, journal: LastingJournal, run: str) -> None:
        """Count what earlier clients bought in *run*. What this client buys there is counted already."""
        async with self._loading:  # a caller that did not wait could buy before the run is counted
            if run not in self._loaded:
                counts = await journal.counts(run, group_by=self.spending.price_list.key_of)
                add_recorded(self.spending, counts.models)
                self._loaded.add(run)
