"""Find a cap on running tasks that nobody told, and run at it.

A service that refuses a create because n of the account's tasks run, and one that refuses it for its rate, say the same.
They differ in what comes next. Under a cap creates stay refused over growing pauses while none of our tasks ends, and one
is let through once one was seen to have ended. So two refusals in a row while nothing ended are a *suspicion*, and the
first create after an end its *test*, which leaves at once: let through, as many as ran at the refusals are the *cap*;
refused, it was the rate, and the next suspicion needs more time. What ran on, or ended unseen, is found by asking: a create
let through while as many ran as at the refusals is looked into at once, and is otherwise the end of the suspicion. A cap is proven when a *probe*, a
create above it, is refused; only then is forgotten what the discovery was told, and until then little refutes it.

A cap that is believed lets a create leave while fewer run, those on the wire counted. We see ends late, so we never think that fewer
run than do: such a create is refused only if the cap fell or others use it up too, and then the cap becomes what ran, and at
each refusal in a row twice as much less. Each costs trust, which creates that are let through bring back; without trust, or where
a rate is known that may have refused it, the refusal is for the discovery, and a new suspicion. Now and then
a probe leaves, and is followed by another for as long as they are let through. An end not yet seen lets
one through as well, so a climb that ends near the cap raises it only, and by one, where it was the third in a row.

Counts are of our own tasks; *held* are those accepted and not seen ended.
"""

from __future__ import annotations

import math

__all__ = ("ConcurrencyLimit",)

#: So many refusals in a row while nothing ended make a suspicion.
_SUSPICIOUS = 2
#: After so many, one that is let through while as many run may mean an end that nobody saw: all are asked, and nothing
#: else is sent for so many seconds and trips.
_DOUBTFUL = 3
_DOUBT, _DOUBT_TRIPS = 0.1, 2.0
#: A suspicion that failed its test keeps the next one away for so many accepted creates, twice as many each time.
_QUIET = 32
_LONGEST_QUIET = 4096
#: How often in a row a believed cap may be too high before it is the rate that refuses.
_TESTS_BELIEVED = 5
_MOST_TRUST = 5
_TRUST_AT_FIRST = 2
#: So many accepted creates bring back a part of the trust.
_REGAINED_AFTER = 32
#: A probe is due after so many accepted creates; later, after a probe that brought nothing.
_PROVED_AFTER = 2
_PROBED_AFTER_PROOF = 32
_PROBED_AFTER = 64
_PROBED_AFTER_AT_MOST = 192
_PROBES_AT_ONCE = 4
#: What a cap is lowered to at each refusal in a row, of what ran then.
_LOWERED_TO = (1.0, 0.875, 0.75, 0.5)
_CLIMBS_BELIEVED = 3
#: What nothing proves is given up when so much more runs; the first tasks end together, and are seen to late.
_REFUTED, _UNSEEN_AT_FIRST = 1.25, 2
#: With nothing accepted for so many seconds, a create leaves all the same; each that is refused doubles the wait.
_LONGEST_SILENCE = (60.0, 960.0)


def _unseen(cap: float) -> float:
    """Return how many of as many as *cap* may well have ended without our having seen it."""
    return 1 + 0.06 * cap


