"""Whether 401 and 403 end the polling of a task.

A firewall answers with 403 too, and must not cost a paid task. So they end it only when several jobs were
denied, for a minute, without a successful request in between.
"""

from __future__ import annotations

import math

__all__ = ("GRACE", "Denial")

#: Seconds from the first denial until denials are final: most firewalls block an address for less.
GRACE = 60.0


class Denial:
    """The denials since the last successful request. Times are in seconds."""

    def __init__(self) -> None:
        self._since = math.inf
        self._first: object = None
        self._is_shared = False

    def on_denied(self, job: object, now: float) -> None:
        """Record that the create or a query of *job* got a 401 or 403."""
        if self._first is None:
            self._since, self._first = now, job
        elif job is not self._first:
            self._is_shared = True

    def on_good(self) -> None:
        """Record that a request succeeded, so the key is valid."""
        if self._first is not None:
            self._since, self._first, self._is_shared = math.inf, None, False

    def is_final(self, now: float) -> bool:
        """Tell whether several jobs were denied, and the denials have lasted at least `GRACE` seconds."""
        return self._is_shared and now - self._since >= GRACE
