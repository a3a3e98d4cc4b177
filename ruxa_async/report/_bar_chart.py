"""Bars as inline SVG: axes with units, ticks at round numbers, a title on every bar.

No script, no style of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from attrs import frozen

from ._markup import attributes, text
from ._statistics import nice_step

__all__ = ("Bars", "bar_chart", "plain_number")

_WIDTH, _HEIGHT = 400.0, 236.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 8.0, 28.0, 46.0
_INNER_WIDTH = _WIDTH - _LEFT - _RIGHT
_INNER_HEIGHT = _HEIGHT - _TOP - _BOTTOM


def plain_number(value: float) -> str:
    """Return *value* with thousands set apart and no digits that say nothing."""
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"


@frozen(kw_only=True)
class Bars:
    """The data of a stacked bar chart, with one bar for each *step* from *start*.

    *series* are names of a colour, each with its heights.
    *label* is what a screen reader says for the whole, *said* what stands on a bar when it is pointed at.
    """

    label: str
    x_label: str
    y_label: str
    start: float
    step: float
    series: Sequence[tuple[str, Sequence[float]]]
    x_step: float
    said: Callable[[int], str]
    x_scale: float = 1.0

    @property
    def size(self) -> int:
        """How many bars there are."""
        return max(len(heights) for _, heights in self.series)


def bar_chart(bars: Bars) -> str:
    """Return *bars* as one ``<svg>`` element."""
    totals = [sum(_height(heights, place) for _, heights in bars.series) for place in range(bars.size)]
    top = max([*totals, 1e-9])
    y_step = nice_step(top, 4)
    top = math.ceil(top / y_step - 1e-9) * y_step
    parts = [*_y_axis(bars, top, y_step), *_x_axis(bars)]
    parts += [_bar(bars, place, top) for place, total in enumerate(totals) if total]
    frame = {
        "viewBox": f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        "role": "img",
        "aria-label": bars.label,
        "class": "plot",
    }
    return f"<svg{attributes(frame)}>{''.join(parts)}</svg>"


def _height(heights: Sequence[float], place: int) -> float:
    return heights[place] if place < len(heights) else 0.0


def _bar(bars: Bars, place: int, top: float) -> str:
    width = _INNER_WIDTH / bars.size
    gap = min(1.5, width * 0.15)
    x = _LEFT + width * place + gap / 2
    y = _TOP + _INNER_HEIGHT
    parts = [f"<title>{text(bars.said(place))}</title>"]
    for colour, heights in bars.series:
        tall = _height(heights, place) / top * _INNER_HEIGHT
        if tall:
            y -= tall
            box = {"class": f"bar {colour}", "x": x, "y": y, "width": width - gap, "height": tall}
            parts.append(f"<rect{attributes(box)}/>")
    hit = {"class": "hit", "x": x - gap / 2, "y": _TOP, "width": width, "height": _INNER_HEIGHT}
    return f"<g>{''.join(parts)}<rect{attributes(hit)}/></g>"


def _y_axis(bars: Bars, top: float, step: float) -> list[str]:
    parts = [_words(0, 12, bars.y_label, "start", "axis-label")]
    for tick in range(round(top / step) + 1):
        y = _TOP + _INNER_HEIGHT * (1 - tick * step / top)
        line = {"class": "axis" if not tick else "rule", "x1": _LEFT, "x2": _WIDTH - _RIGHT, "y1": y, "y2": y}
        parts += [
            f"<line{attributes(line)}/>",
            _words(_LEFT - 7, y + 4, plain_number(tick * step), "end", "tick"),
        ]
    return parts


def _x_axis(bars: Bars) -> list[str]:
    end = bars.start + bars.step * bars.size
    y = _TOP + _INNER_HEIGHT
    parts = [_words(_WIDTH - _RIGHT, _HEIGHT - 6, bars.x_label, "end", "axis-label")]
    first = math.ceil(bars.start / bars.x_step - 1e-9)
    for number in range(first, math.floor(end / bars.x_step + 1e-9) + 1):
        value = number * bars.x_step
        x = _LEFT + _INNER_WIDTH * (value - bars.start) / (end - bars.start)
        line = {"class": "axis", "x1": x, "x2": x, "y1": y, "y2": y + 4}
        said = plain_number(value / bars.x_scale)
        parts += [f"<line{attributes(line)}/>", _words(x, y + 18, said, "middle", "tick")]
    return parts


def _words(x: float, y: float, said: str, anchor: str, kind: str) -> str:
    return f"<text{attributes({'class': kind, 'x': x, 'y': y, 'text-anchor': anchor})}>{text(said)}</text>"
