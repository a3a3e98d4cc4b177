"""The state of a limit while the emulator runs: it accepts a request, or returns the seconds until it will.

The caller passes the time. The cost of a request does not depend on the number of earlier requests.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

from attrs import define, field, frozen

__all__ = (
    "BucketState",
    "ChangingState",
    "LimitState",
    "Limiter",
    "QuotaStatus",
    "RequestLog",
    "Usage",
    "WindowCount",
    "whole_requests",
)

#: Seconds; the longest period in which a bucket's rate is stated to clients.
_LONGEST_PER = 600
#: What counts against a client: pairs of an instant and the number of requests then. A bucket that refills
#: has fractions of requests.
Usage: TypeAlias = Iterable[tuple[float, float]]


@frozen
class QuotaStatus:
    """What RateLimit headers state: *remaining* of *limit* requests in *per* s, at most *burst* at once.

    *per* is None if it is not a whole number of seconds, *burst* None if it equals *limit*. *reset_in* is the
    number of seconds until more requests remain, 0 if none are used.
    """

    limit: int
    per: int | None
    remaining: int
    reset_in: float
    burst: int | None = None


class Limiter(Protocol):
    """The state of one limit: the least that a `Limit` of your own must return from ``limiter()``."""

    def take(self, now: float) -> float:
        """Accept a request at *now* and return 0, or reject it and return the seconds to wait."""


class LimitState(ABC):
    """A limiter whose usage can be read, stated in headers, and carried over to another limit."""

    __slots__: tuple[str, ...] = ()

    def take(self, now: float) -> float:
        """Accept a request at *now* and return 0, or reject it and return the seconds to wait."""
        wait = self.wait(now)
        if not wait:
            self._accept(now)
        return wait

    @abstractmethod
    def wait(self, now: float) -> float:
        """Return what `take` would return, and accept nothing."""

    @abstractmethod
    def used(self, now: float) -> Usage:
        """Return what counts against the client at *now*."""

    @abstractmethod
    def quota(self, now: float) -> QuotaStatus:
        """Return what remains of the limit at *now*."""

    @abstractmethod
    def _accept(self, now: float) -> None:
        """Count a request at *now*, for which `wait` has just returned 0."""


@define(eq=False)
class BucketState(LimitState):
    """A token bucket: it holds *burst* tokens, gains *rate* a second and loses one for each request."""

    _rate: float
    _burst: int
    _tokens: float
    _at: float | None = None

    def wait(self, now: float) -> float:
        self._fill(now)
        return _rounded((1 - self._tokens) / self._rate, now)

    def used(self, now: float) -> Usage:
        self._fill(now)
        return [(now, self._burst - self._tokens)]

    def quota(self, now: float) -> QuotaStatus:
        """Return what remains; the limit is the rate in the shortest period of whole seconds that fits.

        A period fits if the bucket gains a whole number of tokens in it, *burst* or more. If none of at most
        ten minutes does, the limit is *burst* without a period.
        """
        self._fill(now)
        remaining = max(0, math.floor(self._tokens + 1e-6))
        reset_in = 0.0 if remaining >= self._burst else (remaining + 1 - self._tokens) / self._rate
        for per in range(1, _LONGEST_PER + 1):
            limit = round(self._rate * per)
            if limit >= self._burst and math.isclose(limit, self._rate * per):
                burst = None if limit == self._burst else self._burst
                return QuotaStatus(limit, per, remaining, reset_in, burst)
        return QuotaStatus(self._burst, None, remaining, reset_in)

    def _accept(self, now: float) -> None:  # noqa: ARG002 - `wait` filled the bucket
        # A rounding error may take this below 0; the next request then waits longer.
        self._tokens -= 1

    def _fill(self, now: float) -> None:
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now if self._at is None else max(self._at, now)


@define(eq=False)
class RequestLog(LimitState):
    """A sliding window. After *count* accepted requests, the next is accepted *per* s after the oldest."""

    _count: int
    _per: float
    _log: deque[float] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._log = deque(maxlen=self._count)

    def carry_over(self, usage: Usage) -> None:
        """Add *usage*, with fractions of requests rounded up."""
        for since, amount in usage:
            self._log.extend([since] * min(whole_requests(amount), self._count))

    def wait(self, now: float) -> float:
        if len(self._log) < self._count:
            return 0.0
        return _rounded(self._log[0] + self._per - now, now)

    def used(self, now: float) -> Usage:
        return [(since, 1.0) for since in self._log if _rounded(since + self._per - now, now)]

    def quota(self, now: float) -> QuotaStatus:
        used = [since for since, _ in self.used(now)]
        reset_in = used[0] + self._per - now if used else 0.0
        return QuotaStatus(self._count, _whole_seconds(self._per), self._count - len(used), reset_in)

    def _accept(self, now: float) -> None:
        self._log.append(now)


@define(eq=False)
class WindowCount(LimitState):
    """A fixed window: the number of requests since it started, at *phase* + index * *per*."""

    _count: int
    _per: float
    _phase: float
    _used: int = 0
    _index: float = -math.inf

    def carry_over(self, usage: Usage, now: float) -> None:
        """Count the part of *usage* that lies in the window of *now*."""
        self._enter(now)
        start = self._start(self._index)
        self._used = sum(
            whole_requests(amount) for since, amount in usage if not _rounded(start - since, since)
        )

    def wait(self, now: float) -> float:
        self._enter(now)
        return 0.0 if self._used < self._count else max(_tolerance(now), self._start(self._index + 1) - now)

    def used(self, now: float) -> Usage:
        """Return the requests of this window as if all came at *now*: a fixed window stores no instants."""
        self._enter(now)
        return [(now, float(self._used))]

    def quota(self, now: float) -> QuotaStatus:
        self._enter(now)
        remaining = max(0, self._count - self._used)
        reset_in = self._start(self._index + 1) - now
        return QuotaStatus(self._count, _whole_seconds(self._per), remaining, reset_in)

    def _accept(self, now: float) -> None:  # noqa: ARG002 - `wait` entered the window
        self._used += 1

    def _enter(self, now: float) -> None:
        index = math.floor((now + _tolerance(now) - self._phase) / self._per)
        if index > self._index:
            self._index, self._used = index, 0

    def _start(self, index: float) -> float:
        return self._phase + index * self._per


@define(eq=False)
class ChangingState(LimitState):
    """*state* until the instant *at*; from then on, the state that *resumed* makes of its usage."""

    _state: LimitState
    _resumed: Callable[[Usage, float], LimitState]
    _at: float
    _changed: bool = False

    def wait(self, now: float) -> float:
        if not self._changed:
            if now < self._at and now + (wait := self._state.wait(now)) < self._at:
                return wait
            # No request is accepted before the change, so the usage at that instant is known now.
            self._change()
        later = self._clock(now)
        return _rounded(later - now + self._state.wait(later), now)

    def used(self, now: float) -> Usage:
        return self._current(now).used(self._clock(now))

    def quota(self, now: float) -> QuotaStatus:
        return self._current(now).quota(self._clock(now))

    def _accept(self, now: float) -> None:
        self._state.take(self._clock(now))

    def _current(self, now: float) -> LimitState:
        if not self._changed and now >= self._at:
            self._change()
        return self._state

    def _change(self) -> None:
        self._state, self._changed = self._resumed(self._state.used(self._at), self._at), True

    def _clock(self, now: float) -> float:
        """Return *now*, or the instant of the change if the change was made before it."""
        return max(now, self._at) if self._changed else now


def _whole_seconds(per: float) -> int | None:
    return int(per) if per == int(per) else None


def _tolerance(now: float) -> float:
    """Return the seconds by which a request may be early, so that rounding errors reject no exact client."""
    return max(1e-9, 4 * math.ulp(now))


def _rounded(wait: float, now: float) -> float:
    """Return *wait*, or 0 if it is within the tolerance."""
    return wait if wait > _tolerance(now) else 0.0


def whole_requests(amount: float) -> int:
    """Return *amount* of requests rounded up, but not because of a rounding error of the clock."""
    return math.ceil(amount - 1e-6)
