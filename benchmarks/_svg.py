"""Plots as SVG, readable on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

from attrs import define, field, frozen

__all__ = ("Panel", "Picture", "spread_out")

Point = tuple[float, float]

_STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: var(--ink) }
  .title { font-size: 14px; font-weight: 600 } .small { font-size: 11px; fill: var(--faint) }
  .end { text-anchor: end } .middle { text-anchor: middle }
  path, line { fill: none; stroke-linejoin: round }
  .grid { stroke: var(--grid) } .axis { stroke: var(--faint) }
  .ours { stroke: var(--ours); stroke-width: 3 } .hand { stroke: var(--hand); stroke-width: 1.5 }
  .tool { stroke: var(--tool); stroke-width: 1.5 } .peer { stroke: var(--peer); stroke-width: 1.5 }
  .dash { stroke-dasharray: 5 3 } .leader { stroke: var(--grid); stroke-width: 1 }
  text.ours, text.hand, text.tool, text.peer { stroke: none }
  text.ours { fill: var(--ours); font-weight: 600 }
  text.hand { fill: var(--hand) } text.tool { fill: var(--tool) } text.peer { fill: var(--peer) }
  circle { fill: var(--ours); stroke: var(--page); stroke-width: 1.5 }
  circle.open { fill: var(--page); stroke: var(--ours); stroke-width: 2 }
  .page { fill: var(--page) }
  svg { --page: #fff; --ink: #1f2328; --faint: #59636e; --grid: #d8dee4;
    --ours: #0969da; --hand: #7a5c00; --tool: #1a7f37; --peer: #a0338f }
  @media (prefers-color-scheme: dark) {
    svg { --page: #0d1117; --ink: #e6edf3; --faint: #9198a1; --grid: #30363d;
      --ours: #58a6ff; --hand: #d9a520; --tool: #4ac26b; --peer: #e48ad6 }
  }
"""


@define
class Picture:
    """A drawing of *width* by *height*; *about* is its description for screen readers."""

    width: int
    height: int
    title: str
    about: str
    _marks: list[str] = field(factory=list)

    def text(self, x: float, y: float, said: str, kind: str = "") -> None:
        """Write at *x*, *y*."""
        self._marks.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(said)}</text>')

    def path(self, points: Iterable[Point], kind: str) -> None:
        """Draw a line through *points*."""
        steps = " ".join(f"{'L' if number else 'M'}{x:.1f} {y:.1f}" for number, (x, y) in enumerate(points))
        if steps:
            self._marks.append(f'<path d="{steps}" class="{kind}"/>')

    def dot(self, x: float, y: float, kind: str = "") -> None:
        """Draw a dot."""
        self._marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" class="{kind}"/>')

    def svg(self) -> str:
        """Return the whole file."""
        size = f'width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="t d">'
        said = f'<title id="t">{escape(self.title)}</title><desc id="d">{escape(self.about)}</desc>'
        page = '<rect width="100%" height="100%" rx="6" class="page"/>'
        title = f'<text x="16" y="24" class="title">{escape(self.title)}</text>'
        parts = [head, said, f"<style>{_STYLE}</style>", page, title, *self._marks, "</svg>"]
        return "\n".join(parts) + "\n"


@frozen
class Panel:
    """Axes at *left*, *top*, of size *across* and *down*; *xs* and *ys* are the ends of the scales."""

    picture: Picture
    left: float
    top: float
    across: float
    down: float
    xs: Point
    ys: Point
    by: Callable[[float], float] = float  # `math.log` makes the horizontal scale logarithmic

    def at(self, point: Point) -> Point:
        """Return the coordinates of *point*."""
        start, end = map(self.by, self.xs)
        x = self.left + self.across * (self.by(point[0]) - start) / (end - start)
        return x, self.top + self.down * (1 - (point[1] - self.ys[0]) / (self.ys[1] - self.ys[0]))

    def axes(self, xs: Sequence[float], ys: Sequence[float], across: str, down: str) -> None:
        """Draw the grid at *xs* and *ys*, and label the scales."""
        for y in ys:
            self.picture.path([self.at((self.xs[0], y)), self.at((self.xs[1], y))], "grid")
            self.picture.text(self.left - 6, self.at((self.xs[0], y))[1] + 4, f"{y:g}", "small end")
        for x in xs:
            at, bottom = self.at((x, self.ys[0]))
            self.picture.text(at, bottom + 16, f"{x:g}", "small middle")
        self.picture.path([self.at((self.xs[0], self.ys[0])), self.at((self.xs[1], self.ys[0]))], "axis")
        self.picture.text(self.left + self.across / 2, self.top + self.down + 34, across, "small middle")
        self.picture.text(self.left - 6, self.top - 10, down, "small")

    def line(self, points: Iterable[Point], kind: str) -> None:
        """Draw a line through the *points* within the scales."""
        self.picture.path([self.at(point) for point in points if self._holds(point)], kind)

    def _holds(self, point: Point) -> bool:
        (left, right), (low, high) = self.xs, self.ys
        return left <= point[0] <= right and low <= point[1] <= high


def spread_out(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions near *wanted*, in the same order, at least *gap* apart, within *low* and *high*."""
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    places = [0.0] * len(wanted)
    floor = -math.inf
    for index in order:
        places[index] = floor = max(wanted[index], low, floor + gap)
    ceiling = high + gap
    for index in reversed(order):
        places[index] = ceiling = min(places[index], ceiling - gap)
    return places
