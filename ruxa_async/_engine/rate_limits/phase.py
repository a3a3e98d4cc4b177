"""What each phase of the discovery of a rate limit offers."""

from __future__ import annotations

from typing import Protocol

__all__ = ("FIRST_PAUSE", "Phase", "longer_pause")

#: Seconds; the first pause in a silence.
FIRST_PAUSE = 0.05
#: A pause is this part of the silence so far, and this many seconds at most. A quarter finds the end sooner
#: by a point of the share and costs a point of rejections (benchmarks/random_limits.py).
_GROWTH, _LONGEST = 0.5, 5.0


def longer_pause(pause: float, silence: float) -> float:
    """Return the seconds until the next probe, given the last *pause* and the *silence* so far in seconds."""
    return min(max(pause, silence * _GROWTH), _LONGEST)


class Phase(Protocol):
    """One way to send requests, with what it knows of the limit. Times are in seconds.

    `on_accept` and `on_reject` return the phase that comes next, which is often this one.
    """

    @property
    def rate(self) -> float | None:
        """The requests a second that the limit is thought to accept, None while that is not known."""

    def ready_at(self, now: float) -> float:
        """Return when the next request may leave."""

    def on_send(self, now: float) -> float:
        """Note that a request leaves; return the pace in requests a second, 0 if responses set it."""

    def on_late_accept(self, sent_at: float) -> None:
        """Note that a request was accepted that left before the last rejection was known."""

    def on_accept(self, now: float, sent_at: float) -> Phase:
        """Note that a request that left at *sent_at* was accepted."""

    def on_reject(self, now: float, sent_at: float, retry_after: float, pace: float) -> Phase:
        """Note a 429 to a request that left at *sent_at*, at *pace*; *retry_after* is 0 if it named none."""
