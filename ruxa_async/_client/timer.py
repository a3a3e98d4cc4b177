"""A timer on which one task sleeps, and which other tasks can bring forward.

On asyncio it is a future and a timer handle of the loop. Elsewhere it is a cancel scope with a deadline,
which would cost four times as much on asyncio.
"""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

import anyio

__all__ = ("Timer", "make_timer")


class Timer(Protocol):
    """Sleep until an instant of the event loop's clock, in seconds. One task at a time may sleep."""

    async def sleep_until(self, due: float) -> None:
        """Wait until *due*, or until an earlier instant given to `bring_forward`."""

    def bring_forward(self, due: float) -> None:
        """Wake the sleeping task at *due* if that is earlier than its own instant."""


def make_timer() -> Timer:
    """Return a timer for the running event loop."""
    try:
        return _LoopTimer(asyncio.get_running_loop())
    except RuntimeError:
        return _ScopeTimer()


class _LoopTimer:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due = math.inf
        self._sleeper: asyncio.Future[None] | None = None
        self._handle: asyncio.TimerHandle | None = None

    async def sleep_until(self, due: float) -> None:
        self._due = due
        self._sleeper = self._loop.create_future()
        self._schedule()
        try:
            await self._sleeper
        finally:
            self._sleeper = None
            self._schedule()

    def bring_forward(self, due: float) -> None:
        if due < self._due:
            self._due = due
            self._schedule()

    def _schedule(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._sleeper is not None and self._due < math.inf:
            self._handle = self._loop.call_at(self._due, self._wake)

    def _wake(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)


class _ScopeTimer:
    def __init__(self) -> None:
        self._due = math.inf
        self._scope: anyio.CancelScope | None = None

    async def sleep_until(self, due: float) -> None:
        self._due = due
        with anyio.CancelScope(deadline=due) as self._scope:
            await anyio.sleep_forever()

    def bring_forward(self, due: float) -> None:
        if due < self._due:
            self._due = due
            if self._scope is not None:
                self._scope.deadline = due
