"""The deadlines of exchanges, with one timer for all of them.

aiohttp's total timeout costs a timer and three context managers per request, a tenth of the cost of a request
on loopback. Here an exchange is one dictionary entry, and a single timer is set to the earliest deadline.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final, Protocol

__all__ = ("Deadlines",)

#: seconds until the next attempt to expire an exchange whose connection is still being made
_RETRY: Final = 0.01


class _Expiring(Protocol):
    def expire(self) -> bool:
        """Abort the exchange; return whether that was possible."""


class Deadlines:
    """The deadlines of the exchanges of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: dict[_Expiring, float] = {}
        self._next = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False

    def add(self, exchange: _Expiring, seconds: float) -> None:
        """Expire *exchange* after *seconds*, unless it is removed before."""
        due = self._loop.time() + seconds
        self._due[exchange] = due
        if due < self._next:
            self._set_timer(due)

    def remove(self, exchange: _Expiring) -> None:
        """Remove *exchange*, which has ended."""
        # The timer stays set: most exchanges end long before it fires, and then it finds the next deadline.
        self._due.pop(exchange, None)
        if self._closing:
            self.close()

    def close(self) -> None:
        """Cancel the timer as soon as no exchange is left."""
        self._closing = True
        if self._timer is not None and not self._due:
            self._timer.cancel()
            self._timer, self._next = None, math.inf

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = due
        self._timer = self._loop.call_at(due, self._expire)

    def _expire(self) -> None:
        now = self._loop.time()
        for exchange in [each for each, due in self._due.items() if due <= now]:
            if exchange.expire():
                del self._due[exchange]
        self._next = math.inf
        self._timer = None
        if self._due:
            self._set_timer(max(min(self._due.values()), now + _RETRY))
