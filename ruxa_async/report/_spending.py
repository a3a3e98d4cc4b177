"""What a batch cost: by model, and for tasks without an output."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

from ruxa_async._price_list import PriceList

from ._bar_chart import plain_number
from ._folder import Entry, Folder
from ._markup import isolated, text
from ._statistics import quantile

__all__ = ("Spending", "spending_of", "spending_section")


@define
class _ModelSpending:
    """The purchases of one model. *credits* are those that the service reported; *unpriced* tasks have none.

    *lost_credits* are the part of *credits* for tasks without an output on disk, *seconds* the run times.
    """

    purchases: int = 0
    succeeded: int = 0
    credits: float = 0.0
    lost_credits: float = 0.0
    unpriced: int = 0
    seconds: list[float] = field(factory=list)


@define
class Spending:
    """The purchases of a batch, each counted once.

    *failed* tasks failed after they were accepted, for *failed_credits*. *missing* tasks are paid for and
    have no output on disk. *unknown* creates may have been charged.

    *listed* counts purchases for which the service reported no credits and the user gave a price. They cost
    *listed_credits* at that price, of which *failed_listed_credits* are for failed tasks.
    """

    models: dict[str, _ModelSpending] = field(factory=dict)
    failed: int = 0
    failed_credits: float = 0.0
    listed: int = 0
    listed_credits: float = 0.0
    failed_listed_credits: float = 0.0
    missing: int = 0
    unknown: int = 0

    @property
    def credits(self) -> float:
        """The sum of the credits that the service reported."""
        return sum(model.credits for model in self.models.values())

    @property
    def unpriced(self) -> int:
        """The number of tasks for which the service reported no credits."""
        return sum(model.unpriced for model in self.models.values())


def spending_of(folder: Folder) -> Spending:
    """Return the spending of all runs in *folder*. A price of a later run replaces that of an earlier one."""
    spending = Spending()
    prices = {key: price for run in folder.runs for key, price in run.prices.items()}
    price_list = PriceList(prices)
    for entry in _purchases(folder.lines):
        model = spending.models.setdefault(entry.model or "", _ModelSpending())
        charged = entry.credits or 0.0
        model.purchases += 1
        model.succeeded += entry.state == "succeeded"
        model.credits += charged
        model.unpriced += entry.task_id is not None and entry.credits is None
        model.lost_credits += 0.0 if entry.state == "succeeded" else charged
        if entry.seconds is not None:
            model.seconds.append(entry.seconds)
        if entry.state == "failed":
            spending.failed += 1
            spending.failed_credits += charged
        if (
            entry.credits is None
            and (price := prices.get(price_list.key_of(entry.model or "", entry.input))) is not None
        ):
            spending.listed += 1
            spending.listed_credits += price
            spending.failed_listed_credits += price if entry.state == "failed" else 0.0
        spending.missing += entry.state in ("unfinished", "download_failed")
        spending.unknown += entry.state == "unknown"
    return spending


def _purchases(lines: Iterable[Entry]) -> Iterable[Entry]:
    """Return the last line of each task, and of each create of unknown outcome."""
    bought = (entry for entry in lines if entry.task_id is not None or entry.state == "unknown")
    return {entry.task_id or entry.identity: entry for entry in bought}.values()


def spending_section(spending: Spending) -> str:
    """Return the table of models and the notes below it, as HTML."""
    if not spending.models:
        return "<p>Nothing was bought.</p>"
    head = "".join(
        f'<th scope="col"{"" if name == "Model" else " class=number"}>{name}</th>'
        for name in (
            "Model",
            "Tasks",
            "Succeeded",
            "Credits",
            "Credits without output",
            "Median run time (s)",
        )
    )
    body = "".join(
        _row(isolated(model) if model else "not known", spent)
        for model, spent in sorted(spending.models.items(), key=lambda item: -item[1].credits)
    )
    notes = "".join(f"<li>{text(note)}</li>" for note in _notes(spending))
    table = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    return table + (f'<ul class="notes">{notes}</ul>' if notes else "")


def _row(name: str, spent: _ModelSpending) -> str:
    is_reported = spent.purchases > spent.unpriced
    cells = (
        f"{spent.purchases:,}",
        f"{spent.succeeded:,}",
        plain_number(spent.credits) if is_reported else "not reported",
        plain_number(spent.lost_credits) if is_reported else "not reported",
        plain_number(float(f"{quantile(sorted(spent.seconds), 0.5):.3g}")) if spent.seconds else "not known",
    )
    columns = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    return f'<tr><th scope="row">{name}</th>{columns}</tr>'


def _notes(spending: Spending) -> Iterable[str]:
    if spending.failed:
        reported, listed = spending.failed_credits, spending.failed_listed_credits
        parts = [f"{plain_number(reported)} credits"] if reported else []
        parts += [f"{plain_number(listed)} credits at the listed price"] if listed else []
        price = f" ({', '.join(parts)})" if parts else ""
        yield (
            f"{_count(spending.failed, 'task')} failed after acceptance{price}. "
            "Your account shows whether credits were refunded."
        )
    if spending.missing:
        yield f"{_count(spending.missing, 'task')} paid for, without an output on this disk yet."
    if spending.unknown:
        yield f"{_count(spending.unknown, 'request')} may have been charged too: the outcome is not known."
    if spending.unpriced:
        yield f"For {_count(spending.unpriced, 'task')} the service did not report the charge."
    if spending.listed:
        yield (
            f"{_count(spending.listed, 'purchase')} without a reported charge, including those that may have "
            f"been charged: {plain_number(spending.listed_credits)} credits at the listed price."
        )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
