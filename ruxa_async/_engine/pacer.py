"""Keep a limit that was told."""

from __future__ import annotations

import math
from collections import deque

from ruxa_async.settings import RateLimit

__all__ = ("Pacer",)


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
