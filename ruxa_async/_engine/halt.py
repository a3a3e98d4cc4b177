"""Whether a batch can go on after a refusal."""

from __future__ import annotations

from .classify import Refusal

__all__ = ("HaltPolicy",)

_IN_A_ROW = 3


class HaltPolicy:
    """Say stop when the account, not the request, is what the service refuses.

    A wrong key, an empty account or a service that was never reached stops at once. 403 and 404 may be about one request; three in a row while
    nothing was ever accepted are about all of them.
    """

    def __init__(self) -> None:
        self._accepted = False
        self._in_a_row = 0

    def on_accept(self) -> None:
        """Note that the service took a create."""
        self._accepted = True

    def on_refusal(self, why: Refusal) -> bool:
        """Note a refusal; return whether nothing more should be sent."""
        if why in (Refusal.KEY, Refusal.CREDITS, Refusal.UNREACHABLE):
            return True
        self._in_a_row = self._in_a_row + 1 if why is Refusal.ACCESS else 0
        return self._in_a_row >= _IN_A_ROW and not self._accepted
