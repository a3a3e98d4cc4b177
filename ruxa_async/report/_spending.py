"""What was spent: by model, and on what brought no picture."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

from ._bar_chart import plain_number
from ._folder import Entry, Folder
from ._markup import isolated, text
from ._statistics import quantile

__all__ = ("Spending", "spending_of", "spending_section")


@define
class _Line:
    """The tasks of one model."""

    rows: int = 0
    made: int = 0
    credits: float = 0.0
    lost: float = 0.0
    unpriced: int = 0
    seconds: list[float] = field(factory=list)


@define
class Spending:
    """Credits that the service reported, and purchases for which it reported none.

    *failed* are tasks that failed after they were accepted, *unseen* those paid for whose output is not here,
    *unknown* requests that may have been charged. *listed* are purchases without a report whose model has a
    listed price: *listed_credits* is their sum, *failed_listed* the part of it for tasks that failed.
    """

    models: dict[str, _Line] = field(factory=dict)
    failed: int = 0
    failed_credits: float = 0.0
    listed: int = 0
    listed_credits: float = 0.0
    failed_listed: float = 0.0
    unseen: int = 0
    unknown: int = 0

    @property
    def credits(self) -> float:
        """Everything that was reported."""
        return sum(line.credits for line in self.models.values())

    @property
    def unpriced(self) -> int:
        """Paid tasks whose price was not reported."""
        return sum(line.unpriced for line in self.models.values())


def spending_of(folder: Folder) -> Spending:
    """Add up what the lines in *folder* cost, each task once however many lines name it."""
    spending = Spending()
    prices = {
        model: price for run in folder.runs for model, price in run.prices.items()
    }  # the last word counts
    for entry in _purchases(folder.lines):
        line = spending.models.setdefault(entry.model or "", _Line())
        line.rows += 1
        line.made += entry.state == "succeeded"
        line.credits += entry.credits or 0.0
        line.unpriced += entry.task_id is not None and entry.credits is None
        line.lost += 0.0 if entry.state == "succeeded" else entry.credits or 0.0
        if entry.seconds is not None:
            line.seconds.append(entry.seconds)
        if entry.state == "failed":
            spending.failed += 1
            spending.failed_credits += entry.credits or 0.0
        if entry.credits is None and (price := prices.get(entry.model or "")) is not None:
            spending.listed += 1
            spending.listed_credits += price
            spending.failed_listed += price if entry.state == "failed" else 0.0
        spending.unseen += entry.state in ("unfinished", "download_failed")
        spending.unknown += entry.state == "unknown"
    return spending


def _purchases(lines: Iterable[Entry]) -> Iterable[Entry]:
    """Return what was or may have been bought: the last line of each task, and of each row without one."""
    bought = (entry for entry in lines if entry.task_id is not None or entry.state == "unknown")
    return {entry.task_id or entry.identity: entry for entry in bought}.values()


def spending_section(spending: Spending) -> str:
    """Return the table and the sentences."""
    if not spending.models:
        return "<p>Nothing was bought.</p>"
    head = "".join(
        f'<th scope="col"{"" if name == "Model" else " class=number"}>{name}</th>'
        for name in ("Model", "Tasks", "Made", "Credits", "Without a picture", "Median seconds")
    )
    body = "".join(
        _row(isolated(model) if model else "not known", line)
        for model, line in sorted(spending.models.items(), key=lambda item: -item[1].credits)
    )
    notes = "".join(f"<li>{text(note)}</li>" for note in _notes(spending))
    table = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    return table + (f'<ul class="notes">{notes}</ul>' if notes else "")


def _row(model: str, line: _Line) -> str:
    told = line.rows > line.unpriced
    cells = (
        f"{line.rows:,}",
        f"{line.made:,}",
        plain_number(line.credits) if told else "not reported",
        plain_number(line.lost) if told else "not reported",
        plain_number(float(f"{quantile(sorted(line.seconds), 0.5):.3g}")) if line.seconds else "not known",
    )
    return (
        f'<tr><th scope="row">{model}</th>' + "".join(f'<td class="number">{c}</td>' for c in cells) + "</tr>"
    )


def _notes(spending: Spending) -> Iterable[str]:
    if spending.failed:
        told, listed = spending.failed_credits, spending.failed_listed
        parts = [f"{plain_number(told)} credits"] if told else []
        parts += [f"{plain_number(listed)} credits at the listed price"] if listed else []
        price = f" ({', '.join(parts)})" if parts else ""
        yield (
            f"{_tasks(spending.failed)} failed after the service had accepted them{price}; "
            "whether it gives credits back is in the account."
        )
    if spending.unseen:
        yield f"Paid for, and not on this disk yet: {_tasks(spending.unseen)}."
    if spending.unknown:
        requests = "request" if spending.unknown == 1 else "requests"
        yield f"{spending.unknown:,} {requests} may have been charged as well; nobody can tell from here."
    if spending.unpriced:
        yield f"For {_tasks(spending.unpriced)} the service did not say what was charged."
    if spending.listed:
        what = f"{spending.listed:,} {'purchase' if spending.listed == 1 else 'purchases'}"
        yield (
            f"{what} for which it did not say so, those that may have been charged among them: "
            f"{plain_number(spending.listed_credits)} credits at the listed price."
        )


def _tasks(number: int) -> str:
    return f"{number:,} {'task' if number == 1 else 'tasks'}"
