"""How slow is too slow."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import anyio

from ._failures import TooSlowError

__all__ = ("Pace",)

_T = TypeVar("_T")


class Pace:
    """Insist that in each window of so many seconds at least *rate* bytes a second come.

    It may take as long until the answer begins. A window ends early, and the next begins, as soon as it has what it
    needs. Time that our side takes is left out: `excuse`.
    """

    def __init__(self, rate: float, window: float) -> None:
        self._rate = rate
        self._window = window
        self.restart()

    def restart(self) -> None:
        """Begin a window now."""
        self._deadline = anyio.current_time() + self._window
        self._missing = self._rate * self._window

    async def wait(self, coming: Awaitable[_T]) -> _T:
        """Wait for what is *coming* for as long as the window lasts; raise `TooSlowError` if that is not enough."""
        with anyio.CancelScope(deadline=self._deadline):
            return await coming
        raise TooSlowError(f"less than {self._rate:,.10g} bytes a second came for {self._window:g} s")

    def excuse(self, seconds: float) -> None:
        """Leave so many seconds out."""
        self._deadline += seconds

    def count(self, received: int) -> None:
        """Note that so many bytes came."""
        self._missing -= received
        if self._missing <= 0:
            self.restart()
