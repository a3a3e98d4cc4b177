"""The interface of everything that decides when the next request of a scope may leave."""

from __future__ import annotations

from typing import Protocol

__all__ = ("RateLimiter",)


class RateLimiter(Protocol):
    """Decide when the next request may leave, from when requests left and what came back. Times are in seconds."""

    def ready_at(self, now: float) -> float:
        """Return when the next request may leave, infinity if only a response can tell."""
        ...

    def on_send(self, now: float) -> None:
        """Note that a request leaves."""
        ...

    def on_accept(self, now: float, *, sent_at: float) -> None:
        """Note that a request that left at *sent_at* was accepted."""
        ...

    def on_reject(self, now: float, retry_after: float | None, *, sent_at: float) -> None:
        """Note a 429 to a request that left at *sent_at*; *retry_after* is in seconds, None if not named."""
        ...

    def on_no_response(self, now: float) -> None:
        """Note that a request left and no response will come."""
        ...

    def on_not_sent(self, now: float) -> None:
        """Note that a request did not leave after all."""
        ...

    def take_over(self, in_flight: int) -> None:
        """Answer for *in_flight* requests that left before, or for fewer if it is negative."""
        ...
