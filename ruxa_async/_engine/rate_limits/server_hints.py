"""Go by what the service's replies say of its quota, for as long as what happens bears it out.

A quota whose window is told is kept as a known limit would be, and more leaves while the service says that more is
left. With none left nothing leaves before the reset, for a minute at most; then one goes ahead. All of it is a hint:
two refusals of what the fields allowed, or two requests let through while they said that nothing was left, and they
are ignored for good. So that fields which say "nothing" for ever are found out, one request leaves now and then
although nothing is left; it is refused if they are right.
"""

from __future__ import annotations

import math
from bisect import bisect_left

from ruxa_async._api.rate_limit_headers import Quota
from ruxa_async.settings import RateLimit

from .known_limit import KnownLimit

__all__ = ("Books", "ServerHints")

#: No word of a quota holds requests back for longer than so many seconds; a refusal may.
_LONGEST_HOLD = 60.0
_CONTRADICTIONS = 2
#: A test leaves so many seconds after nothing was left: most limits let one more through by then.
_TESTED_AFTER = 1.0
#: A test that was refused is good for so many seconds.
_TESTED_FOR = 600.0
#: Until something was let through, so many may be unanswered, and one more for each that was.
_UNANSWERED = 4
#: A larger quota need not be paced: what is left of it says enough.
_LARGEST_PACED = 10_000
#: So many of the last requests are remembered at least.
_NOTED = 256


class Books:
    """One quota as it was told, and what left for it; *on_wire* requests were unanswered when it was, *now*."""

    def __init__(self, on_wire: int, now: float) -> None:
        self.quota = Quota()
        self.pacer: KnownLimit | None = None
        self.on_wire = on_wire
        self.sent = 0
        # One more: the one whose answer told the quota. Nobody noted when they left, so they count as the last.
        self._left_at = [now] * (on_wire + 1)

    def keep(self, quota: Quota, now: float) -> None:
        """Keep *quota* from now on; what it says is used up comes free all at once."""
        self.quota, self.pacer = quota, None
        if quota.limit is None or quota.per is None or quota.limit > _LARGEST_PACED:
            return
        self.pacer = KnownLimit(RateLimit(quota.limit, quota.per, quota.burst))
        most = quota.burst or quota.limit
        left = most if quota.remaining is None else quota.remaining
        for _ in range(most - left):
            self.pacer.on_send(now)
            self.pacer.answered(now)
        for _ in range(self.on_wire):
            self.pacer.on_send(now)

    def take(self, now: float) -> None:
        """Note that a request leaves."""
        self.on_wire += 1
        self.sent += 1
        self._left_at.append(now)
        if len(self._left_at) > 2 * _NOTED:
            del self._left_at[:_NOTED]
        if self.pacer is not None:
            self.pacer.on_send(now)

    def after(self, sent_at: float) -> int:
        """Return how many may have been counted after a request that left at *sent_at*."""
        return max(0, len(self._left_at) - bisect_left(self._left_at, sent_at) - 1)

    def add(self, on_wire: int, now: float) -> None:
        """Answer for *on_wire* requests more that left before, or for fewer if it is negative."""
        self.on_wire += on_wire
        if self.pacer is not None:
            for _ in range(on_wire):
                self.pacer.on_send(now)
            for _ in range(-on_wire):
                self.pacer.answered(now)


def _same(one: Quota, two: Quota) -> bool:
    return (one.name, one.limit, one.per, one.burst) == (two.name, two.limit, two.per, two.burst)


