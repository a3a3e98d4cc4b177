"""The states of the limits: each admits a request, or returns when it will admit one.

The caller passes the time. The cost of a request does not grow with the number of requests before it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

from attrs import define, frozen

__all__ = ("Bucket", "Changed", "Gauge", "Held", "Limiter", "Log", "Standing", "Window", "whole")

_LONGEST_PER = 600  # seconds
#: What still counts against a client: since when, and how many requests (a part of one, while a bucket
#: fills).
Held: TypeAlias = Iterable[tuple[float, float]]


@frozen
class Standing:
    """How a client stands: *left* of *limit* requests in *per* seconds, at most *burst* of them at once.

    *per* is None where it is no whole number of seconds. In *more_in* seconds more is left than now, 0 if no
    more can be.
    """

    limit: int
    per: int | None
    left: int
    more_in: float
    burst: int | None = None


class Limiter(Protocol):
    """The state of one limit."""

    def take(self, now: float) -> float:
        """Admit a request at *now* and return 0, or refuse it and return the seconds to wait."""
        ...


class Gauge(Limiter, Protocol):
    """A limiter that can be read without taking, and hand over to another."""

    def wait(self, now: float) -> float:
        """Return what `take` would, and take nothing."""
        ...

    def held(self, now: float) -> Held:
        """Return what counts against the client at *now*."""
        ...

    def standing(self, now: float) -> Standing:
        """Return the state of the limit at *now*, for headers."""
        ...


@define(eq=False)
class Bucket:
    """Tokens: full at *burst*, one more every 1 / *rate* seconds, one less for each request."""

    _rate: float
    _burst: int
    _tokens: float
    _at: float | None = None

    def take(self, now: float) -> float:
        """Admit at *now* and return 0, or return the seconds until it will."""
        wait = self.wait(now)
        if not wait:
            # This may go below 0 by a rounding error: forgiven now, and paid for by the next request.
            self._tokens -= 1
        return wait

    def wait(self, now: float) -> float:
        """Return what `take` would, and take nothing."""
        self._fill(now)
        return _told((1 - self._tokens) / self._rate, now)

    def held(self, now: float) -> Held:
        """Return what the bucket lacks."""
        self._fill(now)
        return [(now, self._burst - self._tokens)]

    def standing(self, now: float) -> Standing:
        """Return the bucket's size as the limit, or its rate if it is not full again after whole seconds."""
        self._fill(now)
        left = max(0, math.floor(self._tokens + 1e-6))
        more_in = 0.0 if left >= self._burst else (left + 1 - self._tokens) / self._rate
        for per in range(1, _LONGEST_PER + 1):
            limit = round(self._rate * per)
            if limit >= self._burst and math.isclose(limit, self._rate * per):
                return Standing(limit, per, left, more_in, None if limit == self._burst else self._burst)
        return Standing(self._burst, None, left, more_in)

    def _fill(self, now: float) -> None:
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now if self._at is None else max(self._at, now)


class Log:
    """When the last *count* requests came in; one more does when the first of them is *per* seconds ago."""

    def __init__(self, count: int, per: float) -> None:
        self._per = per
        self._log: deque[float] = deque(maxlen=count)

    def note(self, since: float, count: int) -> None:
        """Note *count* requests that came in at *since*."""
        self._log.extend([since] * min(count, self._log.maxlen or 0))

    def take(self, now: float) -> float:
        """Admit at *now* and return 0, or return the seconds until it will."""
        wait = self.wait(now)
        if not wait:
            self._log.append(now)
        return wait

    def wait(self, now: float) -> float:
        """Return what `take` would, and take nothing."""
        if len(self._log) < (self._log.maxlen or 0):
            return 0.0
        return _told(self._log[0] + self._per - now, now)

    def held(self, now: float) -> Held:
        """Return the requests that are still in the window."""
        return [(since, 1.0) for since in self._log if _told(since + self._per - now, now)]

    def standing(self, now: float) -> Standing:
        """Return what is not used of the window, and when the first of its requests leaves it."""
        count, held = self._log.maxlen or 0, [since for since, _ in self.held(now)]
        more_in = held[0] + self._per - now if held else 0.0
        return Standing(count, _seconds(self._per), count - len(held), more_in)


@define(eq=False)
class Window:
    """How many came in since *phase* + index * *per*, the last such instant."""

    _count: int
    _per: float
    _phase: float
    _used: int = 0
    _index: float = -math.inf

    def use(self, held: Held, now: float) -> None:
        """Count what was *held* since the window of *now* began."""
        self._enter(now)
        start = self._start(self._index)
        self._used = sum(whole(amount) for since, amount in held if not _told(start - since, since))

    def take(self, now: float) -> float:
        """Admit at *now* and return 0, or return the seconds until it will."""
        wait = self.wait(now)
        if not wait:
            self._used += 1
        return wait

    def wait(self, now: float) -> float:
        """Return what `take` would, and take nothing."""
        self._enter(now)
        return 0.0 if self._used < self._count else max(_slack(now), self._start(self._index + 1) - now)

    def held(self, now: float) -> Held:
        """Return how many came in, as if just now: nobody noted when."""
        self._enter(now)
        return [(now, float(self._used))]

    def standing(self, now: float) -> Standing:
        """Return what is not used of the window, and when it ends."""
        self._enter(now)
        left = max(0, self._count - self._used)
        return Standing(self._count, _seconds(self._per), left, self._start(self._index + 1) - now)

    def _enter(self, now: float) -> None:
        index = math.floor((now + _slack(now) - self._phase) / self._per)
        if index > self._index:
            self._index, self._used = index, 0

    def _start(self, index: float) -> float:
        return self._phase + index * self._per


@define(eq=False)
class Changed:
    """One state until *at*, and from then on the one that *resumed* makes of it."""

    _state: Gauge
    _resumed: Callable[[Held, float], Gauge]
    _at: float
    _over: bool = False

    def take(self, now: float) -> float:
        """Admit at *now* and return 0, or return the seconds until it will."""
        wait = self.wait(now)
        return wait or self._state.take(self._clock(now))

    def wait(self, now: float) -> float:
        """Return what `take` would, and take nothing."""
        if not self._over:
            if now < self._at and now + (wait := self._state.wait(now)) < self._at:
                return wait
            # Nothing more comes in before the change, so what carries over is known already.
            self._change()
        late = self._clock(now)
        return _told(late - now + self._state.wait(late), now)

    def held(self, now: float) -> Held:
        """Return what the state of the day holds."""
        if not self._over and now >= self._at:
            self._change()
        return self._state.held(self._clock(now))

    def standing(self, now: float) -> Standing:
        """Return that of the state of the day."""
        if not self._over and now >= self._at:
            self._change()
        return self._state.standing(self._clock(now))

    def _change(self) -> None:
        self._state, self._over = self._resumed(self._state.held(self._at), self._at), True

    def _clock(self, now: float) -> float:
        """Return *now*, or the change if it has been brought forward."""
        return max(now, self._at) if self._over else now


def _seconds(per: float) -> int | None:
    return int(per) if per == int(per) else None


def _slack(now: float) -> float:
    """Return the seconds by which a request may be early: rounding errors of a client that waits exactly."""
    return max(1e-9, 4 * math.ulp(now))


def _told(wait: float, now: float) -> float:
    return wait if wait > _slack(now) else 0.0


def whole(amount: float) -> int:
    """Return how many requests *amount* is, a part of one as a whole one."""
    return math.ceil(amount - 1e-6)
