"""When a refused create halts its batch."""

from __future__ import annotations

from .classify import Refusal

__all__ = ("HaltPolicy",)

#: Refusals with 403 or 404 in a row that halt a batch without an accepted create. A single one may concern
#: its request alone.
_ACCESS_REFUSALS = 3


class HaltPolicy:
    """Halt a batch when every further create would be refused too.

    A wrong key, missing credits and a service that was never reached halt it at once. 403 and 404 halt it
    after three in a row, if no create of the batch was accepted.
    """

    def __init__(self) -> None:
        self._accepted = False
        self._in_a_row = 0

    def on_accept(self) -> None:
        self._accepted = True

    def on_refusal(self, why: Refusal) -> bool:
        """Note a refusal; return whether to halt the batch."""
        if why in (Refusal.KEY, Refusal.CREDITS, Refusal.UNREACHABLE):
            return True
        self._in_a_row = self._in_a_row + 1 if why is Refusal.ACCESS else 0
        return self._in_a_row >= _ACCESS_REFUSALS and not self._accepted
