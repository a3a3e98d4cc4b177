"""The interface of the phases of a discovery, and the pauses between probes in all of them."""

from __future__ import annotations

from typing import Protocol

__all__ = ("FIRST_PAUSE", "Phase", "longer_pause")

#: Seconds; the pause between a rejected request and the first probe after it.
FIRST_PAUSE = 0.05
#: A pause is half of the silence so far, and 5 s at most (exponential backoff). A quarter of the silence
#: gives 1 % more throughput and 1 % more rejections (benchmarks/random_limits.py).
_GROWTH, _LONGEST = 0.5, 5.0


def longer_pause(pause: float, silence: float) -> float:
    """Return the seconds until the next probe; the last *pause* and the *silence* so far are in seconds."""
    return min(max(pause, silence * _GROWTH), _LONGEST)


class Phase(Protocol):
    """One phase of a discovery: when requests are sent, and what is known of the limit. Times are in seconds.

    `on_accept` and `on_reject` return the next phase, which is often the same one.
    """

    @property
    def rate(self) -> float | None:
        """The estimated rate in requests a second, None while there is no estimate."""

    def ready_at(self, now: float) -> float:
        """Return when the next request may be sent."""

    def on_send(self, now: float) -> float:
        """Record that a request is sent; return the pace in requests a second, 0 if it has none.

        A phase that waits for responses has no pace.
        """

    def on_late_accept(self, sent_at: float) -> None:
        """Record that a request was accepted that was sent before the last rejection was known."""

    def on_accept(self, now: float, sent_at: float) -> Phase:
        """Record that the request sent at *sent_at* was accepted."""

    def on_reject(self, now: float, sent_at: float, retry_after: float, pace: float) -> Phase:
        """Note a 429 to the request sent at *sent_at* and *pace*; *retry_after* is 0 if not named."""