class ServerHints:
    """What the replies of one scope say, *on_wire* of whose requests are unanswered. Times are in seconds.

    *books* are shared by both scopes where they take from one quota.
    """

    def __init__(self, on_wire: int, now: float) -> None:
        self.books = Books(on_wire, now)
        self._on_wire = on_wire
        self._said = -math.inf  # when the request left whose reply is the last word
        self._remaining: int | None = None  # less what may have been counted since
        self._sent_before = 0  # by the books, when that was said
        self._slow = False  # a reset of more than a second was told: its fraction matters less than a refusal
        self._rough = 1.0  # a reset may be told too late by so much, and may be too soon by as much
        self._late = 0.0  # what a reset proved to be told too soon by
        self._allowed = _UNANSWERED
        #: With nothing left: when that may end at the soonest, until when nothing leaves, and when one goes ahead.
        self._empty_until = self._until = self._reset = -math.inf
        self._tested: tuple[float, float] | None = None  # when a test left, and `_empty_until` then
        self._test_due = self._tested_until = -math.inf
        self._went_ahead: float | None = None
        self._cut = False  # the reset is further away than we wait for it
        self._known = -math.inf
        self._doubts = [0, 0]  # refused though allowed, let through though nothing was left

    @property
    def ignored(self) -> bool:
        """Tell whether the fields were wrong too often."""
        return sum(self._doubts) >= _CONTRADICTIONS

    @property
    def paces(self) -> bool:
        """Tell whether the quota and its window are known, so that no limit need be found."""
        return self.books.pacer is not None and not self.ignored

    @property
    def rate(self) -> float:
        """The requests a second that a quota lets through which `paces`."""
        quota = self.books.quota
        assert quota.limit is not None
        assert quota.per is not None
        return quota.limit / quota.per

    @property
    def doubts(self) -> tuple[int, int]:
        """What contradicted the fields; it can be set back when it is found to have been something else."""
        return self._doubts[0], self._doubts[1]

    @doubts.setter
    def doubts(self, value: tuple[int, int]) -> None:
        self._doubts = [*value]

    def share(self, other: ServerHints, quota: Quota, now: float) -> None:
        """Take from one quota with *other* if it was told the same *quota*, else from one of its own."""
        if quota.limit is None:
            return
        if self.books is other.books:
            if not _same(quota, self.books.quota):
                self.part(now)
        elif _same(quota, other.books.quota) and not other.ignored:
            self.books = other.books
            self.books.add(self._on_wire, now)
            self._remaining = None

    def part(self, now: float) -> None:
        """Take from a quota of its own, and leave the other scope to its own."""
        told = self.books.quota
        self.books.add(-self._on_wire, now)
        self.books = Books(self._on_wire, now)
        self.books.keep(told, now)
        self._remaining = None

    # ---- when

    def ready_at(self, now: float, governed: float, *, found: bool) -> float:
        """Return when the next request may leave.

        *governed* is what a discovery says that knows nothing of the fields, *found* whether it knows a rate.
        """
        if self.ignored:
            return governed
        pacer = self.books.pacer
        until = self._until if pacer is not None or not found else self._empty_until
        if until > now:
            test = max(now, self._test_due)
            return test if test < self._empty_until and not self.books.on_wire else until
        left, on_wire = self._left(), self.books.on_wire
        if pacer is None:
            waits = left is not None and left <= 0 and self._slow and not found
            return math.inf if waits and on_wire else governed
        if on_wire >= self._allowed:
            return math.inf
        if left is not None and left > 0:
            return now
        ready = pacer.ready_at(now)
        return min(ready, max(now, self._reset)) if self._reset > -math.inf and not on_wire else ready

    def _left(self) -> int | None:
        return None if self._remaining is None else self._remaining - (self.books.sent - self._sent_before)

    # ---- what happens

    def on_send(self, now: float) -> None:
        """Note that a request leaves."""
        if self._empty_until > now:
            self._tested = now, self._empty_until
        elif self._reset > -math.inf and not self.books.on_wire:
            self._went_ahead = now
        self._on_wire += 1
        self.books.take(now)

    def answered(self, now: float) -> None:
        """Note that an answer came, or that none will."""
        self._on_wire -= 1
        self.books.on_wire -= 1
        if self.books.pacer is not None:
            self.books.pacer.answered(now)

    def on_not_sent(self) -> None:
        """Note that a request did not leave after all."""
        self._on_wire -= 1
        self.books.on_wire -= 1
        self.books.sent -= 1
        if self.books.pacer is not None:
            self.books.pacer.on_not_sent()

    def on_accept(self, now: float, *, sent_at: float) -> None:
        """Note that a request that left at *sent_at* was let through."""
        self.answered(now)
        self._allowed += 1
        if not self.ignored and self._tested is not None and self._tested[0] == sent_at:
            if now < self._tested[1]:
                self._doubts[1] += 1
            self._tested = None

    def on_reject(self, now: float, *, sent_at: float) -> bool:
        """Note a refusal of a request that left at *sent_at*; return whether a discovery has nothing to learn from it."""
        ours = self._tested is not None and self._tested[0] == sent_at
        left = self._left()
        promised = self.books.pacer is not None or (left is not None and left >= 0)
        paced = self.paces
        self._on_wire -= 1
        self.books.on_wire -= 1
        if self.books.pacer is not None:
            self.books.pacer.on_not_sent()  # who is refused takes no place
        if self.ignored:
            return False
        if ours:
            self._tested = None
            if not self._doubts[1]:
                self._test_due = self._tested_until = now + _TESTED_FOR
        elif self._went_ahead == sent_at and (self._cut or not self._late):
            self._late = self._late if self._cut else self._rough
            ours = True
        elif promised and sent_at > self._known:
            self._doubts[0] += 1
            self._allowed = 1
        self._known = now
        return ours or paced

    def believed(self, seconds: float) -> float | None:
        """Return for how long a refusal closes the gate whose fields alone say *seconds*; None if that is no matter."""
        if self.ignored:
            return None
        return min(seconds, _LONGEST_HOLD) if self._doubts[1] else seconds

    def told(self, quota: Quota, now: float, *, sent_at: float, refused_for: float | None = None) -> None:
        """Note what the reply to a request that left at *sent_at* says.

        *refused_for* is for how many seconds it was a refusal: 0 if it did not say, None if it was none.
        """
        refused = refused_for is not None
        if quota.limit is not None and not _same(quota, self.books.quota):
            self.books.keep(quota, now)
        if quota.remaining is None or sent_at < self._said:
            return  # answers come in any order
        least = (0 if refused else quota.remaining) - self.books.after(sent_at)
        left = self._left()
        newer, self._said = sent_at > self._said, sent_at
        self._remaining = least if newer or left is None else max(left, least)
        self._sent_before = self.books.sent
        if newer or refused_for:  # what a refusal asks for wins
            self._empty_until = self._until = self._reset = -math.inf
        if refused_for:
            self._reset = now + refused_for
        if quota.reset is not None:
            self._rough = quota.rough
            self._slow = self._slow or quota.reset > quota.rough
            if quota.remaining == 0 and not refused:
                self._hold(quota.reset, quota.per, now, sent_at)

    def _hold(self, told: float, per: float | None, now: float, sent_at: float) -> None:
        """Let nothing leave before the reset, in *told* seconds, since nothing is left."""
        pacer = self.books.pacer
        if pacer is None and not self._slow:
            return
        wait = min(told, per or _LONGEST_HOLD, _LONGEST_HOLD)
        self._cut = wait < told
        self._empty_until = sent_at + wait - self._rough
        self._until = self._reset = now + wait + self._late
        self._test_due = max(self._tested_until, now + _TESTED_AFTER)
        if pacer is not None and self._empty_until <= pacer.ready_at(now) <= self._reset:
            # Our own requests explain it, so the window says to the fraction of a second when it ends.
            self._until = self._empty_until
