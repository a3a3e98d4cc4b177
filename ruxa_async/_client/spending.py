"""A shortage in words, and what the journal knows of a run put into the books."""

from __future__ import annotations

from ruxa_async._engine.budget import BudgetLimit, BudgetShortfall, Spending
from ruxa_async.errors import BudgetExceededError
from ruxa_async.journal import LastingJournal
from ruxa_async.settings import Budget

from .job import ClientJob

__all__ = ("Ledger", "budget_error")


def budget_error(shortfall: BudgetShortfall, budget: Budget) -> BudgetExceededError:
    """Return the error for a request that was not sent because of *shortfall*."""
    return BudgetExceededError(
        f"{_why(shortfall, budget)}. Nothing was sent for it",
        model=shortfall.model,
        price=shortfall.price,
        tasks=shortfall.tasks,
        credits=shortfall.credits,
    )


def _why(shortfall: BudgetShortfall, budget: Budget) -> str:
    model, most = shortfall.model, f"max_credits={budget.max_credits:,.10g}" if budget.max_credits else ""
    name_it = f"say it with prices={{{model!r}: CREDITS}} (--price {model}=CREDITS)"
    if shortfall.lack is BudgetLimit.TASKS:
        return (
            f"one more task would pass the budget of max_tasks={budget.max_tasks:,}: {shortfall.tasks:,} are bought or "
            "may be. Raise it (--max-tasks) and run again to go on"
        )
    if shortfall.lack is BudgetLimit.CREDITS:
        return (
            f"{model} for {shortfall.price:,.10g} credits would pass the budget of "
            f"{most or 'max_credits=0'}: {shortfall.credits:,.10g} are spent or may be. "
            "Raise it (--max-credits) and run again to go on"
        )
    if shortfall.lack is BudgetLimit.PAST_PRICE:
        return (
            f"tasks of {model} were bought before and nobody knows what they cost, so the budget of {most or 'max_credits=0'} "
            f"cannot be kept: {name_it}"
        )
    known = f"; prices names {', '.join(sorted(budget.prices))}" if budget.prices else ""
    return f"nobody knows what {model} costs, so the budget of {most or 'max_credits=0'} cannot be kept: {name_it}{known}"


class Ledger:
    """The books of one client, where there is a budget; the runs of its journal are entered once each."""

    def __init__(self, spending: Spending[ClientJob]) -> None:
        self.spending = spending
        self._entered: set[str] = set()

    async def enter(self, journal: LastingJournal, run: str) -> None:
        """Count what earlier clients bought in *run*; what this one buys there it has counted itself."""
        if run in self._entered:
            return
        self._entered.add(run)
        for model, bought in (await journal.counts(run)).models.items():
            self.spending.earlier(
                model,
                tasks=bought.tasks,
                untold=bought.unpriced,
                credits=bought.credits,
                dearest=bought.highest_price,
            )
