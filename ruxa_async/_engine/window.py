"""Run at a limit of so many requests in so long a time, both of which are guesses.

The guess is kept as a known limit would be. After each wait one request goes ahead, and the rest follow only when
it was let through. A guess that is refused was too short a time: people choose times like 1, 10 or 60 seconds, so
the next of these is tried, unless the time had served before: then it is the count that fell. Now and then one request more than the guess is tried, for limits grow; when it is let
through, two more are, then four.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from attrs import frozen

from ruxa_async.settings import RateLimit

from .pacer import Pacer

__all__ = ("Opening", "Window", "likely_window", "next_window", "shortest_window")

#: One more, or a shorter time, is tried after so many: a third of the one refusal in a hundred that all may cost.
_TRIED_AFTER = 300
#: A trial that costs a wait is worth it after what leaves in so many such waits.
_WORTH_A_WAIT = 20
_WRONG_AT_MOST = 3
_MARKEDLY_LESS = 0.9
#: Seconds by which a request may be counted later than trips of the same length would have it.
_JITTER = 2e-3
#: Times that people choose, in seconds.
_TIMES = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 300.0, 600.0, 3600.0)


def likely_window(shortest: float, longest: float) -> float:
    """Return the longest time that people choose in (*shortest*, *longest*], *longest* if there is none."""
    return max((time for time in _TIMES if shortest < time <= longest * 1.02), default=longest)


def next_window(too_short: float) -> float:
    """Return the shortest time that people choose above *too_short*, infinity if there is none."""
    return next((time for time in _TIMES if time > too_short), math.inf)


def shortest_window(too_short: float, enough: float) -> float | None:
    """Return the shortest time that people choose in (*too_short*, *enough*], None if there is none."""
    return next((time for time in _TIMES if too_short < time <= enough), None)


@frozen
class Opening:
    """A window that let its first request through *at* an instant, and *count* before it refused one."""

    at: float
    count: int


class Window:
    """Let *count* requests leave in any *per* seconds.

    *answers* are when the last ones came back, *on_wire* how many have not yet. *now* is when the
    limit became known. *too_short* seconds are known to be less than *per*.
    """

    def __init__(
        self,
        count: int,
        per: float,
        answers: Iterable[float],
        *,
        now: float,
        on_wire: int = 0,
        too_short: float = 0.0,
    ) -> None:
        self._count = count
        self._per = per
        self._answers = list(answers)[-count:]
        self._on_wire = on_wire
        self._sure = False
        self._wrong = 0
        self._opened_at = now
        self._through = 0  # since then, without a no
        #: What a window held that held markedly less than the guess: the guess was made over more than one.
        self.fewer: Opening | None = None
        self._proven = False  # whether the time was long enough for two windows in a row
        self._known = now
        self._since_refusal = 0
        self._tried_after = _TRIED_AFTER
        self._too_short = too_short
        self._enough: float | None = None  # while a shorter time is tried
        self._added = 0  # how many more than what is known are being tried
        self._shortest, self._longest = math.inf, 0.0  # trips
        self._fill()

    def _fill(self) -> None:
        self._pacer = Pacer(RateLimit(self._count, self._per))
        for answer in self._answers:
            self._pacer.sent(answer)
            self._pacer.answered(answer)
        for _ in range(self._on_wire):
            self._pacer.sent(0.0)

    def export(self) -> dict[str, float]:
        """Return what is known, for a later run."""
        return {"count": self._count - self._added, "per": self._per}

    @property
    def rate(self) -> float:
        """The requests a second that the guess amounts to."""
        return self._count / self._per

    @property
    def refuted(self) -> bool:
        """Tell whether the limit can hardly be a window like this."""
        return self._wrong > _WRONG_AT_MOST or self.fewer is not None

    @property
    def served(self) -> bool:
        """Tell whether more than one such window was let through since the last no."""
        return self._through > self._count

    def holds(self, count: int) -> bool:
        """Tell whether *count* is about what such a window holds."""
        return _MARKEDLY_LESS * self._count <= count <= self._count

    def opened(self, at: float) -> None:
        """Note that a silence ended with a request that left *at* an instant and was let through."""
        self._opened_at, self._through = at, 1

    def ready_at(self, now: float) -> float:
        """Return when the next request may leave, infinity if only an answer can tell."""
        ready = self._pacer.ready_at(now)
        if ready > now:
            self._sure = self._since_refusal > 2 * self._count  # if it served for long, none need go ahead
        return math.inf if self._on_wire and not self._sure else ready

    def sent(self, now: float) -> None:
        """Note that a request leaves."""
        self._on_wire += 1
        self._pacer.sent(now)

    def passed(self, now: float, sent_at: float) -> None:
        """Note that a request was let through."""
        self._answered(self._counted(now, sent_at))
        self._sure, self._wrong = True, 0
        if not self._through:
            self._opened_at = sent_at
        self._through += 1
        self._since_refusal += 1
        self._proven = self._proven or self._since_refusal > 2 * self._count
        if self._since_refusal >= self._tried_after:
            self._try_more()

    def _counted(self, now: float, sent_at: float) -> float:
        """Return when the service will at the latest have counted a request, as trips of late go.

        What matters is how much trips differ, not how long they are: those that count are counted as much later.
        """
        trip = now - sent_at
        self._shortest = min(self._shortest, trip)
        self._longest = max(self._longest, trip)
        return min(now, sent_at + (self._longest - self._shortest) + _JITTER)

    def _try_more(self) -> None:
        self._since_refusal = 0
        shorter = math.ceil((self._too_short + self._per) / 2)
        if self._too_short < shorter < self._per:
            self._enough, self._per = self._per, float(shorter)
            self._sure = False
        else:
            self._enough = None
            self._added = 2 * self._added or 1
            self._count += self._added
            self._tried_after = 2 * self._count  # by then a whole window has let that many through
        self._fill()

    def refused(self, now: float, retry_after: float | None, sent_at: float) -> None:
        """Note a refusal."""
        self._on_wire -= 1
        self._pacer.answered(now)
        if sent_at <= self._known:
            return  # it left before the last no was known, so it is no news
        self._known = now
        if not (self._proven or self._added) and 2 < self._through < _MARKEDLY_LESS * self._count:
            self.fewer = Opening(self._opened_at, self._through)
        self._lower(sent_at)
        self._sure = False
        self._since_refusal = self._through = 0
        self._tried_after = max(_TRIED_AFTER, int(_WORTH_A_WAIT * self.rate * (retry_after or 0.0)))
        self._fill()

    def _lower(self, refused_at: float) -> None:
        """Find what was too much."""
        if self._added:
            self._count -= self._added
            self._added = 0
        elif self._enough is not None:
            self._too_short, self._per, self._enough = self._per, self._enough, None
        elif self._proven and self._count > 1:
            self._wrong += 1
            fits = sum(answer > refused_at - self._per for answer in self._answers)
            self._count = max(1, min(fits, self._count - 1))
        elif 2 < self._through < self._count:
            self._count = self._through
        else:
            self._wrong += 1
            self._too_short = self._per
            self._per = min((time for time in _TIMES if time > 1.01 * self._per), default=self._per)

    def lost(self, now: float) -> None:
        """Note that no answer came."""
        self._answered(now)

    def take_over(self, on_wire: int) -> None:
        """Answer for *on_wire* requests more, or for fewer if it is negative."""
        self._on_wire += on_wire
        self._fill()

    def unsent(self) -> None:
        """Note that a request did not leave."""
        self._on_wire -= 1
        self._pacer.unsent()

    def _answered(self, now: float) -> None:
        self._on_wire -= 1
        self._pacer.answered(now)
        self._answers.append(now)
        del self._answers[: -self._count - 1]
