"""Use the ``RateLimit`` headers of responses until they prove wrong twice.

The headers describe a quota: its size, its window, how many requests remain, and the seconds until it resets.

- If the headers name size and window, the quota is kept as a `KnownLimit` is. More requests are sent while
  the headers say that more remain.
- If none remain, nothing is sent before the reset, for at most 60 s. Then one request goes first, alone.
- Headers that always say "none remain" would stop the client. So one request is sent after a second as a
  test. If it is rejected, the headers are right, and the next test is due ten minutes later.
- After two contradictions the headers are ignored for good. A contradiction is a rejected request that they
  allowed, or an accepted one while none remained.
"""

from __future__ import annotations

import math
from bisect import bisect_left

from ruxa_async._api.rate_limit_headers import Quota
from ruxa_async.settings import RateLimit

from .known_limit import KnownLimit

__all__ = ("QuotaState", "ServerHints")

#: Seconds; the headers of an accepted request delay others by no more than this. Those of a 429 may.
_LONGEST_HOLD = 60.0
_MOST_CONTRADICTIONS = 2
#: Seconds from "none remain" to the test: most limits accept one more request by then.
_TEST_DELAY = 1.0
#: Seconds from a rejected test to the next one.
_TEST_INTERVAL = 600.0
#: Requests in flight at first; one more for each accepted one.
_FIRST_IN_FLIGHT = 4
#: Requests; a larger quota is not kept as a `KnownLimit`: the number that remain is enough.
_LARGEST_PACED_QUOTA = 10_000
#: Departure times that are kept at least, to tell which requests were sent after the one of a response.
_REMEMBERED = 256


class QuotaState:
    """One quota as the headers name it, and the requests that count against it. Two scopes may share it.

    *in_flight* requests were sent before; they count as if they were sent *now*.
    """

    def __init__(self, in_flight: int, now: float) -> None:
        self.quota: Quota = Quota()
        #: The quota as a limit; None if the headers name no window, or if it is too large.
        self.limit: KnownLimit | None = None
        self.in_flight: int = in_flight
        self.sent: int = 0
        # Including the request whose response named the quota.
        self._sent_at = [now] * (in_flight + 1)

    def update(self, quota: Quota, now: float) -> None:
        """Keep *quota* from now on. What is used up of it is free again one period from *now*."""
        self.quota, self.limit = quota, None
        if quota.limit is None or quota.per is None or quota.limit > _LARGEST_PACED_QUOTA:
            return
        self.limit = KnownLimit(RateLimit(quota.limit, quota.per, quota.burst))
        size = quota.burst or quota.limit
        for _ in range(size - (size if quota.remaining is None else quota.remaining)):
            self.limit.on_send(now)
            self.limit.on_no_response(now)
        for _ in range(self.in_flight):
            self.limit.on_send(now)

    def names_same(self, quota: Quota) -> bool:
        """Tell whether *quota* has the name, size, window and burst of this one."""
        ours = self.quota
        return (quota.name, quota.limit, quota.per, quota.burst) == (
            ours.name,
            ours.limit,
            ours.per,
            ours.burst,
        )

    def on_send(self, now: float) -> None:
        self.in_flight += 1
        self.sent += 1
        self._sent_at.append(now)
        if len(self._sent_at) > 2 * _REMEMBERED:
            del self._sent_at[:_REMEMBERED]
        if self.limit is not None:
            self.limit.on_send(now)

    def on_no_response(self, now: float) -> None:
        self.in_flight -= 1
        if self.limit is not None:
            self.limit.on_no_response(now)

    def on_not_counted(self, now: float) -> None:
        """Record that a request does not count against the quota: it was rejected, or not sent."""
        self.in_flight -= 1
        if self.limit is not None:
            self.limit.on_not_sent(now)

    def sent_after(self, sent_at: float) -> int:
        """Return how many requests were sent after the one that was sent at *sent_at*."""
        return max(0, len(self._sent_at) - bisect_left(self._sent_at, sent_at) - 1)

    def take_over(self, in_flight: int, now: float) -> None:
        self.in_flight += in_flight
        if self.limit is not None:
            for _ in range(in_flight):
                self.limit.on_send(now)
            for _ in range(-in_flight):
                self.limit.on_no_response(now)


