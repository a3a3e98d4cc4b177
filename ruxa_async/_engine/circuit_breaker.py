"""A circuit breaker for creates: while the service is failing, nothing is bought.

A create that gets a 5xx, or whose reply is lost, may have been charged. During an outage every create ends like that, so
creates stop after a few in a row, and single ones probe until one gets a good answer (the circuit breaker of M. Nygard,
"Release It!", 2007)::

    CLOSED ──unknown outcome──> SUSPECT ──third in a row──> OPEN
       ^                           │                         │
       └──32 good answers── RECOVERING <────good answer──────┘

Suspect and recovering: as many creates may be on the wire as good answers came since the last unknown outcome, plus one.
Open: one probe at a time, after 1 s and then after doubling waits. Queries cost nothing, so they go on, once a second if
they fail too; when they are answered again, the next probe need not wait.

Good is any answer that says what became of the create: accepted, refused, or rejected for its rate. Answers are ordered
by when their requests left, so that a late reply from before an outage does not hide it.
"""

from __future__ import annotations

import math

__all__ = ("CircuitBreaker",)

#: Unknown outcomes in a row that open the circuit. Each costs a person's time, and one alone is often bad luck.
THRESHOLD = 3
#: Seconds from the opening to the first probe; each failed probe doubles the wait.
FIRST_WAIT = 1.0
#: Seconds between two probes at most: an hour of outage costs about 65 unknown outcomes.
LONGEST_WAIT = 60.0
#: Seconds between two queries while they fail too: a recovery is seen this soon.
CHECK_INTERVAL = 1.0
#: Seconds after which an unanswered probe holds back the next one no longer: four times a slow create.
PROBE_TIMEOUT = 30.0
#: Good answers after which the circuit counts as closed: twice the default of creates on the wire.
RECOVERED = 32


class CircuitBreaker:
    """Say when the next create may leave, as far as the health of the service decides it. Times are in seconds."""

    def __init__(self) -> None:
        #: How often the circuit opened, for how many seconds in all before it closed again, and the last time.
        self.openings = 0
        self.seconds_open = self.last_outage = 0.0
        #: When a query should leave to see whether the service is back, infinity if none needs to.
        self.check_at = math.inf
        self._in_a_row = 0
        self._most_on_wire: int | None = None  # None while the circuit is closed
        self._on_wire: set[object] = set()  # creates that left while it was not
        self._newest_good = self._newest_unknown = -math.inf
        self._opened_at: float | None = None
        self._probe: object = None
        self._probe_sent_at = -math.inf
        self._probe_at = math.inf
        self._wait = FIRST_WAIT
        self._queries_fail = False
        self._query_freed_probe = False
        self._gap = FIRST_WAIT

    @property
    def is_open(self) -> bool:
        """Tell whether creates wait because the service is failing."""
        return self._opened_at is not None

    def open_for(self, now: float) -> float:
        """Return for how many seconds the circuit has been open, 0 if it is not."""
        return 0.0 if self._opened_at is None else now - self._opened_at

    def ready_at(self) -> float:
        """Return when the next create may leave, minus infinity if the service's health does not hold it back."""
        if self._most_on_wire is None:
            return -math.inf
        if self._opened_at is not None:
            return self._probe_at
        return -math.inf if len(self._on_wire) < self._most_on_wire else self._probe_sent_at + PROBE_TIMEOUT

    def on_send(self, create: object, now: float) -> None:
        """Note that *create* leaves."""
        if self._most_on_wire is None:
            return
        self._on_wire.add(create)
        self._probe, self._probe_sent_at = create, now
        self._probe_at = now + PROBE_TIMEOUT

    def on_good(self, create: object, now: float, *, sent_at: float) -> None:
        """Note an answer that says what became of *create*, which left at *sent_at*."""
        self._newest_good = max(self._newest_good, sent_at)
        if self._most_on_wire is None:
            return
        self._on_wire.discard(create)
        if sent_at > self._newest_unknown:
            self._recover(now)

    def on_proven(self, now: float, *, sent_at: float) -> None:
        """Note that a callback proved a create of unknown outcome that left at *sent_at*: its reply alone was lost."""
        if self._most_on_wire is not None and sent_at >= self._newest_unknown:
            self._recover(now)

    def _recover(self, now: float) -> None:
        assert self._most_on_wire is not None
        self._close(now)
        self._in_a_row = 0
        self._most_on_wire += 1
        if self._most_on_wire > RECOVERED:
            self._most_on_wire = None
            self._on_wire.clear()
            self._probe = None
            self._wait = self._gap = FIRST_WAIT

    def on_unknown(self, create: object, now: float, *, sent_at: float) -> None:
        """Note that nobody can tell what became of *create*."""
        self._on_wire.discard(create)
        if sent_at < self._newest_good:
            return
        self._newest_unknown = max(self._newest_unknown, sent_at)
        self._in_a_row += 1
        self._most_on_wire = 1
        if self._opened_at is None and self._in_a_row >= THRESHOLD:
            self._open(now)
        elif self._opened_at is not None and create is self._probe:
            self._back_off(now)

    def on_not_sent(self, create: object, now: float) -> None:
        """Note that no byte of *create* left: it was no probe."""
        self._on_wire.discard(create)
        if create is self._probe:
            self._probe_at = now

    def on_query_send(self, now: float) -> None:
        """Note that a query leaves."""
        if self.check_at < math.inf:
            self.check_at = now + CHECK_INTERVAL

    def on_query_good(self, now: float, *, sent_at: float) -> None:
        """Note a readable answer to a query that left at *sent_at*: after failures, the service may be back."""
        if self._opened_at is None or sent_at < self._opened_at:
            return
        self.check_at = math.inf
        if self._queries_fail:
            self._queries_fail = False
            earlier = max(now, self._probe_sent_at + self._gap)
            if earlier < self._probe_at:
                self._probe_at, self._query_freed_probe = earlier, True

    def on_query_failed(self, now: float) -> None:
        """Note that a query brought no readable answer."""
        if self._opened_at is not None and not self._queries_fail:
            self._queries_fail = True
            self.check_at = now + CHECK_INTERVAL

    def _open(self, now: float) -> None:
        self.openings += 1
        self._opened_at = self.check_at = now
        self._queries_fail = self._query_freed_probe = False
        self._probe = None
        self._back_off(now)

    def _back_off(self, now: float) -> None:
        self._probe_at = now + self._wait
        self._wait = min(2 * self._wait, LONGEST_WAIT)
        if self._query_freed_probe:  # so queries say little about creates: they free the next one later
            self._query_freed_probe = False
            self._gap = min(2 * self._gap, LONGEST_WAIT)

    def _close(self, now: float) -> None:
        if self._opened_at is not None:
            self.last_outage = now - self._opened_at
            self.seconds_open += self.last_outage
            self._opened_at = None
            self.check_at = math.inf
