"""The first two phases of a discovery: send until the first 429, then probe until a request is accepted."""

from __future__ import annotations

import math
from collections import deque

from .in_flight import InFlight
from .paced_sending import WIDEST, PacedSending
from .phase import FIRST_PAUSE, Phase, longer_pause
from .windowed_sending import WindowedSending

__all__ = ("Silence", "SlowStart")

#: Requests in flight until the first response: as many are rejected if the quota is used up already.
_FIRST_IN_FLIGHT = 4
#: Requests a second; the lowest pace before the first rejection.
_SLOWEST_START = 40.0
#: The pace is this many times what was accepted in the last second, as in TCP slow start. More costs more
#: rejections at the end, because more are in flight then; less takes longer to reach a high limit.
_GROWTH = 2.0
#: A silence shorter than a quarter of the time since the first request shows a token bucket, not a window.
_SHORT_SILENCE = 0.25
#: Seconds; a shorter silence shows a token bucket too, because no service counts in such short windows.
_SHORTEST_SILENCE = 0.4
#: Departure times that are kept, which bounds memory: a window of more requests is not found.
_KEPT = 2048


class SlowStart:
    """Send twice as many requests a second as were accepted in the last one, until one is rejected.

    *departures* are the times at which accepted requests were sent since *began*, none for a new discovery.
    *window* is the phase before, if its window seems to hold more.
    """

    def __init__(
        self,
        in_flight: InFlight,
        departures: deque[float] | None = None,
        began: float | None = None,
        window: WindowedSending | None = None,
    ) -> None:
        self._in_flight = in_flight
        self._departures = deque[float](maxlen=_KEPT) if departures is None else departures
        self._began = began
        self._window = window
        self._accepted = len(self._departures)
        self._next_at = -math.inf if began is None else began

    @property
    def rate(self) -> None:
        return None

    def ready_at(self, now: float) -> float:
        return self._in_flight.ready_at(self._next_at, self._most_in_flight(now))

    def on_send(self, now: float) -> float:
        if self._began is None:
            self._began = now
        rtt = self._in_flight.rtt
        if not rtt:
            return 0.0
        pace = self._most_in_flight(now) / rtt
        self._next_at = max(self._next_at, now - 1 / pace) + 1 / pace
        return pace

    def on_late_accept(self, sent_at: float) -> None:
        self._accepted += 1
        self._departures.append(sent_at)

    def on_accept(self, now: float, sent_at: float) -> Phase:  # noqa: ARG002 - see `Phase`
        self.on_late_accept(sent_at)
        return self

    def on_reject(self, now: float, sent_at: float, retry_after: float, pace: float) -> Phase:  # noqa: ARG002
        began = sent_at if self._began is None else self._began
        return Silence(
            self._in_flight,
            self._departures,
            accepted=self._accepted,
            began=began,
            now=now,
            sent_at=sent_at,
            retry_after=retry_after,
            window=self._window,
        )

    def _most_in_flight(self, now: float) -> int:
        """Return how many requests may be in flight: the pace times one round trip."""
        rtt = self._in_flight.rtt
        if rtt is None:
            return _FIRST_IN_FLIGHT
        return max(1, math.ceil(rtt * max(_SLOWEST_START, _GROWTH * self._in_flight.accepted_lately(now))))


