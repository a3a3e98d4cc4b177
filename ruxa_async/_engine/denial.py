"""Whether 401 and 403 mean that the account may not ask any more, or pass by like other failures.

A firewall's page is a 403 too, and a task that is paid for must not be dropped for one. So a denial ends the polling of a
task only when denials go on for a while, for more than one request, and nothing else gets a good answer meanwhile.
"""

from __future__ import annotations

import math

__all__ = ("GRACE", "Denial")

#: Seconds from the first denial until tasks end by one: as long as a firewall usually blocks an address.
GRACE = 60.0


class Denial:
    """Remember the denials since the last good answer. Times are in seconds."""

    def __init__(self) -> None:
        self._since = math.inf
        self._first: object = None
        self._is_shared = False

    def on_denied(self, job: object, now: float) -> None:
        """Note that the create or a query of *job* got a 401 or 403."""
        if self._first is None:
            self._since, self._first = now, job
        elif job is not self._first:
            self._is_shared = True

    def on_good(self) -> None:
        """Note that a request got an answer that only the account's owner gets."""
        if self._first is not None:
            self._since, self._first, self._is_shared = math.inf, None, False

    def is_final(self, now: float) -> bool:
        """Tell whether asking again is of no use: several were denied, for at least `GRACE` seconds."""
        return self._is_shared and now - self._since >= GRACE
