"""A circuit breaker for creates: while the service fails, no tasks are created.

A create that gets a 5xx, or whose reply is lost, may have been charged: its outcome is unknown. During an
outage all creates end like that. So creates stop after three in a row, and single creates probe the service
until one gets a clear reply (the circuit breaker of M. Nygard, "Release It!", 2007)::

    CLOSED ──unknown outcome──> SUSPECT ──third in a row──> OPEN
       ^                           │                         │
       └──32 clear replies── RECOVERING <────clear reply─────┘

While suspect or recovering, one create may be on the wire, and one more for each clear reply since the last
unknown outcome. While open, one probe is sent after 1 s, and then after doubling waits. Queries cost nothing,
so they continue, once a second if they fail too. When they succeed again, the next probe is sent early.

A reply is clear if it shows the outcome of its create: accepted, refused, or rejected (429). Replies count in
the order in which their requests were sent, so a late reply from before an outage does not close the circuit.
"""

from __future__ import annotations

import math

__all__ = ("CircuitBreaker",)

#: Unknown outcomes in a row that open the circuit: few, because a person has to check each; one alone is
#: often chance.
THRESHOLD = 3
#: Seconds from the opening to the first probe. Each failed probe doubles the wait.
FIRST_WAIT = 1.0
#: Most seconds between two probes: an outage of an hour then leaves about 65 creates of unknown outcome.
LONGEST_WAIT = 60.0
#: Seconds between two queries while they fail too, and so the longest time to notice a recovery.
CHECK_INTERVAL = 1.0
#: Seconds after which the next probe is sent although the last is unanswered: four times a slow create.
PROBE_TIMEOUT = 30.0
#: Clear replies in a row that close the circuit: twice the default of `Limits.max_concurrent_creates`.
RECOVERED = 32


class CircuitBreaker:
    """When the next create may be sent, by the outcomes of creates and queries. Times are in seconds."""

    def __init__(self) -> None:
        self.openings: int = 0
        #: Seconds for which the circuit was open in all, and the last time.
        self.seconds_open: float = 0.0
        self.last_outage: float = 0.0
        #: When to send a query, due or not, to see whether the service is back; infinity for never.
        self.check_at: float = math.inf
        self._unknown_in_a_row = 0
        self._max_on_wire: int | None = None  # None while the circuit is closed
        self._on_wire: set[object] = set()  # creates that were sent while it was not closed
        self._newest_clear = self._newest_unknown = -math.inf
        self._opened_at: float | None = None
        self._probe: object = None
        self._probe_sent_at = -math.inf
        self._probe_at = math.inf
        self._wait = FIRST_WAIT
        self._queries_fail = False
        self._probe_is_early = False
        self._early_wait = FIRST_WAIT

    @property
    def is_open(self) -> bool:
        """Tell whether creates wait because the service is failing."""
        return self._opened_at is not None

    def open_for(self, now: float) -> float:
        """Return for how many seconds the circuit has been open, 0 if it is not."""
        return 0.0 if self._opened_at is None else now - self._opened_at

    def ready_at(self) -> float:
        """Return when the next create may be sent, minus infinity if the circuit does not delay it."""
        if self._max_on_wire is None:
            return -math.inf
        if self._opened_at is not None:
            return self._probe_at
        return -math.inf if len(self._on_wire) < self._max_on_wire else self._probe_sent_at + PROBE_TIMEOUT

    def on_send(self, create: object, now: float) -> None:
        if self._max_on_wire is None:
            return
        self._on_wire.add(create)
        self._probe, self._probe_sent_at = create, now
        self._probe_at = now + PROBE_TIMEOUT

    def on_good(self, create: object, now: float, *, sent_at: float) -> None:
        """Note a clear reply to *create*, which was sent at *sent_at*."""
        self._newest_clear = max(self._newest_clear, sent_at)
        if self._max_on_wire is None:
            return
        self._on_wire.discard(create)
        if sent_at > self._newest_unknown:
            self._recover(now)

    def on_proven(self, now: float, *, sent_at: float) -> None:
        """Record that a callback proved a create of unknown outcome accepted, which was sent at *sent_at*."""
        if self._max_on_wire is not None and sent_at >= self._newest_unknown:
            self._recover(now)

    def _recover(self, now: float) -> None:
        assert self._max_on_wire is not None
        self._close(now)
        self._unknown_in_a_row = 0
        self._max_on_wire += 1
        if self._max_on_wire > RECOVERED:
            self._max_on_wire = None
            self._on_wire.clear()
            self._probe = None
            self._wait = self._early_wait = FIRST_WAIT

    def on_unknown(self, create: object, now: float, *, sent_at: float) -> None:
        self._on_wire.discard(create)
        if sent_at < self._newest_clear:
            return
        self._newest_unknown = max(self._newest_unknown, sent_at)
        self._unknown_in_a_row += 1
        self._max_on_wire = 1
        if self._opened_at is None and self._unknown_in_a_row >= THRESHOLD:
            self._open(now)
        elif self._opened_at is not None and create is self._probe:
            self._back_off(now)

    def on_not_sent(self, create: object, now: float) -> None:
        """Record that no byte of *create* was sent; if it was the probe, the next one may follow at once."""
        self._on_wire.discard(create)
        if create is self._probe:
            self._probe_at = now

    def on_query_send(self, now: float) -> None:
        if self.check_at < math.inf:
            self.check_at = now + CHECK_INTERVAL

    def on_query_good(self, now: float, *, sent_at: float) -> None:
        """Note a readable reply to a query sent at *sent_at*; after failures, it advances the next probe."""
        if self._opened_at is None or sent_at < self._opened_at:
            return
        self.check_at = math.inf
        if self._queries_fail:
            self._queries_fail = False
            earlier = max(now, self._probe_sent_at + self._early_wait)
            if earlier < self._probe_at:
                self._probe_at, self._probe_is_early = earlier, True

    def on_query_failed(self, now: float) -> None:
        """Record that a query got no readable reply."""
        if self._opened_at is not None and not self._queries_fail:
            self._queries_fail = True
            self.check_at = now + CHECK_INTERVAL

    def _open(self, now: float) -> None:
        self.openings += 1
        self._opened_at = self.check_at = now
        self._queries_fail = self._probe_is_early = False
        self._probe = None
        self._back_off(now)

    def _back_off(self, now: float) -> None:
        self._probe_at = now + self._wait
        self._wait = min(2 * self._wait, LONGEST_WAIT)
        if self._probe_is_early:  # good queries did not mean good creates: wait longer next time
            self._probe_is_early = False
            self._early_wait = min(2 * self._early_wait, LONGEST_WAIT)

    def _close(self, now: float) -> None:
        if self._opened_at is not None:
            self.last_outage = now - self._opened_at
            self.seconds_open += self.last_outage
            self._opened_at = None
            self.check_at = math.inf
