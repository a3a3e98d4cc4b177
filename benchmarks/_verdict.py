"""Tables of the results on many draws: tenth percentile, median and worst, by kind of draw."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from benchmarks._draws import DISTURBANCES, FAMILIES, REPORTING, TUNING
from benchmarks._figures import Row
from benchmarks._harness import Options
from benchmarks._outcomes import Outcome

__all__ = ("Targets", "percentile", "seeds_of", "verdict")

#: Share: p10, median, median after a disturbance. Rejected: median and p90. In percent; None: no target.
Targets: TypeAlias = tuple[float, float, float, float | None, float]
_TARGETS: Targets = (80, 96, 85, 4, 25)


def seeds_of(options: Options, count: int) -> tuple[range, str]:
    """Return the *count* seeds of the options, and the name of their set."""
    ranges = {"tuning": TUNING, "reporting": REPORTING}
    start = ranges[options.seed].start if options.seed in ranges else int(options.seed)
    seeds = range(start, start + count)
    name = next((name for name, each in ranges.items() if seeds[0] in each and seeds[-1] in each), "neither")
    return seeds, {"tuning": "TUNING", "reporting": "REPORTING"}.get(
        name, "neither for tuning nor for reporting"
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which *share* of *values* lie, between its neighbours."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def verdict(
    codes: Mapping[str, Sequence[Outcome]], seeds: str, worst: int, targets: Targets = _TARGETS
) -> list[Row]:
    """Return the tables of each code on the same draws, and on the draws by name."""
    named = {code: [each for each in some if each.seed < 0] for code, some in codes.items()}
    codes = {code: [each for each in some if each.seed >= 0] for code, some in codes.items()}
    return [
        *(_whole(code, some, seeds, targets) for code, some in codes.items()),
        *_split(codes, "disturbance", lambda each: each.disturbance, DISTURBANCES, targets[2]),
        *_split(codes, "family", lambda each: each.family, FAMILIES),
        *_split(codes, "Retry-After", lambda each: each.hint, ("none", "seconds", "exact", "rounded up")),
        *_worst(codes, worst),
        *_named(named),
    ]


def _whole(code: str, some: Sequence[Outcome], seeds: str, targets: Targets) -> Row:
    low, middle, _, rejected, most_rejected = targets
    shares, refused = [each.share for each in some], [each.rejected for each in some]
    return {
        "code": code,
        "seeds": seeds,
        "draws": len(some),
        "share p10, %": percentile(shares, 0.1),
        "target": low,
        "share median, %": statistics.median(shares),
        "target ": middle,
        "share mean, %": statistics.fmean(shares),
        "rejected median, %": statistics.median(refused),
        "target  ": "-" if rejected is None else rejected,
        "rejected p90, %": percentile(refused, 0.9),
        "target   ": most_rejected,
        "cut off": sum(each.accepted < each.count for each in some),
    }


def _split(
    codes: Mapping[str, Sequence[Outcome]],
    what: str,
    of: Callable[[Outcome], str],
    order: Sequence[str],
    target: float | None = None,
) -> Iterator[Row]:
    for value in order:
        for code, some in codes.items():
            alike = [each for each in some if of(each) == value]
            if alike:
                yield {what: value, "code": code} | _part(alike, target)


def _part(alike: Sequence[Outcome], target: float | None) -> Row:
    shares, refused = [each.share for each in alike], [each.rejected for each in alike]
    recovered = [each.recovered for each in alike]
    return {
        "draws": len(alike),
        "share p10, %": percentile(shares, 0.1),
        "share median, %": statistics.median(shares),
        **({} if target is None else {"target": target}),
        "rejected median, %": statistics.median(refused),
        "rejected p90, %": percentile(refused, 0.9),
        "80 % after, s": statistics.median(recovered),
        "80 % after p90, s": percentile(recovered, 0.9),
    }


def _worst(codes: Mapping[str, Sequence[Outcome]], worst: int) -> Iterator[Row]:
    for code, some in codes.items():
        for each in sorted(some, key=lambda each: each.share)[:worst]:
            yield {
                f"the worst of {code}": each.draw,
                "seed": str(each.seed),
                "share, %": each.share,
                "rejected, %": each.rejected,
                "ideal, s": each.ideal,
                "took, s": each.seconds,
            }


def _named(codes: Mapping[str, Sequence[Outcome]]) -> Iterator[Row]:
    names = dict.fromkeys(each.draw for some in codes.values() for each in some)
    for name in names:
        for code, some in codes.items():
            yield from (_against(code, each) for each in some if each.draw == name)


def _against(code: str, each: Outcome) -> Row:
    storm = each.disturbance.startswith("storm")
    return {
        "limit": each.draw,
        "code": code,
        "N": each.count,
        "accepted": each.accepted,
        "possible, s": each.ideal,
        "took, s": each.seconds,
        "x possible": each.seconds / each.ideal,
        "target": 1.25 + 5 / each.ideal if storm else 1.5,
        "rejected, %": each.rejected,
    }
