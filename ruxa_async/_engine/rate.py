"""When the next request of a scope may leave.

A `Gate` stands before everything of one scope ("create" or "query"). A 429 closes it for everyone in it: until the
time that the service named, else for a pause that doubles from half a second. A known `RateLimit` is kept by a
`Pacer`, so that nothing is refused in the first place. A request is told to the gate when it leaves and again when
its answer is in.
"""

from __future__ import annotations

import math
from collections import deque

from ruxa_async.settings import RateLimit

__all__ = ("Gate", "Pacer")

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


class Pacer:
    """Keep a limit of ``count`` requests in any ``per`` seconds, at most ``burst`` of them back to back.

    The service counts a request at some moment between its leaving and its answer. So a place is taken when it
    leaves, and is free again ``per`` seconds after its answer came: however the trip was, the service never sees
    more than ``count`` in ``per``. A burst smaller than that is a bucket of that size, filling with ``count / per``.
    """

    def __init__(self, limit: RateLimit) -> None:
        self._count = limit.count
        self._per = limit.per
        self._bucket = None if limit.burst is None else _Bucket(limit.burst, limit.count / limit.per)
        self._answers: deque[float] = deque()
        self._on_wire = 0

    def ready_at(self, now: float) -> float:
        """Return when the next request may leave, infinity if only an answer can tell."""
        while self._answers and self._answers[0] <= now - self._per:
            self._answers.popleft()
        over = self._on_wire + len(self._answers) - self._count
        if over < 0:
            window = now
        else:
            window = self._answers[over] + self._per if over < len(self._answers) else math.inf
        return window if self._bucket is None else max(window, self._bucket.ready_at(now))

    def sent(self, now: float) -> None:
        """Note that a request leaves."""
        self._on_wire += 1
        if self._bucket is not None:
            self._bucket.take(now)

    def answered(self, now: float) -> None:
        """Note that an answer came, or that none will."""
        self._on_wire -= 1
        self._answers.append(now)

    def unsent(self) -> None:
        """Note that a request did not leave after all. Its place is free again; its token may have spilled over."""
        self._on_wire -= 1


class _Bucket:
    """A bucket of *size* tokens that was full for ever and fills with *rate* a second."""

    def __init__(self, size: int, rate: float) -> None:
        self._size = float(size)
        self._rate = rate
        self._tokens = self._size
        self._at = -math.inf

    def ready_at(self, now: float) -> float:
        missing = 1.0 - self._level(now)
        return now + missing / self._rate if missing > 1e-9 else now

    def take(self, now: float) -> None:
        self._tokens, self._at = self._level(now) - 1.0, now

    def _level(self, now: float) -> float:
        return min(self._size, self._tokens + (now - self._at) * self._rate)


class Gate:
    """Let requests of one scope leave, unless the service said no."""

    def __init__(self, limit: RateLimit | None, *, longest: float = math.inf) -> None:
        self._pacer = Pacer(limit) if limit is not None else None
        self._longest = longest
        self._until = -math.inf
        self._closed_at = -math.inf
        self._pause = _FIRST_PAUSE
        self._on_wire = 0
        # How many may be on the wire at once: any number until the service refuses, then one, and one more for
        # each that is let through, so that a gate that opens does not let a whole pool run into the next refusal.
        self._window = math.inf
        self._shut_since: float | None = None
        self.refusals = 0

    def ready_at(self, now: float) -> float:
        """Return when the next request may leave, infinity if only an answer can tell."""
        if self._on_wire >= self._window:
            return math.inf
        paced = now if self._pacer is None else self._pacer.ready_at(now)
        return max(paced, self._until)

    def closed_for(self, now: float) -> float:
        """Return for how many seconds the service has asked to wait, 0 if it has not."""
        return max(0.0, self._until - now)

    def shut_for(self, now: float) -> float:
        """Return for how many seconds nothing was let through, 0 if the last request was."""
        return 0.0 if self._shut_since is None else now - self._shut_since

    def sent(self, now: float) -> None:
        """Note that a request leaves."""
        self._on_wire += 1
        if self._pacer is not None:
            self._pacer.sent(now)

    def passed(self, now: float) -> None:
        """Note an answer that the limit let through, whatever else it says."""
        self._answered(now)
        self._window += 1
        self._shut_since = None
        if now >= self._until:
            self._pause = _FIRST_PAUSE

    def lost(self, now: float) -> None:
        """Note that a request left and no answer came: nothing is learned of the limit."""
        self._answered(now)

    def unsent(self, now: float) -> None:
        """Note that a request did not leave, and let nothing leave for a growing pause: nobody is there."""
        self._on_wire -= 1
        if self._pacer is not None:
            self._pacer.unsent()
        self._close(now, None, since=now)

    def refused(self, now: float, retry_after: float | None, *, sent_at: float) -> float:
        """Note a 429 to a request that left at *sent_at*; return for how many seconds the gate is closed.

        *retry_after* is what the service asked for in seconds, None or 0 if nothing.
        """
        self._answered(now)
        self.refusals += 1
        self._close(now, retry_after, since=sent_at)
        return self.closed_for(now)

    def _close(self, now: float, retry_after: float | None, *, since: float) -> None:
        self._window = 1
        if self._shut_since is None:
            self._shut_since = now
        if retry_after:
            self._until = max(self._until, now + min(retry_after, self._longest))
        elif since >= self._until:
            # A request that left before the gate last closed brings no news: only others make the pause grow.
            self._until = now + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _answered(self, now: float) -> None:
        self._on_wire -= 1
        if self._pacer is not None:
            self._pacer.answered(now)
