"""The clocks of a client: the event loop's for decisions, the wall clock for records."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio

__all__ = ("Clock",)

#: Seconds. Wall clock and monotonic clock drift apart by more only if the wall clock is set.
_CLOCK_STEP = 1.0


class Clock:
    """Read the event loop's clock, and convert its instants to seconds since the epoch."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        #: The event loop's clock in seconds. `open` binds it: to look it up costs more than to read it.
        self.now: Callable[[], float] = anyio.current_time
        self._read_wall = wall
        self._read_monotonic = monotonic
        #: Seconds from the event loop's clock to the wall clock when the client opened.
        self._wall_offset = 0.0
        #: Seconds from the monotonic clock to the wall clock when the client opened.
        self._monotonic_offset = 0.0
        #: Seconds by which the wall clock was set since then, or for which the machine slept.
        self._step = 0.0

    def open(self) -> None:
        """Bind the running loop's clock, and measure its distance from the wall clock."""
        try:
            self.now = asyncio.get_running_loop().time
        except RuntimeError:
            self.now = anyio.current_time
        wall = self._read_wall()
        self._wall_offset = wall - self.now()
        self._monotonic_offset = wall - self._read_monotonic()

    def wall(self, at: float) -> float:
        """Return the instant *at* of the event loop's clock in seconds since the epoch.

        When the wall clock is set while the client is open, past instants move with it, so that no duration
        changes.
        """
        step = self._read_wall() - self._read_monotonic() - self._monotonic_offset
        if abs(step - self._step) > _CLOCK_STEP:
            self._step = step
        return self.steady(at) + self._step

    def wall_now(self) -> float:
        """Return the current time in seconds since the epoch."""
        return self.wall(self.now())

    def steady(self, at: float) -> float:
        """Return *at* in seconds since the epoch, by the wall clock as it was set when the client opened."""
        return at + self._wall_offset
