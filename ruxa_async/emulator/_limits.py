"""How the emulated service limits requests: each `Limit` is a setting and creates its state with `limiter`.

`parse_limit` reads a limit from text, as ``ruxa-async emulate`` takes it: ``token:rate=2,burst=20``.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Protocol, TypeAlias, runtime_checkable

from attrs import NOTHING, Attribute, evolve, field, fields, frozen, validators

from ._limit_state import BucketState, ChangingState, Limiter, LimitState, RequestLog, Usage, WindowCount

__all__ = (
    "Changing",
    "FixedWindow",
    "LeakyBucket",
    "Limit",
    "Shape",
    "SlidingWindow",
    "TokenBucket",
    "parse_limit",
)


@runtime_checkable
class Limit(Protocol):
    """A limit as a setting: `TokenBucket`, `LeakyBucket`, `SlidingWindow`, `FixedWindow`, or your own."""

    @property
    def allowance(self) -> int:
        """The number of requests that a client may send at once after a rest."""

    def limiter(self) -> Limiter:
        """Return the state for a client that has sent nothing yet."""


class Shape(Limit, Protocol):
    """A limit that a `Changing` limit can change from or to."""

    def limiter(self) -> LimitState:
        """Return the state for a client that has sent nothing yet."""

    def resumed(self, usage: Usage, now: float) -> LimitState:
        """Return the state at *now* for a client that has already used *usage* of the limit."""


def _positive(instance: object, attribute: Attribute[float], value: float) -> None:  # noqa: ARG001 - as attrs calls it
    if not 0 < value < math.inf:  # also refuses NaN, which compares as neither
        raise ValueError(f"{attribute.name!r} must be a number above 0: {value}")


def _finite(instance: object, attribute: Attribute[float], value: float) -> None:  # noqa: ARG001
    if not math.isfinite(value):
        raise ValueError(f"{attribute.name!r} must be a number: {value}")


@frozen
class TokenBucket(Shape):
    """Accept *rate* requests a second on average and at most *burst* at once (default: 1).

    The bucket is full at first. Rejected requests take no token.
    """

    rate: float = field(validator=_positive)
    burst: int = field(default=1, validator=validators.ge(1))

    @property
    def allowance(self) -> int:
        return self.burst

    def limiter(self) -> LimitState:
        return BucketState(self.rate, self.burst, self.burst)

    def resumed(self, usage: Usage, now: float) -> LimitState:
        tokens = max(0.0, self.burst - sum(amount for _, amount in usage))
        return BucketState(self.rate, self.burst, tokens, now)


@frozen
class LeakyBucket(Shape):
    """Accept *rate* requests a second and *burst* more (default: 0): nginx's ``limit_req`` with ``nodelay``.

    Each request adds one to an excess that leaks at *rate*; a request that would raise it above *burst* is
    rejected and adds nothing. The first request after a rest adds none, so *burst* + 1 are accepted at once.
    """

    rate: float = field(validator=_positive)
    burst: int = field(default=0, validator=validators.ge(0))

    @property
    def allowance(self) -> int:
        return self.burst + 1

    def limiter(self) -> LimitState:
        return self._tokens().limiter()

    def resumed(self, usage: Usage, now: float) -> LimitState:
        return self._tokens().resumed(usage, now)

    def _tokens(self) -> TokenBucket:
        # Equal to a token bucket: tokens = burst + 1 - excess.
        return TokenBucket(self.rate, self.burst + 1)


@frozen
class SlidingWindow(Shape):
    """Accept at most *count* requests in any *per* seconds. Rejected requests do not count."""

    count: int = field(validator=validators.ge(1))
    per: float = field(validator=_positive)

    @property
    def allowance(self) -> int:
        return self.count

    def limiter(self) -> LimitState:
        return RequestLog(self.count, self.per)

    def resumed(self, usage: Usage, now: float) -> LimitState:  # noqa: ARG002 - the instants in usage suffice
        log = RequestLog(self.count, self.per)
        log.carry_over(usage)
        return log


@frozen
class FixedWindow(Shape):
    """Accept at most *count* requests in each window of *per* seconds.

    A window starts whenever the service's clock reads *phase* + n * *per* (default *phase*: 0). Around the
    end of a window, up to twice *count* requests are accepted within a short time.
    """

    count: int = field(validator=validators.ge(1))
    per: float = field(validator=_positive)
    phase: float = field(default=0.0, validator=_finite)

    @property
    def allowance(self) -> int:
        return self.count

    def limiter(self) -> LimitState:
        return WindowCount(self.count, self.per, self.phase)

    def resumed(self, usage: Usage, now: float) -> LimitState:
        window = WindowCount(self.count, self.per, self.phase)
        window.carry_over(usage, now)
        return window


@frozen
class Changing(Shape):
    """The limit *before* until the service's clock reads *at*, and *after* from then on.

    What counts against the client carries over: the tokens that a bucket lacks, the requests of a window. A
    rejected request gets the wait until one will be accepted, the change included. The service's clock is
    that of the running event loop with a `MemoryTransport`, and `time.monotonic` with an `Emulator`.
    *allowance* is that of *before*. Raises ValueError if *before* or *after* changes too, out of order.
    """

    before: Shape
    after: Shape
    at: float = field(validator=_finite)

    def __attrs_post_init__(self) -> None:
        if any(later <= earlier for earlier, later in pairwise(_changes(self))):
            raise ValueError("a limit must change at ever later instants: give its changes in their order")

    @property
    def allowance(self) -> int:
        return self.before.allowance

    def limiter(self) -> LimitState:
        return ChangingState(self.before.limiter(), self.after.resumed, self.at)

    def resumed(self, usage: Usage, now: float) -> LimitState:
        return ChangingState(self.before.resumed(usage, now), self.after.resumed, self.at)


def _changes(limit: Shape) -> list[float]:
    """Return the instants at which *limit* changes, in the order of its settings."""
    return [*_changes(limit.before), limit.at, *_changes(limit.after)] if isinstance(limit, Changing) else []


_Shape: TypeAlias = type[TokenBucket | LeakyBucket | SlidingWindow | FixedWindow]

_SHAPES: dict[str, _Shape] = {
    "token": TokenBucket,
    "leaky": LeakyBucket,
    "sliding": SlidingWindow,
    "fixed": FixedWindow,
}
_WHOLE_NUMBERS = ("burst", "count")


def parse_limit(text: str, *, start: float = 0.0) -> Shape:
    """Return the limit that *text* describes.

    Forms: ``token:rate=2,burst=20``, ``leaky:rate=2,burst=20``, ``sliding:count=20,per=10`` and
    ``fixed:count=20,per=10,phase=0``; ``limit@seconds=limit`` changes after that many seconds, as often as
    you like. The seconds and the phase count from *start* on the service's clock. Raises ValueError with the
    words that are accepted.
    """
    first, *changes = text.split("@")
    limit = _one(first, start)
    for change in changes:
        after, equals, shape = change.partition("=")
        if not equals:
            raise ValueError(
                f"{change!r} in the limit {text!r} is not a change: say @seconds=shape:name=value,..."
            )
        seconds = _number(float, after, f"the seconds before the change in the limit {text!r}")
        limit = Changing(limit, _one(shape, start), start + seconds)
    return limit


def _one(text: str, start: float) -> Shape:
    name, _, rest = text.strip().partition(":")
    shape = _SHAPES.get(name)
    if shape is None:
        raise ValueError(f"the limit {name!r} is not known: use one of {', '.join(_SHAPES)}")
    limit = shape(**_values(shape, rest, text))
    return evolve(limit, phase=start + limit.phase) if isinstance(limit, FixedWindow) else limit


def _values(shape: _Shape, rest: str, text: str) -> dict[str, Any]:
    required = {each.name: each.default is NOTHING for each in fields(shape)}
    values: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in required:
            raise ValueError(f"{name!r} in the limit {text!r} is not known: use {', '.join(required)}")
        if name in values:
            raise ValueError(f"{name!r} stands twice in the limit {text!r}: say it once")
        values[name] = _number(
            int if name in _WHOLE_NUMBERS else float, value, f"{name!r} in the limit {text!r}"
        )
    missing = [name for name, needed in required.items() if needed and name not in values]
    if missing:
        raise ValueError(f"the limit {text!r} does not say {' and '.join(missing)}")
    return values


def _number(reader: type[int | float], text: str, what: str) -> float:
    try:
        return reader(text)
    except ValueError:
        kind = "a whole number" if reader is int else "a number"
        raise ValueError(f"{what} must be {kind}, not {text!r}") from None
