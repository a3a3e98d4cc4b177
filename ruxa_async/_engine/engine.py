"""The engine: it decides what to send next and what each reply means. It reads no clock and awaits nothing.

A `Job` passes through four phases::

    QUEUED ──take_create──> CREATING ──accepted, follow──> FOLLOWED ──ended──> OVER
       ^                       │                              │ ^
       └──── requeue ──────────┘                 take_query ──┘ └── pending

The caller owns the clock, the transport and the journal. It takes a job, sends the request and reports the
reply, with the time of each. So tests pass any times they like.

`Creates`, `Polls` and `Callbacks` decide each for their own requests. `Engine` joins them and decides what
concerns both scopes: whose turn it is.
"""

from __future__ import annotations

import math
from typing import Generic, TypeVar

from ruxa_async.settings import Budget, Limits, Polling, Retries

from .budget import Spending
from .callbacks import Callbacks
from .circuit_breaker import CircuitBreaker
from .classify import Reply
from .creates import Creates
from .denial import Denial
from .job import Counts, CreateStep, Job, QueryStep
from .job_queues import JobQueues
from .polling.callbacks import CallbackPolling
from .polling.schedule import PollingSchedule
from .polls import Polls
from .rate_limits.concurrency_limit import ConcurrencyLimit
from .rate_limits.scopes import Scopes

__all__ = ("Engine",)

#: Seconds that a Retry-After may delay the query of a paid task; longer values count as this, since a result
#: is at stake.
LONGEST_QUERY_WAIT = 600.0
#: Creates sent in a row on a shared limit while a query is due: queries get at least one request in five.
CREATES_IN_A_ROW = 4

_J = TypeVar("_J", bound=Job)


