"""Find a limit that nobody told, and run at it.

A service says yes or no and nothing else. Until its first no, requests leave briskly, but with few unanswered at a
time, for they are what that no costs. Then there is a short pause, in which some flows into a bucket, and others that
end when a window would of a time that people choose (where one alone was let through, pauses that grow fourfold).
What is let through after one, compared with what was let through at first, tells what shape the limit has:

- only one at first: a gap between requests (`Steps`);
- fewer than at first: a bucket that was not full again, so there is a rate (`Creep`);
- as many as at first, and one more soon after: a bucket that was full, so again a rate;
- as many as at first, and not one more: a window of time (`Window`).

Each shape then learns by running. One that what happens refutes is dropped: nothing let through for longer than a
bucket can be empty means a window after all. That is sounded: from the end of such a silence to the next no goes what
it holds, and to the end of the next silence its time. Refusals that no bucket explains may be a window's of a second,
whose silences are too short to be seen (`Boundaries`). Where the service says when to come back, that is kept by the
gate in front of this; here it only tells how much there may be by then.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Mapping
from typing import TypeAlias

from .boundaries import PER, Boundaries
from .creep import Creep
from .measures import Measure
from .steps import Steps
from .tellings import Reading, Tellings, first_window
from .unanswered import Unanswered
from .window import Opening, Window, likely_window, next_window, shortest_window

__all__ = ("Governor",)

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 15.0
_GROWTH = 4.0
_SOUNDING_GROWTH = 2.0
#: A window is surely over by so much of its time.
_AFTER = 1.02
#: A window of a time that people do not choose is believed after so many.
_SOUNDINGS = 3
#: Requests a second that are worth making before anything is known.
_BRISK = 40.0
_UNANSWERED = 4
#: What was let through in the last second is a burst, if there was no earlier second; else it is a rate.
_SECOND = 1.0
_BURST_KEPT = 4096
#: A bucket that explains fewer of the last stretches may be a window.
_EXPLAINED = 3
#: What is remembered is a number between this and its inverse, or it is nonsense.
_SENSIBLE = 1e-9

Shape: TypeAlias = Creep | Steps | Window


class _Quest(enum.Enum):
    FREE = enum.auto()  # never refused
    PAUSING = enum.auto()  # refused, and nothing let through since
    REFILLING = enum.auto()  # let through after a pause: as many as at first may follow
    SOUNDING = enum.auto()  # what is let through until the next no is what a window holds
    TESTING = enum.auto()  # as many as at first did follow: was that a full bucket, or a window?


class Governor:
    """One unknown limit: when the next request may leave, and what each answer says. Times are in seconds."""

    def __init__(self) -> None:
        self._quest = _Quest.FREE
        self._shape: Shape | None = None
        self._wire = Unanswered()
        self._recent: deque[float] = deque()  # of the last second
        self._answers: deque[float] = deque(maxlen=_BURST_KEPT)
        self._began = math.inf
        self._left_at: deque[float] = deque(maxlen=_BURST_KEPT)  # those let through, since the last no
        self._measures: list[Measure] = []
        self._told = Tellings()
        self._boundaries = Boundaries()
        self._known = -math.inf
        self._forget()

    def _forget(self) -> None:
        self._next = -math.inf
        self._peak = 0  # let through in the second before the last no
        self._mark = self._mark_known = -math.inf
        self._passed = 0
        self._pause, self._too_short = _FIRST_PAUSE, 0.0
        self._burst = 1
        self._burst_began = math.inf
        self._per = 0.0
        self._left = 0
        self._sounding = False
        #: Whether what was let through at first took so long that a window may have ended meanwhile.
        self._straddled = False
        self._soundings = 0
        self._opening: Opening | None = None
        self._last_no = self._opened_at = 0.0

    def take_over(self, on_wire: int) -> None:
        """Answer for *on_wire* requests that left before, or no more for so many if it is negative."""
        self._wire.take_over(on_wire)
        if isinstance(self._shape, Window):
            self._shape.take_over(on_wire)

    def export(self) -> dict[str, float] | None:
        """Return what is known of the limit, for `restored` in a later run; None if nothing is."""
        return None if self._shape is None else self._shape.export()

    @classmethod
    def restored(cls, known: Mapping[str, float] | None, now: float, ago: float) -> Governor:
        """Return one that begins with what was *known* so many seconds *ago*. Raises ValueError if that is nonsense.

        The run that learned it may have left nothing of the quota, so none of it is counted on. Meeting a limit anew
        at such a moment goes badly wrong: what is let through at first then says nothing of how much may be.
        """
        governor = cls()
        if known is not None:
            if not all(number == 0 or _SENSIBLE < number < 1 / _SENSIBLE for number in known.values()):
                raise ValueError(f"{known!r} is no limit")
            governor._shape = _shape_of(known, now, now - ago)
        return governor

    @property
    def rate(self) -> float | None:
        """The requests a second that the service is thought to let through, None while that is not known."""
        return None if self._shape is None else self._shape.rate

    def flow(self, now: float) -> float:
        """Return about how many more requests may be let through while one is on its way and back."""
        rate = self.rate
        return (self._wire.trip or 0.0) * (self._in_last_second(now) if rate is None else rate)

    # ---- when

    def ready_at(self, now: float) -> float:
        """Return when the next request may leave; where that depends on an answer, when it is waited for no more."""
        if self._shape is not None:
            return self._shape.ready_at(now)
        ready, unanswered = self._next, 1
        if self._quest in (_Quest.FREE, _Quest.SOUNDING) or (
            self._quest is _Quest.REFILLING and self._left > 0
        ):
            ready, unanswered = now, self._allowance(now)
        return ready if self._wire.waited_for < unanswered else max(ready, self._wire.overdue_at)

    def _allowance(self, now: float) -> int:
        """Return how many may be unanswered while no limit is known."""
        if self._wire.trip is None:
            return _UNANSWERED
        pace = 2 * self._in_last_second(now) if self._quest is _Quest.FREE else self._peak
        return max(1, math.ceil(self._wire.trip * max(_BRISK, pace)))

    def _in_last_second(self, now: float) -> int:
        while self._recent and self._recent[0] <= now - _SECOND:
            self._recent.popleft()
        return len(self._recent)

    # ---- what happens

    def sent(self, now: float) -> None:
        """Note that a request leaves."""
        self._wire.sent(now)
        self._began = min(self._began, now)
        self._burst_began = min(self._burst_began, now)
        if self._shape is not None:
            self._shape.sent(now)
        elif self._quest is _Quest.REFILLING:
            self._left -= 1

    def passed(self, now: float, *, sent_at: float) -> None:
        """Note that a request that left at *sent_at* was let through."""
        self._wire.answered(now, sent_at)
        self._told.passed(sent_at)
        self._boundaries.passed(sent_at)
        self._answers.append(now)
        self._passed += 1
        if self._shape is None:
            self._recent.append(now)
            self._left_at.append(sent_at)
        if self._shape is not None:
            self._shape.passed(now, sent_at)
        elif sent_at > self._mark_known:
            self._let_through(now, sent_at)
        elif sent_at <= self._mark:
            self._burst += 1  # it left before the first no, so it was of that burst

    def refused(self, now: float, retry_after: float | None, *, sent_at: float) -> None:
        """Note a refusal of a request that left at *sent_at*; *retry_after* is what it asked for in seconds."""
        self._wire.answered(now, sent_at)
        news = sent_at > self._known
        if news:
            self._known = now
            self._boundaries.refused(sent_at)
        reading = self._told.refused(now, retry_after, sent_at)
        if reading is not None and self._is_told(reading):
            self._burst = reading.count
            self._window(reading.per, now)
        elif self._shape is not None:
            self._shape.refused(now, retry_after, sent_at)
            if self._shape.refuted:
                self._search_again(now, sent_at)
            elif news and isinstance(self._shape, Creep) and self._shape.explained < _EXPLAINED:
                self._look_for_window(now)
        elif sent_at > self._mark_known:
            self._refused_quest(now, retry_after, sent_at)

    def _is_told(self, reading: Reading) -> bool:
        """Tell whether *reading* is news of a window."""
        if isinstance(self._shape, Window):
            return not self._shape.served and (reading.sure or self._shape.holds(reading.count))
        return reading.sure

    def lost(self, now: float) -> None:
        """Note that a request left and no answer came."""
        self._wire.lost()
        if isinstance(self._shape, Window):
            self._shape.lost(now)

    def unsent(self) -> None:
        """Note that a request did not leave after all."""
        self._wire.unsent()
        if isinstance(self._shape, Window):
            self._shape.unsent()
        elif self._shape is None and self._quest is _Quest.REFILLING:
            self._left += 1

    # ---- what it means

    def _refused_quest(self, now: float, retry_after: float | None, sent_at: float) -> None:
        if self._quest is _Quest.FREE:
            self._met(now, retry_after, sent_at)
        elif self._quest is _Quest.PAUSING:
            self._too_short = sent_at - self._mark
            self._last_no = sent_at
            self._next = max(now, self._tried_at(sent_at))
        elif self._quest is _Quest.SOUNDING:
            self._sounded_out(now, sent_at)
        elif self._quest is _Quest.TESTING and self._burst > 1:
            self._window(likely_window(self._too_short, self._per), now, too_short=self._too_short)
        elif self._straddled and self._quest is _Quest.REFILLING and 2 < self._passed < self._burst:
            self._burst = self._passed
            self._pauses(now, sent_at)
        else:
            self._measures.append(Measure.read(self._left_at, since=self._mark, until=sent_at))
            self._creep(now, retry_after, sent_at)

    def _tried_at(self, refused_at: float) -> float:
        """Return when to try again after a pause that was too short, as one that left at *refused_at* found."""
        latest = refused_at + _LONGEST_PAUSE
        if self._sounding or self._burst <= 1:
            longer = self._pause * ((_SOUNDING_GROWTH if self._sounding else _GROWTH) - 1)
            self._pause += longer
            return min(refused_at + longer, latest)
        began = self._mark if self._straddled else self._burst_began
        return min(began + _AFTER * next_window(refused_at - began), latest)

    def _met(self, now: float, retry_after: float | None, sent_at: float) -> None:
        """Learn that there is a limit."""
        self._peak = self._in_last_second(now)
        self._burst = self._passed  # more of them may be answered yet
        if now - self._began > 2 * _SECOND:
            self._burst = max(1, self._in_last_second(now))
            self._measures = [Measure.read(self._left_at, since=None, until=sent_at)]
            self._creep(now, retry_after, sent_at)
            return
        if retry_after is not None and retry_after >= 2 and self._burst > 1:
            self._window(first_window(self._burst_began, sent_at, retry_after), now)
            return
        began = self._burst_began
        self._pauses(now, sent_at)
        self._straddled = sent_at - began > _SECOND
        self._burst_began = began

    def _look_for_window(self, now: float) -> None:
        """Take what no bucket explains for a window, if it looks like one."""
        count = self._boundaries.count()
        if count is not None:
            self._burst = count
            self._window(PER, now)

    def _search_again(self, now: float, sent_at: float) -> None:
        """Drop a shape that what happened refutes."""
        shape, self._shape = self._shape, None
        self._left_at.clear()
        if isinstance(shape, Steps):
            self._burst = shape.in_a_row
            self._pauses(now, sent_at)
        elif isinstance(shape, Window) and shape.fewer is None:
            self._pauses(now, now)
        else:
            self._sound(now, sent_at, shape.fewer if isinstance(shape, Window) else None)

    def _sound(self, now: float, sent_at: float, opening: Opening | None) -> None:
        """Wait for the end of a silence, to see for how long a window was full after *opening*."""
        self._pauses(now, sent_at)
        self._sounding = True
        self._opening = opening
        self._last_no = sent_at

    def _sounded_out(self, now: float, sent_at: float) -> None:
        """Learn what was let through since a silence: so few as a gap or a small bucket may let through are no window."""
        if self._passed > 2:
            self._sound(now, sent_at, Opening(self._opened_at, self._passed))
        else:
            self._burst = self._passed
            self._pauses(now, sent_at)

    def _sounded(self, now: float, sent_at: float) -> None:
        """Learn when a silence ended."""
        if self._opening is not None and self._opening.count > 2:
            too_short, enough = self._last_no - self._opening.at, sent_at - self._opening.at
            per = shortest_window(too_short, 1.02 * enough)
            self._soundings += 1
            if per is not None or self._soundings >= _SOUNDINGS:
                self._soundings = 0
                self._burst = self._opening.count
                self._window(per or enough, now).opened(sent_at)
                return
        self._quest = _Quest.SOUNDING
        self._opened_at = sent_at

    def _pauses(self, now: float, sent_at: float) -> None:
        self._sounding = self._straddled = False
        self._quest = _Quest.PAUSING
        self._measures = [Measure.read(self._left_at, since=None, until=sent_at)]
        self._left_at.clear()
        self._mark, self._mark_known = sent_at, now
        self._burst_began = sent_at
        self._passed = 0
        self._pause, self._too_short = _FIRST_PAUSE, 0.0
        self._next = now + self._pause

    def _let_through(self, now: float, sent_at: float) -> None:
        if self._quest is _Quest.PAUSING and self._sounding:
            self._sounded(now, sent_at)
            return
        if self._quest is _Quest.PAUSING:
            if self._burst <= 1:
                self._shape = Steps(self._too_short, sent_at - self._mark, passed_at=sent_at)
                return
            self._quest = _Quest.REFILLING
            self._per = max(sent_at - self._burst_began, _FIRST_PAUSE)
            self._left = self._burst - 1
        elif self._quest is _Quest.TESTING:
            creep = Creep(self._measures, now=self._mark_known, refused_at=self._mark)
            creep.go_on(self._left_at, self._burst / self._per, now=now)
            self._shape = creep
            return
        if self._quest is _Quest.REFILLING and self._left <= 0 and self._wire.waited_for <= 0:
            self._quest = _Quest.TESTING
            self._next = max(now, sent_at + self._per / self._burst)

    def _creep(self, now: float, retry_after: float | None, sent_at: float) -> None:
        self._shape = Creep(self._measures, now=now, refused_at=sent_at, retry_after=retry_after)

    def _window(self, per: float, now: float, *, too_short: float = 0.0) -> Window:
        self._shape = window = Window(
            self._burst, per, self._answers, now=now, on_wire=self._wire.count, too_short=too_short
        )
        return window


def _shape_of(known: Mapping[str, float], now: float, learned_at: float) -> Shape:
    if "rate" in known:
        return Creep.restored(known["rate"], int(known["burst"]), now=now, since=learned_at)
    if "enough" in known:
        return Steps(known["too_short"], known["enough"], passed_at=learned_at)
    count = max(1, min(int(known["count"]), _BURST_KEPT))
    return Window(count, known["per"], [learned_at] * count, now=now)
