"""The end of exchanges that take too long, by one timer for all of them.

aiohttp's total time-out is a timer and three context managers for each request: a tenth of what a request costs on
loopback. Here an exchange is one entry in a dict, and the one timer stands at the earliest deadline.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final, Protocol

__all__ = ("Deadlines",)

#: An exchange that cannot be ended yet, because its connection is being made, is tried again after so many seconds.
_AGAIN: Final = 0.01


class _Expiring(Protocol):
    def expire(self) -> bool:
        """End, and tell whether that could be done."""
        ...


class Deadlines:
    """The deadlines of the exchanges of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._under_way: dict[_Expiring, float] = {}
        self._next = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False

    def add(self, exchange: _Expiring, seconds: float) -> None:
        """Expire *exchange* in so many *seconds*, unless it is removed before."""
        due = self._loop.time() + seconds
        self._under_way[exchange] = due
        if due < self._next:
            self._set_timer(due)

    def remove(self, exchange: _Expiring) -> None:
        """Let *exchange* be; it is over."""
        # The timer stays: most exchanges are over long before it, and it finds out by itself what is due next.
        self._under_way.pop(exchange, None)
        if self._closing:
            self.close()

    def close(self) -> None:
        """Leave no timer behind once nothing is under way any more."""
        self._closing = True
        if self._timer is not None and not self._under_way:
            self._timer.cancel()
            self._timer, self._next = None, math.inf

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = due
        self._timer = self._loop.call_at(due, self._expire)

    def _expire(self) -> None:
        now = self._loop.time()
        for exchange in [each for each, due in self._under_way.items() if due <= now]:
            if exchange.expire():
                del self._under_way[exchange]
        self._next = math.inf
        self._timer = None
        if self._under_way:
            self._set_timer(max(min(self._under_way.values()), now + _AGAIN))
