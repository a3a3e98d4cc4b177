"""Discover an unknown rate limit, and send at it.

Whatever the shape of a limit, it has one sustainable rate, and two facts bound it. What was accepted between two moments at
which the limiter was empty, over the time between them, is a lower bound. The pace at which a request was rejected is an
upper bound, and so is the length of the silence after it. The pace sweeps from the lower bound to the upper one and beyond,
as TCP CUBIC (RFC 9438) sweeps a congestion window: quickly at first, slowly near the estimate, then faster and faster. A
rejection ends the sweep, the next accepted request measures the rate again, and a new sweep begins.

Nothing is believed for long. Without a rejection the pace grows without bound, by the number of accepted requests that the
estimate does not explain. A silence that the estimate does not explain is an outage the first time and a lower limit the second.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

from .in_flight import InFlight
from .stretch import Stretch

__all__ = ("Discovery",)

#: Requests in flight until the first response.
_FIRST_IN_FLIGHT = 4
#: Requests a second that are tried while nothing is known, at least.
_SLOW_START_RATE = 40.0
#: Seconds; the pause after the first rejection. Later pauses follow the rate.
_FIRST_PAUSE = 0.05
#: A pause in a silence is this part of the silence so far, and this many seconds at most. Half: a quarter finds the end sooner by
#: a point of share and costs two points of rejections.
_PAUSE_GROWTH, _LONGEST_PAUSE = 0.5, 5.0
#: Requests from the lower bound to the estimate, and as seconds at most: one rejection in about twice as many.
_SWEEP, _LONGEST_SWEEP = 100.0, 15.0
#: A sweep lasts this many round trips at least, since responses steer it.
_SWEEP_RTTS = 2.0
#: A sweep dwells at its estimate for this many times the last Retry-After, because a rejection costs one.
_SWEEP_WAITS = 5.0
#: Half the width of a sweep, as a part of the rate: the precision that is not worth a rejection, and that of a guess.
_NARROW, _WIDE = 0.025, 0.5
#: Requests; what one measurement may be wrong by, so also how many accepted in excess are evidence of a higher limit.
_UNCERTAIN = 2.0
#: Requests behind an estimate at most: what is older is forgotten.
_MEMORY = 400.0
#: A sweep that ends within this part of its length began above the rate.
_SHORT = 0.25
#: Bounds that are this many times apart are bisected; closer ones are averaged.
_FAR_APART = 3.0
#: A lower bound below this part of the estimate says that it was too high: no reason to bisect again.
_SUPPORTED = 0.5
#: Seconds beyond one gap; a request that leaves later was not asked for sooner, or the event loop stood still.
_LATE = 0.05
#: Requests; a silence in which this many more should have been accepted bounds the rate from above.
_SILENT = 3.0
#: Requests behind an estimate from which on a silence may be an outage.
_ESTABLISHED = 20.0
#: Requests between two rejections that may be noise: rejected more often, the limit is lower.
_NOISE = 4.0, 50.0
#: Rejections are noise if they are not this many times rarer at this part of the rate, which is then raised by this factor.
_RARER, _LOWERED, _BACK_UP = 1.5, 0.7, 1.2
#: Seconds; one request leaves in this time at least.
_LONGEST_GAP = 60.0
#: What is remembered lies between this and its inverse.
_SENSIBLE = 1e-9


class Discovery:
    """One unknown limit: when the next request may leave, and what each response says of the rate."""

    def __init__(self) -> None:
        #: Requests a second, None before the first estimate.
        self.rate: float | None = None
        self._in_flight = InFlight()
        self._next = -math.inf
        self._recent: deque[float] = deque()  # responses of the last second, until there is an estimate
        self._stretch: Stretch | None = None
        # A rejection: when it was known, and the wait it named. Requests that left before it was known are no news.
        self._known = -math.inf
        self._retry_after = 0.0
        self._last_accepted = self._last_rejected = -math.inf  # departures
        # A silence: one probe in flight, after a pause that grows.
        self._silent = False
        self._silent_since = 0.0
        self._pause = _FIRST_PAUSE
        # What a rested client may send at once, as far as the first burst showed: its count and its seconds.
        self._first_burst, self._first_burst_lasted = 0.0, 0.0
        self._restarting = False
        # The sweep.
        self._weight = 0.0  # requests behind the estimate
        self._width = _WIDE
        self._length = self._plateau = 4.0
        self._sent_above = 0  # accepted at more than twice the rate
        self._progress = 0
        self._boost = 1.0
        self._credit = 0.0
        self._rejections = 0  # since the sweep began, those that are no news too
        self._ended: tuple[float, float] | None = None  # pace and progress at the rejection
        self._shorts = 0
        self._outage = False
        self._reference = 0.0, 0.0  # a rate, and the requests between two rejections at it

    # ---- in and out

    def take_over(self, in_flight: int) -> None:
        """Answer for *in_flight* requests that left before, or for fewer if it is negative."""
        self._in_flight.take_over(in_flight)

    def export(self) -> dict[str, float] | None:
        """Return the rate and the burst for `restored` in a later run, None before the first estimate."""
        return None if self.rate is None else {"rate": self.rate, "burst": self._burst}

    @classmethod
    def restored(cls, known: Mapping[str, float] | None, now: float) -> Discovery:
        """Return one that begins with the rate and burst of an earlier run, and counts on none of its quota.

        Raises KeyError or ValueError for what `export` never returns.
        """
        discovery = cls()
        if known is not None:
            rate, burst = known["rate"], known["burst"]
            if not all(_SENSIBLE < number < 1 / _SENSIBLE for number in (rate, burst)):
                raise ValueError(f"{known!r} is no rate limit")
            discovery._first_burst = burst
            discovery._estimate(rate, weight=_ESTABLISHED, width=2 * _NARROW)
            discovery._begin_sweep(now, now)
        return discovery

    def expected_in_flight(self, now: float) -> float:
        """Return how many requests are accepted in one round trip."""
        rate = self._accepted_lately(now) if self.rate is None else self.rate
        return (self._in_flight.rtt or 0.0) * rate

    @property
    def _burst(self) -> float:
        """How many requests a rested client may send at once."""
        return max(1.0, self._first_burst - (self.rate or 0.0) * self._first_burst_lasted)

    # ---- when

    def ready_at(self, now: float) -> float:
        """Return when the next request may leave; if a response decides, when it is waited for no more."""
        ready = max(now, self._next)
        if self.rate is not None and not self._silent:
            return ready
        most = 1 if self._silent else self._slow_start(now)
        return ready if self._in_flight.awaited < most else max(ready, self._in_flight.overdue_at)

    def _slow_start(self, now: float) -> int:
        """Return how many requests may be in flight before the first estimate: twice what is accepted in a round trip."""
        rtt = self._in_flight.rtt
        if rtt is None:
            return _FIRST_IN_FLIGHT
        return max(1, math.ceil(rtt * max(_SLOW_START_RATE, 2 * self._accepted_lately(now))))

    def _accepted_lately(self, now: float) -> int:
        while self._recent and self._recent[0] <= now - 1:
            self._recent.popleft()
        return len(self._recent)

    def _pace(self) -> float:
        """Return the requests a second of the sweep now."""
        assert self.rate is not None
        n, length, plateau = self._progress, self._length, self._plateau
        guessed = self._weight <= 2 * _SILENT
        if n < length and not guessed:
            return self.rate * (1 - self._width * (1 - n / length) ** 3)
        beyond = min(max(0.0, (n - plateau) / length), 2.0 if guessed else 1.0)
        return self.rate * (1 + self._width * beyond**3) * self._boost

    # ---- what happens

    def on_send(self, now: float) -> None:
        """Note that a request leaves. The next one is due by schedule: lateness is made up for, one request at most."""
        if self._stretch is None:
            self._stretch = Stretch(now)
        if self.rate is not None:
            pace = self._pace()
        else:
            rtt = 0.0 if self._silent else self._in_flight.rtt
            pace = self._slow_start(now) / rtt if rtt else math.inf
        if pace == math.inf:
            self._in_flight.on_send(now, 0.0)
            return
        self._in_flight.on_send(now, pace)
        gap = 1 / pace
        if self.rate is not None and not self._silent:
            late = now - self._next - 1 / self.rate
            self._stretch.began += late if late > _LATE else 0.0  # nothing was asked for
        catch_up = gap if self.rate is None or self._burst > 2 else 0.0
        self._next = max(self._next, now - catch_up) + gap

    def on_accept(self, now: float, *, sent_at: float) -> None:
        """Note that a request that left at *sent_at* was accepted."""
        pace = self._in_flight.on_response(now, sent_at)
        if self._stretch is None:  # it left before this limit was looked for
            return
        silence = max(0.0, self._last_rejected - max(self._silent_since, self._last_accepted))
        self._last_accepted = max(self._last_accepted, sent_at)
        self._stretch.add(sent_at)
        if self.rate is None:
            self._recent.append(now)
            if self._silent and sent_at > self._known:
                self._first_silence_over(now, sent_at)
        elif sent_at > self._known:
            self._accepted(now, sent_at, pace or self.rate, silence)

    def on_reject(self, now: float, retry_after: float | None, *, sent_at: float) -> None:
        """Note a 429 to a request that left at *sent_at*; *retry_after* is in seconds, None if not named."""
        pace = self._in_flight.on_response(now, sent_at)
        self._rejections += 1
        if sent_at <= self._known:
            return  # it left before the last rejection was known
        self._known = now
        self._retry_after = retry_after or 0.0
        self._last_rejected = sent_at
        if self._silent:
            self._still_silent(now, sent_at)
        elif self.rate is None:
            self._slow_start_over(now, sent_at, pace)
        elif self._ended is None:
            self._ended = pace or self._pace(), self._progress
            self._progress, self._boost = 0, 1.0
            self._silent_since, self._pause = sent_at, 1 / self.rate
            self._next = max(now, sent_at + 1 / self.rate)
            self._silent = self._retry_after > 0
        else:
            self._silent = True
            self._still_silent(now, sent_at)

    def on_no_response(self, now: float) -> None:  # noqa: ARG002 - a known limit needs the time
        """Note that a request left and no response will come."""
        self._in_flight.on_no_response()

    def on_not_sent(self, now: float) -> None:  # noqa: ARG002 - a known limit needs the time
        """Note that a request did not leave after all."""
        self._in_flight.on_not_sent()

    # ---- before the first estimate

    def _slow_start_over(self, now: float, sent_at: float, pace: float | None) -> None:
        """Learn that there is a limit. Where it names the wait, slow start once more shows what flowed in meanwhile."""
        stretch = self._stretch or Stretch(sent_at)
        if self._first_burst and stretch.accepted and self._restarting:
            self._estimate_after_wait(now, sent_at, pace, stretch)
            return
        self._first_burst = stretch.accepted
        self._first_burst_lasted = sent_at - stretch.began
        self._restarting = self._retry_after > 0 and stretch.accepted > 0
        if self._restarting:
            self._stretch = Stretch(sent_at)
        self._silent, self._silent_since, self._pause = True, sent_at, _FIRST_PAUSE
        self._next = max(now, sent_at + self._pause)

    def _first_silence_over(self, now: float, sent_at: float) -> None:
        assert self._stretch is not None
        self._silent, self._next = False, now
        if self._restarting:
            return
        if not self._first_burst:  # an outage, or a quota used up by somebody else
            self._stretch = Stretch(sent_at, 1)
            return
        elapsed = max(sent_at - self._stretch.began, _FIRST_PAUSE)
        self._estimate((self._stretch.accepted - 1) / elapsed, weight=1.0, width=_WIDE)
        self._begin_sweep(now, sent_at)

    def _estimate_after_wait(self, now: float, sent_at: float, pace: float | None, stretch: Stretch) -> None:
        """Estimate the rate from what two bursts with a wait between them showed."""
        burst = self._first_burst
        rate = stretch.accepted / max(sent_at - stretch.began, _FIRST_PAUSE)
        proven = (
            stretch.sustained(burst, sent_at) if burst <= _UNCERTAIN or stretch.accepted > 2 * burst else 0.0
        )
        if burst <= _UNCERTAIN and not proven:
            rate = math.sqrt(rate * max(pace or rate, rate))
        self._estimate(max(rate, proven), weight=_UNCERTAIN, width=_WIDE)
        self._begin_sweep(now, sent_at)
        self._silent, self._silent_since, self._pause = self._retry_after > 0, sent_at, 1 / max(rate, proven)
        self._next = max(now, sent_at + self._pause)

    # ---- sweeps

    def _accepted(self, now: float, sent_at: float, pace: float, silence: float) -> None:
        assert self.rate is not None
        assert self._stretch is not None
        self._progress += 1
        self._sent_above += pace > 2 * self.rate
        if self._ended is not None:
            self._measure(sent_at, silence, self._stretch, *self._ended)
            self._begin_sweep(now, sent_at)
        elif self._silent:
            self._silent = False
            self._next = max(self._next, now)
        elif self._stretch.excess(self.rate, sent_at) > _UNCERTAIN + self._credit:
            # What this one request is above the estimate; no faster than double in a round trip.
            above = max(0.0, 1 - self.rate / pace)
            self._boost *= 2.0 ** (above / max(_UNCERTAIN, self._in_flight.count))

    def _still_silent(self, now: float, sent_at: float) -> None:
        self._pause = min(max(self._pause, (sent_at - self._silent_since) * _PAUSE_GROWTH), _LONGEST_PAUSE)
        self._next = max(now, sent_at + self._pause)

    def _measure(
        self, sent_at: float, silence: float, stretch: Stretch, pace: float, progress: float
    ) -> None:
        """Bound the rate by what the sweep that ended at *pace* showed, and estimate it again.

        *silence* is the time in which nothing was accepted although it was asked for.
        """
        assert self.rate is not None
        rate, elapsed = self.rate, max(sent_at - stretch.began, 1e-6)
        if self._is_outage(silence, progress):
            return
        if self._sent_above >= _UNCERTAIN and not self._credit:
            self._first_burst = min(self._first_burst, self._sent_above)
        low = min(max(1, stretch.accepted - 1) / elapsed, max(pace, rate))
        proven = min(
            pace, stretch.sustained(self._first_burst if self._credit else self._burst, self._silent_since)
        )
        if silence:
            flow = (_SILENT + rate * (self._in_flight.rtt or 0.0)) / silence
            pace = max(low, min(pace, flow))
            proven = proven if proven <= max(low, flow) else 0.0
        spacing = progress / max(1, self._rejections)
        if _NOISE[0] <= spacing <= _NOISE[1] and self._is_noise(rate, spacing):
            self._shorts = 0
        elif progress < _SHORT * self._length:
            if spacing < _NOISE[0]:
                self._reference = self._reference[0], self._reference[1] * 0.95
            self._began_too_high(low, pace)
        else:
            self._shorts = 0
            self._combine(max(low, proven), pace, min(progress, _MEMORY))

    def _is_outage(self, silence: float, count: float) -> bool:
        """Tell whether a *silence* after *count* requests is one that an established rate does not explain, once."""
        assert self.rate is not None
        unexplained = silence > max(self._burst, _UNCERTAIN) / self.rate
        established = self._weight + count >= _ESTABLISHED
        again, self._outage = self._outage, unexplained and established and not self._outage
        if again and unexplained:
            self._weight = min(self._weight, _UNCERTAIN)
        return self._outage

    def _is_noise(self, rate: float, count: float) -> bool:
        """Tell whether rejections are as dense at a much lower rate: then something else than the pace causes them."""
        before, dense = self._reference
        if before * _LOWERED <= rate <= before:
            return False
        if rate > before or count > _RARER * dense:
            self._reference = rate, count
            return False
        back = before * _BACK_UP
        self._reference = back, max(count, dense)
        self._estimate(back, weight=self._weight, width=self._width)
        return True

    def _began_too_high(self, low: float, pace: float) -> None:
        """Begin the next sweep lower, by twice as much each time; the first time it may be chance."""
        assert self.rate is not None
        width = min(2 * self._width, _WIDE)
        self._shorts += 1
        if self._shorts > 1:
            self._estimate(max(min(low, pace), pace * (1 - width)), weight=self._weight / 2, width=width)
        self._width = width

    def _combine(self, low: float, pace: float, count: float) -> None:
        """Estimate the rate between *low* and *pace*, which *count* requests showed."""
        assert self.rate is not None
        rate = self.rate
        if pace > _FAR_APART * low and count > _UNCERTAIN and low > _SUPPORTED * rate:
            self._estimate(math.sqrt(low * pace), weight=_UNCERTAIN, width=_WIDE)
            return
        if abs(low / rate - 1) * count > _UNCERTAIN + self._width * count:
            self._weight = min(self._weight, count)  # it contradicts what was known
        if low > 1.5 * rate:
            self._weight = 0.0
        weight = self._weight + count
        found = (rate * self._weight + low * count) / weight
        weight = min(weight, _MEMORY)
        width = max(_NARROW, _UNCERTAIN / weight, abs(found / rate - 1) / 2)
        self._estimate(found, weight=weight, width=min(width, _WIDE))

    def _estimate(self, rate: float, *, weight: float, width: float) -> None:
        self.rate, self._weight, self._width = max(rate, 2 / _LONGEST_GAP), max(weight, 1.0), width

    def _begin_sweep(self, now: float, sent_at: float) -> None:
        """Begin at the lower bound, the limiter having accepted a request that left at *sent_at* after a rejection."""
        assert self.rate is not None
        rate, weight = self.rate, self._weight
        rtts = _SWEEP_RTTS * rate * (self._in_flight.rtt or 0.0)
        self._length = max(2.0, rtts, min(2 * weight, _SWEEP, _LONGEST_SWEEP * rate))
        self._plateau = max(self._length, min(_SWEEP_WAITS * self._retry_after * rate, weight))
        self._stretch = Stretch(sent_at, 1)
        self._progress, self._boost, self._sent_above = 0, 1.0, 0
        self._credit = min(self._burst, rate * self._retry_after)
        self._rejections, self._ended, self._silent = 0, None, False
        self._next = max(self._next, now, sent_at + 1 / self._pace())