class Engine(Generic[_J]):
    """Decide which request is sent next, and what each reply leads to. Times are in seconds."""

    def __init__(
        self, limits: Limits, polling: Polling, retries: Retries, budget: Budget | None = None
    ) -> None:
        self.counts = Counts()
        self.rates = Scopes(limits, longest_query_wait=LONGEST_QUERY_WAIT)
        self.creates, self.queries = self.rates.create, self.rates.query
        self.running = ConcurrencyLimit()
        self.breaker = CircuitBreaker()
        #: The learned durations.
        self.polling = PollingSchedule(polling)
        self.calls: CallbackPolling[_J] = CallbackPolling(self.polling)
        self.queues = JobQueues(self.calls, self.counts)
        self.spending: Spending[_J] | None = None if budget is None else Spending(budget)
        denial = Denial()
        self._polls = Polls(
            limits, polling, retries, self.queues, self.polling, self.calls,
            self.counts, self.rates, self.running, self.breaker, denial,
        )  # fmt: skip
        self._creates = Creates(
            limits, retries, self.queues, self._polls,
            self.counts, self.rates, self.running, self.breaker, denial, self.spending,
        )  # fmt: skip
        self.callbacks = Callbacks(self.queues, self._polls, self.calls, self.counts, self.breaker)
        self._max_queries = limits.max_concurrent_queries
        self._creates_in_a_row = 0

    # ---- the queue of creates

    @property
    def queued(self) -> int:
        """The number of jobs whose create waits."""
        return len(self.queues.creates)

    def submit(self, job: _J, now: float) -> None:
        """Queue *job* behind all others."""
        self._creates.submit(job, now)

    def requeue(self, job: _J) -> None:
        """Queue *job* again at its place in the order of submission."""
        self._creates.requeue(job)

    def withdraw(self, job: _J) -> bool:
        """Remove *job* from the queue; return False if its create was sent already."""
        return self._creates.withdraw(job)

    def pop_queued(self) -> _J | None:
        """Remove the first job from the queue and return it; None if the queue is empty."""
        job = self.queues.creates.first()
        if job is not None:
            self._creates.withdraw(job)
        return job

    def give_up_waiting(self, now: float) -> list[_J]:
        """Remove from the queue every job that has waited too long; return them in order."""
        return self._creates.give_up_waiting(now)

    def has_waited_too_long(self, job: _J, now: float) -> bool:
        """Tell whether the wait of *job*, past or to come, exceeds what `Retries` allows."""
        return self._creates.has_waited_too_long(job, now)

    # ---- creates

    def create_ready_at(self, now: float) -> float:
        """Return when the next create may be sent, infinity if another event must happen first."""
        ready = self._creates.ready_at(now)
        if ready == math.inf:
            return ready
        if self.rates.tests("create", now) or self._creates.probes_cap():
            return ready  # a test of a limit is worth more than its turn
        queries_turn = self.rates.binding and self._creates_in_a_row >= CREATES_IN_A_ROW
        if queries_turn and self.queries_due(now) and self.rates.ready_at("query", now) <= ready:
            return math.inf  # until that query is sent
        return ready

    def take_create(self, now: float) -> _J | None:
        """Return the job whose create is to be sent now, None if none may be sent yet."""
        if self.create_ready_at(now) > now:
            return None
        self._creates_in_a_row += 1
        return self._creates.take(now)

    def create_answered(self, job: _J, reply: Reply, now: float) -> CreateStep:
        """Learn from the *reply* to a create; return what to do."""
        return self._creates.answered(job, reply, now)

    def create_not_sent(self, job: _J, now: float) -> CreateStep:
        """Note that no byte of a create was sent; return what to do."""
        return self._creates.not_sent(job, now)

    def create_lost(self, job: _J, now: float) -> CreateStep:
        """Note that bytes of a create were sent and no complete reply will come; return what to do."""
        return self._creates.lost(job, now)

    def create_aborted(self, job: _J, now: float) -> None:
        """Note that the client did not send a create that it took; *job* is over."""
        self._creates.aborted(job, now)

    # ---- queries

    def follow(
        self, job: _J, now: float, *, timeout: float | None = None, ask_at: float | None = None
    ) -> None:
        """Query *job* from now on.

        *timeout* is in seconds since it was accepted. *ask_at* is the time of the first query; None leaves it
        to the polling schedule.
        """
        self._polls.follow(job, now, timeout=timeout, ask_at=ask_at)

    def query_ready_at(self, now: float) -> float:
        """Return when the next query may be sent, infinity if another event must happen first."""
        if self.counts.asking >= self._max_queries:
            return math.inf
        due = self._polls.next_at()
        if due == math.inf:
            return due
        if self._polls.tests_limit(now):
            return now
        ready = max(due, self.rates.ready_at("query", now))
        creates_turn = self.rates.binding and self._creates_in_a_row < CREATES_IN_A_ROW
        if creates_turn and self._creates.ready_at(now) <= ready:
            return math.inf  # until that create is sent: the sooner a task runs, the sooner it ends
        return ready

    def queries_due(self, now: float) -> int:
        """Return how many queries are due and within `Limits.max_concurrent_queries`; rate limits aside."""
        return self._polls.due(now)

    def look_for_query_at(self, now: float) -> tuple[float, bool]:
        """Return when to call `query_ready_at` again, and whether the next query is due only then.

        Before a query is due, rate limits are not asked: they may have changed by then, and seldom bind.
        """
        due = self._polls.next_at()
        if due <= now or self._polls.tests_limit(now):
            return self.query_ready_at(now), False
        return (due, True) if self.counts.asking < self._max_queries else (math.inf, False)

    def take_query(self, now: float) -> _J | None:
        """Return the job to query now, None if no query may be sent yet."""
        polls = self._polls
        if (polls.next_at() > now and not polls.tests_limit(now)) or self.query_ready_at(now) > now:
            return None
        self._creates_in_a_row = 0
        return polls.take(now)

    def query_answered(self, job: _J, reply: Reply, now: float) -> QueryStep:
        """Learn from the *reply* to a query; return what to do."""
        return self._polls.answered(job, reply, now)

    def query_failed(self, job: _J, now: float, *, sent: bool) -> QueryStep:
        """Note that a query got no reply; *sent* tells whether any byte of it was sent."""
        return self._polls.failed(job, now, sent=sent)

    def query_aborted(self, job: _J, now: float) -> None:  # noqa: ARG002 - for symmetry with create_aborted
        """Note that the client cut off a query of *job*."""
        self._polls.aborted(now)

    def learn(self, job: _J, now: float, exact: float | None, *, succeeded: bool = True) -> None:
        """Learn the duration of *job*, which ended. *exact* is what the service reports, in seconds."""
        self._polls.learn(job, now, exact, succeeded=succeeded)

    # ---- both

    def release(self, job: _J) -> None:
        """Remove *job* from every queue and free its slot: no request is sent for it any more."""
        self.queues.release(job)

    def take_expired(self, now: float) -> _J | None:
        """Release and return a job whose deadline has passed, None if there is none."""
        expired = self.queues.deadlines.pop_due(now)
        if expired is not None:
            self.queues.release(expired)
        return expired
