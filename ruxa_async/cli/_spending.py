"""The sentences about what a batch spent, and what a dry run would spend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from shlex import quote

from ruxa_async.batch import Summary
from ruxa_async.batch._dry_run import DryRun
from ruxa_async.errors import BudgetExceededError
from ruxa_async.journal import Bought
from ruxa_async.settings import Budget

from ._runtime import BAD_INPUT, DONE, HALTED, SOME_FAILED
from ._text import counted, number

__all__ = ("budget_reason", "dry_run_code", "dry_run_sentences", "spent")


def budget_reason(error: BudgetExceededError, budget: Budget) -> str:
    """Return why *budget* does not permit one more task, with the names of options."""
    again = "raise it and run the same again to continue"
    if budget.max_tasks is not None and error.tasks >= budget.max_tasks:
        bought = f"{counted(error.tasks, 'task')} bought, or perhaps bought"
        return f"--max-tasks {budget.max_tasks:,} is reached: {bought}; {again}"
    limit, key = f"--max-credits {number(budget.max_credits or 0)}", error.price_key
    if error.price is None:
        return f"the price of {key} is not known, so {limit} cannot be kept: add {_price_option(key)}"
    return (
        f"one more task of {key} costs {number(error.price)} credits and would exceed {limit}: "
        f"{number(error.credits)} spent, or perhaps spent; {again}"
    )


def _price_option(key: str) -> str:
    return f"--price {quote(f'{key}=CREDITS')}"


# ---- after a run


def spent(summary: Summary, budget: Budget | None) -> Iterable[str]:
    """Yield the spending of the run by model, that on failed tasks, and the used share of the budget."""
    models = sorted(summary.models.items(), key=lambda item: (-item[1].credits, item[0]))
    if models:
        yield f"  spent: {_amount(summary.models, summary.prices)}"
        if len(models) > 1:
            for model, bought in models:
                yield f"    {model}: {_amount({model: bought}, summary.prices)}"
    if summary.lost:
        yield f"  failed after being paid for: {_amount(summary.lost, summary.prices)}"
    stats = summary.stats
    if budget is not None and stats is not None and stats.spent_tasks is not None:
        yield f"  budget of this folder: {', '.join(_used(budget, stats.spent_tasks, stats.spent_credits))}"


def _used(budget: Budget, tasks: int, credits_: float | None) -> Iterable[str]:
    if budget.max_tasks is not None:
        yield f"{tasks:,} of {budget.max_tasks:,} tasks"
    if budget.max_credits is not None:
        yield f"{'?' if credits_ is None else number(credits_)} of {number(budget.max_credits)} credits"


def _amount(models: Mapping[str, Bought], prices: Mapping[str, float]) -> str:
    """Return the tasks and credits of *models*: reported charges, and *prices* for tasks without one."""
    tasks = sum(bought.tasks for bought in models.values())
    unpriced = {model: bought.unpriced for model, bought in models.items() if bought.unpriced}
    listed = {model: count for model, count in unpriced.items() if model in prices}
    parts = [counted(tasks, "task")]
    if tasks > sum(unpriced.values()):
        reported = sum(bought.credits for bought in models.values())
        parts.append(f"{number(reported)} credits as the service reported")

    def share(count: int) -> str:
        return "" if count == tasks else f" for {count:,} of them"

    if count := sum(listed.values()):
        at_list = sum(count * prices[model] for model, count in listed.items())
        parts.append(f"{number(at_list)} credits at the listed price{share(count)}")
    if count := sum(unpriced.values()) - sum(listed.values()):
        parts.append(f"price not reported by the service{share(count)}")
    return ", ".join(parts)


# ---- before a run


def dry_run_code(found: DryRun) -> int:
    """Return the exit code that the run would end with if every task that it buys succeeds."""
    if found.in_use is not None:
        return BAD_INPUT
    if found.halted is not None:
        return HALTED
    if found.refused:
        return BAD_INPUT
    return SOME_FAILED if found.bad or found.failed or found.unknown else DONE


def dry_run_sentences(
    found: DryRun, out: Path, prices: Mapping[str, float], budget: Budget | None
) -> Iterable[str]:
    """Yield what a run would buy, and what earlier runs in the folder *out* bought."""
    yield f"{counted(found.rows, 'row')} read, {found.bad:,} bad; nothing was sent or written"
    if found.in_use is not None:
        yield f"earlier purchases are not known: {found.in_use}"
    yield from _before(found, out)
    wanted = found.wanted.total()
    cost = f", {number(found.credits)} credits" if found.prices else ""
    if cost and found.wanted.keys() - found.prices.keys():
        cost += " and tasks of unknown price"
    yield f"  would buy {counted(wanted, 'task')}{cost}"
    for key, count in found.wanted.most_common():
        price = found.prices.get(key)
        if price is None:
            yield f"    {key}: {count:,}, its price is not known (add {_price_option(key)})"
        else:
            yield f"    {key}: {count:,}, {number(count * price)} credits at {number(price)} each"
    for key in sorted(prices.keys() - found.wanted.keys()):
        yield f"  no task of {key} would be bought, although it has a --price: check the spelling"
    if found.refused:
        yield "  the run would stop at the first bad row (--strict)"
    if found.halted is not None and budget is not None:
        fitting = f"{found.fitting.total():,} of {counted(wanted, 'task')}"
        yield f"  the budget would stop this after {fitting}: {budget_reason(found.halted, budget)}"


def _before(found: DryRun, out: Path) -> Iterable[str]:
    if found.before is not None and found.before.models:
        yield f"  bought in {out} before: {_amount(found.before.models, {})}"
    parts = (
        (found.finished, "finished"),
        (found.picked_up, "to be picked up"),
        (found.failed, "failed, not bought again without --retry-failed"),
        (found.unknown, "perhaps charged, not sent again without --resend-unknown"),
    )
    if any(count for count, _ in parts):
        yield f"  of these rows: {', '.join(f'{count:,} {state}' for count, state in parts if count)}"
