"""The account of a draw: the emulator's limiter and its disturbances."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import attrs
from attrs import frozen

from benchmarks._draws import Draw, Hint
from ruxa_async.emulator import Durations, EmulatorSettings, RetryAfterForm, Service, ServiceReply
from ruxa_async.emulator._http import Incoming
from ruxa_async.emulator._limit_state import LimitState

__all__ = ("KEY", "Account", "Quota")

KEY = "sk-emulated"
_FORMS: Mapping[Hint, RetryAfterForm] = {
    "none": "none",
    "seconds": "seconds",
    "exact": "ms",
    "rounded up": "ms",
}
_HINTS = ("retry-after", "retry-after-ms")


class Quota:
    """The requests that a draw's account accepts.

    *clock_at_start* is the service's clock at the start, None: at the first request.

    The other client goes first: it sends its requests in groups, and while any of them wait, it takes every
    request that the limit accepts. So it takes the same from an ideal client as from any other.
    """

    def __init__(self, draw: Draw, clock_at_start: float | None = 0.0) -> None:
        self.draw = draw
        self._start = clock_at_start
        self._limiter: LimitState | None = draw.limit.limiter() if draw.limit else None
        self._chance = random.Random(f"another client/{draw.seed}")
        self._waiting = 0.0  # requests of the other client
        self._served_at = math.inf
        self._group_at = math.inf
        if draw.taken:
            self._group_at = self._pause()
        if draw.used_up and self._limiter:
            while not self._limiter.take(0.0):
                pass

    def since_start(self, clock: float) -> float:
        """Return the seconds since the start when the service's clock reads *clock*."""
        if self._start is None:
            self._start = clock - self.draw.rtt / 2
        return clock - self._start

    def in_storm(self, clock: float) -> bool:
        """Return whether a storm rejects every request."""
        storm = self.draw.storm
        return storm is not None and storm[0] <= self.since_start(clock) < storm[1]

    def take(self, clock: float) -> float:
        """Accept a request and return 0, or return the seconds until one would be accepted."""
        wait = self.wait(clock)
        if not wait and self._limiter:
            self._limiter.take(self.since_start(clock))
        return wait

    def wait(self, clock: float) -> float:
        """Return what `take` would, and accept nothing."""
        now = self.since_start(clock)
        if self.draw.storm and self.in_storm(clock):
            return self.draw.storm[1] - now
        if self._limiter is None:
            return 0.0
        self._serve_other(now, self._limiter)
        return self._limiter.wait(now)

    def _serve_other(self, now: float, limiter: LimitState) -> None:
        """Accept what the other client has sent until *now*."""
        while min(self._group_at, self._served_at) <= now:
            if self._group_at <= self._served_at:
                begun, self._group_at = self._group_at, self._group_at + self._pause()
                if self._waiting >= 1 and self._served_at == math.inf:
                    self._served_at = begun
                continue
            wait = limiter.take(self._served_at)
            self._served_at += wait
            if not wait:
                self._waiting -= 1
                self._served_at = self._served_at if self._waiting >= 1 else math.inf

    def _pause(self) -> float:
        """Return the seconds until the next group, and add to it the requests for that time."""
        pause = self._chance.expovariate(1 / self.draw.gap)
        self._waiting += self.draw.taken * self.draw.rate * pause
        return pause


class Account(Service):
    """The emulated service with the quota of a draw, and Retry-After in the form of the draw."""

    def __init__(self, draw: Draw, clock_at_start: float | None = 0.0, *, latency: float = 0.0) -> None:
        self.quota = Quota(draw, clock_at_start)
        lasting = Durations(draw.duration, 0.0)
        super().__init__(
            EmulatorSettings(
                key=KEY,
                image=lasting,
                video=lasting,
                creates=_QuotaLimit(self.quota),
                shared=draw.shared,
                max_running=draw.cap,
                retry_after=_FORMS[draw.hint],
                latency=latency,
            )
        )

    def handle(self, request: Incoming, now: float) -> ServiceReply:
        """Reply to *request*; in a storm without Retry-After."""
        reply = super().handle(request, now)
        if reply.status != 429 or not (hints := [name for name in _HINTS if name in reply.headers]):
            return reply
        headers = {name: value for name, value in reply.headers.items() if name not in hints}
        if self.quota.in_storm(now):
            return attrs.evolve(reply, headers=headers)
        if self.quota.draw.hint == "rounded up":
            milliseconds = int(reply.headers["retry-after-ms"])
            return attrs.evolve(reply, headers={**headers, "retry-after": str(milliseconds // 1000 + 1)})
        return reply


@frozen
class _QuotaLimit:
    """A limit whose state is *quota*."""

    quota: Quota

    @property
    def allowance(self) -> int:
        return self.quota.draw.burst

    def limiter(self) -> Quota:
        return self.quota
