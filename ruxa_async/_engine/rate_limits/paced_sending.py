"""Send evenly, at a pace that sweeps around the estimated rate.

A token bucket, a minimum interval and every window of time accept requests that are sent evenly at their
rate. Two facts bound that rate:

- The number accepted between two rejections, over the time between them, is a lower bound. It is exact for a
  token bucket, and too low if requests were sent too slowly.
- The pace at which a request was rejected is an upper bound.

The pace sweeps from the lower bound to the upper bound and beyond, as TCP CUBIC (RFC 9438) sweeps a
congestion window: quickly at first, slowly near the estimate, then faster and faster. A rejection ends the
sweep. The next accepted request measures the rate again and begins a new sweep.
"""

from __future__ import annotations

import math

from .in_flight import InFlight
from .phase import FIRST_PAUSE, longer_pause

__all__ = ("WIDEST", "PacedSending")

#: Half the width of a sweep, as a part of the rate. At least 3 %: a finer search is not worth a rejection. At
#: most 50 %, for an estimate that nothing has confirmed.
_NARROWEST, WIDEST = 0.03, 0.5
#: Accepted requests from the lower bound to the estimate, at most. It leads to one rejection in 100 to 200.
_LONGEST_SWEEP = 100.0
#: A sweep stays at its estimate ten times as long as the Retry-After of its last rejection.
_DWELLS_FOR = 10.0
#: Accepted requests that the estimate averages over, at most.
_MEMORY = 400.0
#: A limit with a burst of at most two requests is treated as a minimum interval.
_LARGEST_INTERVAL_BURST = 2.0
#: Lower and upper bounds of the rate that differ by more than this factor are bisected.
_FAR_APART = 3.0
#: A silence in which the estimated rate allows three requests may be an outage instead.
_UNEXPLAINED = 3.0
#: Accepted requests that a lower rate weighs as much as after a second outage in a row.
_DOUBTED_WEIGHT = 8.0
#: A rejection in the first quarter of a sweep shows that the sweep began above the rate.
_SHORT_SWEEP = 0.25
#: The pace of an unconfirmed estimate doubles with each accepted request, at most this many times.
_MOST_DOUBLINGS = 20
#: Requests a second; the lowest estimate, one request in 30 s.
_LOWEST_RATE = 1 / 30