class ServerHints:
    """What the headers of one scope say. *in_flight* requests of the scope are on the wire at first.

    The ``on_`` methods are those of `Limit`.
    """

    def __init__(self, in_flight: int, now: float) -> None:
        self.quota_state: QuotaState = QuotaState(in_flight, now)
        #: Requests that were rejected although allowed, and accepted although none remained.
        self.contradictions: tuple[int, int] = (0, 0)
        self._in_flight = in_flight
        self._max_in_flight = _FIRST_IN_FLIGHT
        # The newest headers: when their request was sent, and how many requests since the start they allow.
        self._stated_at = -math.inf
        self._allowed: int | None = None
        # The service rounds resets to `_resolution` seconds. `_has_long_resets` tells whether one was ever
        # longer: shorter ones are ignored. `_delay` seconds are added to each reset once one proved too
        # early.
        self._has_long_resets = False
        self._resolution = 1.0
        self._delay = 0.0
        # While none remain: until when that is certain, when the next request may be sent, and the reset.
        self._empty_until = self._held_until = self._reset_at = -math.inf
        self._is_hold_cut = False  # the reset is later than the longest hold
        self._ahead_sent_at: float | None = None
        self._test: tuple[float, float] | None = None  # when it was sent, and `_empty_until` then
        self._test_at = self._no_test_before = -math.inf
        self._rejected_at = -math.inf

    @property
    def ignored(self) -> bool:
        """Tell whether the headers were contradicted twice."""
        return sum(self.contradictions) >= _MOST_CONTRADICTIONS

    @property
    def paces(self) -> bool:
        """Tell whether the headers name size and window, so that no limit need be discovered."""
        return self.quota_state.limit is not None and not self.ignored

    @property
    def rate(self) -> float:
        """The requests a second of the quota. Only if `paces` is true."""
        assert self.quota_state.limit is not None
        return self.quota_state.limit.rate

    def share(self, other: ServerHints, quota: Quota, now: float) -> None:
        """Share the quota of *other* if the headers there name the same *quota*, otherwise have one alone."""
        if quota.limit is None:
            return
        if self.quota_state is other.quota_state:
            if not self.quota_state.names_same(quota):
                self.part(now)
        elif other.quota_state.names_same(quota) and not other.ignored:
            self.quota_state = other.quota_state
            self.quota_state.take_over(self._in_flight, now)
            self._allowed = None

    def part(self, now: float) -> None:
        """Leave the shared quota to the other scope, and continue with a copy of it."""
        quota = self.quota_state.quota
        self.quota_state.take_over(-self._in_flight, now)
        self.quota_state = QuotaState(self._in_flight, now)
        self.quota_state.update(quota, now)
        self._allowed = None

    # ---- when

    def ready_at(self, now: float, ready: float, *, is_rate_known: bool) -> float:
        """Return when the next request may be sent, infinity if that depends on a response.

        *ready* is the time that the discovery returns without the headers, *is_rate_known* whether it has
        found a rate.
        """
        if self.ignored:
            return ready
        state = self.quota_state
        held_until = self._empty_until if state.limit is None and is_rate_known else self._held_until
        if held_until > now:
            test_at = max(now, self._test_at)
            return test_at if test_at < self._empty_until and not state.in_flight else held_until
        remaining = self.remaining
        if state.limit is None:
            is_empty = remaining is not None and remaining <= 0 and self._has_long_resets
            return math.inf if is_empty and not is_rate_known and state.in_flight else ready
        if state.in_flight >= self._max_in_flight:
            return math.inf
        if remaining is not None and remaining > 0:
            return now
        paced = state.limit.ready_at(now)
        goes_ahead = self._reset_at > -math.inf and not state.in_flight
        return min(paced, max(now, self._reset_at)) if goes_ahead else paced

    @property
    def remaining(self) -> int | None:
        """How many more requests the newest headers allow, None while they name no number."""
        return None if self._allowed is None else self._allowed - self.quota_state.sent

    def trusted_wait(self, seconds: float) -> float | None:
        """Return the seconds to wait if the headers of a 429 name *seconds*; None if they are ignored."""
        if self.ignored:
            return None
        return min(seconds, _LONGEST_HOLD) if self.contradictions[1] else seconds

    # ---- what happens

    def on_send(self, now: float) -> None:
        if self._empty_until > now:
            self._test = now, self._empty_until
        elif self._reset_at > -math.inf and not self.quota_state.in_flight:
            self._ahead_sent_at = now
        self._in_flight += 1
        self.quota_state.on_send(now)

    def on_accept(self, now: float, *, sent_at: float) -> None:
        self.on_no_response(now)
        self._max_in_flight += 1
        if not self.ignored and self._test is not None and self._test[0] == sent_at:
            if now < self._test[1]:
                self._contradict(accepted=1)
            self._test = None

    def on_reject(self, now: float, *, sent_at: float) -> bool:
        """Note a 429 to the request sent at *sent_at*; return whether the headers explain it.

        Then the discovery does not learn from it.
        """
        is_test = self._test is not None and self._test[0] == sent_at
        remaining, is_paced = self.remaining, self.quota_state.limit is not None
        is_allowed = is_paced or (remaining is not None and remaining >= 0)
        self._in_flight -= 1
        self.quota_state.on_not_counted(now)
        if self.ignored:
            return False
        is_explained = is_paced
        if is_test:
            self._test, is_explained = None, True
            if not self.contradictions[1]:
                self._test_at = self._no_test_before = now + _TEST_INTERVAL
        elif self._ahead_sent_at == sent_at and (self._is_hold_cut or not self._delay):
            self._delay = self._delay if self._is_hold_cut else self._resolution
            is_explained = True
        elif is_allowed and sent_at > self._rejected_at:
            self._contradict(rejected=1)
            self._max_in_flight = 1
        self._rejected_at = now
        return is_explained

    def on_no_response(self, now: float) -> None:
        self._in_flight -= 1
        self.quota_state.on_no_response(now)

    def on_not_sent(self, now: float) -> None:
        self._in_flight -= 1
        self.quota_state.sent -= 1
        self.quota_state.on_not_counted(now)

    def _contradict(self, *, rejected: int = 0, accepted: int = 0) -> None:
        self.contradictions = self.contradictions[0] + rejected, self.contradictions[1] + accepted

    def on_quota(
        self, quota: Quota, now: float, *, sent_at: float, rejected_for: float | None = None
    ) -> None:
        """Note the *quota* in the headers of the response to the request sent at *sent_at*.

        *rejected_for* is the wait in seconds that a 429 names, 0 if it names none; None for other responses.
        """
        is_rejected = rejected_for is not None
        state = self.quota_state
        if quota.limit is not None and not state.names_same(quota):
            state.update(quota, now)
        if quota.remaining is None or sent_at < self._stated_at:
            return  # responses come in any order
        least = (0 if is_rejected else quota.remaining) - state.sent_after(sent_at)
        current = self.remaining
        is_newer, self._stated_at = sent_at > self._stated_at, sent_at
        self._allowed = state.sent + (least if is_newer or current is None else max(current, least))
        if is_newer or rejected_for:  # the wait of a 429 overrules a reset
            self._empty_until = self._held_until = self._reset_at = -math.inf
        if rejected_for:
            self._reset_at = now + rejected_for
        if quota.reset is not None:
            self._resolution = quota.rough
            self._has_long_resets = self._has_long_resets or quota.reset > quota.rough
            if quota.remaining == 0 and not is_rejected:
                self._hold(quota.reset, quota.per, now, sent_at)

    def _hold(self, reset: float, per: float | None, now: float, sent_at: float) -> None:
        """Send nothing for *reset* seconds, since none remain; *per* is the window in seconds."""
        limit = self.quota_state.limit
        if limit is None and not self._has_long_resets:
            return
        wait = min(reset, per or _LONGEST_HOLD, _LONGEST_HOLD)
        self._is_hold_cut = wait < reset
        self._empty_until = sent_at + wait - self._resolution
        self._held_until = self._reset_at = now + wait + self._delay
        self._test_at = max(self._no_test_before, now + _TEST_DELAY)
        if limit is not None and self._empty_until <= limit.ready_at(now) <= self._reset_at:
            # Our own requests used it up, so the `KnownLimit` knows the end more exactly than the rounded
            # reset.
            self._held_until = self._empty_until
