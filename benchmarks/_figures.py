"""From samples to figures, and from figures to a table for people."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeAlias

__all__ = ("Row", "Sample", "figures", "ratios", "spread", "table")

#: One measurement: numbers by name.
Sample: TypeAlias = dict[str, Any]
#: One line of a table: texts, numbers, and spreads.
Row: TypeAlias = dict[str, Any]

_ENOUGH_FOR_QUARTILES = 8


def spread(values: Iterable[float]) -> dict[str, Any]:
    """Return the median of *values* with the quartiles of eight or more, else the extremes."""
    known = sorted(value for value in values if not math.isnan(value))
    if not known:
        return {"median": None, "low": None, "high": None, "of": "range", "n": 0}
    low, high, kind = known[0], known[-1], "range"
    if len(known) >= _ENOUGH_FOR_QUARTILES:
        low, _, high = statistics.quantiles(known, n=4)
        kind = "quartiles"
    return {"median": statistics.median(known), "low": low, "high": high, "of": kind, "n": len(known)}


def figures(samples: Sequence[Sample], columns: Mapping[str, Callable[[Sample], float]]) -> Row:
    """Return the spread of every column over *samples*."""
    return {name: spread(read(sample) for sample in samples) for name, read in columns.items()}


def ratios(
    rounds: Sequence[Mapping[str, Sample]], name: str, base: str, read: Callable[[Sample], float]
) -> dict[str, Any]:
    """Return the spread of the ratio of *name* to *base* within each round."""
    return spread(read(each[name]) / read(each[base]) for each in rounds if read(each[base]))


def table(rows: Sequence[Row]) -> str:
    """Return *rows* as aligned text; rows with other columns begin a table of their own."""
    blocks = [_block(list(alike)) for _, alike in groupby(rows, key=tuple)]
    kinds = {cell["of"] for row in rows for cell in row.values() if isinstance(cell, dict) and cell["n"] > 1}
    legend = {"range": "least..most", "quartiles": "quartiles"}
    note = f"median [{' or '.join(legend[kind] for kind in sorted(kinds))}]"
    return "\n\n".join([*blocks, *([note] if kinds else [])])


def _block(rows: list[Row]) -> str:
    names = list(rows[0])
    cells = [names, *([_shown(row[name]) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [not isinstance(rows[0][name], str) for name in names]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _shown(cell: object) -> str:
    if isinstance(cell, dict):
        if not cell["n"]:
            return "-"
        median, low, high = (_number(cell[name]) for name in ("median", "low", "high"))
        return median if low == high else f"{median} [{low}..{high}]"
    return _number(cell) if isinstance(cell, (int, float)) else str(cell)


def _number(value: float) -> str:
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
