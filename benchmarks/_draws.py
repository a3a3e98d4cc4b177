"""Rate limits drawn at random, each with a connection and, three times in five, a disturbance.

Equal seeds give equal draws. `benchmarks._judge` measures how much of a draw a client uses.
"""

from __future__ import annotations

import math
import random
from typing import Any, Literal, TypeAlias

from attrs import evolve, frozen

from ruxa_async.emulator import Changing, FixedWindow, Shape, SlidingWindow, TokenBucket

__all__ = ("DISTURBANCES", "FAMILIES", "NAMED", "REPORTING", "TUNING", "Draw", "Span", "draw")

#: Seeds for work on discovery. Their figures are not reported.
TUNING = range(10_000)
#: Seeds whose figures are reported. Do not look at single ones during work on discovery.
REPORTING = range(1_000_000, 1_010_000)

#: Seconds since the start of a run.
Span: TypeAlias = tuple[float, float]
#: The form of Retry-After. "seconds": whole seconds, rounded up. "exact": milliseconds. "rounded up":
#: ``int(wait) + 1`` seconds.
Hint: TypeAlias = Literal["none", "seconds", "exact", "rounded up"]

FAMILIES = ("bucket", "minimum interval", "sliding window", "fixed window")
_HINTS: tuple[Hint, ...] = ("none", "none", "seconds", "exact", "rounded up")
DISTURBANCES = (
    *("nothing", "used up", "storm at start", "storm later", "another client", "stalls"),
    *("halved", "doubled", "removed", "running cap"),
)
_DISTURBED = 0.6  # the share of the draws with a disturbance
_SHARED = 0.1  # the share, among draws without a running cap, whose queries count against the same limit
_LENGTH = (20.0, 60.0)  # seconds that a batch takes at the sustained rate
_FEWEST, _FEWEST_WITHIN = 100, 200.0  # the least requests of a batch, unless they take more seconds than this
_WINDOWS = (3.0, 4.0)  # the least number of windows after the first
_MOST = 2000  # the most requests of a batch; at 300/s they take 7 s
_TASK = 0.3  # seconds that a task takes
_STORM = (3.0, 30.0)  # seconds that a storm lasts


@frozen(kw_only=True)
class Draw:
    """A limit on creates, a connection, and a batch of *count* tasks; durations are in seconds.

    *limit* None accepts everything. *rate* is what the limit accepts a second for any length of time, *burst*
    the number that an idle client may send at once, *per* the length of a window (0: no window); *rate_after*
    and *limit* include the change at *changes_at*. *rtt* is the mean round trip, of which each half
    varies by the share *jitter* at most. During *storm* every create is rejected without Retry-After. *taken*
    is the share of *rate* that another client uses. During *stalls* the client's event loop is blocked.
    *clients* run in one event loop, each with its own account.
    """

    seed: int
    family: str
    limit: Shape | None
    rate: float
    burst: int
    per: float = 0.0
    rtt: float = 0.001
    jitter: float = 0.0
    hint: Hint = "none"
    shared: bool = False
    disturbance: str = "nothing"
    count: int = 100
    duration: float = _TASK
    used_up: bool = False
    storm: Span | None = None
    taken: float = 0.0
    gap: float = 1.0
    stalls: tuple[Span, ...] = ()
    changes_at: float | None = None
    rate_after: float = math.inf
    cap: int | None = None
    clients: int = 1
    name: str = ""

    def __str__(self) -> str:
        """Return the name, or the description in one line."""
        if self.name:
            return self.name
        size = f"{self.burst} in {self.per:.3g} s" if self.per else f"{self.rate:.3g}/s burst {self.burst}"
        rtt = f"rtt {self.rtt * 1000:.0f} ms +-{100 * self.jitter:.0f} %"
        shared = ", shared with queries" if self.shared else ""
        return f"{self.family} {size}{shared}, {rtt}, Retry-After {self.hint}, N {self.count}, {self.trouble}"

    @property
    def trouble(self) -> str:
        """The disturbance with its figures."""
        match self.disturbance:
            case "storm at start" | "storm later":
                assert self.storm is not None
                return f"429 from {self.storm[0]:.1f} to {self.storm[1]:.1f} s"
            case "another client":
                return f"another client takes {100 * self.taken:.0f} % every {self.gap:.1f} s"
            case "stalls":
                return f"{len(self.stalls)} stalls of up to {max(b - a for a, b in self.stalls):.1f} s"
            case "halved" | "doubled" | "removed":
                return f"{self.disturbance} at {self.changes_at:.1f} s"
            case "running cap":
                return f"at most {self.cap} running, each {self.duration:.1f} s"
            case other:
                return other


def draw(seed: int, *, longest: float = math.inf) -> Draw:
    """Return the draw of *seed*, whose requests take about *longest* seconds at most.

    A seed below 0 is one of `NAMED`: -1 the first of them.
    """
    if seed < 0:
        return evolve(NAMED[-1 - seed], seed=seed)
    chance = random.Random(f"limits/{seed}")
    limited = _limited(seed, chance)
    rtt, jitter = _log_uniform(chance, 0.001, 0.4), chance.uniform(0.0, 0.5)
    shared = chance.random() < _SHARED
    least = min(chance.uniform(*_WINDOWS) * limited.per, max(longest, 1.5 * limited.per))
    length = max(least, min(longest, _length(limited, chance.uniform(*_LENGTH))))
    plain = evolve(limited, rtt=rtt, jitter=jitter, hint=chance.choice(_HINTS))
    disturbance = chance.choice(DISTURBANCES[1:]) if chance.random() < _DISTURBED else "nothing"
    if shared and disturbance != "running cap":
        plain = evolve(plain, shared=True, duration=chance.uniform(2.0, 10.0))
    requests = min(plain.burst + plain.rate * length, _MOST)
    counted = evolve(plain, count=max(3, math.ceil(requests / (2 if plain.shared else 1))))
    return _disturbed(counted, disturbance, chance)


