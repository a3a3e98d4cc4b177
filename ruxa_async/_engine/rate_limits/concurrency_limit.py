"""Discover a cap on running tasks, and keep as many running as it allows.

A service with a cap rejects creates with the same 429 as a rate limit. The two differ in what comes next:
under a cap creates stay rejected until a task ends. What is known of a cap is in one of four states:

=========  ===============================================================================  ==================
state      event                                                                            next state
=========  ===============================================================================  ==================
unknown    two rejections in a row while no task ended                                      suspected
suspected  a *test* is accepted: one create, sent at once after a task was seen to end      tentative
suspected  a create is accepted without that, and an unseen end is found soon after         tentative
suspected  a test is rejected, or a create is accepted and no end is found                  unknown
tentative  a *probe* is rejected: a create above the cap                                    confirmed
tentative  many more tasks run than the cap, or a create far below it is rejected           unknown
confirmed  probes are accepted, each followed by another                                    confirmed, raised
confirmed  a create below the cap is rejected                                               confirmed, lowered
=========  ===============================================================================  ==================

A tentative cap is the number of tasks that ran at the rejections. A rejection below a confirmed cap means
that the cap fell, or that other clients use it too: our count of running tasks can only be too high, because
we see ends late. The cap is then lowered to what ran, and by more at each rejection in a row (multiplicative
decrease, as in AIMD). Each time costs *trust*, which accepted creates restore. Without trust, or if a known
rate explains it, a rejection counts for the rate limit and begins a suspicion beside the cap. After a
suspicion that failed, more creates must be accepted before the next one.

The rate limiter learns from rejections that no cap explains. What it learned is undone once a cap is
confirmed.
"""

from __future__ import annotations

import math

from attrs import define

__all__ = ("ConcurrencyLimit",)

#: Rejections in a row, with no end of a task between them, after which a suspicion is tested.
_TESTED_FROM = 2
#: After three rejections in a row, an accepted create may show that a task ended unseen. Creates then wait
#: 0.1 s and two round trips, while all tasks are queried.
_DOUBTED_FROM = 3
_DOUBT_SECONDS, _DOUBT_RTTS = 0.1, 2.0
#: Accepted creates until the next suspicion after one that failed; doubled each time.
_QUIET, _LONGEST_QUIET = 32, 4096
#: Failed tests in a row that end a suspicion beside a cap; without a cap one is enough.
_MOST_FAILED_TESTS = 5
#: Trust: how often a cap may be lowered before rejections count for the rate limit, at first and at most. 32
#: accepted creates restore one.
_FIRST_TRUST, _MOST_TRUST, _TRUST_RESTORED_AFTER = 2, 5, 32
#: Accepted creates until the next probe: of a tentative cap, after its confirmation, of a cap that was just
#: found or moved, and at most. A probe that finds no room doubles it.
_CONFIRMED_AFTER, _PROBED_AFTER_CONFIRMATION, _PROBED_AFTER, _PROBED_AFTER_AT_MOST = 2, 32, 64, 192
#: Probes in flight at most, where the cap is small.
_PROBES_AT_ONCE = 4
#: The cap after each rejection in a row, as a part of what ran then.
_LOWERED_TO = (1.0, 0.875, 0.75, 0.5)
#: Probes in a row that got just above the cap and so raise it by one: an unseen end explains one of them.
_CLIMBS_BELIEVED = 3
#: A tentative cap is given up when more than 1.25 times as many tasks run, and two more: as the first tasks
#: end together, we see many ends late.
_REFUTED_BY, _UNSEEN_AT_FIRST = 1.25, 2
#: Seconds without an accepted create until one is sent in spite of the cap: at first, and at most. Each
#: rejected one doubles them.
_FIRST_SILENCE, _LONGEST_SILENCE = 60.0, 960.0


def _unseen(cap: float) -> float:
    """Return how many of *cap* running tasks may have ended unseen."""
    return 1 + 0.06 * cap


