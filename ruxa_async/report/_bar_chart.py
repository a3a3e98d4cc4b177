"""Stacked bar charts as inline SVG: axes with units, ticks at round numbers, a tooltip on each bar."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import zip_longest

from attrs import frozen

from ._markup import attributes, text
from ._statistics import nice_step

__all__ = ("Bars", "bar_chart", "plain_number")

# SVG user units.
_WIDTH, _HEIGHT = 400.0, 236.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 8.0, 28.0, 46.0
_INNER_WIDTH = _WIDTH - _LEFT - _RIGHT
_INNER_HEIGHT = _HEIGHT - _TOP - _BOTTOM


def plain_number(value: float) -> str:
    """Return *value* with at most six digits, and with commas between thousands."""
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"


@frozen(kw_only=True)
class Bars:
    """The data of a stacked bar chart: one bar for each *step* from *start*.

    *series* are pairs of a CSS class and the heights. *label* is the text for screen readers, and *tooltip*
    returns the text of one bar. Ticks of the x axis are *x_step* apart, and labelled with their value divided
    by *x_scale*.
    """

    label: str
    x_label: str
    y_label: str
    start: float
    step: float
    series: Sequence[tuple[str, Sequence[float]]]
    x_step: float
    tooltip: Callable[[int], str]
    x_scale: float = 1.0

    @property
    def size(self) -> int:
        """The number of bars."""
        return max(len(heights) for _, heights in self.series)


def bar_chart(bars: Bars) -> str:
    """Return *bars* as one ``<svg>`` element."""
    columns = [*zip_longest(*(heights for _, heights in bars.series), fillvalue=0.0)]
    top = max([*map(sum, columns), 1e-9])
    y_step = nice_step(top, 4)
    top = math.ceil(top / y_step - 1e-9) * y_step
    parts = [*_y_axis(bars, top, y_step), *_x_axis(bars)]
    parts += [_bar(bars, place, column, top) for place, column in enumerate(columns) if any(column)]
    frame = {
        "viewBox": f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        "role": "img",
        "aria-label": bars.label,
        "class": "plot",
    }
    return f"<svg{attributes(frame)}>{''.join(parts)}</svg>"


def _bar(bars: Bars, place: int, column: Sequence[float], top: float) -> str:
    width = _INNER_WIDTH / bars.size
    gap = min(1.5, width * 0.15)
    x = _LEFT + width * place + gap / 2
    y = _TOP + _INNER_HEIGHT
    parts = [f"<title>{text(bars.tooltip(place))}</title>"]
    for (colour, _), value in zip(bars.series, column, strict=True):
        if height := value / top * _INNER_HEIGHT:
            y -= height
            box = {"class": f"bar {colour}", "x": x, "y": y, "width": width - gap, "height": height}
            parts.append(f"<rect{attributes(box)}/>")
    hit = {"class": "hit", "x": x - gap / 2, "y": _TOP, "width": width, "height": _INNER_HEIGHT}
    return f"<g>{''.join(parts)}<rect{attributes(hit)}/></g>"


def _y_axis(bars: Bars, top: float, step: float) -> list[str]:
    parts = [_label(0, 12, bars.y_label, "start", "axis-label")]
    for tick in range(round(top / step) + 1):
        y = _TOP + _INNER_HEIGHT * (1 - tick * step / top)
        line = {"class": "axis" if not tick else "rule", "x1": _LEFT, "x2": _WIDTH - _RIGHT, "y1": y, "y2": y}
        label = _label(_LEFT - 7, y + 4, plain_number(tick * step), "end", "tick")
        parts += [f"<line{attributes(line)}/>", label]
    return parts


def _x_axis(bars: Bars) -> list[str]:
    end = bars.start + bars.step * bars.size
    y = _TOP + _INNER_HEIGHT
    parts = [_label(_WIDTH - _RIGHT, _HEIGHT - 6, bars.x_label, "end", "axis-label")]
    first = math.ceil(bars.start / bars.x_step - 1e-9)
    for number in range(first, math.floor(end / bars.x_step + 1e-9) + 1):
        value = number * bars.x_step
        x = _LEFT + _INNER_WIDTH * (value - bars.start) / (end - bars.start)
        line = {"class": "axis", "x1": x, "x2": x, "y1": y, "y2": y + 4}
        label = _label(x, y + 18, plain_number(value / bars.x_scale), "middle", "tick")
        parts += [f"<line{attributes(line)}/>", label]
    return parts


def _label(x: float, y: float, words: str, anchor: str, kind: str) -> str:
    return f"<text{attributes({'class': kind, 'x': x, 'y': y, 'text-anchor': anchor})}>{text(words)}</text>"