def _limited(seed: int, chance: random.Random) -> Draw:
    family = chance.choice(FAMILIES)
    if family in {"bucket", "minimum interval"}:
        rate, size = _log_uniform(chance, 0.5, 300.0), _log_uniform(chance, 1.0, 200.0)
        burst = round(size) if family == "bucket" else 1
        return Draw(seed=seed, family=family, limit=TokenBucket(rate, burst), rate=rate, burst=burst)
    count, per = round(_log_uniform(chance, 2, 300)), _log_uniform(chance, 1.0, 60.0)
    # Whole seconds, as in real limits.
    per = float(round(per)) if chance.random() < 0.75 else per
    phase = chance.uniform(-per, 0.0)
    limit: Shape = SlidingWindow(count, per) if family == "sliding window" else FixedWindow(count, per, phase)
    return Draw(seed=seed, family=family, limit=limit, rate=count / per, burst=count, per=per)


def _log_uniform(chance: random.Random, low: float, high: float) -> float:
    return math.exp(chance.uniform(math.log(low), math.log(high)))


def _length(limited: Draw, length: float) -> float:
    """Return *length*, or the seconds of a hundred requests if that is longer, up to a bound."""
    enough = max(0, _FEWEST - limited.burst) / limited.rate
    return max(length, min(enough, _FEWEST_WITHIN))


# ---- disturbances


def _disturbed(plain: Draw, disturbance: str, chance: random.Random) -> Draw:
    sustained = max(1, plain.count * (2 if plain.shared else 1) - plain.burst) / plain.rate
    middle = chance.uniform(0.3, 0.6) * sustained
    begun = evolve(plain, disturbance=disturbance)
    if disturbance in {"halved", "doubled", "removed"}:
        return _changing(begun, middle)
    match disturbance:
        case "used up":
            return evolve(begun, used_up=True)
        case "storm at start" | "storm later":
            start = 0.0 if disturbance == "storm at start" else middle
            return evolve(begun, storm=(start, start + chance.uniform(*_STORM)))
        case "another client":
            return evolve(begun, taken=chance.uniform(0.1, 0.5), gap=_log_uniform(chance, 0.5, 5.0))
        case "stalls":
            return evolve(begun, stalls=_stalls(chance, sustained))
        case _:
            return _capped(begun, chance) if disturbance == "running cap" else begun


def _stalls(chance: random.Random, length: float) -> tuple[Span, ...]:
    """Return stalls every ten seconds or so, until some time after *length*."""
    stalls, at = [], chance.uniform(0.0, 5.0)
    while at < 2 * length + 10:
        end = at + chance.uniform(0.2, 1.5)
        stalls.append((at, end))
        at = end + chance.uniform(3.0, 15.0)
    return tuple(stalls)


def _changing(before: Draw, at: float) -> Draw:
    assert before.limit is not None
    factor = {"halved": 0.5, "doubled": 2.0}.get(before.disturbance)
    if factor is None:
        after: Shape = TokenBucket(1e9, 10**9)
        rate = math.inf
    elif isinstance(before.limit, (SlidingWindow, FixedWindow)):
        count = math.ceil(before.limit.count * factor)
        after, rate = evolve(before.limit, count=count), count / before.per
    else:
        rate = before.rate * factor
        after = TokenBucket(rate, before.burst)
    limit = Changing(before.limit, after, at)
    return evolve(before, limit=limit, changes_at=at, rate_after=rate)


def _capped(plain: Draw, chance: random.Random) -> Draw:
    """Cap the running tasks so that this alone allows a third to the whole of what the limit does."""
    duration = chance.uniform(1.0, 10.0)
    share = chance.uniform(0.33, 1.0)
    cap = max(1, min(200, round(share * plain.rate * duration)))
    throughput = min(plain.rate, cap / (duration + plain.rtt))
    sustained = max(1, plain.count - plain.burst) / plain.rate
    count = max(3 * cap, math.ceil(throughput * sustained))
    return evolve(plain, duration=duration, cap=cap, count=min(plain.count, count))


# ---- by name


def _window(name: str, per: float, count: int = 300, **more: Any) -> Draw:
    limit = SlidingWindow(round(more.pop("rate") * per), per)
    rate = limit.count / per
    return Draw(
        seed=-1,
        name=name,
        family="sliding window",
        limit=limit,
        rate=rate,
        burst=limit.count,
        per=per,
        count=count,
        **more,
    )


def _storm(seconds: float) -> Draw:
    name = f"no limit, 429 for the first {seconds:g} s"
    limits: dict[str, Any] = {"family": "none", "limit": None, "rate": math.inf, "burst": 300}
    return Draw(seed=-1, name=name, **limits, count=300, disturbance="storm at start", storm=(0.0, seconds))


#: Limits on which discovery failed before it was rewritten, with their targets.
NAMED = (
    _window("100 in any 10 s", 10.0, rate=10),
    _window("100 in any 1 s", 1.0, 2000, rate=100, duration=0.5),
    _window("100 in any 10 s, used up", 10.0, rate=10, disturbance="used up", used_up=True),
    _window(
        "100 in any 10 s, used up, Retry-After",
        10.0,
        rate=10,
        disturbance="used up",
        used_up=True,
        hint="seconds",
    ),
    *map(_storm, (10.0, 20.0, 30.0)),
    _window("10 in any 1 s, eleven clients", 1.0, rate=10, clients=11),
)
