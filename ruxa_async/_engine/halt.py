"""Whether a batch continues after a refused create."""

from __future__ import annotations

from .classify import Refusal

__all__ = ("HaltPolicy",)

#: Refusals with 403 or 404 in a row that halt a batch in which no create was accepted: one may concern its
#: request alone.
_ACCESS_REFUSALS = 3


class HaltPolicy:
    """Decide whether to halt a batch, because the service refuses the account rather than a request.

    A wrong key, an empty account and a service that was never reached halt at once. 403 and 404 halt after
    three in a row, if no create was ever accepted.
    """

    def __init__(self) -> None:
        self._accepted = False
        self._in_a_row = 0

    def on_accept(self) -> None:
        """Note that a create was accepted."""
        self._accepted = True

    def on_refusal(self, why: Refusal) -> bool:
        """Note a refusal; return whether to halt the batch."""
        if why in (Refusal.KEY, Refusal.CREDITS, Refusal.UNREACHABLE):
            return True
        self._in_a_row = self._in_a_row + 1 if why is Refusal.ACCESS else 0
        return self._in_a_row >= _ACCESS_REFUSALS and not self._accepted
