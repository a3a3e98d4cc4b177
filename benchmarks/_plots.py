"""The plots of docs/performance.md, made from the figures of the benchmarks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks._svg import Panel, Picture, spread_out

__all__ = ("PLOTS",)

_Kept = Mapping[str, Any]

_HAND = ("aiohttp",)
_TOOLS = ("aiometer", "tenacity")


def bulk_quota(kept: _Kept) -> str:
    """Draw how many results each client has at each moment, without a round trip."""
    lines = {
        name.removeprefix("0 ms: "): at for name, at in kept["series"].items() if name.startswith("0 ms: ")
    }
    refused = {row["client"]: row["429"]["median"] for row in kept["rows"] if row["trip, ms"] == 0}
    about = "; ".join(
        f"{name}: {len(at)} results, the last at {at[-1]:.0f} s" for name, at in lines.items() if at
    )
    picture = Picture(900, 440, "100 tasks of 10 s under an unknown quota of 10 requests a second", about)
    end = 10 * math.ceil(max(at[-1] for at in lines.values() if at) / 10)
    panel = Panel(picture, 50, 64, 520, 320, (0, end), (0, 100))
    panel.axes(range(0, end + 1, 10), range(0, 101, 20), "seconds since the start", "results there")
    left, floor = panel.at((20, 0))
    picture.path([(left, floor), (left, panel.top)], "axis dash")
    picture.text(left + 4, panel.top - 2, "floor", "small")
    names = [name for name in lines if name in refused]
    ends = [panel.at((lines[name][-1] if lines[name] else 0, len(lines[name]))) for name in names]
    places = spread_out([y for _, y in ends], 17, panel.top, panel.top + panel.down)
    for name, (x, y), place in sorted(
        zip(names, ends, places, strict=True), key=lambda each: each[0] == "ruxa_async"
    ):
        kind = _kind(name)
        picture.path(_steps(panel, lines[name]), kind)
        picture.path([(x + 3, y), (576, place), (582, place)], "leader")
        picture.text(586, place + 4, f"{name}: {len(lines[name])}, {refused[name]:,.0f} x 429", kind)
    return picture.svg()


def _kind(name: str) -> str:
    if name == "ruxa_async":
        return "ours"
    return "hand" if name.startswith(_HAND) else "tool" if name.startswith(_TOOLS) else "peer"


def _steps(panel: Panel, instants: list[float]) -> list[tuple[float, float]]:
    points = [panel.at((0, 0))]
    for count, at in enumerate(instants):
        points += [panel.at((at, count)), panel.at((at, count + 1))]
    return points


def polling(kept: _Kept) -> str:
    """Draw lateness against queries for three distributions: optimum, fixed intervals, growing gaps, ours."""
    laws = list(dict.fromkeys(name.rpartition(": ")[0] for name in kept["series"]))
    picture = Picture(900, 380, "How late an end is seen, for how many queries", _about_cadence(kept, laws))
    for place, law in enumerate(laws):
        _one_law(kept, law, Panel(picture, 50 + 290 * place, 92, 240, 220, (2, 16), (0, 0.3), math.log))
    x = 16.0
    for name, kind in (("growing gaps", "hand"), ("fixed interval", "peer"), ("optimum", "tool dash")):
        picture.path([(x, 47), (x + 24, 47)], kind)
        picture.text(x + 30, 51, name)
        x += 130
    picture.dot(x + 8, 47, "open")
    picture.text(x + 20, 51, "ruxa_async, the first 200 tasks")
    picture.dot(x + 228, 47)
    picture.text(x + 240, 51, "after 200")
    return picture.svg()


def _one_law(kept: _Kept, law: str, panel: Panel) -> None:
    median = float(law.split()[1])
    panel.axes((2, 4, 8, 16), (0, 0.1, 0.2, 0.3), "queries a task", f"{law}: mean lag / median")
    for way, kind in (("growing", "hand"), ("fixed", "peer"), ("optimum", "tool dash")):
        panel.line([(queries, late / median) for queries, late in kept["series"][f"{law}: {way}"]], kind)
    for row in kept["rows"]:
        if row["durations"] == law:
            point = (row["queries"]["median"], row["late, s"]["median"] / median)
            panel.picture.dot(*panel.at(point), "open" if row["phase"] == "first 200" else "")


def _about_cadence(kept: _Kept, laws: list[str]) -> str:
    said = [
        f"{row['durations']}, {row['phase']}: {row['queries']['median']:.1f} queries, "
        f"{row['late, s']['median']:.2f} s late, the optimum {row['optimum, s']:.2f} s"
        for row in kept["rows"]
        if row["durations"] in laws
    ]
    return "; ".join(said)


def goodput(kept: _Kept) -> str:
    """Draw the discovery of a bucket and of a window: the pace, the estimate, and the rejections."""
    bucket, window = kept["series"]["20/s, burst 10"], kept["series"]["20 in any 10 s"]
    about = f"bucket: {len(bucket['rejected'])} rejected; window: {len(window['rejected'])} rejected"
    picture = Picture(900, 360, "An unknown limit is found", about)
    panel = Panel(picture, 50, 92, 380, 210, (0, 30), (0, 50))
    panel.axes((0, 10, 20, 30), (0, 10, 20, 30, 40, 50), "seconds", "20/s, burst 10: requests a second")
    panel.line([(0, 20), (30, 20)], "peer dash")
    panel.line(_paces(bucket["accepted"]), "hand")
    panel.line(bucket["rates"], "ours")
    for at in bucket["rejected"]:
        panel.picture.dot(*panel.at((at, 2)), "open")
    panel = Panel(picture, 500, 92, 380, 210, (0, 60), (0, 140))
    panel.axes(range(0, 61, 10), range(0, 141, 20), "seconds", "20 in any 10 s: accepted")
    picture.path(_steps(panel, [at for at in window["accepted"] if at <= 60]), "ours")
    for at in window["rejected"]:
        panel.picture.dot(*panel.at((at, 4)), "open")
    x = 16.0
    for name, kind in (("the limit", "peer dash"), ("sent", "hand"), ("believed, accepted", "ours")):
        picture.path([(x, 47), (x + 24, 47)], kind)
        picture.text(x + 30, 51, name)
        x += 170
    picture.dot(x + 8, 47, "open")
    picture.text(x + 20, 51, "rejected")
    return picture.svg()


def _paces(instants: list[float], width: int = 5) -> list[tuple[float, float]]:
    """Return the requests a second at each of *instants*, over *width* of them."""
    return [
        (end, width / (end - start))
        for start, end in zip(instants, instants[width:], strict=False)
        if end > start
    ]


#: The plot of each benchmark.
PLOTS: Mapping[str, Callable[[_Kept], str]] = {each.__name__: each for each in (bulk_quota, polling, goodput)}
