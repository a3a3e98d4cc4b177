"""Send as many requests as a window of time accepts, then wait until they leave the window.

A place in the window is free again one period after its request was sent. That is exact for a sliding
window, and safe for a fixed one. The period is known only between two bounds: the longest wait that was too
short, and the shortest that was long enough. So one probe is sent before each new group of requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .in_flight import InFlight
from .paced_sending import PacedSending
from .phase import FIRST_PAUSE, Phase, longer_pause

__all__ = ("WindowedSending",)

#: Bounds of the period are bisected while they differ by more than 5 %: less is not worth a rejection.
_PRECISION = 0.05
#: Accepted requests until the next test whether the window holds more or, alternately, whether the period is
#: shorter. A test that fails costs a rejection.
_TESTED_EVERY = 60.0
#: The test of the period is a probe this early, as a part of the period.
_EARLY = 0.6
#: A period that looks more than 25 % longer, or a window that holds less than 80 % of the count, may be an
#: outage instead: it is believed if it is seen twice in a row.
_LONGER, _FEWER = 1.25, 0.8


class WindowedSending:
    """Send *count* requests in any *period* seconds; *departures* are the times at which the last ones left.

    *too_short* is the longest period that proved too short, in seconds. Until *count* requests were accepted
    a second time, the limit may also be a token bucket of *burst* tokens that was empty at *rejected_at*.
    *slow_start* returns the next phase if the window holds more.
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
        slow_start: Callable[[InFlight, deque[float], float, WindowedSending], Phase],
    ) -> None:
        self._in_flight = in_flight
        self._departures = departures
        self._count, self._period = count, period
        self._too_short = min(too_short, period)
        self._next_at = now
        self._slow_start = slow_start
        self._rejected_at, self._burst = rejected_at, burst
        self._accepted = self._group = 1  # requests since the silence, and since the last probe
        self._is_confirmed = False  # a test was rejected, so the limit is no bucket
        self._is_closed = False  # between two groups: only the probe may be sent
        self._rejected_probes = 0
        self._rejected_age = 0.0  # of the oldest place, when the last probe was rejected
        self._was_outage = False
        self._is_doubted = False  # a rejection came long before *count* requests were accepted
        self._test_at: float | None = None
        self._test_sent_at: float | None = None
        self._until_test = 0.9 * count  # accepted requests; the first test ends the first group
        self._tests_period = False  # the next test is one of the period, not of the room
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
        """Return when a place in the window is free or, if that is earlier, a test for more room is due."""
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
        """Return the next phase after an accepted test: the window holds more, or the limit is a bucket."""
        if self._accepted < 1.5 * self._count:
            return PacedSending(self._in_flight, self.rate, now, sent_at, burst=self._burst)
        self._add(sent_at)
        return self._slow_start(self._in_flight, self._departures, self._departures[0], self)

    def _end_group(self, now: float, sent_at: float) -> None:
        """Plan a test, one request above the count, if it is due; otherwise close the group."""
        self._is_doubted = False
        free_at = self._departures[0] + self._period
        if free_at - now <= (self._in_flight.rtt or 0.0):  # some of the group are to be sent yet
            return
        gap = self._period / self._count
        test_at = max(now, sent_at + gap)
        if self._until_test <= 0 and self._tests_period:
            self._until_test, self._tests_period = max(_TESTED_EVERY, float(self._count)), False
            self._close(_EARLY)
        elif self._until_test <= 0 and test_at + gap < free_at:
            self._test_at = test_at
        else:
            self._close()

    def _close(self, part: float = 1.0) -> None:
        """Plan a probe after a *part* of the period, halfway between its bounds while they are far apart."""
        self._is_closed, self._rejected_probes, self._rejected_age = True, 0, 0.0
        rough = part == 1 and self._period - self._too_short > _PRECISION * self._period
        wait = (self._too_short + self._period) / 2 if rough else part * self._period
        self._next_at = self._departures[0] + wait

    def _on_probe_accept(self, now: float, sent_at: float) -> None:
        """Learn the period from an accepted probe.

        An overdue response may come in place of the probe's. Its request may be the oldest of all, so the age
        has a lower bound.
        """
        age = max(sent_at - self._departures[0], FIRST_PAUSE) if self._departures else self._period
        self._was_outage = self.is_outage(self._rejected_age) and not self._was_outage
        if not self._was_outage:
            longest = _LONGER * max(self._period, self._rejected_age) if self._rejected_age else self._period
            self._period = min(age, longest)
            if self._period < self._too_short:
                self._too_short = 0.0
        self._begin_group(now, sent_at)

    def is_outage(self, silence: float) -> bool:
        """Return whether a *silence*, in seconds from the oldest departure, is too long for the period."""
        return silence > _LONGER * self._period

    def resume(self, now: float, sent_at: float) -> Phase:
        """Return to this phase after an outage that an accepted request ended."""
        self._was_outage, self._rejected_probes, self._rejected_age = True, 0, 0.0
        self._begin_group(now, sent_at)
        return self

    def _begin_group(self, now: float, sent_at: float) -> None:
        self._is_closed = False
        self._group = 1
        self._next_at = now
        self._add(sent_at)
        self._accepted += 1
        self._until_test -= 1

    def on_reject(self, now: float, sent_at: float, retry_after: float, pace: float) -> Phase:  # noqa: ARG002
        if sent_at == self._test_sent_at:
            self._test_sent_at, self._is_confirmed, self._tests_period = None, True, True
            self._until_test = max(_TESTED_EVERY, float(self._count))
            if self._in_flight.awaited <= 0:
                self._close()
            return self
        if self._is_closed:
            self._on_probe_reject(now, sent_at)
            return self
        if not self._is_confirmed and self._accepted < max(3, self._count / 2):
            return self._as_paced(now, sent_at, self._accepted / max(sent_at - self._rejected_at, 1e-3))
        count = sum(each + self._period > sent_at for each in self._departures)
        if count < _FEWER * self._count and not self._is_doubted:
            self._is_doubted = True  # an outage, unless it comes twice in a row
        else:
            self._count = min(count, self._count)
            self._tests_period = False  # an early probe would find the room that is missing here
        if self._count < 3:
            return self._as_paced(now, sent_at, max(1, self._count) / self._period)
        self._wait_for_end(now, sent_at)
        return self

    def _on_probe_reject(self, now: float, sent_at: float) -> None:
        """Plan the next probe: at the end of the period, later after growing pauses."""
        end = (self._departures[0] if self._departures else sent_at) + self._period
        self._rejected_probes += 1
        self._rejected_age = sent_at - (end - self._period)
        if self._rejected_probes == 1:
            self._too_short = max(self._too_short, min(self._rejected_age, self._period))
            self._next_at = max(now, end)
            return
        self._next_at = max(now, sent_at + longer_pause(_PRECISION * self._period, sent_at - end))

    def _wait_for_end(self, now: float, sent_at: float) -> None:
        """Send nothing until the oldest place is free: the window holds fewer requests than expected."""
        departures = self._departures
        while len(departures) > self._count:
            departures.popleft()
        self._is_closed, self._rejected_probes, self._rejected_age = True, 1, 0.0
        oldest = departures[0] if departures else sent_at
        self._next_at = max(now, oldest + self._period)
        if self._next_at <= now + _PRECISION * self._period:  # the period is longer than expected instead
            self._too_short = max(self._too_short, sent_at - oldest)
            self._period = max(self._period, self._too_short)
            self._next_at = max(now, sent_at + _PRECISION * self._period)

    def _as_paced(self, now: float, sent_at: float, rate: float) -> Phase:
        """Return `PacedSending` at *rate*: a window would have accepted more requests."""
        weight = float(max(1, self._accepted))
        paced = PacedSending(self._in_flight, max(rate, 1e-3), now, sent_at, weight=weight, burst=self._burst)
        return paced.on_reject(now, sent_at, 0.0, 0.0)
