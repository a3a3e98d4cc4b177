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
from .polling.callbacks import CallbackPolling
from .polling.schedule import PollingSchedule
from .rate_limits.concurrency_limit import ConcurrencyLimit
from .rate_limits.limiter import ScopeLimiter
from .rate_limits.scopes import Scopes

__all__ = ("LATE", "REPLANS_PER_TASK", "Polls", "retry_after_of")

#: Seconds after its acceptance in which a task may be missing (404, 422): a new task can take a moment to
#: become visible.
MISSING_GRACE = 30.0
#: Seconds after its due time from which a query counts as delayed by the query limit; timers alone are more
#: exact.
LATE = 0.1
#: Times that one task's next query is rescheduled, on average. It keeps the work for a batch of n tasks in
#: O(n).
REPLANS_PER_TASK = 16
#: Seconds of the exponential backoff of a failing query. The longest finds a recovered service within half a
#: minute.
_FIRST_RETRY = 0.5
_LONGEST_RETRY = 30.0

_J = TypeVar("_J", bound=Job)


@define(eq=False)
class Polls(Generic[_J]):
    """The schedule of queries, and those on the wire. `Engine` documents the methods that it passes on."""

    _limits: Limits
    _polling: Polling
    _retries: Retries
    _queues: JobQueues[_J]
    _schedule: PollingSchedule
    _calls: CallbackPolling[_J]
    counts: Counts
    rates: Scopes
    running: ConcurrencyLimit
    breaker: CircuitBreaker
    _denial: Denial
    queries: ScopeLimiter = field(init=False)
    _due: PriorityQueue[_J] = field(init=False)
    _replans_left: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.queries = self.rates.query
        self._due = self._queues.queries

    # ---- scheduling

    def follow(self, job: _J, now: float, *, timeout: float | None, ask_at: float | None) -> None:
        """Query *job* from now on, first at *ask_at*, until *timeout* seconds after it was accepted."""
        job.phase = Phase.FOLLOWED
        if not job.single_shot:
            self._queues.occupy_slot(job)
        self._replans_left += REPLANS_PER_TASK
        if timeout is not None:
            self._queues.deadlines.set(job, job.accepted_at + timeout)
        if ask_at is None and job.callback_at is not None and job.callback_at < math.inf:
            ask_at = now
        job.scheduled_by_model = ask_at is None
        if ask_at is None:
            if self.running.active or self._schedule.urgent:
                self._update_urgency()
            ask_at = job.accepted_at + self._first_poll(job, now - job.accepted_at)
        self._due.set(job, ask_at)

    def _first_poll(self, job: _J, age: float) -> float:
        if self._calls.waits_for(job):
            return self._calls.first_poll(job, age)
        return self._schedule.first_poll(job.model, age)

    def _next_poll(self, job: _J, now: float) -> float:
        age = now - job.accepted_at
        if self._calls.waits_for(job):
            return job.accepted_at + self._calls.next_poll(job.model, age, job.pending_at)
        if self._schedule.urgent:
            # `Polling.min_interval` separates two sends, so the round trip of the last query is part of it.
            return max(job.accepted_at + self._schedule.replanned_poll(job.model, job.pending_at), now)
        return job.accepted_at + self._schedule.next_poll(job.model, age)

    def _update_urgency(self) -> None:
        """Poll more often while creates wait for a slot that a finished task may already have freed."""
        cap, waiting = self.running, len(self._queues.creates) > 0
        self._schedule.urgent = cap.active and waiting and cap.binds(self.counts.in_flight)

    def poll_soon(self, job: _J, now: float) -> None:
        """Query *job* next; if it is on the wire, query it once more should the reply be pending."""
        job.scheduled_by_model = False
        if job.ticket:
            self._due.set(job, now)

    def poll_rested(self, now: float) -> None:
        """Make every query due whose task was not queried within `Polling.min_interval`."""
        for job in self._due.items():
            if job.scheduled_by_model and self._has_rested(job, now):
                self._due.set(job, now)

    def _has_rested(self, job: _J, now: float) -> bool:
        """Tell whether *job* was accepted and last queried `Polling.min_interval` ago or earlier."""
        last = max(job.accepted_at + job.pending_at, job.sent_at)
        return now - last >= self._polling.min_interval

    # ---- sending

    def next_at(self) -> float:
        """Return when a query is due: a scheduled one, or a check whether the service is back."""
        due = self._due.next_time()
        return min(due, self.breaker.check_at) if due < math.inf else due

    def due(self, now: float) -> int:
        """Return how many queries are due and within `Limits.max_concurrent_queries`."""
        return self._due.count_due(now, self._limits.max_concurrent_queries - self.counts.asking)

    def tests_limit(self, now: float) -> bool:
        """Tell whether a query is sent early, to find out whether both scopes share a limit."""
        if not self.rates.tests("query", now) or (first := self._due.first()) is None:
            return False
        return not first.queries or self._due.next_time() <= now or self._has_rested(first, now)

    def take(self, now: float) -> _J:
        """Return the job that is due first, and count its query as sent."""
        self._schedule.on_poll(late=now - self._due.next_time() > LATE)
        job = self._due.pop_due(math.inf)
        assert job is not None  # next_at is finite
        job.queries += 1
        job.sent_at = now
        self.counts.asking += 1
        self.counts.queries_sent += 1
        self.rates.on_send("query", now, job)
        self.breaker.on_query_send(now)
        return job

    # ---- replies

    def answered(self, job: _J, reply: Reply, now: float) -> QueryStep:
        """Learn from the *reply* to a query; return what to do."""
        self.counts.asking -= 1
        self.counts.reached = True
        verdict = classify_query(reply)
        self._update_health(job, verdict, now)
        self._update_limits(job, reply, now, rejected=verdict is QueryVerdict.THROTTLED)
        if job.phase is not Phase.FOLLOWED:
            return QueryStep.AGAIN  # released while its query was on the wire
        if verdict is QueryVerdict.THROTTLED:
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
        """Tell the circuit breaker and the watch on denials."""
        if verdict is QueryVerdict.DENIED:
            self._denial.on_denied(job, now)
        elif verdict in (QueryVerdict.ENDED, QueryVerdict.PENDING):
            self._denial.on_good()
        if verdict in (QueryVerdict.DENIED, QueryVerdict.UNCLEAR):
            self.breaker.on_query_failed(now)
        else:
            self.breaker.on_query_good(now, sent_at=job.sent_at)

    def _update_limits(self, job: _J, reply: Reply, now: float, *, rejected: bool) -> None:
        """Report the outcome of a query, and the quota in its reply, to the rate limiters."""
        if rejected:
            retry_after = retry_after_of(reply, self.queries)
            self.rates.on_reject("query", now, retry_after, sent_at=job.sent_at, job=job)
        else:
            self.rates.on_accept("query", now, sent_at=job.sent_at, job=job)
        if reply.quota is not None:
            refused_for = (reply.retry_after or 0.0) if rejected else None
            self.rates.on_quota("query", reply.quota, now, sent_at=job.sent_at, rejected_for=refused_for)

    def _end(self, job: _J, now: float) -> None:
        callbacks_failed = self._calls.ended(job) and not self._calls.reliable
        self._queues.release(job)
        if self.running.active:
            self.running.on_end(self.counts.in_flight, now)
        if callbacks_failed:
            self._due.set_all(
                lambda other, at: min(self._replanned(other, now), at) if other.scheduled_by_model else at
            )

    def _on_pending(self, job: _J, now: float) -> None:
        job.failing_since = None
        job.failures = 0
        job.scheduled_by_model = True
        job.pending_at = job.sent_at - job.accepted_at
        called_meanwhile = job.callback_at is not None and job.sent_at < job.callback_at < math.inf
        job.sent_at = job.accepted_at  # shares the float object: 24 bytes less for each waiting task
        if self.running.active or self._schedule.urgent:
            self._update_urgency()
        self._due.set(job, now if called_meanwhile else self._next_poll(job, now))

    def failed(self, job: _J, now: float, *, sent: bool) -> QueryStep:
        """Note that a query got no reply; *sent* tells whether any byte of it was sent."""
        self.counts.asking -= 1
        self.breaker.on_query_failed(now)
        if sent:
            self.counts.reached = True
            self.queries.on_no_response(now)
        else:
            self.queries.on_not_sent(now)
        if job.phase is not Phase.FOLLOWED:
            return QueryStep.AGAIN
        return self._retry(job, now, final=job.single_shot)

    def aborted(self, now: float) -> None:
        """Note that the client cut a query off."""
        self.counts.asking -= 1
        self.queries.on_no_response(now)

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

    def learn(self, job: _J, now: float, exact: float | None, *, succeeded: bool) -> None:
        """Learn the duration of *job*; reschedule the queries of its model if the fit moves much."""

        def running() -> list[float]:
            return [other.pending_at for other in self._due.items() if other.model == job.model]

        age = now - job.accepted_at
        if exact is None and job.callback_at is not None and job.callback_at < math.inf:
            exact = job.callback_at - job.accepted_at
        if self._schedule.ended(job.model, job.pending_at, age, exact, running, succeeded=succeeded):
            self._replan(job.model, now)

    def _replan(self, model: str | None, now: float) -> None:
        """Reschedule the waiting queries of *model*, if `REPLANS_PER_TASK` allows."""
        if len(self._due) > self._replans_left:
            return
        self._replans_left -= len(self._due)
        self._due.set_all(
            lambda other, at: (
                self._replanned(other, now) if other.scheduled_by_model and other.model == model else at
            )
        )

    def _replanned(self, job: _J, now: float) -> float:
        if not self._calls.waits_for(job):
            age = self._schedule.replanned_poll(job.model, job.pending_at)
        elif job.pending_at:
            age = self._calls.next_poll(job.model, job.pending_at, job.pending_at)
        else:
            age = self._calls.first_poll(job, 0.0)
        return max(job.accepted_at + age, now)


def retry_after_of(reply: Reply, limiter: ScopeLimiter) -> float | None:
    """Return the Retry-After of *reply* in seconds, None if it has none that *limiter* trusts."""
    if reply.by_rate_limit_headers and reply.retry_after is not None and limiter.hints is not None:
        return limiter.hints.trusted_wait(reply.retry_after)
    return reply.retry_after
