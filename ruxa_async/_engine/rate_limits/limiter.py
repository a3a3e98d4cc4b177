"""When the next request of a scope may leave.

A `ScopeLimiter` stands before everything of one scope ("create" or "query"). A time that the service named closes it for
everyone in it, and so does a service that cannot be reached, for a pause that doubles from half a second. A known
`RateLimit` is kept by a `KnownLimit`, so that nothing is refused in the first place; an unknown one is found and kept by
a `Discovery`, unless the service's own replies say how it is (`ServerHints`). A request is told to the gate when it leaves
and again when its answer is in.
"""

from __future__ import annotations

import math

from ruxa_async.settings import RateLimit

from .discovery import Discovery
from .known_limit import KnownLimit
from .server_hints import ServerHints

__all__ = ("ScopeLimiter",)

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
#: What another gate was told is only likely to be meant for this one, so after so many seconds it asks for itself.
_LONGEST_BORROWED = 60.0
_UNTRIED = 4


class ScopeLimiter:
    """Let requests of one scope leave, unless the service said no."""

    def __init__(
        self, limit: RateLimit | None, discovery: Discovery | None = None, *, longest: float = math.inf
    ) -> None:
        self._pacer = KnownLimit(limit) if limit is not None else None
        self.discovery = Discovery() if discovery is None else discovery
        #: What the replies say of the quota; None until one does, or where the limit was told.
        self.hints: ServerHints | None = None
        self._limit = limit
        self._longest = longest
        self._until = self._until_other = -math.inf
        self._pause = _FIRST_PAUSE
        self._on_wire = 0
        # How many may be on the wire at once: any number until nothing gets through, then one, and one more for
        # each that does, so that a gate that opens does not let a whole pool run into the next refusal. Where a rate
        # is configured without its burst, a few at first, for what the service rejects of a burst is what is in flight;
        # more than that leave evenly, at the rate, until the first rejection.
        self._is_paced = limit is not None and limit.burst is None
        self._window = _UNTRIED if self._is_paced else math.inf
        self._last_sent = -math.inf
        self._shut_since: float | None = None
        self.refusals = 0
        self.ever_passed = False

    @property
    def rate(self) -> float | None:
        """The requests a second that are let through, as told or as found; None while that is not known."""
        if self._limit is not None:
            return self._limit.count / self._limit.per
        if self.hints is not None and self.hints.paces:
            return self.hints.rate
        return self.discovery.rate

    @property
    def guesses(self) -> bool:
        """Tell whether requests leave at a rate that was found, so that a refusal may be for that."""
        paced = self._pacer is not None or (self.hints is not None and self.hints.paces)
        return not paced and self.discovery.rate is not None

    @property
    def on_wire(self) -> int:
        """How many requests are unanswered."""
        return self._on_wire

    def export(self) -> dict[str, float] | None:
        """Return what was found of the limit, None if nothing was or it was told."""
        return self.discovery.export() if self._pacer is None else None

    def advised(self, now: float) -> ServerHints | None:
        """Return what notes what replies say of the quota, None where the limit was told and is kept."""
        if self.hints is None and self._pacer is None:
            self.hints = ServerHints(self._on_wire, now)
        return self.hints

    def use(self, discovery: Discovery) -> None:
        """Go by *discovery* from now on; the one before hears no more of what is in flight."""
        self.discovery.take_over(-self._on_wire)
        discovery.take_over(self._on_wire)
        self.discovery = discovery

    @property
    def is_told(self) -> bool:
        """Tell whether a limit that was told is kept."""
        return self._pacer is not None

    def keeps_told_limit(self, now: float) -> bool:
        """Tell whether a limit that was told is used up, so that requests leave as it lets them."""
        return self._pacer is not None and self._pacer.used_up(now)

    def share(self, other: ScopeLimiter) -> None:
        """Keep the limit that *other* was told from now on, together with it."""
        assert other._pacer is not None
        self.discovery.take_over(-self._on_wire)
        other._pacer.take_over(self._on_wire)
        self._pacer, self._limit = other._pacer, other._limit

    def close_as(self, other: ScopeLimiter, now: float) -> None:
        """Stay closed for as long as *other*, for a minute at most: what refused it would likely refuse this too."""
        self._until_other = max(
            self._until_other, min(other._until, now + min(self._longest, _LONGEST_BORROWED))
        )

    def reopen(self) -> None:
        """Be closed no longer by what another gate was told: that was about something else."""
        self._until_other = -math.inf

    def refuses(self, now: float) -> bool:
        """Tell whether requests of this gate itself were told to wait, or found nobody there."""
        return self._until > now

    def ready_at(self, now: float) -> float:
        """Return when the next request may leave, infinity if only an answer can tell."""
        is_full = self._on_wire >= self._window
        if is_full and not self._is_paced:
            return math.inf
        paced = self.discovery.ready_at(now) if self._pacer is None else self._pacer.ready_at(now)
        if is_full:
            assert self._limit is not None
            paced = max(paced, self._last_sent + self._limit.per / self._limit.count)
        if self.hints is not None:
            paced = self.hints.ready_at(now, paced, found=self.discovery.rate is not None)
        return max(paced, self._until, self._until_other, now)

    def opens_at(self, now: float) -> float:
        """Return until when the service asked to wait, whatever the discovery says; infinity if only an answer can tell."""
        if self._on_wire >= self._window and not self._is_paced:
            return math.inf
        return max(self._until, self._until_other, now)

    def wait(self, now: float) -> float:
        """Return for how many seconds nothing leaves, as far as is known; 0 if only an answer can tell."""
        ready = self.ready_at(now)
        return ready - now if ready < math.inf else 0.0

    def closed_for(self, now: float) -> float:
        """Return for how many seconds the service has asked to wait, 0 if it has not."""
        return max(0.0, max(self._until, self._until_other) - now)

    def shut_for(self, now: float) -> float:
        """Return for how many seconds nothing was let through, 0 if the last request was."""
        return 0.0 if self._shut_since is None else now - self._shut_since

    def on_send(self, now: float) -> None:
        """Note that a request leaves."""
        self._on_wire += 1
        self._last_sent = now
        if self._pacer is None:
            self.discovery.on_send(now)
            if self.hints is not None:
                self.hints.on_send(now)
        else:
            self._pacer.on_send(now)

    def on_accept(self, now: float, *, sent_at: float) -> None:
        """Note an answer that the limit let through, whatever else it says, to a request that left at *sent_at*."""
        self._on_wire -= 1
        if self._pacer is None:
            self.discovery.on_accept(now, sent_at=sent_at)
            if self.hints is not None:
                self.hints.on_accept(now, sent_at=sent_at)
        else:
            self._pacer.on_accept(now, sent_at=sent_at)
        self._window += 1
        self.ever_passed = True
        self._shut_since = None
        if now >= self._until:
            self._pause = _FIRST_PAUSE

    def on_no_response(self, now: float, *, is_answered: bool = False) -> None:
        """Note that a request left and teaches nothing of the limit.

        It got no answer or, if *is_answered*, one that may be about another limit.
        """
        self._on_wire -= 1
        if self._pacer is None:
            (self.discovery.on_not_sent if is_answered else self.discovery.on_no_response)(now)
            if self.hints is not None:
                self.hints.answered(now)
        else:
            self._pacer.answered(now)

    def on_not_sent(self, now: float) -> None:
        """Note that a request did not leave, and let nothing leave for a growing pause: nobody is there."""
        self._on_wire -= 1
        if self._pacer is None:
            self.discovery.on_not_sent(now)
            if self.hints is not None:
                self.hints.on_not_sent()
        else:
            self._pacer.on_not_sent()
        self._shut(now)
        self._pause_unless_paused(now, since=now)

    def on_reject(self, now: float, retry_after: float | None, *, sent_at: float) -> None:
        """Note a 429 to a request that left at *sent_at*.

        *retry_after* is what the service asked for in seconds, None or 0 if nothing.
        """
        self._on_wire -= 1
        self.refusals += 1
        again = self._shut_since is not None and sent_at >= self._shut_since
        if self._shut_since is None:
            self._shut_since = now
        told = min(retry_after, self._longest) if retry_after else None
        if self._pacer is not None:
            self._pacer.on_reject(now, sent_at=sent_at)
            if again:  # so it is not only the way there that bunches what was spread
                self._shut_for_no_reason(now, told, sent_at)
        elif self.hints is not None and self.hints.on_reject(now, sent_at=sent_at):
            self.discovery.on_not_sent(now)  # it was answered, so it is not the overdue request
            self._shut_for_no_reason(now, told, sent_at)
        else:
            self.discovery.on_reject(now, told, sent_at=sent_at)
        if told is not None:
            self._until = max(self._until, now + told)

    def _shut_for_no_reason(self, now: float, told: float | None, sent_at: float) -> None:
        """Open slowly after a refusal where a known limit was kept."""
        self._shut(now)
        if told is None:
            self._pause_unless_paused(now, since=sent_at)

    def capped(self, now: float, retry_after: float | None) -> None:
        """Note a 429 that has nothing to do with the rate; *retry_after* is in seconds and closes the gate."""
        self.refusals += 1
        self.on_no_response(now, is_answered=True)
        if retry_after:
            self._until = max(self._until, now + min(retry_after, self._longest))

    def _shut(self, now: float) -> None:
        self._window, self._is_paced = 1, False
        if self._shut_since is None:
            self._shut_since = now

    def _pause_unless_paused(self, now: float, *, since: float) -> None:
        # A request that left before the gate last closed brings no news: only others make the pause grow.
        if since >= self._until:
            self._until = now + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
