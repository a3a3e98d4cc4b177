"""Find an unknown rate limit from accepted and rejected requests, and send at it.

`SlowStart` sends until the first 429. `Silence` then sends single probes, with growing pauses, until one is
accepted. The number accepted before the silence, over the time until its end, is the first estimate of the
rate. The length of the silence shows the kind of limit:

- A token bucket and a minimum interval accept requests that are sent evenly: `PacedSending` sweeps the pace
  around the estimated rate, as TCP CUBIC (RFC 9438) sweeps a congestion window.
- A window of time accepts as many as before at once: `WindowedSending` sends them, and waits for its end.

No estimate is final: without a 429 the pace grows without bound, and a window is tested for more room. A
phase that the responses contradict returns another one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from .in_flight import InFlight
from .paced_sending import PacedSending
from .phase import Phase
from .slow_start import SlowStart

__all__ = ("Discovery",)

#: Requests a second; a rate of an earlier run below this or above its inverse is damaged data.
_LOWEST_REMEMBERED = 1e-9
#: Accepted requests that a rate of an earlier run weighs as much as: so few that new ones soon outweigh it.
_REMEMBERED_WEIGHT = 20.0


class Discovery:
    """The discovery of one `Limit`: the current phase, and the requests in flight."""

    def __init__(self) -> None:
        self._in_flight = InFlight()
        self._phase: Phase = SlowStart(self._in_flight)
        # Rejections of requests that were sent before this count as one with the last rejection.
        self._rejected_at = -math.inf

    def take_over(self, in_flight: int) -> None:
        self._in_flight.take_over(in_flight)

    def export(self) -> dict[str, float] | None:
        """Return the estimated rate, for `restored` in a later run; None before the first estimate."""
        return None if self.rate is None else {"rate": self.rate}

    @classmethod
    def restored(cls, known: Mapping[str, float] | None, now: float) -> Discovery:
        """Return a discovery that begins with the rate that `export` returned in an earlier run.

        Raises KeyError or ValueError for what `export` never returns.
        """
        discovery = cls()
        if known is not None:
            rate = known["rate"]
            if not _LOWEST_REMEMBERED < rate < 1 / _LOWEST_REMEMBERED:
                raise ValueError(f"{known!r} is not a rate limit")
            discovery._phase = PacedSending(
                discovery._in_flight, rate, now, now, weight=_REMEMBERED_WEIGHT, width=0.1
            )
        return discovery

    @property
    def rate(self) -> float | None:
        return self._phase.rate

    def expected_in_flight(self, now: float) -> float:
        """Return how many requests are accepted during one round trip, by the estimated or the last rate."""
        rate = self.rate
        return (self._in_flight.rtt or 0.0) * (self._in_flight.accepted_lately(now) if rate is None else rate)

    def ready_at(self, now: float) -> float:
        """Return when the next request may be sent; if that depends on a response, when it is overdue."""
        return max(now, self._phase.ready_at(now))

    def on_send(self, now: float) -> None:
        self._in_flight.on_send(now, self._phase.on_send(now))

    def on_accept(self, now: float, *, sent_at: float) -> None:
        self._in_flight.on_accept(now, sent_at)
        if sent_at > self._rejected_at:
            self._phase = self._phase.on_accept(now, sent_at)
        else:
            self._phase.on_late_accept(sent_at)

    def on_reject(self, now: float, retry_after: float | None, *, sent_at: float) -> None:
        pace = self._in_flight.on_response(now, sent_at)
        if sent_at > self._rejected_at:
            self._rejected_at = now
            self._phase = self._phase.on_reject(now, sent_at, retry_after or 0.0, pace or 0.0)

    def on_no_response(self, now: float) -> None:  # noqa: ARG002 - see `Limit`
        self._in_flight.on_no_response()

    def on_not_sent(self, now: float) -> None:  # noqa: ARG002 - see `Limit`
        self._in_flight.on_not_sent()

    on_inconclusive = on_not_sent
