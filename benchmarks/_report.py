"""docs/performance.md and its plots, made from the figures that are checked in.

What the benchmarks kept in ``benchmarks/results/`` is taken over to ``benchmarks/figures/`` first, except what
``--quick`` brought. Between ``<!-- NAME -->`` and ``<!-- /NAME -->`` the page belongs to this module, the rest to
people.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from attrs import frozen

from benchmarks._figures import Row
from benchmarks._plots import PLOTS
from benchmarks._results import RESULTS

__all__ = ("FIGURES", "PAGE", "drawn", "filled", "regenerate")

_ROOT = Path(__file__).parents[1]
FIGURES = Path(__file__).parent / "figures"
PAGE = _ROOT / "docs" / "performance.md"

_MISSED = " ✗"
#: What a figure may be at most; of all others a target is the least.
_AT_MOST = (
    "refused",
    "rejected",
    "429",
    "x ",
    "last result",
    "lost",
    "displacement",
    "queries/task",
    "mean lag",
    "p99 ms",
    "wrong",
    "sent",
)


def regenerate() -> list[Path]:
    """Take over new results, write the page and the plots, and return what was written."""
    FIGURES.mkdir(exist_ok=True)
    for path in sorted(RESULTS.glob("*.json")):
        if not json.loads(path.read_text(encoding="utf-8"))["options"]["quick"]:
            (FIGURES / path.name).write_bytes(path.read_bytes())
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    plots = drawn()
    for path, text in plots.items():
        path.write_text(text, encoding="utf-8")
    return [PAGE, *plots]


def drawn() -> dict[Path, str]:
    """Return the plots by their file."""
    figures = ((name, _kept(name), plot) for name, plot in PLOTS.items())
    return {
        PAGE.parent / f"{name}.svg": plot(kept) for name, kept, plot in figures if kept and kept["series"]
    }


def filled(page: str) -> str:
    """Return *page* with every block made anew."""

    def block(found: re.Match[str]) -> str:
        name = found[1]
        return f"<!-- {name} -->\n\n{_block(name)}\n\n<!-- /{name} -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", block, page, flags=re.DOTALL)


def _block(name: str) -> str:
    if name == "machine":
        return _machine()
    kept = _kept(name)
    if kept is None:
        return f"Not measured yet: run `python -m benchmarks {name}`."
    made = kept["date"][:10]
    said = f"`python -m benchmarks {name}`, {made}, commit {(kept['commit'] or 'unknown')[:7]}"
    load = kept["machine"].get("load")
    busy = f", on a machine under a load of {load:g}" if load is not None else ""
    shown = _SHOWN.get(name, _Shown())
    tables, missed, judged = _tables(shown.of(kept["rows"]))
    verdict = (
        f" {judged - missed} of {judged} figures reach their target; the others are marked ✗."
        if judged
        else ""
    )
    return f"{said}{busy}.{verdict}\n\n{tables}"


def _kept(name: str) -> dict[str, Any] | None:
    path = FIGURES / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _machine() -> str:
    """Say what the figures were measured on, once for each machine and set of versions."""
    told: dict[str, list[str]] = {}
    for path in sorted(FIGURES.glob("*.json")):
        kept = json.loads(path.read_text(encoding="utf-8"))
        machine = kept["machine"]
        versions = ", ".join(f"{name} {version}" for name, version in kept["versions"].items() if version)
        said = f"{machine['processor']}, {machine['cores']} cores, {machine['memory']}; {machine['system']}; {machine['python']}; {versions}"
        told.setdefault(said, []).append(path.stem)
    return (
        "\n".join(f"- {', '.join(names)}: {said}." for said, names in told.items())
        or "Nothing is measured yet."
    )


# ---- what is shown of a benchmark


@frozen
class _Shown:
    """The part of a benchmark's rows that the page shows, and their targets where the rows do not say them."""

    only: Callable[[Row], bool] = lambda _: True
    without: Sequence[str] = ()
    targets: Callable[[Row], Mapping[str, float]] = lambda _: {}

    def of(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Return what is shown, each target in the column after its figure."""
        for row in filter(self.only, rows):
            targets = self.targets(row)
            kept: Row = {}
            for name, cell in row.items():
                if name not in self.without:
                    kept[name] = cell
                if name in targets:
                    kept[f"target {name}"] = targets[name]
            yield kept


def _bulk_targets(row: Row) -> Mapping[str, float]:
    if row["client"] != "ruxa_async":
        return {}
    most, last = (5, 24) if row["trip, ms"] == 0 else (15, 26)
    return {"finished": 100, "lost": 0, "429": most, "last result, s": last}


def _cadence_targets(row: Row) -> Mapping[str, float]:
    phases = {"first 200": 1.5, "after 200": 1.15, "accepted after 100 ended": 1.5}
    return {"x optimum": phases[row["phase"]]} if row["phase"] in phases else {}


def _known_targets(row: Row) -> Mapping[str, float]:
    burst_told = row.get("told") in {"with burst", "uneven", "as it is"}
    return {"displacement": 0.005} | ({"refused, %": 0.5} if burst_told else {})


def _callback_targets(row: Row) -> Mapping[str, float]:
    if row["variant"] == "attack":
        return {"wrong": 0, "p99 ms": 50}
    if "adopted" in row:
        return {"adopted": 100, "sent": 100}
    most = {"queries/task": 1.1, "mean lag ms": 50} if row["variant"] == "all come" else {}
    return {"finished": 1_000, **most}


def _overhead_targets(row: Row) -> Mapping[str, float]:
    if row.get("variant") != "ours":
        return {}
    return {"x plain": 1.1 if str(row["case"]).startswith("same times") else 1.4}


_SHOWN: Mapping[str, _Shown] = {
    "bulk_quota": _Shown(targets=_bulk_targets),
    "cadence": _Shown(
        only=lambda row: "unknown" not in row["durations"],
        without=("optimum, s", "x optimum, overall"),
        targets=_cadence_targets,
    ),
    "callbacks": _Shown(targets=_callback_targets),
    "goodput": _Shown(only=lambda row: row["trip, ms"] == 50, without=("trip, ms", "refused %")),
    "overhead": _Shown(targets=_overhead_targets),
    "known_rates": _Shown(only=lambda row: row["trip, ms"] != 200, targets=_known_targets),
}


# ---- tables


def _tables(rows: Iterator[Row]) -> tuple[str, int, int]:
    """Return *rows* as Markdown tables, how many figures miss their target, and how many have one."""
    tables, missed, judged = [], 0, 0
    for names, alike in groupby(rows, key=_columns):
        lines = [_line(names), _line(["---"] + ["---:"] * (len(names) - 1))]
        for row in alike:
            verdicts = _verdicts(row)
            missed += sum(verdicts.values())
            judged += len(verdicts)
            lines.append(_line([shown(row[name]) + _MISSED * verdicts.get(name, False) for name in names]))
        tables.append("\n".join(lines))
    return "\n\n".join(tables), missed, judged


def _columns(row: Row) -> list[str]:
    return [name for name in row if not name.startswith("target ") or not name.strip()[7:]]


def _verdicts(row: Row) -> dict[str, bool]:
    """Return of each column that has a target whether it is missed; the target stands in a later column."""
    verdicts, last = {}, ""
    for name, cell in row.items():
        if not name.startswith("target"):
            last = name
            continue
        figure = row[last]["median"] if isinstance(row[last], dict) else row[last]
        if isinstance(cell, (int, float)) and isinstance(figure, (int, float)):
            # As it is shown, so that nobody sees 99.0 miss a target of 99.
            figure = float(number(figure).replace(",", ""))
            verdicts[last] = figure > cell if last.startswith(_AT_MOST) else figure < cell
    return verdicts


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.strip() for cell in cells)} |"


def shown(cell: object) -> str:
    """Return *cell* as a table shows it."""
    if isinstance(cell, dict):
        if not cell["n"]:
            return "-"
        median, low, high = (number(cell[name]) for name in ("median", "low", "high"))
        return median if low == high else f"{median} ({low} to {high})"
    return number(cell) if isinstance(cell, (int, float)) else str(cell)


def number(value: float) -> str:
    """Return *value* with three digits or so."""
    if value == int(value):
        return f"{value:,.0f}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.4f}"
