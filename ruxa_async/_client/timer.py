"""A sleep that others may cut short: one task waits for an instant, and whoever knows of an earlier one says so.

On asyncio this is a future and a timer of the loop. A cancel scope with a deadline does the same anywhere, and costs
four times as much.
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
        """Wait until *due*, or until an earlier instant that `bring_forward` names meanwhile."""
        ...

    def bring_forward(self, due: float) -> None:
        """See that whoever sleeps is woken at *due*, if that is earlier than what was asked for."""
        ...


def make_timer() -> Timer:
    """Return an alarm for the event loop that runs."""
    try:
        return _LoopTimer(asyncio.get_running_loop())
    except RuntimeError:
        return _ScopeTimer()


class _LoopTimer:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due = math.inf
        self._sleeper: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def sleep_until(self, due: float) -> None:
        self._due = due
        self._sleeper = self._loop.create_future()
        self._set_timer()
        try:
            await self._sleeper
        finally:
            self._sleeper = None
            self._set_timer()

    def bring_forward(self, due: float) -> None:
        if due < self._due:
            self._due = due
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sleeper is not None and self._due < math.inf:
            self._timer = self._loop.call_at(self._due, self._ring)

    def _ring(self) -> None:
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
