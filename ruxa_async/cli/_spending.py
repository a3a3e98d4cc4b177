"""What a batch costs, on the command line: its options, and the sentences about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ruxa_async.batch import InputError, Summary
from ruxa_async.batch._dry_run import DryRun
from ruxa_async.errors import BudgetExceededError
from ruxa_async.journal import Bought
from ruxa_async.settings import Budget

from ._runtime import BAD_INPUT, DONE, HALTED, SOME_FAILED

__all__ = (
    "MaxCredits",
    "MaxTasks",
    "Prices",
    "budget_reason",
    "dry_run_code",
    "read_budget",
    "read_prices",
    "rehearsed",
    "spent",
)

MaxTasks = Annotated[
    int | None,
    Parameter(
        help="Buy at most this number of tasks in this folder, over all runs; those of unknown outcome count."
    ),
]
MaxCredits = Annotated[
    float | None,
    Parameter(
        help="Spend at most this number of credits in this folder, over all runs; needs a --price a model."
    ),
]
Prices = Annotated[
    tuple[str, ...],
    Parameter(
        show_default=False,
        help="What a task of a model costs at most, as MODEL=CREDITS; may be given several times. What the "
        "service reports counts instead.",
    ),
]


def _in_words(error: ValueError) -> InputError:
    """Return *error* about a budget with the names of options in place of those of Python."""
    said = str(error)
    for name, option in (
        ("max_tasks=", "--max-tasks "),
        ("max_credits=", "--max-credits "),
        ("prices", "--price"),
    ):
        said = said.replace(name, option)
    return InputError(said)


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
    try:
        Budget(max_tasks=0, prices=prices)
    except ValueError as error:
        raise _in_words(error) from None
    return prices


def read_budget(max_tasks: int | None, max_credits: float | None, prices: dict[str, float]) -> Budget | None:
    """Return the budget, None without a limit. Raises `InputError`."""
    if max_tasks is None and max_credits is None:
        return None
    try:
        return Budget(max_tasks=max_tasks, max_credits=max_credits, prices=prices)
    except ValueError as error:
        raise _in_words(error) from None


def budget_reason(error: BudgetExceededError, budget: Budget) -> str:
    """Return why one more task does not fit into *budget*, in the words of the command line."""
    again = "raise it and run the same again to go on"
    if budget.max_tasks is not None and error.tasks >= budget.max_tasks:
        bought = f"{_tasks(error.tasks)} bought, or perhaps bought"
        return f"--max-tasks {budget.max_tasks:,} is reached: {bought}; {again}"
    most = f"--max-credits {_number(budget.max_credits or 0)}"
    if error.price is None:
        option = f"--price {error.model}=CREDITS"
        return f"the price of {error.model} is not known, so {most} cannot be kept: add {option}"
    return (
        f"one more task of {error.model} costs {_number(error.price)} credits and would exceed {most}: "
        f"{_number(error.credits)} spent, or perhaps spent; {again}"
    )


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
    total.unpriced += other.unpriced
    total.credits += other.credits


def _amount(total: Bought, prices: dict[str, float], models: Iterable[tuple[str, Bought]]) -> str:
    """Return credits and tasks in words: what the service reported, and for the rest the listed prices."""
    said = f"{_tasks(total.tasks)}"
    if total.tasks > total.unpriced:
        said += f", {_number(total.credits)} credits as the service reported"
    listed = [(bought.unpriced, prices.get(model)) for model, bought in models if bought.unpriced]
    priced = sum(count for count, price in listed if price is not None)
    if priced:
        at_list = sum(count * price for count, price in listed if price is not None)
        of = "" if priced == total.tasks else f" for {priced:,} of them"
        said += f", {_number(at_list)} credits at the listed price{of}"
    if unreported := total.unpriced - priced:
        of = "" if unreported == total.tasks else f" for {unreported:,} of them"
        said += f", price not reported by the service{of}"
    return said


# ---- before a run


def dry_run_code(dry_run: DryRun) -> int:
    """Return the exit code of the run that *dry_run* describes, if every task that it buys succeeds."""
    if dry_run.in_use is not None:
        return BAD_INPUT
    if dry_run.halted is not None:
        return HALTED
    if dry_run.refused:
        return BAD_INPUT
    return SOME_FAILED if dry_run.bad or dry_run.failed or dry_run.unknown else DONE


def rehearsed(dry_run: DryRun, out: Path, prices: dict[str, float], budget: Budget | None) -> Iterable[str]:
    """Say what a run would buy."""
    rows = f"{dry_run.rows:,} row{'s' * (dry_run.rows != 1)} read"
    yield f"{rows}, {dry_run.bad:,} bad; nothing was sent or written"
    if dry_run.in_use is not None:
        yield f"what was bought there before is not known just now: {dry_run.in_use}"
    yield from _before(dry_run, out)
    wanted = dry_run.wanted.total()
    unpriced = dry_run.wanted.keys() - dry_run.prices.keys()
    cost = f", {_number(dry_run.credits)} credits" if dry_run.prices else ""
    if cost and unpriced:
        cost += " and those whose price is not known"
    yield f"  would buy {_tasks(wanted)}{cost}"
    for model, count in dry_run.wanted.most_common():
        price = dry_run.prices.get(model)
        known = (
            f"its price is not known (add --price {model}=CREDITS)" if price is None else _each(count, price)
        )
        yield f"    {model}: {count:,}, {known}"
    for model in sorted(prices.keys() - dry_run.wanted.keys()):
        yield f"  no row to be bought asks for {model}, which has a --price: do the rows spell it so?"
    if dry_run.refused:
        yield "  it would stop at the first bad row (--strict)"
    if dry_run.halted is not None and budget is not None:
        reason = budget_reason(dry_run.halted, budget)
        yield f"  the budget would stop this after {dry_run.fitting.total():,} of {_tasks(wanted)}: {reason}"


def _before(dry_run: DryRun, out: Path) -> Iterable[str]:
    if dry_run.before is not None and dry_run.before.models:
        bought, models = Bought(), dry_run.before.models
        for each in models.values():
            _add(bought, each)
        yield f"  bought in {out} before: {_amount(bought, {}, models.items())}"
    parts = (
        (dry_run.finished, "finished"),
        (dry_run.picked_up, "to be picked up"),
        (dry_run.failed, "failed, not bought again without --retry-failed"),
        (dry_run.unknown, "perhaps charged, not sent again without --resend-unknown"),
    )
    if any(count for count, _ in parts):
        yield f"  of these rows: {', '.join(f'{count:,} {what}' for count, what in parts if count)}"


def _each(count: int, price: float) -> str:
    return f"{_number(count * price)} credits at {_number(price)} each"


def _tasks(count: int) -> str:
    return f"{count:,} task{'s' * (count != 1)}"


def _number(value: float) -> str:
    return f"{value:,.10g}"
