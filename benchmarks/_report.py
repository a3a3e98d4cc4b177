"""Write the tables and plots of docs/performance.md and docs/measurements.md from checked-in figures.

Results in ``benchmarks/results/`` are first copied to ``benchmarks/figures/``, except those of ``--quick``.
This module writes what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``: in docs/performance.md the
rows that answer the question of the section, in docs/measurements.md all of them. People write the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from attrs import frozen

from benchmarks._figures import Row
from benchmarks._plots import PLOTS
from benchmarks._results import RESULTS

__all__ = ("ALL_ROWS", "FIGURES", "PAGE", "drawn", "filled", "regenerate")

_ROOT = Path(__file__).parents[1]
FIGURES = Path(__file__).parent / "figures"
PAGE = _ROOT / "docs" / "performance.md"
#: The page of long tables.
ALL_ROWS = PAGE.with_name("measurements.md")

_MISSED = " ✗"
#: Beginnings of the columns whose target is an upper bound; the targets of all others are lower bounds.
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
    """Copy new results, write the pages and the plots, and return the files that were written."""
    FIGURES.mkdir(exist_ok=True)
    for path in sorted(RESULTS.glob("*.json")):
        if not json.loads(path.read_text(encoding="utf-8"))["options"]["quick"]:
            (FIGURES / path.name).write_bytes(path.read_bytes())
    for page in (PAGE, ALL_ROWS):
        page.write_text(filled(page), encoding="utf-8")
    plots = drawn()
    for path, text in plots.items():
        path.write_text(text, encoding="utf-8")
    return [PAGE, ALL_ROWS, *plots]


def drawn() -> dict[Path, str]:
    """Return the text of each plot by its file."""
    figures = ((name, _kept(name), plot) for name, plot in PLOTS.items())
    return {
        PAGE.parent / f"{name}.svg": plot(kept) for name, kept, plot in figures if kept and kept["series"]
    }


def filled(page: Path) -> str:
    """Return the text of *page* with its blocks written from the figures."""

    def block(found: re.Match[str]) -> str:
        name = found[1]
        return f"<!-- {name} -->\n\n{_block(name, all_rows=page == ALL_ROWS)}\n\n<!-- /{name} -->"

    return re.sub(
        r"<!-- (\w+) -->\n.*?<!-- /\1 -->", block, page.read_text(encoding="utf-8"), flags=re.DOTALL
    )


def _block(name: str, *, all_rows: bool) -> str:
    if name == "machine":
        return _machine()
    kept = _kept(name)
    if kept is None:
        return f"Not measured yet: run `python -m benchmarks {name}`."
    made = kept["date"][:10]
    origin = f"`python -m benchmarks {name}`, {made}, commit {(kept['commit'] or 'unknown')[:7]}"
    load = kept["machine"].get("load")
    busy = f", on a machine under a load of {load:g}" if load is not None else ""
    shown = _SHOWN.get(name, _Shown())
    rows = list(shown.of(kept["rows"]))
    _, missed, judged = _tables(iter(rows))
    brief = rows if all_rows else list(shown.of(filter(shown.brief, kept["rows"])))
    tables, _, _ = _tables(iter(brief), shown.headings)
    verdict = (
        f" {judged - missed} of {judged} figures reach their target; the others are marked ✗."
        if judged
        else ""
    )
    more = f" [All {len(rows)} rows](measurements.md#{name})." if len(brief) < len(rows) else ""
    return f"{origin}{busy}.{verdict}{more}\n\n{tables}"


def _kept(name: str) -> dict[str, Any] | None:
    path = FIGURES / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _machine() -> str:
    """Return a line for each machine and set of versions, with the benchmarks that ran on it."""
    names_by_machine: dict[str, list[str]] = {}
    for path in sorted(FIGURES.glob("*.json")):
        kept = json.loads(path.read_text(encoding="utf-8"))
        machine = kept["machine"]
        versions = ", ".join(f"{name} {version}" for name, version in kept["versions"].items() if version)
        hardware = f"{machine['processor']}, {machine['cores']} cores, {machine['memory']}"
        described = f"{hardware}; {machine['system']}; {machine['python']}; {versions}"
        names_by_machine.setdefault(described, []).append(path.stem)
    return (
        "\n".join(f"- {', '.join(names)}: {described}." for described, names in names_by_machine.items())
        or "Nothing is measured yet."
    )


# ---- rows and columns on the pages


@frozen
class _Shown:
    """The rows and columns of a benchmark that the pages show, and targets that are not in its rows.

    *brief* selects the rows of docs/performance.md. *headings* replaces the names of columns.
    """

    only: Callable[[Row], bool] = lambda _: True
    brief: Callable[[Row], bool] = lambda _: True
    headings: Mapping[str, str] = {}
    without: Sequence[str] = ()
    targets: Callable[[Row], Mapping[str, float]] = lambda _: {}

    def of(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Return the rows that are shown, each target in the column after its figure."""
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
    has_burst = row.get("told") in {"with burst", "uneven", "as it is"}
    return {"displacement": 0.005} | ({"refused, %": 0.5} if has_burst else {})


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


