"""When the next request of one scope ("create" or "query") may be sent.

A `ScopeLimiter` combines three reasons to wait, and the longest wait wins:

- **A pause.** The service named a wait (``Retry-After``), or it could not be reached. In the second case the
  pause doubles from 0.5 s to 30 s.
- **The rate limit.** A configured limit is a `KnownLimit`. An unknown one is found by a `Discovery`, unless
  the responses carry ``RateLimit`` headers that describe it (`ServerHints`).
- **The number of requests in flight.** After two rejections in a row at a configured limit, only one request
  may be in flight, and one more for each accepted one, as in TCP slow start.

Report each request when it is sent, and again when its outcome is known. Times are in seconds.
"""

from __future__ import annotations

import math
from typing import Protocol

from ruxa_async.settings import RateLimit

from .discovery import Discovery
from .known_limit import KnownLimit
from .server_hints import ServerHints

__all__ = ("Limit", "ScopeLimiter")

#: Seconds; the pause after the first request that could not be sent, and the longest one (doubled each time).
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
#: Seconds; a wait that a response of the other scope names pauses this scope no longer than this.
_LONGEST_BORROWED_PAUSE = 60.0
#: Requests in flight at first, if a rate is configured without a burst: the real burst may be that small.
_FIRST_IN_FLIGHT = 4


class Limit(Protocol):
    """A rate limit: configured (`KnownLimit`) or discovered (`Discovery`).

    Call `on_send` for each request, and exactly one of the other ``on_`` methods when its outcome is known.
    """

    @property
    def rate(self) -> float | None:
        """The requests a second that the service accepts, None while that is not known."""

    def ready_at(self, now: float) -> float:
        """Return when the next request may be sent, infinity if that depends on a response."""

    def take_over(self, in_flight: int) -> None:
        """Count *in_flight* more requests that were sent before, or fewer if it is negative."""

    def on_send(self, now: float) -> None:
        """Record that a request is sent."""

    def on_accept(self, now: float, *, sent_at: float) -> None:
        """Record that the request sent at *sent_at* was accepted: any response but a 429."""

    def on_reject(self, now: float, retry_after: float | None, *, sent_at: float) -> None:
        """Note a 429 to the request sent at *sent_at*; *retry_after* is in seconds, None if not named."""

    def on_inconclusive(self, now: float) -> None:
        """Note a response that may be about another limit."""

    def on_no_response(self, now: float) -> None:
        """Record that a request was sent and no response will come."""

    def on_not_sent(self, now: float) -> None:
        """Record that no byte of a request was sent."""


