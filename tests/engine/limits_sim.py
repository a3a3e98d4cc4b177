"""A client that discovers a limit of the emulator, in virtual time.

Everything is determined by its arguments: a client wakes up to 0.4 ms late, as event loops do, by a fixed
sequence.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ruxa_async._engine.rate_limits.discovery import Discovery
from ruxa_async.emulator import Limiter

_SLACK = 1e-9  # rounding errors reject no request
_LATE = 0.0004
_ON_WIRE = 64


class Changing:
    """The state of one limit until *at*, then that of another, to which nothing carries over."""

    def __init__(self, before: Limiter, after: Limiter, at: float) -> None:
        self._before, self._after, self._at = before, after, at

    def take(self, now: float) -> float:
        return (self._before if now < self._at else self._after).take(now)


@dataclass
class Run:
    """The times at which accepted and rejected requests were sent, and the pauses that the service named."""

    discovery: Discovery
    passed: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    forbidden: list[tuple[float, float]] = field(default_factory=list)

    def forbid(self, start: float, end: float) -> None:
        """Note that the service asked at *start* to be left alone until *end*."""
        if self.forbidden and self.forbidden[-1][1] >= start:
            start, before = self.forbidden.pop()
            end = max(before, end)
        self.forbidden.append((start, end))

    @property
    def rejections(self) -> float:
        """The number of rejections for each accepted request."""
        return len(self.refused) / len(self.passed)

    def share(self, fresh: Callable[[], Limiter], start: float = 0.0, end: float = math.inf) -> float:
        """Return the share of the accepted requests in those that the limit allows from *start* to *end*.

        What could have been is what a client gets that knows all, at the same limit, and keeps out of the
        time in which this one was forbidden to come.
        """
        best = self._best(fresh())
        end = min(end, self.passed[-1] + _SLACK)
        return _between(self.passed, start, end) / _between(best, start, end)

    def steady(self, fresh: Callable[[], Limiter]) -> float:
        """Return the share from a fifth to four fifths of the run."""
        end = self.passed[-1]
        return self.share(fresh, 0.2 * end, 0.8 * end)

    def _best(self, limit: Limiter) -> list[float]:
        now, best, closed = 0.0, [], deque(self.forbidden)
        while now <= self.passed[-1]:
            if closed and now >= closed[0][0]:
                now = max(now, closed.popleft()[1])
                continue
            wait = limit.take(now)
            if not wait:
                best.append(now)
            now += wait
        return best


def _between(times: Sequence[float], start: float, end: float) -> int:
    return bisect_left(times, end) - bisect_left(times, start)


def simulate(
    limit: Limiter,
    *,
    rtt: float,
    told: bool = False,
    exactly: bool = False,
    stalls: Sequence[tuple[float, float]] = (),
    count: float = math.inf,
    until: float = math.inf,
) -> Run:
    """Send requests to *limit* until *count* are accepted, or until the time *until*.

    A request arrives half a *rtt* after it left. Where the client is *told* when to come back, it is in whole
    seconds, as in ``Retry-After``, unless *exactly*. Between the two times of each of *stalls*, the event loop
    of the client is blocked.
    """
    discovery, lateness = Discovery(), random.Random(1)
    run = Run(discovery)
    answers: deque[tuple[float, float, float]] = deque()
    now, limiter = 0.0, 0.0
    while len(run.passed) < count and now < until:
        while answers and answers[0][0] <= now:
            _, sent_at, wait = answers.popleft()
            if not wait:
                discovery.on_accept(now, sent_at=sent_at)
                continue
            hint = (wait if exactly else float(math.ceil(wait))) if told else None
            discovery.on_reject(now, hint, sent_at=sent_at)
            if hint:
                limiter = max(limiter, now + hint)
                run.forbid(now, now + hint)
        ready = max(discovery.ready_at(now), limiter) if len(answers) < _ON_WIRE else math.inf
        if ready <= now:
            discovery.on_send(now)
            wait = limit.take(now + rtt / 2)
            (run.refused if wait else run.passed).append(now)
            answers.append((now + rtt, now, wait))
            continue
        woken = min(ready + lateness.random() * _LATE, answers[0][0] if answers else math.inf)
        assert woken < math.inf, "nothing is on the wire, and nothing may leave"
        now = max(now, next((end for start, end in stalls if start <= woken < end), woken))
    return run