class ConcurrencyLimit:
    """The cap on running tasks, as far as refused and accepted creates show it.

    *active* says whether a create may have to wait for it or test it, *watching* whether accepted creates are news: both are plain attributes, for they
    are read at every create and query.
    """

    def __init__(self) -> None:
        self.cap = math.inf
        self.active = self.watching = False
        self._known = -math.inf
        self._explained = False  # the last refusal, by the cap
        # A suspicion: refusals in a row since the last acceptance.
        self._refusals = 0
        self._at = 0
        self._failed = 0
        self._doubt_until = -math.inf
        self._quiet, self._next_quiet = 0, _QUIET
        # What is known of a believed cap.
        self._proven = False
        self._top = 0  # the most that ran at the same time, as far as we saw, since the probing began
        self._trust = self._lowered = 0
        self._accepted = 0
        self._probed_after = _PROBED_AFTER
        self._probes: set[object] = set()
        self._probing = False
        self._passed = 0
        self._guessed = False  # lowered further than was seen, so what is above it is probed at once
        self._climbs = 0
        self._silence = _LONGEST_SILENCE[0]
        self._silent_until = math.inf

    @property
    def suspects(self) -> bool:
        """Tell whether the last answer was a refusal that a cap may have caused, though none is believed."""
        return self._refusals > 0

    def binds(self, in_flight: int) -> bool:
        """Tell whether a cap holds creates back, or is suspected to, while *in_flight* are sent or run."""
        return in_flight >= 0.8 * min(self.cap, self._at if self._refusals else math.inf)

    @property
    def proven(self) -> bool:
        """Tell whether a probe of the cap that is believed was refused."""
        return self._proven

    @property
    def tentative(self) -> bool:
        """Tell whether a cap is believed that no probe has proven yet."""
        return self.cap < math.inf and not self._proven

    @property
    def doubts(self) -> bool:
        """Tell whether a create was let through in spite of a suspicion, so that an end should be looked for."""
        return self._doubt_until > -math.inf

    # ---- when

    def opens_at(self, in_flight: int, now: float) -> float:
        """Return when a create may leave as far as the cap is concerned: *now*, later, or infinity."""
        if self._doubt_until > now and in_flight >= self._at:
            return self._doubt_until
        if in_flight < self.cap or self._probe_may_leave(in_flight):
            return now
        return self._silent_until if not self._probes else math.inf

    def _probe_may_leave(self, in_flight: int) -> bool:
        if not self._probing and self._accepted < self._probed_after:
            return False
        allowed = min(1 + self._passed // 3, max(_PROBES_AT_ONCE, _unseen(self.cap)))
        return len(self._probes) < allowed and in_flight - len(self._probes) <= max(self.cap, self._top)

    def tests(self, in_flight: int, creating: int) -> bool:
        """Tell whether a create should leave whatever the discovery says, since an end was seen and it tests the cap."""
        return self._refusals >= _SUSPICIOUS and not creating and in_flight <= self._at - 2**self._failed

    # ---- what happens

    def on_send(self, create: object, others: int) -> None:
        """Note that *create* leaves while *others* are sent or run."""
        if others >= self.cap:
            self._probes.add(create)
            self._probing = True

    def gone(self, create: object) -> None:
        """Note that the answer to *create* says nothing of the cap, or that none came."""
        self._probes.discard(create)

    def on_reject(self, create: object, held: int, now: float, *, sent_at: float, rated: bool) -> bool:
        """Note a refusal while *held* others ran; return whether the cap explains it.

        *rated* says that a rate is known that may have refused it as well.
        """
        probe = create in self._probes
        self._probes.discard(create)
        if sent_at < self._known:
            return probe or self._explained  # it left before the last refusal was known, so it is no news
        self._known = now
        self._explained = True
        if probe:
            self._probe_refused(held, now)
        elif self._explains(held, rated=rated):
            self._lower(held)
        else:
            self._explained = False
            if self.tentative:
                self._give_up()
            self._suspect(held)
        return self._explained

    def accepted(
        self, create: object, held: int, now: float, *, sent_at: float, may_ask: bool = True
    ) -> bool:
        """Note that *create* was let through while *held* others ran; return whether a proven cap explains what refused it.

        *may_ask* says that all tasks may be asked at once, since creates do not pay for it.
        """
        self._quiet = max(0, self._quiet - 1)
        probe = create in self._probes
        self._probes.discard(create)
        confirmed = False
        if self._refusals and sent_at >= self._known:
            if self._refusals >= _SUSPICIOUS and held < self._at:
                self._believe(self._at)
                confirmed = self._proven
            elif may_ask and self._refusals >= _DOUBTFUL and self.cap == math.inf and not self.doubts:
                self._doubt_until = now + _DOUBT + _DOUBT_TRIPS * (now - sent_at)
                return False
            elif now < self._doubt_until:
                return False
            self._drop()
        if self.cap < math.inf:
            self._let_through(held + 1, probe=probe, now=now)
        self._update()
        return confirmed

    def ended(self, in_flight: int, now: float) -> None:
        """Note that a task is over, which may settle a doubt."""
        if now <= self._doubt_until and in_flight <= self._at:
            self._believe(self._at)
            self._silent_until = now + self._silence
            self._drop()
            self._update()

    # ---- what it means

    def _explains(self, held: int, *, rated: bool) -> bool:
        if not held or self._refusals or self._trust <= 0 or self.cap == math.inf:
            return False
        return (self._proven and not rated) or held >= self.cap - _unseen(self.cap)

    def _suspect(self, held: int) -> None:
        if not self._refusals:
            if held and not self._quiet:
                self._refusals, self._at = 1, held
        elif held < self._at:
            self._failed += 1
            self._at = held
            if not held or self._failed >= (1 if self.cap == math.inf else _TESTS_BELIEVED):
                self._drop()
                self._stay_quiet()
        else:
            self._refusals += 1
            self._at = held  # more, if an answer was still on its way
        self._update()

    def _stay_quiet(self) -> None:
        self._quiet = self._next_quiet
        self._next_quiet = min(2 * self._next_quiet, _LONGEST_QUIET)

    def _drop(self) -> None:
        if self.doubts:  # looked for, and not found
            self._stay_quiet()
        self._refusals = self._failed = self._at = 0
        self._doubt_until = -math.inf

    def _believe(self, cap: int) -> None:
        self.cap = cap
        self._doubt_until = -math.inf
        self._trust = _TRUST_AT_FIRST
        self._probed_after = _PROBED_AFTER if self._proven else _PROVED_AFTER
        self._lowered = self._climbs = 0
        self._guessed = False
        self._rest()

    def _give_up(self) -> None:
        self.cap = math.inf
        self._proven = False
        self._rest()
        self._probes.clear()
        self._drop()
        self._stay_quiet()

    def _rest(self) -> None:
        self._accepted = self._top = self._passed = 0
        self._probing = False

    def _let_through(self, running: int, *, probe: bool, now: float) -> None:
        if probe:
            self._silence = _LONGEST_SILENCE[0]
        self._silent_until = now + self._silence
        self._lowered = 0
        self._accepted += 1
        if self._accepted % _REGAINED_AFTER == 0:
            self._trust = min(self._trust + 1, _MOST_TRUST)
        if probe:
            self._top = max(self._top, running)
            self._passed += 1
            if not self._proven and self._top > _REFUTED * self.cap + _UNSEEN_AT_FIRST:
                self._give_up()

    def _probe_refused(self, held: int, now: float) -> None:
        if now >= self._silent_until:
            self._silence = min(2 * self._silence, _LONGEST_SILENCE[1])
        self._silent_until = now + self._silence
        if not self._proven:
            self._proven = True
            self._probed_after = _PROBED_AFTER_PROOF
        elif self._guessed or self._above():
            self.cap = max(int(self.cap), min(self._top, held))
            self._climbs, self._probed_after, self._guessed = 0, _PROBED_AFTER, False
        else:
            self._climbs = self._climbs + 1 if self._top > self.cap else 0
            if self._climbs >= _CLIMBS_BELIEVED:
                self._climbs = 0
                self.cap += 1
            self._probed_after = min(max(2 * self._probed_after, _PROBED_AFTER_PROOF), _PROBED_AFTER_AT_MOST)
        self._rest()

    def _above(self) -> bool:
        return self._top > self.cap + _unseen(self.cap)

    def _lower(self, held: int) -> None:
        self._trust -= 1
        part = _LOWERED_TO[min(self._lowered, len(_LOWERED_TO) - 1)]
        self._lowered += 1
        self._guessed = self._proven and part < 1
        self.cap = max(1, int(min(held, self.cap - 1) * part))
        self._climbs, self._probed_after = 0, 0 if self._guessed else min(self._probed_after, _PROBED_AFTER)
        self._rest()

    def _update(self) -> None:
        believed = self.cap < math.inf
        self.active = believed or self._refusals >= _SUSPICIOUS
        self.watching = believed or self._refusals > 0 or self._quiet > 0