class ScopeLimiter:
    """The limiter of one scope, with *configured* limit or with *discovery*.

    A wait that the service names is cut to *longest* seconds. The ``on_`` methods are those of `Limit`.
    """

    def __init__(
        self, configured: RateLimit | None, discovery: Discovery | None = None, *, longest: float = math.inf
    ) -> None:
        self.limit: Limit = (discovery or Discovery()) if configured is None else KnownLimit(configured)
        #: What ``RateLimit`` headers say; None until a response has one, and with a configured limit.
        self.hints: ServerHints | None = None
        self.in_flight: int = 0
        self.rejections: int = 0
        self.ever_accepted: bool = False
        self._longest = longest
        self._paused_until = self._borrowed_until = -math.inf
        self._next_pause = _FIRST_PAUSE
        self._rejecting_since: float | None = None
        # Seconds. With a configured rate without a burst, requests beyond the maximum in flight are sent this
        # far apart, instead of after a response.
        self._interval: float | None = None
        self._max_in_flight = math.inf
        if configured is not None and configured.burst is None:
            self._interval, self._max_in_flight = configured.per / configured.count, _FIRST_IN_FLIGHT
        self._last_sent_at = -math.inf

    # ---- the limit

    @property
    def is_configured(self) -> bool:
        """Whether the user configured the limit."""
        return isinstance(self.limit, KnownLimit)

    @property
    def rate(self) -> float | None:
        """The requests a second that the limit accepts, None while that is not known."""
        hints = self.hints
        return hints.rate if hints is not None and hints.paces else self.limit.rate

    @property
    def has_discovered_rate(self) -> bool:
        """Tell whether requests are sent at a discovered rate, which may be too high and so cause a 429."""
        hints = self.hints
        is_known = self.is_configured or (hints is not None and hints.paces)
        return not is_known and self.limit.rate is not None

    def has_used_up_configured_limit(self, now: float) -> bool:
        """Tell whether a configured limit holds requests back."""
        return isinstance(self.limit, KnownLimit) and self.limit.is_used_up(now)

    def export(self) -> dict[str, float] | None:
        """Return the discovered rate for a later run, None if there is none or the limit is configured."""
        return self.limit.export() if isinstance(self.limit, Discovery) else None

    def ensure_hints(self, now: float) -> ServerHints | None:
        """Return `hints`, which the first call creates; None if the limit is configured."""
        if self.hints is None and not self.is_configured:
            self.hints = ServerHints(self.in_flight, now)
        return self.hints

    def replace_limit(self, limit: Limit) -> None:
        """Use *limit* from now on; it takes over the requests in flight."""
        self.limit.take_over(-self.in_flight)
        limit.take_over(self.in_flight)
        self.limit = limit
        if self.is_configured:
            self.hints = None

    # ---- when

    def ready_at(self, now: float) -> float:
        """Return when the next request may be sent, infinity if that depends on a response."""
        is_full = self.in_flight >= self._max_in_flight
        if is_full and self._interval is None:
            return math.inf
        ready = self.limit.ready_at(now)
        if is_full and self._interval is not None:
            ready = max(ready, self._last_sent_at + self._interval)
        if self.hints is not None:
            ready = self.hints.ready_at(now, ready, is_rate_known=self.limit.rate is not None)
        return max(ready, self._paused_until, self._borrowed_until, now)

    def ready_ignoring_rate(self, now: float) -> float:
        """Return when a request may be sent regardless of the rate limit, infinity if a response decides."""
        if self.in_flight >= self._max_in_flight and self._interval is None:
            return math.inf
        return max(self._paused_until, self._borrowed_until, now)

    def wait(self, now: float) -> float:
        """Return the seconds until the next request may be sent, 0 if that depends on a response."""
        ready = self.ready_at(now)
        return ready - now if ready < math.inf else 0.0

    def is_paused(self, now: float) -> bool:
        """Tell whether this scope pauses because of its own responses, not of the other scope's."""
        return self._paused_until > now

    def paused_for(self, now: float) -> float:
        """Return the seconds that are left of the pause, 0 if there is none."""
        return max(0.0, max(self._paused_until, self._borrowed_until) - now)

    def rejecting_for(self, now: float) -> float:
        """Return the seconds since requests began to be rejected or not sent, 0 if the last was accepted."""
        return 0.0 if self._rejecting_since is None else now - self._rejecting_since

    def pause_like(self, other: ScopeLimiter, now: float) -> None:
        """Pause as long as *other*, a minute at most: if both share a quota, it would reject both."""
        longest = min(self._longest, _LONGEST_BORROWED_PAUSE)
        self._borrowed_until = max(self._borrowed_until, min(other._paused_until, now + longest))

    def end_borrowed_pause(self) -> None:
        """End the pause that `pause_like` began: the two scopes turned out to have a quota each."""
        self._borrowed_until = -math.inf

    # ---- what happens

    def on_send(self, now: float) -> None:
        self.in_flight += 1
        self._last_sent_at = now
        self.limit.on_send(now)
        if self.hints is not None:
            self.hints.on_send(now)

    def hold_back(self) -> None:
        """Note that the request that was just counted waits for the journal before it departs.

        Only a configured limit tells the difference. To a discovered one, the wait is part of the latency.
        """
        if isinstance(self.limit, KnownLimit):
            self.limit.hold_back()

    def on_departure(self, now: float) -> None:
        """Note that a request that was held back departs."""
        if isinstance(self.limit, KnownLimit):
            self.limit.on_departure(now)

    def on_accept(self, now: float, *, sent_at: float) -> None:
        self.in_flight -= 1
        self.limit.on_accept(now, sent_at=sent_at)
        if self.hints is not None:
            self.hints.on_accept(now, sent_at=sent_at)
        self._max_in_flight += 1
        self.ever_accepted = True
        self._rejecting_since = None
        if now >= self._paused_until:
            self._next_pause = _FIRST_PAUSE

    def on_reject(self, now: float, retry_after: float | None, *, sent_at: float) -> None:
        self.in_flight -= 1
        self.rejections += 1
        is_repeated = self._rejecting_since is not None and sent_at >= self._rejecting_since
        if self._rejecting_since is None:
            self._rejecting_since = now
        wait = min(retry_after, self._longest) if retry_after else None
        if self.is_configured:
            self.limit.on_reject(now, wait, sent_at=sent_at)
            if is_repeated:  # a single rejection may be due to uneven latency
                self._reopen_slowly(now, wait, sent_at)
        elif self.hints is not None and self.hints.on_reject(now, sent_at=sent_at):
            self.limit.on_inconclusive(now)
            self._reopen_slowly(now, wait, sent_at)
        else:
            self.limit.on_reject(now, wait, sent_at=sent_at)
        if wait is not None:
            self._paused_until = max(self._paused_until, now + wait)

    def on_cap_reject(self, now: float, retry_after: float | None) -> None:
        """Note a 429 that a cap on running tasks caused; *retry_after* is in seconds, None or 0 if none."""
        self.rejections += 1
        self.on_inconclusive(now)
        if retry_after:
            self._paused_until = max(self._paused_until, now + min(retry_after, self._longest))

    def on_inconclusive(self, now: float) -> None:
        self.in_flight -= 1
        self.limit.on_inconclusive(now)
        if self.hints is not None:
            self.hints.on_no_response(now)

    def on_no_response(self, now: float) -> None:
        self.in_flight -= 1
        self.limit.on_no_response(now)
        if self.hints is not None:
            self.hints.on_no_response(now)

    def on_not_sent(self, now: float) -> None:
        """Record that no byte of a request was sent, and pause, because the service cannot be reached."""
        self.in_flight -= 1
        self.limit.on_not_sent(now)
        if self.hints is not None:
            self.hints.on_not_sent(now)
        self._reopen_slowly(now, None, now)

    def _reopen_slowly(self, now: float, wait: float | None, sent_at: float) -> None:
        """Allow one request in flight, and pause unless the service named a *wait* in seconds."""
        self._max_in_flight, self._interval = 1, None
        if self._rejecting_since is None:
            self._rejecting_since = now
        if wait is None and sent_at >= self._paused_until:  # only requests sent after the last pause
            self._paused_until = now + self._next_pause
            self._next_pause = min(2 * self._next_pause, _LONGEST_PAUSE)
