"""Send as many requests as a window of time accepts, then wait for its end.

A place in the window is free again one period after its request was sent. That is exact for a sliding
window, and safe for a fixed one. The period is known only between two bounds: a wait that was too short and
one that was enough. So a single probe is sent at the end of a window, before the next group of requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .in_flight import InFlight
from .paced_sending import PacedSending
from .phase import FIRST_PAUSE, Phase, longer_pause

__all__ = ("WindowedSending",)

#: Bounds of the period that differ by less than this part of it are not bisected: that is not worth a
#: rejection.
_PRECISION = 0.05
#: Requests until the next test for more room. A test that fails costs a rejection.
_TESTED_EVERY = 60.0


class WindowedSending:
    """*count* requests in any *period* seconds; *departures* are the times at which the last ones were sent.

    *too_short* is the longest wait for the end of the window that was not enough, in seconds. Until *count*
    requests were accepted a second time, the limit may also be a token bucket of *burst* tokens that was
    empty at *rejected_at*. *slow_start* makes the next phase if there is more room.
    """

    def __init__(
        self,
        in_flight: InFlight,
        departures: deque[float],
        *,
        count: int,
        period: float,
        too_short: float,
        now: float,
        sent_at: float,
        rejected_at: float,
        burst: float,
        slow_start: Callable[[InFlight, deque[float], float], Phase],
    ) -> None:
        self._in_flight = in_flight
        self._departures = departures
        self._count, self._period = count, period
        self._too_short = min(too_short, period)
        self._next_at = now
        self._slow_start = slow_start
        self._rejected_at, self._burst = rejected_at, burst
        self._accepted = self._group = 1  # since the silence; since the last probe
        self._is_confirmed = False  # a test was rejected, so the limit is no bucket
        self._is_closed = False  # between two groups, while the probe is due or in flight
        self._rejected_probes = 0
        self._was_outage = False
        self._test_at: float | None = None
        self._test_sent_at: float | None = None
        self._until_test = 0.9 * count  # requests; the first test is at the end of the first group
        self._add(sent_at)

    @property
    def rate(self) -> float:
        return self._count / self._period

    # ---- when

    def ready_at(self, now: float) -> float:
        if self._is_closed:
            return self._in_flight.ready_at(self._next_at, 1)
        ready = max(self._next_at, self._free_at(now))
        return self._in_flight.ready_at(ready, self._group)

    def _free_at(self, now: float) -> float:
        """Return when a place is free or the next test is due."""
        departures, awaited = self._departures, self._in_flight.awaited
        excess = awaited + len(departures) - self._count
        if excess < 0:
            return now
        if excess >= len(departures):
            return self._in_flight.overdue_at
        free_at = departures[excess] + self._period
        return min(free_at, self._test_at) if self._test_at is not None and not awaited else free_at

    def on_send(self, now: float) -> float:
        if self._test_at is not None and now >= self._test_at:
            self._test_at, self._test_sent_at = None, now
        return 0.0

    # ---- what happens

    def on_late_accept(self, sent_at: float) -> None:
        self._departures.append(sent_at)

    def on_accept(self, now: float, sent_at: float) -> Phase:
        if self._is_closed:
            self._on_probe_accept(now, sent_at)
            return self
        if sent_at == self._test_sent_at:
            return self._on_test_accept(now, sent_at)
        self._add(sent_at)
        self._accepted += 1
        self._group += 1
        self._until_test -= 1
        if self._in_flight.awaited <= 0 and len(self._departures) >= self._count:
            self._end_group(now, sent_at)
        return self

    def _add(self, sent_at: float) -> None:
        departures = self._departures
        while departures and departures[0] + self._period <= sent_at + 1e-9:
            departures.popleft()
        departures.append(sent_at)

    def _on_test_accept(self, now: float, sent_at: float) -> Phase:
        """Return the phase after an accepted test: the window holds more, or the limit is a bucket."""
        if self._accepted < 1.5 * self._count:
            return PacedSending(self._in_flight, self.rate, now, sent_at, burst=self._burst)
        self._add(sent_at)
        return self._slow_start(self._in_flight, self._departures, self._departures[0])

    def _end_group(self, now: float, sent_at: float) -> None:
        """Send one request above the known count if that test is due, else wait for the end of the window."""
        gap = self._period / self._count
        test_at = max(now, sent_at + gap)
        if self._until_test <= 0 and test_at + gap < self._departures[0] + self._period:
            self._test_at = test_at
        else:
            self._close(now)

    def _close(self, now: float) -> None:
        """Plan a probe for the end of the window, or halfway between its bounds if they are far apart."""
        oldest = self._departures[0]
        if oldest + self._period - now > (self._in_flight.rtt or 0.0):
            self._is_closed, self._rejected_probes = True, 0
            rough = self._period - self._too_short > _PRECISION * self._period
            self._next_at = oldest + ((self._too_short + self._period) / 2 if rough else self._period)

    def _on_probe_accept(self, now: float, sent_at: float) -> None:
        """Learn the period from the probe that was accepted.

        An overdue response may come instead. Its request may be the oldest of all, so the age has a lower
        bound.
        """
        age = max(sent_at - self._departures[0], FIRST_PAUSE) if self._departures else self._period
        self._was_outage = self._rejected_probes > 0 and age > 2 * self._period and not self._was_outage
        if not self._was_outage:
            self._period = age if self._rejected_probes else min(self._period, age)
        self._is_closed = False
        self._group = 1
        self._next_at = now
        self._add(sent_at)
        self._accepted += 1
        self._until_test -= 1

    def on_reject(self, now: float, sent_at: float, retry_after: float, pace: float) -> Phase:  # noqa: ARG002
        if sent_at == self._test_sent_at:
            self._test_sent_at, self._is_confirmed = None, True
            self._until_test = max(_TESTED_EVERY, float(self._count))
            if self._in_flight.awaited <= 0:
                self._close(now)
            return self
        if self._is_closed:
            self._on_probe_reject(now, sent_at)
            return self
        if not self._is_confirmed and self._accepted < max(3, self._count / 2):
            return self._as_paced(now, sent_at, self._accepted / max(sent_at - self._rejected_at, 1e-3))
        self._count = min(self._count, sum(each + self._period > sent_at for each in self._departures))
        if self._count < 3:
            return self._as_paced(now, sent_at, self._count / self._period)
        self._wait_for_end(now, sent_at)
        return self

    def _on_probe_reject(self, now: float, sent_at: float) -> None:
        """Plan the next probe: once at the end of the window, then after growing pauses."""
        end = (self._departures[0] if self._departures else sent_at) + self._period
        self._rejected_probes += 1
        if self._rejected_probes == 1:
            waited = sent_at - (end - self._period)
            self._too_short = max(self._too_short, min(waited, self._period))
            self._next_at = max(now, end)
            return
        self._next_at = max(now, sent_at + longer_pause(_PRECISION * self._period, sent_at - end))

    def _wait_for_end(self, now: float, sent_at: float) -> None:
        """Wait until the oldest place is free, since the window holds fewer than expected."""
        departures = self._departures
        while len(departures) > self._count:
            departures.popleft()
        self._is_closed, self._rejected_probes = True, 1
        self._next_at = max(now, departures[0] + self._period)
        if self._next_at <= now + _PRECISION * self._period:  # too early, not too many
            self._too_short = max(self._too_short, sent_at - departures[0])
            self._period = max(self._period, self._too_short)
            self._next_at = max(now, sent_at + _PRECISION * self._period)

    def _as_paced(self, now: float, sent_at: float, rate: float) -> Phase:
        """Return paced sending: fewer requests were accepted than a window accepts again."""
        weight = float(max(1, self._accepted))
        paced = PacedSending(self._in_flight, max(rate, 1e-3), now, sent_at, weight=weight, burst=self._burst)
        return paced.on_reject(now, sent_at, 0.0, 0.0)