class Silence:
    """After a 429: send one probe at a time, after growing pauses, until one is accepted.

    *departures* are the times at which requests were sent that were *accepted* since *began*.
    """

    def __init__(
        self,
        in_flight: InFlight,
        departures: deque[float],
        *,
        accepted: int,
        began: float,
        now: float,
        sent_at: float,
        retry_after: float,
        window: WindowedSending | None = None,
    ) -> None:
        self._in_flight = in_flight
        self._departures = departures
        self._accepted = accepted
        self._began = began
        self._accepted_lately = in_flight.accepted_lately(now)
        self._silent_since = self._last_rejected = sent_at
        self._retry_after = retry_after
        self._window = window
        self._pause = FIRST_PAUSE
        self._next_at = max(now, sent_at + self._pause)

    @property
    def rate(self) -> None:
        return None

    def ready_at(self, now: float) -> float:  # noqa: ARG002 - see `Phase`
        return self._in_flight.ready_at(self._next_at, 1)

    def on_send(self, now: float) -> float:  # noqa: ARG002 - see `Phase`
        return 0.0

    def on_late_accept(self, sent_at: float) -> None:
        self._accepted += 1
        self._departures.append(sent_at)

    def on_reject(self, now: float, sent_at: float, retry_after: float, pace: float) -> Phase:  # noqa: ARG002
        self._pause = longer_pause(self._pause, sent_at - self._silent_since)
        self._last_rejected = sent_at
        self._retry_after = retry_after
        self._next_at = max(now, sent_at + self._pause)
        return self

    def on_accept(self, now: float, sent_at: float) -> Phase:
        """Return the phase for the limit that the length of the silence shows."""
        if not self._accepted:  # an outage, or another client used up the quota: begin again
            return SlowStart(self._in_flight, deque([sent_at], _KEPT), sent_at)
        if self._window is not None and self._window.is_outage(self._last_rejected - self._began):
            return self._window.resume(now, sent_at)
        period = max(sent_at - self._began, FIRST_PAUSE)
        before = self._silent_since - self._began
        # If the limit is a token bucket: what was accepted, less the refill until the bucket was empty.
        burst = self._accepted * (1 - before / period)
        if self._accepted <= 2:
            return self._interval(now, sent_at, period)
        is_rounded = self._retry_after == 1.0  # perhaps a millisecond, rounded up to a second
        if is_rounded or sent_at - self._silent_since < max(_SHORT_SILENCE * period, _SHORTEST_SILENCE):
            rate = max(self._accepted / period, self._accepted_lately if before > 1 else 0)
            if before <= 1 and self._last_rejected > self._silent_since and not self._retry_after:
                rate = min(rate, 1 / (sent_at - self._silent_since))  # one request flowed in
            return PacedSending(self._in_flight, rate, now, sent_at, burst=burst)
        return self._as_window(now, sent_at, period, burst)

    def _interval(self, now: float, sent_at: float, period: float) -> Phase:
        """Return the phase for a minimum interval between requests.

        The interval is exact if ``Retry-After`` has fractions of a second. Otherwise it is at most *period*,
        the seconds from the first request to the next accepted one.
        """
        too_short = self._last_rejected - self._began
        if not self._retry_after.is_integer():  # it counts from the rejected request
            period = min(period, too_short + self._retry_after)
            too_short = 0.98 * period
        elif self._retry_after:  # rounded up to a whole second, so no shorter interval is excluded
            too_short = 0.0
        width = min(WIDEST, (period / max(too_short, period / 3) - 1) / 2)
        rate, weight = (1 + width) * self._accepted / period, 1.0 if width > WIDEST / 2 else 4.0
        return PacedSending(self._in_flight, rate, now, sent_at, weight=weight, width=width, burst=1.0)

    def _as_window(self, now: float, sent_at: float, period: float, burst: float) -> Phase:
        """Return the phase for a window of at most *period* seconds."""
        too_short = self._last_rejected - self._began
        if self._retry_after:  # often rounded up to whole seconds
            period = min(period, too_short + self._retry_after)
            too_short = max(too_short, period - 1.0 if self._retry_after.is_integer() else 0.98 * period)
        while len(self._departures) > self._accepted:
            self._departures.popleft()
        return WindowedSending(
            self._in_flight,
            self._departures,
            count=self._accepted,
            period=period,
            too_short=too_short,
            now=now,
            sent_at=sent_at,
            rejected_at=self._silent_since,
            burst=burst,
            slow_start=SlowStart,
        )