@define
class _Suspicion:
    """Rejections in a row while *running* tasks ran and none was seen to end."""

    running: int
    rejections: int = 1
    failed_tests: int = 0
    doubted_until: float = -math.inf

    @property
    def is_in_doubt(self) -> bool:
        """Tell whether a create was accepted although no task was seen to end."""
        return self.doubted_until > -math.inf


class _Cap:
    """A cap that is tentative or confirmed: as many tasks as *size* may run."""

    def __init__(self, size: int, *, is_confirmed: bool) -> None:
        self.size = size
        self.is_confirmed = is_confirmed
        self.trust = _FIRST_TRUST
        self._lowered = 0  # in a row
        self._is_estimate = False  # lowered to less than ran, so probed at once
        self._climbs = 0
        self._probed_after = _PROBED_AFTER if is_confirmed else _CONFIRMED_AFTER
        self._rest()

    def _rest(self) -> None:
        """Begin to count until the next probe."""
        self._accepted = self._accepted_probes = 0
        self._is_probing = False
        self.most_running = 0  # as far as we saw, since the probing began

    def may_probe(self, in_flight: int, probes: int) -> bool:
        """Tell whether one more create above the cap may be sent.

        *in_flight* tasks run or are being created; *probes* of them were sent above the cap.
        """
        if not self._is_probing and self._accepted < self._probed_after:
            return False
        allowed = min(1 + self._accepted_probes // 3, max(_PROBES_AT_ONCE, _unseen(self.size)))
        return probes < allowed and in_flight - probes <= max(self.size, self.most_running)

    def on_probe(self) -> None:
        self._is_probing = True

    def explains(self, running: int, *, is_rate_known: bool) -> bool:
        """Tell whether the cap may have rejected a create while *running* others ran."""
        if not running or self.trust <= 0:
            return False
        return (self.is_confirmed and not is_rate_known) or running >= self.size - _unseen(self.size)

    def on_accept(self, running: int, *, is_probe: bool) -> bool:
        """Record that *running* tasks run now; return whether that refutes the cap."""
        self._lowered = 0
        self._accepted += 1
        if self._accepted % _TRUST_RESTORED_AFTER == 0:
            self.trust = min(self.trust + 1, _MOST_TRUST)
        if not is_probe:
            return False
        self._accepted_probes += 1
        self.most_running = max(self.most_running, running)
        return not self.is_confirmed and self.most_running > _REFUTED_BY * self.size + _UNSEEN_AT_FIRST

    def on_probe_reject(self, running: int) -> None:
        """Confirm the cap, or raise it to what ran before the probe was rejected."""
        if not self.is_confirmed:
            self.is_confirmed = True
            self._probed_after = _PROBED_AFTER_CONFIRMATION
        elif self._is_estimate or self.most_running > self.size + _unseen(self.size):
            self.size = max(self.size, min(self.most_running, running))
            self._climbs, self._probed_after, self._is_estimate = 0, _PROBED_AFTER, False
        else:
            self._climbs = self._climbs + 1 if self.most_running > self.size else 0
            if self._climbs >= _CLIMBS_BELIEVED:
                self._climbs = 0
                self.size += 1
            longer = max(2 * self._probed_after, _PROBED_AFTER_CONFIRMATION)
            self._probed_after = min(longer, _PROBED_AFTER_AT_MOST)
        self._rest()

    def lower(self, running: int) -> None:
        """Lower the cap: a create was rejected while *running* others ran."""
        self.trust -= 1
        part = _LOWERED_TO[min(self._lowered, len(_LOWERED_TO) - 1)]
        self._lowered += 1
        self._is_estimate = self.is_confirmed and part < 1
        self.size = max(1, int(min(running, self.size - 1) * part))
        self._climbs = 0
        self._probed_after = 0 if self._is_estimate else min(self._probed_after, _PROBED_AFTER)
        self._rest()


class ConcurrencyLimit:
    """The cap on running tasks, as far as accepted and rejected creates show it.

    *in_flight* counts our tasks that run and our creates without a response, *running* only the former:
    those accepted and not seen to end. Attributes that are read at every create and query are plain ones:
    *active* tells whether a create may have to wait or be a test, *watching* whether `on_accept` must be
    called.
    """

    def __init__(self) -> None:
        self.active: bool = False
        self.watching: bool = False
        self._suspicion: _Suspicion | None = None
        self._cap: _Cap | None = None
        self._rejected_at = -math.inf
        self._is_explained = False  # the last rejection, by the cap
        # Accepted creates until the next suspicion, and after the next one that fails.
        self._quiet, self._next_quiet = 0, _QUIET
        self._probes: set[object] = set()
        self._silence, self._silent_until = _FIRST_SILENCE, math.inf

    # ---- states

    @property
    def cap(self) -> float:
        """How many tasks may run at once; infinity while no cap is known, or one is only suspected."""
        return math.inf if self._cap is None else self._cap.size

    @property
    def is_suspected(self) -> bool:
        """Tell whether the last create was rejected, perhaps by a cap that is not known."""
        return self._suspicion is not None

    @property
    def is_in_doubt(self) -> bool:
        """Tell whether a create was accepted in spite of a suspicion, so that all tasks should be queried."""
        return self._suspicion is not None and self._suspicion.is_in_doubt

    @property
    def is_tentative(self) -> bool:
        """Tell whether a cap is kept that no probe has confirmed."""
        return self._cap is not None and not self._cap.is_confirmed

    @property
    def is_confirmed(self) -> bool:
        """Tell whether a cap is kept that a probe has confirmed."""
        return self._cap is not None and self._cap.is_confirmed

    def binds(self, in_flight: int) -> bool:
        """Tell whether a known or suspected cap holds creates back, or is about to."""
        suspected = math.inf if self._suspicion is None else self._suspicion.running
        return in_flight >= 0.8 * min(self.cap, suspected)

    # ---- when

    def ready_at(self, in_flight: int, now: float) -> float:
        """Return when the cap allows the next create: *now*, later, or infinity if a response decides."""
        doubted = self._suspicion
        if doubted is not None and doubted.doubted_until > now and in_flight >= doubted.running:
            return doubted.doubted_until
        if self._cap is None or in_flight < self._cap.size:
            return now
        if self._cap.may_probe(in_flight, len(self._probes)):
            return now
        return self._silent_until if not self._probes else math.inf

    def is_test_due(self, in_flight: int, creating: int) -> bool:
        """Tell whether a create should be sent in spite of the rate limit, because an end was seen."""
        tested = self._suspicion
        if tested is None or tested.rejections < _TESTED_FROM or creating:
            return False
        return in_flight <= tested.running - (1 << tested.failed_tests)

    # ---- what happens

    def on_send(self, create: object, in_flight: int) -> None:
        """Record that *create* is sent beside *in_flight* others."""
        if self._cap is not None and in_flight >= self._cap.size:
            self._probes.add(create)
            self._cap.on_probe()

    def on_inconclusive(self, create: object) -> None:
        """Record that the outcome of *create* says nothing about the cap."""
        self._probes.discard(create)

    def on_accept(
        self, create: object, running: int, now: float, *, sent_at: float, may_query_all: bool = True
    ) -> bool:
        """Note that *create* was accepted; return whether a confirmed cap explains the rejections before it.

        *running* counts the other tasks. *may_query_all* tells whether all of them may be queried at once, to
        look for an end that we have not seen.
        """
        self._quiet = max(0, self._quiet - 1)
        is_probe = self._take_probe(create)
        is_explained = False
        suspicion = self._suspicion
        if suspicion is not None and sent_at >= self._rejected_at:
            if suspicion.rejections >= _TESTED_FROM and running < suspicion.running:
                self._believe(suspicion.running)
                is_explained = self.is_confirmed
            elif self._wait_in_doubt(suspicion, now, now - sent_at, may_query_all=may_query_all):
                return False
            else:
                self._drop_suspicion()
        if self._cap is not None:
            if is_probe:
                self._silence = _FIRST_SILENCE
            self._silent_until = now + self._silence
            if self._cap.on_accept(running + 1, is_probe=is_probe):
                self._give_up()
        self._update()
        return is_explained

    def _wait_in_doubt(self, suspicion: _Suspicion, now: float, rtt: float, *, may_query_all: bool) -> bool:
        """Tell whether to wait for an unseen end, since a create was accepted without one."""
        is_old = suspicion.rejections >= _DOUBTED_FROM and self._cap is None
        if may_query_all and is_old and not suspicion.is_in_doubt:
            suspicion.doubted_until = now + _DOUBT_SECONDS + _DOUBT_RTTS * rtt
            return True
        return now < suspicion.doubted_until

    def on_reject(
        self, create: object, running: int, now: float, *, sent_at: float, is_rate_known: bool
    ) -> bool:
        """Note a 429 to *create* while *running* others ran; return whether the cap explains it.

        *is_rate_known* says that a known rate may explain it as well.
        """
        is_probe = self._take_probe(create)
        if sent_at < self._rejected_at:
            return is_probe or self._is_explained  # it was sent before the last rejection was known
        self._rejected_at = now
        self._is_explained = True
        if self._cap is not None and is_probe:
            if now >= self._silent_until:
                self._silence = min(2 * self._silence, _LONGEST_SILENCE)
            self._silent_until = now + self._silence
            self._cap.on_probe_reject(running)
        elif self._cap is not None and self._explains(self._cap, running, is_rate_known=is_rate_known):
            self._cap.lower(running)
        else:
            self._is_explained = False
            if self.is_tentative:
                self._give_up()
            self._suspect(running)
        return self._is_explained

    def _explains(self, cap: _Cap, running: int, *, is_rate_known: bool) -> bool:
        return self._suspicion is None and cap.explains(running, is_rate_known=is_rate_known)

    def on_end(self, in_flight: int, now: float) -> None:
        """Record that a task ended, which may settle a doubt."""
        doubted = self._suspicion
        if doubted is not None and now <= doubted.doubted_until and in_flight <= doubted.running:
            self._believe(doubted.running)
            self._silent_until = now + self._silence
            self._update()

    def _take_probe(self, create: object) -> bool:
        """Tell whether *create* was a probe, and forget it."""
        is_probe = create in self._probes
        self._probes.discard(create)
        return is_probe

    # ---- transitions

    def _suspect(self, running: int) -> None:
        """Begin or strengthen a suspicion; end it if this create was a test that failed."""
        suspicion = self._suspicion
        if suspicion is None:
            if running and not self._quiet:
                self._suspicion = _Suspicion(running)
        elif running < suspicion.running:
            suspicion.failed_tests += 1
            suspicion.running = running
            if not running or suspicion.failed_tests >= (1 if self._cap is None else _MOST_FAILED_TESTS):
                self._drop_suspicion()
                self._stay_quiet()
        else:
            suspicion.rejections += 1
            # It can have risen: a create may have been accepted since the previous rejection.
            suspicion.running = running
        self._update()

    def _believe(self, size: int) -> None:
        """Keep a cap of *size*: confirmed if the one before was, else tentative."""
        self._cap = _Cap(size, is_confirmed=self.is_confirmed)
        self._suspicion = None

    def _give_up(self) -> None:
        self._cap = None
        self._probes.clear()
        self._drop_suspicion()
        self._stay_quiet()

    def _drop_suspicion(self) -> None:
        if self.is_in_doubt:
            self._stay_quiet()
        self._suspicion = None

    def _stay_quiet(self) -> None:
        self._quiet = self._next_quiet
        self._next_quiet = min(2 * self._next_quiet, _LONGEST_QUIET)

    def _update(self) -> None:
        is_tested = self._suspicion is not None and self._suspicion.rejections >= _TESTED_FROM
        self.active = self._cap is not None or is_tested
        self.watching = self.active or self._suspicion is not None or self._quiet > 0
