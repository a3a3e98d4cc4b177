"""What a batch costs, on the command line: its options, and the sentences about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ruxa_async.batch import Summary
from ruxa_async.batch.records import InputError
from ruxa_async.batch.rehearsal import Rehearsal
from ruxa_async.journal.records import Bought
from ruxa_async.settings import Budget

__all__ = ("MaxCredits", "MaxTasks", "Prices", "read_budget", "read_prices", "rehearsed", "spent")

MaxTasks = Annotated[
    int | None,
    Parameter(
        help="Buy so many tasks at most in this folder, over all runs; those of unknown outcome count."
    ),
]
MaxCredits = Annotated[
    float | None,
    Parameter(
        help="Spend so many credits at most in this folder, over all runs; needs a --price for each model."
    ),
]
Prices = Annotated[
    tuple[str, ...],
    Parameter(
        show_default=False,
        help="What a task of a model costs at most, as MODEL=CREDITS; may be given several times. What the service reports counts instead.",
    ),
]


def read_prices(given: Sequence[str]) -> dict[str, float]:
    """Return the prices in *given*, each as MODEL=CREDITS. Raises `InputError`."""
    prices: dict[str, float] = {}
    for text in given:
        model, _, credits_ = text.rpartition("=")
        try:
            prices[model] = float(credits_)
        except ValueError:
            model = ""
        if not model.strip():
            raise InputError(
                f"--price {text!r} is not valid: it is MODEL=CREDITS, as in google/nano-banana=3"
            )
    Budget(max_tasks=0, prices=prices)  # checks them
    return prices


def read_budget(max_tasks: int | None, max_credits: float | None, prices: dict[str, float]) -> Budget | None:
    """Return the budget, None if there is no limit. Raises ValueError."""
    if max_tasks is None and max_credits is None:
        return None
    return Budget(max_tasks=max_tasks, max_credits=max_credits, prices=prices)


# ---- after a run


def spent(summary: Summary, budget: Budget | None) -> Iterable[str]:
    """Say what the run spent, on what, what of it was for nothing, and how far the budget is used."""
    models = sorted(summary.models.items(), key=lambda item: (-item[1].credits, item[0]))
    if models:
        yield f"  spent: {_amount(summary.bought, summary.prices, models)}"
        if len(models) > 1:
            for model, bought in models:
                yield f"    {model}: {_amount(bought, summary.prices, [(model, bought)])}"
    if summary.lost:
        lost = Bought()
        for each in summary.lost.values():
            _add(lost, each)
        yield f"  failed after being paid for: {_amount(lost, summary.prices, summary.lost.items())}"
    stats = summary.stats
    if budget is not None and stats is not None and stats.spent_tasks is not None:
        yield f"  budget of this folder: {', '.join(_used(budget, stats.spent_tasks, stats.spent_credits))}"


def _used(budget: Budget, tasks: int, credits_: float | None) -> Iterable[str]:
    if budget.max_tasks is not None:
        yield f"{tasks:,} of {budget.max_tasks:,} tasks"
    if budget.max_credits is not None:
        yield f"{'?' if credits_ is None else _number(credits_)} of {_number(budget.max_credits)} credits"


def _add(total: Bought, other: Bought) -> None:
    total.tasks += other.tasks
    total.untold += other.untold
    total.credits += other.credits


def _amount(total: Bought, prices: dict[str, float], models: Iterable[tuple[str, Bought]]) -> str:
    """Return credits and tasks in words: what the service reported, and for the rest the listed prices."""
    said = f"{_tasks(total.tasks)}"
    if total.tasks > total.untold:
        said += f", {_number(total.credits)} credits as the service reported"
    listed = [(bought.untold, prices.get(model)) for model, bought in models if bought.untold]
    priced = sum(count for count, price in listed if price is not None)
    if priced:
        at_list = sum(count * price for count, price in listed if price is not None)
        of = "" if priced == total.tasks else f" for {priced:,} of them"
        said += f", {_number(at_list)} credits at the listed price{of}"
    if total.untold > priced:
        said += f", price not told for {total.untold - priced:,} of them"
    return said


# ---- before a run


def rehearsed(told: Rehearsal, out: Path, prices: dict[str, float]) -> Iterable[str]:
    """Say what a run would buy."""
    rows = f"{told.rows:,} row{'s' * (told.rows != 1)} read"
    yield f"{rows}, {told.bad:,} bad; nothing was sent or written"
    if told.in_use is not None:
        yield f"what was bought there before is not known just now: {told.in_use}"
    yield from _before(told, out)
    wanted = told.wanted.total()
    unpriced = told.wanted.keys() - told.prices.keys()
    cost = f", {_number(told.credits)} credits" if told.prices else ""
    yield f"  would buy {_tasks(wanted)}{cost}{' and what has no price' if cost and unpriced else ''}"
    for model, count in told.wanted.most_common():
        price = told.prices.get(model)
        known = f"no price known (--price {model}=CREDITS)" if price is None else _each(count, price)
        yield f"    {model}: {count:,}, {known}"
    for model in sorted(prices.keys() - told.wanted.keys()):
        yield f"  no row to be bought asks for {model}, which has a --price: is it spelled as the rows spell it?"
    if told.halted is not None:
        yield f"  the budget would stop this after {told.fitting.total():,} of {_tasks(wanted)}: {told.halted}"


def _before(told: Rehearsal, out: Path) -> Iterable[str]:
    if told.before is not None and told.before.models:
        bought, models = Bought(), told.before.models
        for each in models.values():
            _add(bought, each)
        yield f"  bought in {out} before: {_amount(bought, {}, models.items())}"
    parts = (
        (told.finished, "finished"),
        (told.picked_up, "to be picked up"),
        (told.unknown, "unknown, left alone"),
    )
    if any(count for count, _ in parts):
        yield f"  of these rows: {', '.join(f'{count:,} {what}' for count, what in parts if count)}"


def _each(count: int, price: float) -> str:
    return f"{_number(count * price)} credits at {_number(price)} each"


def _tasks(count: int) -> str:
    return f"{count:,} task{'s' * (count != 1)}"


def _number(value: float) -> str:
    return f"{value:,.10g}"
