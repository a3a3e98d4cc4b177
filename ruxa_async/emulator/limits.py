"""How the emulated service limits requests: a `Limit` is the setting, a `Limiter` its state while it runs.

Another shape of limit is one frozen class with `limiter`, and one with `take`.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from attrs import define, field, frozen, validators

__all__ = ("Limit", "Limiter", "TokenBucket")


class Limiter(Protocol):
    """The state of one limit."""

    def take(self, now: float) -> float:
        """Admit a request at *now* and return 0, or refuse it and return the seconds until one would be admitted."""
        ...


@runtime_checkable
class Limit(Protocol):
    """A limit as it is set."""

    @property
    def allowance(self) -> int:
        """How many requests a rested client may send at once; told in ``X-RateLimit-Limit``."""
        ...

    def limiter(self) -> Limiter:
        """Return the state of a rested client."""
        ...


@frozen
class TokenBucket:
    """Admit *rate* requests a second on average and at most *burst* at once. Refused requests take no token."""

    rate: float = field(validator=validators.gt(0))
    burst: int = field(default=1, validator=validators.ge(1))

    @property
    def allowance(self) -> int:
        """The bucket's size."""
        return self.burst

    def limiter(self) -> Limiter:
        """Return a full bucket."""
        return _Bucket(self.rate, self.burst, self.burst)


@define(eq=False)
class _Bucket:
    _rate: float
    _burst: int
    _tokens: float
    _at: float | None = None

    def take(self, now: float) -> float:
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now if self._at is None else max(self._at, now)
        # Whoever comes back exactly when told must not be refused for a rounding error in the last bit.
        if self._tokens >= 1 - 1e-9:
            self._tokens = max(0.0, self._tokens - 1)
            return 0.0
        return (1 - self._tokens) / self._rate
