"""Queries for running tasks: when the next one may be sent, and what its reply leads to."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

from attrs import define, field

from ruxa_async.settings import Limits, Polling, Retries

from .circuit_breaker import CircuitBreaker
from .classify import QueryVerdict, Reply, classify_query
from .deadline_heap import PriorityQueue
from .denial import Denial
from .job import Counts, Job, Phase, QueryStep
from .job_queues import JobQueues
from .polling.callback_polling import CallbackPolling
from .polling.schedule import PollingSchedule
from .rate_limits.concurrency_limit import ConcurrencyLimit
from .rate_limits.limiter import ScopeLimiter
from .rate_limits.scopes import Scopes

__all__ = ("LATE", "REPLANS_PER_TASK", "Polls", "retry_after_of")

#: Seconds after a create was accepted in which a 404 or 422 to a query means "not visible yet", so it is
#: sent again.
MISSING_GRACE = 30.0
#: Seconds. A query sent this much after its due time was delayed by the rate limit; a timer is never so late.
LATE = 0.1
#: How often the next query of a task is rescheduled, on average: a batch of n tasks then costs O(n).
REPLANS_PER_TASK = 16
#: Seconds; the first and the longest pause before a failed query is sent again (exponential backoff). The
#: longest one is how late a recovered service is noticed.
_FIRST_RETRY = 0.5
_LONGEST_RETRY = 30.0

_J = TypeVar("_J", bound=Job)


@define(eq=False)
class Polls(Generic[_J]):
    """The schedule of queries, and those on the wire. Times are in seconds."""

    _limits: Limits
    _polling: Polling
    _retries: Retries
    _queues: JobQueues[_J]
    _schedule: PollingSchedule
    _callback_polling: CallbackPolling[_J]
    _counts: Counts
    _scopes: Scopes
    _cap: ConcurrencyLimit
    _breaker: CircuitBreaker
    _denial: Denial
    _limiter: ScopeLimiter = field(init=False)
    _due: PriorityQueue[_J] = field(init=False)
    _replans_left: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._limiter = self._scopes.query
        self._due = self._queues.queries

    # ---- scheduling

    def follow(
        self, job: _J, now: float, *, timeout: float | None = None, poll_at: float | None = None
    ) -> None:
        """Query *job* from now on, until *timeout* seconds after it was accepted.

        *poll_at* is the time of the first query; None leaves it to the polling schedule.
        """
        job.phase = Phase.FOLLOWED
        if not job.single_shot:
            self._queues.occupy_slot(job)
        self._replans_left += REPLANS_PER_TASK
        if timeout is not None:
            self._queues.deadlines.set(job, job.accepted_at + timeout)
        if poll_at is None and job.callback_at is not None and job.callback_at < math.inf:
            poll_at = now
        job.scheduled_by_model = poll_at is None
        if poll_at is None:
            if self._cap.active or self._schedule.urgent:
                self._update_urgency()
            poll_at = job.accepted_at + self._first_poll(job, now - job.accepted_at)
        self._due.set(job, poll_at)

    def _first_poll(self, job: _J, age: float) -> float:
        if self._callback_polling.waits_for(job):
            return self._callback_polling.first_poll(job, age)
        return self._schedule.next_poll(job.model, age, 0.0)

    def _next_poll(self, job: _J, now: float) -> float:
        age = now - job.accepted_at
        if self._callback_polling.waits_for(job):
            return job.accepted_at + self._callback_polling.next_poll(job.model, age, job.pending_at)
        # While urgent, `Polling.min_interval` begins when the last query was sent, not when its reply came.
        since = job.pending_at if self._schedule.urgent else age
        return max(job.accepted_at + self._schedule.next_poll(job.model, since), now)

    def _update_urgency(self) -> None:
        """Poll more often while creates wait for running tasks to end."""
        is_waiting = len(self._queues.creates) > 0
        self._schedule.urgent = self._cap.active and is_waiting and self._cap.binds(self._counts.in_flight)

    def poll_soon(self, job: _J, now: float) -> None:
        """Query *job* now. If its query is on the wire, the engine queries again after a pending reply."""
        job.scheduled_by_model = False
        if job.ticket:
            self._due.set(job, now)

    def poll_rested(self, now: float) -> None:
        """Query now every task whose last query was sent `Polling.min_interval` ago or earlier."""
        for job in self._due.items():
            if job.scheduled_by_model and self._has_rested(job, now):
                self._due.set(job, now)

    def _has_rested(self, job: _J, now: float) -> bool:
        """Tell whether *job* was accepted and last queried `Polling.min_interval` ago or earlier."""
        last = max(job.accepted_at + job.pending_at, job.sent_at)
        return now - last >= self._polling.min_interval

    # ---- sending

    def next_at(self) -> float:
        """Return when the next query is due, infinity without one. In an outage, one is due each second."""
        due = self._due.next_time()
        return min(due, self._breaker.check_at) if due < math.inf else due

    def count_due(self, now: float) -> int:
        """Return how many queries are due and within `Limits.max_concurrent_queries`; rate limits aside."""
        return self._due.count_due(now, self._limits.max_concurrent_queries - self._counts.queries_on_wire)

    def tests_limit(self, now: float) -> bool:
        """Tell whether to send a query early, to test whether creates and queries share a quota."""
        if not self._scopes.tests("query", now) or (first := self._due.first()) is None:
            return False
        return not first.queries or self._due.next_time() <= now or self._has_rested(first, now)

    def take(self, now: float) -> _J:
        """Return the job whose query is due first, and count that query as sent."""
        self._schedule.on_poll(late=now - self._due.next_time() > LATE)
        job = self._due.pop_due(math.inf)
        assert job is not None  # next_at is finite
        job.queries += 1
        job.sent_at = now
        self._counts.queries_on_wire += 1
        self._counts.queries_sent += 1
        self._scopes.on_send("query", now, job)
        self._breaker.on_query_send(now)
        return job

    # ---- replies

    def on_reply(self, job: _J, reply: Reply, now: float) -> QueryStep:
        """Learn from the *reply* to a query of *job*; return what to do next."""
        self._counts.queries_on_wire -= 1
        self._counts.reached = True
        verdict = classify_query(reply)
        self._update_health(job, verdict, now)
        self._update_limits(job, reply, now, rejected=verdict is QueryVerdict.REJECTED)
        if job.phase is not Phase.FOLLOWED:
            return QueryStep.AGAIN  # released while its query was on the wire
        if verdict is QueryVerdict.REJECTED:
            self._due.set(job, job.sent_at)  # it stays first in the queue
            return QueryStep.AGAIN
        if verdict is QueryVerdict.ENDED or job.single_shot:
            self._end(job, now)
            return QueryStep.ENDED
        if verdict is QueryVerdict.PENDING:
            self._on_pending(job, now)
            return QueryStep.PENDING
        missing_for_good = verdict is QueryVerdict.MISSING and now - job.accepted_at >= MISSING_GRACE
        denied_for_good = verdict is QueryVerdict.DENIED and self._denial.is_final(now)
        return self._retry(job, now, final=missing_for_good or denied_for_good)

    def _update_health(self, job: _J, verdict: QueryVerdict, now: float) -> None:
        """Report the outcome of a query to the circuit breaker and to `Denial`."""
        if verdict is QueryVerdict.DENIED:
            self._denial.on_denied(job, now)
        elif verdict in (QueryVerdict.ENDED, QueryVerdict.PENDING):
            self._denial.on_good()
        if verdict in (QueryVerdict.DENIED, QueryVerdict.UNCLEAR):
            self._breaker.on_query_failed(now)
        else:
            self._breaker.on_query_good(now, sent_at=job.sent_at)

    def _update_limits(self, job: _J, reply: Reply, now: float, *, rejected: bool) -> None:
        """Report the outcome of a query, and the quota in its reply, to the rate limiters."""
        if rejected:
            retry_after = retry_after_of(reply, self._limiter)
            self._scopes.on_reject("query", now, retry_after, sent_at=job.sent_at, job=job)
        else:
            self._scopes.on_accept("query", now, sent_at=job.sent_at, job=job)
        if reply.quota is not None:
            rejected_for = (reply.retry_after or 0.0) if rejected else None
            self._scopes.on_quota("query", reply.quota, now, sent_at=job.sent_at, rejected_for=rejected_for)

    def _end(self, job: _J, now: float) -> None:
        callbacks_failed = self._callback_polling.on_end(job) and not self._callback_polling.reliable
        self._queues.release(job)
        if self._cap.active:
            self._cap.on_end(self._counts.in_flight, now)
        if callbacks_failed:
            self._due.set_all(
                lambda other, at: min(self._replanned(other, now), at) if other.scheduled_by_model else at
            )

    def _on_pending(self, job: _J, now: float) -> None:
        job.failing_since = None
        job.failures = 0
        job.scheduled_by_model = True
        job.pending_at = job.sent_at - job.accepted_at
        called_back = job.callback_at is not None and job.sent_at < job.callback_at < math.inf
        job.sent_at = job.accepted_at  # shares the float object: 24 bytes less for each waiting task
        if self._cap.active or self._schedule.urgent:
            self._update_urgency()
        self._due.set(job, now if called_back else self._next_poll(job, now))

    def on_failure(self, job: _J, now: float, *, sent: bool) -> QueryStep:
        """Record that a query got no reply; *sent* tells whether any byte of it was sent."""
        self._counts.queries_on_wire -= 1
        self._breaker.on_query_failed(now)
        if sent:
            self._counts.reached = True
            self._limiter.on_no_response(now)
        else:
            self._limiter.on_not_sent(now)
        if job.phase is not Phase.FOLLOWED:
            return QueryStep.AGAIN
        return self._retry(job, now, final=job.single_shot)

    def on_abort(self, now: float) -> None:
        """Record that the client cancelled a query on the wire."""
        self._counts.queries_on_wire -= 1
        self._limiter.on_no_response(now)

    def _retry(self, job: _J, now: float, *, final: bool) -> QueryStep:
        """Retry a failed query with backoff; stop if *final* or after `Retries.query_retry_timeout`."""
        if job.failing_since is None:
            job.failing_since = now
        if final or now - job.failing_since >= self._retries.query_retry_timeout:
            self._queues.release(job)
            return QueryStep.STOP
        pause = min(_FIRST_RETRY * 2.0 ** min(job.failures, 16), _LONGEST_RETRY)
        job.failures += 1
        job.scheduled_by_model = False
        self._due.set(job, now + max(pause, self._polling.min_interval))
        return QueryStep.AGAIN

    # ---- learning durations

    def learn(self, job: _J, now: float, exact: float | None, *, succeeded: bool = True) -> None:
        """Learn the duration of *job*, which ended; reschedule its model's queries if the fit moves much.

        *exact* is the duration in seconds that the service reports, None if it reports none.
        """

        def running() -> list[float]:
            return [other.pending_at for other in self._due.items() if other.model == job.model]

        age = now - job.accepted_at
        if exact is None and job.callback_at is not None and job.callback_at < math.inf:
            exact = job.callback_at - job.accepted_at
        if self._schedule.ended(job.model, job.pending_at, age, exact, running, succeeded=succeeded):
            self._replan(job.model, now)

    def _replan(self, model: str | None, now: float) -> None:
        """Reschedule the waiting queries of *model*, if `REPLANS_PER_TASK` leaves room."""
        if len(self._due) > self._replans_left:
            return
        self._replans_left -= len(self._due)
        self._due.set_all(
            lambda other, at: (
                self._replanned(other, now) if other.scheduled_by_model and other.model == model else at
            )
        )

    def _replanned(self, job: _J, now: float) -> float:
        if not self._callback_polling.waits_for(job):
            age = self._schedule.next_poll(job.model, job.pending_at)
        elif job.pending_at:
            age = self._callback_polling.next_poll(job.model, job.pending_at, job.pending_at)
        else:
            age = self._callback_polling.first_poll(job, 0.0)
        return max(job.accepted_at + age, now)


def retry_after_of(reply: Reply, limiter: ScopeLimiter) -> float | None:
    """Return the Retry-After of *reply* in seconds, None if it has none that *limiter* trusts."""
    if reply.by_rate_limit_headers and reply.retry_after is not None and limiter.hints is not None:
        return limiter.hints.trusted_wait(reply.retry_after)
    return reply.retry_after