class PacedSending:
    """Send at a pace that sweeps around *rate*, in requests a second.

    *weight* is the number of accepted requests behind *rate*; at most one makes it a guess. *width* is half
    the width of the sweep, as a part of the rate. *burst* is how many requests the limit accepts at once, as
    far as is known.
    """

    def __init__(
        self,
        in_flight: InFlight,
        rate: float,
        now: float,
        sent_at: float,
        *,
        weight: float = 2.0,
        width: float = WIDEST,
        burst: float = math.inf,
    ) -> None:
        self.rate: float = max(rate, _LOWEST_RATE)
        self._in_flight = in_flight
        self._weight = weight
        self._width = min(max(width, _NARROWEST), WIDEST)
        self._is_interval = burst <= _LARGEST_INTERVAL_BURST
        self._burst = burst if burst < math.inf else 1.0
        self._is_guess = weight <= 1  # the pace doubles with each request
        self._next_at = -math.inf
        self._short_sweeps = 0
        self._was_outage = False
        self._retry_after = 0.0
        self._begin_sweep(now, sent_at)

    def _begin_sweep(self, now: float, sent_at: float) -> None:
        """Begin a sweep at the lower bound. Its first accepted request was sent at *sent_at*."""
        rtt = self._in_flight.rtt or 0.0
        # In accepted requests: the way to the estimate, the stay at the estimate, and the progress so far.
        self._length = max(4.0, min(2 * self._weight, _LONGEST_SWEEP), 2 * self.rate * rtt)
        waits = _DWELLS_FOR * self._retry_after * self.rate
        self._dwell = min(waits, 2 * self._weight) if self._width < 0.1 else 0.0
        self._progress = 0
        # A blocked event loop notices the response late, and sends nothing meanwhile.
        self._began, self._accepted = max(sent_at, now - 2 * rtt), 1
        self._rejection: tuple[float, int] | None = None  # pace and progress at the rejection
        self._silent_since = self._last_rejected = self._pause = 0.0
        self._next_at = max(self._next_at, now, sent_at + 1 / self._pace(now))

    def _pace(self, now: float) -> float:
        """Return the pace now: at most twice what was accepted in the last second, to limit rejections."""
        if self._rejection is not None:
            return self.rate * (1 - self._width)
        if self._is_guess:
            return self._pace_at(self._progress)
        most = 2 * max(self.rate, self._in_flight.accepted_lately(now))
        return min(self._pace_at(self._progress), most)

    def _pace_at(self, progress: float) -> float:
        """Return the pace after *progress* accepted requests: doubled by each for a guess, else cubic."""
        if self._is_guess:
            return self.rate * math.exp2(min(progress, _MOST_DOUBLINGS))
        beyond = progress if progress < self._length else max(self._length, progress - self._dwell)
        return self.rate * (1 + self._width * (beyond / self._length - 1) ** 3)

    def ready_at(self, now: float) -> float:  # noqa: ARG002 - see `Phase`
        if self._rejection is not None and self._retry_after:
            return self._in_flight.ready_at(self._next_at, 1)
        return self._next_at

    def on_send(self, now: float) -> float:
        """Note that a request is sent; unless the limit is an interval, the next makes up for a late one."""
        pace = self._pace(now)
        gap = 1 / pace
        self._leave_out_lateness(now)
        made_up = 0.0 if self._is_interval or self._rejection is not None else gap
        self._next_at = max(self._next_at, now - made_up) + gap
        return pace

    def _leave_out_lateness(self, now: float) -> None:
        """Leave the time since a request could be sent out of the measured time.

        The caller had nothing to send, or the event loop was blocked. `_measure` leaves out a Retry-After.
        """
        late = now - self._next_at - 1 / self.rate
        if late > 0 and (self._rejection is None or not self._retry_after):
            self._began += late

    def on_late_accept(self, sent_at: float) -> None:  # noqa: ARG002 - see `Phase`
        self._accepted += 1

    def on_accept(self, now: float, sent_at: float) -> PacedSending:
        self._accepted += 1
        if self._rejection is None:
            self._progress += 1
        else:
            self._measure(sent_at, *self._rejection)
            self._begin_sweep(now, sent_at)
        return self

    def on_reject(self, now: float, sent_at: float, retry_after: float, pace: float) -> PacedSending:
        self._retry_after = retry_after
        if self._rejection is None:
            self._leave_out_lateness(now)
            self._rejection = pace or self._pace(now), self._progress
            self._silent_since, self._pause = sent_at, 1 / self.rate
        else:
            self._pause = longer_pause(max(self._pause, FIRST_PAUSE), sent_at - self._silent_since)
        self._last_rejected = sent_at
        self._next_at = max(now, sent_at + self._pause)
        return self

    # ---- the estimate

    def _measure(self, sent_at: float, pace: float, progress: int) -> None:
        """Estimate the rate again after a rejection ended a sweep.

        *pace* is the pace that the sweep had reached, *progress* the number of requests accepted in it.
        """
        silence, is_second = self._last_rejected - self._silent_since, self._was_outage
        self._was_outage = silence > _UNEXPLAINED / self.rate and not is_second
        if self._was_outage:  # a second one in a row may be the limit
            return
        count = self._accepted - 1
        if self._is_interval:
            self._bracket(pace, progress, count)
            return
        elapsed = sent_at - self._began
        if self._retry_after:  # while we waited, the bucket was filled, and then took no more tokens
            elapsed -= max(0.0, sent_at - self._silent_since - max(1.0, self._burst) / self.rate)
        self._average(count / max(elapsed, 1e-3), pace, progress, count)
        if is_second and silence > _UNEXPLAINED / self.rate:
            self._weight, self._width = min(self._weight, _DOUBTED_WEIGHT), WIDEST

    def _bracket(self, pace: float, progress: int, count: int) -> None:
        """Bisect between the accepted and the rejected pace: counts do not show the length of an interval."""
        self._weight = min(self._weight + count, _MEMORY)
        if self._is_guess:
            low = 0.0
        elif progress >= 4:
            low = min(self._pace_at(progress / 2), pace)
        else:
            low = min(self.rate * (1 - self._width), pace * (1 - 2 * self._width))
            self._weight = max(1.0, self._weight / 2)
        low = max(low, pace / _FAR_APART)
        self._estimate((low + pace) / 2, (pace - low) / (pace + low))

    def _average(self, low: float, pace: float, progress: int, count: int) -> None:
        """Average the new lower bound *low* into the estimate.

        The new bound counts more if it contradicts the estimate; one far below *pace* is bisected with it.
        """
        before, found, least = self.rate, low, _NARROWEST
        if progress > self._length:  # the estimate was too low: only a higher pace was rejected
            found = (low + pace) / 2
        if pace > _FAR_APART * low and count > 2:
            found, self._weight, least = math.sqrt(low * pace), 0.0, WIDEST
        elif abs(low / before - 1) * count > 2 + self._width * count:
            self._weight = min(self._weight, count / 2)
        weight = self._weight + count
        rate = (before * self._weight + found * count) / weight
        self._weight = min(weight, _MEMORY)
        width = max(least, 2 / self._weight, abs(rate / before - 1) / 2)
        self._short_sweeps = self._short_sweeps + 1 if progress < _SHORT_SWEEP * self._length else 0
        if self._short_sweeps > 1:  # one may be chance
            width = min(WIDEST, max(width, self._width) * 1.5)
            rate, self._weight = min(rate, pace * (1 - width)), self._weight / 2
        self._estimate(rate, width)

    def _estimate(self, rate: float, width: float) -> None:
        self._is_guess = False
        self.rate = max(rate, _LOWEST_RATE)
        self._width = min(max(width, _NARROWEST), WIDEST)
