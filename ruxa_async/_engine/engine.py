"""The engine: it decides what to send next and what each reply means. It reads no clock and awaits nothing.

A `Job` passes through four phases::

    QUEUED ──take_create──> CREATING ──accepted, follow──> FOLLOWED ──ended──> OVER
       ^                       │                              │ ^
       └──── requeue ──────────┘                 take_query ──┘ └── pending

The caller owns the clock, the transport and the journal. It takes a job, sends the request and reports the
reply, with the time of each. Tests can therefore pass any times.

`Creates`, `Polls` and `Callbacks` decide each for their own requests. `Engine` decides what concerns creates
and queries together: which of the two is sent next.
"""

from __future__ import annotations

import math
from typing import Generic, TypeVar

from ruxa_async.settings import Budget, Limits, Polling, Retries

from .budget import Spending
from .callbacks import Callbacks
from .circuit_breaker import CircuitBreaker
from .creates import Creates
from .denial import Denial
from .job import Counts, Job
from .job_queues import JobQueues
from .polling.callback_polling import CallbackPolling
from .polling.schedule import PollingSchedule
from .polls import Polls
from .rate_limits.concurrency_limit import ConcurrencyLimit
from .rate_limits.scopes import Scopes

__all__ = ("Engine",)

#: Seconds that a Retry-After may delay queries; longer values count as this, so that the result of a paid
#: task is never hours late.
LONGEST_QUERY_WAIT = 600.0
#: Creates sent in a row on a shared limit while a query is due: queries get at least one request in five.
CREATES_IN_A_ROW = 4

_J = TypeVar("_J", bound=Job)


class Engine(Generic[_J]):
    """Decide which request is sent next. Times are in seconds of one clock, which the caller reads."""

    def __init__(
        self, limits: Limits, polling: Polling, retries: Retries, budget: Budget | None = None
    ) -> None:
        self.counts: Counts = Counts()
        self.scopes: Scopes = Scopes(limits, longest_query_wait=LONGEST_QUERY_WAIT)
        self.concurrency_limit: ConcurrencyLimit = ConcurrencyLimit()
        self.breaker: CircuitBreaker = CircuitBreaker()
        self.schedule: PollingSchedule = PollingSchedule(polling)
        self.callback_polling: CallbackPolling[_J] = CallbackPolling(self.schedule)
        self.queues: JobQueues[_J] = JobQueues(self.callback_polling, self.counts)
        self.spending: Spending[_J] | None = None if budget is None else Spending(budget)
        denial = Denial()
        self.polls: Polls[_J] = Polls(
            limits, polling, retries, self.queues, self.schedule, self.callback_polling,
            self.counts, self.scopes, self.concurrency_limit, self.breaker, denial,
        )  # fmt: skip
        self.creates: Creates[_J] = Creates(
            limits, retries, self.queues, self.polls,
            self.counts, self.scopes, self.concurrency_limit, self.breaker, denial, self.spending,
        )  # fmt: skip
        self.callbacks: Callbacks[_J] = Callbacks(
            self.queues, self.polls, self.callback_polling, self.counts, self.breaker
        )
        self._max_queries: int = limits.max_concurrent_queries
        self._creates_in_a_row: int = 0

    def take_over(self, at: float, *, unknown: int, accepted: int) -> None:
        """Begin with what another process of the account left behind, which could send until the time *at*.

        Configured limits count as used up then, and its *unknown* creates and *accepted* tasks may still run.
        """
        self.scopes.use_up(at)
        self.creates.count_left_behind(at, unknown=unknown, accepted=accepted)

    # ---- jobs

    @property
    def queued(self) -> int:
        """The number of jobs whose create waits."""
        return len(self.queues.creates)

    def pop_queued(self) -> _J | None:
        """Remove the first job from the queue of creates and return it; None if the queue is empty."""
        job = self.queues.creates.first()
        if job is not None:
            self.creates.withdraw(job)
        return job

    def release(self, job: _J) -> None:
        """Remove *job* from every queue and free its slot: no request is sent for it any more."""
        self.queues.release(job)

    def take_expired(self, now: float) -> _J | None:
        """Release and return a job whose deadline has passed, None if there is none."""
        expired = self.queues.deadlines.pop_due(now)
        if expired is not None:
            self.queues.release(expired)
        return expired

    # ---- the next create

    def create_ready_at(self, now: float) -> float:
        """Return when the next create may be sent, infinity if another event must happen first."""
        ready = self.creates.ready_at(now)
        if ready == math.inf:
            return ready
        if self.scopes.tests("create", now) or self.creates.probes_cap():
            return ready  # a test of a limit goes before a query that is due
        queries_turn = self.scopes.shares_limited_quota and self._creates_in_a_row >= CREATES_IN_A_ROW
        if queries_turn and self.polls.count_due(now) and self.scopes.ready_at("query", now) <= ready:
            return math.inf  # until that query is sent
        return ready

    def take_create(self, now: float) -> _J | None:
        """Return the job whose create is to be sent now, None if none may be sent yet."""
        if self.create_ready_at(now) > now:
            return None
        self._creates_in_a_row += 1
        return self.creates.take(now)

    # ---- the next query

    def query_ready_at(self, now: float) -> float:
        """Return when the next query may be sent, infinity if another event must happen first."""
        if self.counts.queries_on_wire >= self._max_queries:
            return math.inf
        due = self.polls.next_at()
        if due == math.inf:
            return due
        if self.polls.tests_limit(now):
            return now
        ready = max(due, self.scopes.ready_at("query", now))
        creates_turn = self.scopes.shares_limited_quota and self._creates_in_a_row < CREATES_IN_A_ROW
        if creates_turn and self.creates.ready_at(now) <= ready:
            return math.inf  # until that create is sent: the sooner a task runs, the sooner it ends
        return ready

    def look_for_query_at(self, now: float) -> tuple[float, bool]:
        """Return when to call `query_ready_at` again, and whether the next query is due only then.

        The rate limit is not asked before a query is due: that saves work, and its answer may change by then.
        """
        due = self.polls.next_at()
        if due <= now or self.polls.tests_limit(now):
            return self.query_ready_at(now), False
        return (due, True) if self.counts.queries_on_wire < self._max_queries else (math.inf, False)

    def take_query(self, now: float) -> _J | None:
        """Return the job to query now, None if no query may be sent yet."""
        polls = self.polls
        if (polls.next_at() > now and not polls.tests_limit(now)) or self.query_ready_at(now) > now:
            return None
        self._creates_in_a_row = 0
        return polls.take(now)