_RTT = {"trip, ms": "RTT, ms"}
_REJECTED = {"refused": "rejected", "refused, %": "rejected, %"}

_SHOWN: Mapping[str, _Shown] = {
    "bulk_quota": _Shown(targets=_bulk_targets, brief=lambda row: row["trip, ms"] == 0, headings=_RTT),
    "cadence": _Shown(
        only=lambda row: "unknown" not in row["durations"],
        without=("optimum, s", "x optimum, overall"),
        targets=_cadence_targets,
        brief=lambda row: "doubles" not in row["durations"],
    ),
    "callbacks": _Shown(targets=_callback_targets, headings={"adopted": "recovered"}),
    "end_to_end": _Shown(brief=lambda row: row.get("variant") in {"ours", "plain"}),
    "goodput": _Shown(
        only=lambda row: row["trip, ms"] == 50,
        without=("trip, ms", "refused %"),
        brief=lambda row: row["told"] == "no" and "N" in row,
        headings={"told": "Retry-After", **_REJECTED},
    ),
    "goodput_http": _Shown(
        brief=lambda row: str(row["limit"]).startswith("nginx"), headings={"told": "configured"}
    ),
    "imports": _Shown(brief=lambda row: str(row["line"]).startswith(("import", "Ruxa"))),
    "journal": _Shown(brief=lambda row: row.get("waiters", 100) == 100),
    "known_rates": _Shown(
        only=lambda row: row["trip, ms"] != 200,
        targets=_known_targets,
        brief=lambda row: row["trip, ms"] == 50,
        headings={"told": "configured", **_RTT, **_REJECTED},
    ),
    "overhead": _Shown(
        targets=_overhead_targets, brief=lambda row: "x plain" in row or row.get("case") == "in flight"
    ),
    "random_limits": _Shown(
        brief=lambda row: "seeds" in row or ("disturbance" in row and row["code"] == "this")
    ),
    "random_limits_http": _Shown(brief=lambda row: "seeds" in row or "possible, s" in row),
    "running_cap": _Shown(
        brief=lambda row: row["trip, ms"] == 50 and row["told"] == "no" and row["duration"] == "2 to 5 s",
        headings={"told": "Retry-After", "asked": "queries/task", **_RTT, **_REJECTED},
    ),
}
#: Replacements for words in the figures.
_WORDS = {
    "burst not told": "burst not configured",
    "told 10/s": "configured 10/s",
    "as it is": "as the limit is",
    "uneven": "with burst, uneven network",
}


# ---- tables


def _tables(rows: Iterator[Row], headings: Mapping[str, str] = {}) -> tuple[str, int, int]:
    """Return *rows* as Markdown tables, the number of missed targets, and of targets."""
    tables, missed, judged = [], 0, 0
    for names, alike in groupby(rows, key=_columns):
        lines = [
            _line([headings.get(name, name) for name in names]),
            _line(["---"] + ["---:"] * (len(names) - 1)),
        ]
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
    """Return whether each column that has a target misses it; the target is in a later column."""
    verdicts, last = {}, ""
    for name, cell in row.items():
        if not name.startswith("target"):
            last = name
            continue
        figure = row[last]["median"] if isinstance(row[last], dict) else row[last]
        if isinstance(cell, (int, float)) and isinstance(figure, (int, float)):
            # Compared as it is shown, so that 99.0 does not miss a target of 99.
            figure = float(number(figure).replace(",", ""))
            verdicts[last] = figure > cell if last.startswith(_AT_MOST) else figure < cell
    return verdicts


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.strip() for cell in cells)} |"


def shown(cell: object) -> str:
    """Return the text of *cell* in a table."""
    if isinstance(cell, dict):
        if not cell["n"]:
            return "-"
        median, low, high = (number(cell[name]) for name in ("median", "low", "high"))
        return median if low == high else f"{median} ({low} to {high})"
    if isinstance(cell, (int, float)):
        return number(cell)
    text = str(cell)
    for figure, word in _WORDS.items():
        text = text.replace(figure, word)
    return text


def number(value: float) -> str:
    """Return *value* with about three digits."""
    if value == int(value):
        return f"{value:,.0f}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.4f}"
