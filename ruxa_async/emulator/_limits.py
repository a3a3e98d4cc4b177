"""How the emulated service limits requests: a `Limit` is the setting, a `Limiter` its state while it runs.

Another shape of limit is one frozen class with `limiter`, and one with `take`; with `resumed`, `wait`, `held`
and `standing` as well it can also be what a limit is `Changing` from or to; `standing` is what replies say of
it.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Protocol, runtime_checkable

from attrs import Attribute, field, frozen, validators

from ._limiters import Bucket, Changed, Gauge, Held, Limiter, Log, Window, whole

__all__ = (
    "Changing",
    "FixedWindow",
    "LeakyBucket",
    "Limit",
    "Limiter",
    "Shape",
    "SlidingWindow",
    "TokenBucket",
)


@runtime_checkable
class Limit(Protocol):
    """A limit as it is set."""

    @property
    def allowance(self) -> int:
        """How many requests a rested client may send at once."""
        ...

    def limiter(self) -> Limiter:
        """Return the state of a rested client."""
        ...


class Shape(Limit, Protocol):
    """A limit that can take over from another one."""

    def limiter(self) -> Gauge:
        """Return the state of a rested client."""
        ...

    def resumed(self, held: Held, now: float) -> Gauge:
        """Return the state of a client against whom *held* counts at *now*."""
        ...


def _ample(instance: object, attribute: Attribute[float], value: float) -> None:  # noqa: ARG001 - as attrs calls it
    """Refuse what is no positive, finite number; NaN compares as neither."""
    if not 0 < value < math.inf:
        raise ValueError(f"{attribute.name!r} must be a number above 0: {value}")


def _finite(instance: object, attribute: Attribute[float], value: float) -> None:  # noqa: ARG001
    if not math.isfinite(value):
        raise ValueError(f"{attribute.name!r} must be a number: {value}")


@frozen
class TokenBucket:
    """Admit *rate* requests a second on average and at most *burst* at once.

    Refused requests take no token.
    """

    rate: float = field(validator=_ample)
    burst: int = field(default=1, validator=validators.ge(1))

    @property
    def allowance(self) -> int:
        """The bucket's size."""
        return self.burst

    def limiter(self) -> Gauge:
        """Return a full bucket."""
        return Bucket(self.rate, self.burst, self.burst)

    def resumed(self, held: Held, now: float) -> Gauge:
        """Return a bucket that lacks what is *held*."""
        return Bucket(self.rate, self.burst, max(0.0, self.burst - sum(amount for _, amount in held)), now)


@frozen
class LeakyBucket:
    """Admit *rate* requests a second and *burst* more, as ``limit_req`` with ``nodelay`` in nginx.

    Each request adds one to the excess, which leaks at *rate*; a request that would raise it above *burst* is
    refused and adds nothing. The first request after a rest adds no excess, so *burst* + 1 are admitted at
    once.
    """

    rate: float = field(validator=_ample)
    burst: int = field(default=0, validator=validators.ge(0))

    @property
    def allowance(self) -> int:
        """The excess that is allowed and the one request that is none."""
        return self.burst + 1

    def limiter(self) -> Gauge:
        """Return an empty bucket."""
        return self._tokens().limiter()

    def resumed(self, held: Held, now: float) -> Gauge:
        """Return a bucket whose excess is what is *held*."""
        return self._tokens().resumed(held, now)

    def _tokens(self) -> TokenBucket:
        # What has leaked away may be filled again, so it is the same as a token: excess = burst - tokens.
        return TokenBucket(self.rate, self.burst + 1)


@frozen
class SlidingWindow:
    """Admit *count* requests in any *per* seconds: a log of when the last ones were admitted.

    Refused ones leave none.
    """

    count: int = field(validator=validators.ge(1))
    per: float = field(validator=_ample)

    @property
    def allowance(self) -> int:
        """The requests that one window admits."""
        return self.count

    def limiter(self) -> Gauge:
        """Return an empty log."""
        return Log(self.count, self.per)

    def resumed(self, held: Held, now: float) -> Gauge:  # noqa: ARG002 - it needs only when each came in
        """Return a log of what is *held*, a part of a request as a whole one."""
        log = Log(self.count, self.per)
        for since, amount in held:
            log.note(since, whole(amount))
        return log


@frozen
class FixedWindow:
    """Admit *count* requests in each window of *per* seconds.

    A window begins whenever the clock reads *phase* + n * *per*.
    Around the end of a window twice as many come through.
    """

    count: int = field(validator=validators.ge(1))
    per: float = field(validator=_ample)
    phase: float = field(default=0.0, validator=_finite)

    @property
    def allowance(self) -> int:
        """The requests that one window admits."""
        return self.count

    def limiter(self) -> Gauge:
        """Return an unused window."""
        return Window(self.count, self.per, self.phase)

    def resumed(self, held: Held, now: float) -> Gauge:
        """Return a window in which all that was *held* since its start is used."""
        window = Window(self.count, self.per, self.phase)
        window.use(held, now)
        return window


@frozen
class Changing:
    """The limit *before* until the service's clock reads *at*, and *after* from then on.

    What counts against the client carries over: what a bucket lacks, the log of a window, or its count. The
    clock is the running loop's with a `MemoryTransport`, and `time.monotonic` on a socket. A refused request
    gets the time when one will be admitted, the change included. *allowance* stays as it was before.
    """

    before: Shape
    after: Shape
    at: float = field(validator=_finite)

    def __attrs_post_init__(self) -> None:
        if any(later <= earlier for earlier, later in pairwise(_changes(self))):
            raise ValueError("a limit must change at ever later instants: give its changes in their order")

    @property
    def allowance(self) -> int:
        """What *before* allows."""
        return self.before.allowance

    def limiter(self) -> Gauge:
        """Return the state of a rested client, before the change."""
        return Changed(self.before.limiter(), self.after.resumed, self.at)

    def resumed(self, held: Held, now: float) -> Gauge:
        """Return the state of a client against whom *held* counts, before the change."""
        return Changed(self.before.resumed(held, now), self.after.resumed, self.at)


def _changes(limit: Shape) -> list[float]:
    """Return when *limit* changes, in the order in which it is set."""
    return [*_changes(limit.before), limit.at, *_changes(limit.after)] if isinstance(limit, Changing) else []
