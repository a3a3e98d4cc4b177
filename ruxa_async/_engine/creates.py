"""Creates: when the next one may be sent, and what its reply leads to."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

from attrs import define, field

from ruxa_async.settings import Limits, Retries

from .budget import Spending
from .circuit_breaker import CircuitBreaker
from .classify import CreateVerdict, Reply, classify_create, is_denied
from .deadline_heap import PriorityQueue
from .denial import Denial
from .job import Counts, CreateStep, Job, Phase
from .job_queues import JobQueues
from .polls import Polls, retry_after_of
from .rate_limits.concurrency_limit import ConcurrencyLimit
from .rate_limits.limiter import ScopeLimiter
from .rate_limits.scopes import Scopes

__all__ = ("MAX_RESENDS", "Creates")

#: Resends of a create of unknown outcome, with `Retries.resend_unknown`: each may be charged once more.
MAX_RESENDS = 3

_J = TypeVar("_J", bound=Job)


@define(eq=False)
class Creates(Generic[_J]):
    """The queue of creates, and those on the wire. `Engine` documents the methods that it passes on."""

    _limits: Limits
    _retries: Retries
    _queues: JobQueues[_J]
    _polls: Polls[_J]
    counts: Counts
    rates: Scopes
    running: ConcurrencyLimit
    breaker: CircuitBreaker
    _denial: Denial
    spending: Spending[_J] | None
    creates: ScopeLimiter = field(init=False)
    _queue: PriorityQueue[_J] = field(init=False)
    _submitted: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.creates = self.rates.create
        self._queue = self._queues.creates

    # ---- the queue

    def submit(self, job: _J, now: float) -> None:
        """Queue *job* behind all others."""
        job.queued_at = now
        self._submitted += 1
        job.sequence = self._submitted
        self.requeue(job)

    def requeue(self, job: _J) -> None:
        """Queue *job* again at its place in the order of submission."""
        job.phase = Phase.QUEUED
        self._queue.set(job, job.sequence)

    def withdraw(self, job: _J) -> bool:
        """Remove *job* from the queue; return False if its create was sent already."""
        if job.phase is not Phase.QUEUED:
            return False
        self._queues.release(job)
        self.counts.withdrawn += 1
        return True

    def give_up_waiting(self, now: float) -> list[_J]:
        """Remove from the queue every job that has waited too long; return them in order."""
        waiting = [job for job in self._queue if self.has_waited_too_long(job, now)]
        for job in waiting:
            self._queues.release(job)
        return waiting

    def has_waited_too_long(self, job: _J, now: float) -> bool:
        """Tell whether the wait of *job*, past or to come, exceeds what `Retries` allows."""
        if self.creates.closed_for(now) > self._retries.max_retry_after:
            return True
        shut_for = max(self.creates.shut_for(now), self.breaker.open_for(now))
        patience = self._retries.throttled_timeout
        if not self.counts.reached and self._retries.unreachable_timeout is not None:
            patience = self._retries.unreachable_timeout
        return min(shut_for, now - job.queued_at) >= patience

    # ---- sending

    def ready_at(self, now: float) -> float:
        """Return when the next create may be sent, regardless of queries, infinity if none may."""
        waits = (
            len(self._queue) > 0
            and self.counts.in_flight < self._limits.max_in_flight
            and self.counts.creating < self._limits.max_concurrent_creates
        )
        if not waits or (self.spending is not None and self._must_wait_for_budget(self.spending)):
            return math.inf
        healthy_at = self.breaker.ready_at()
        if healthy_at > now:
            return healthy_at
        if self.running.active:
            opens = self.running.ready_at(self.counts.in_flight, now)
            if opens > now:
                return opens
            if self.probes_cap():
                return self.creates.opens_at(now)
        return self.rates.ready_at("create", now)

    def _must_wait_for_budget(self, spending: Spending[_J]) -> bool:
        """Tell whether the next create fits the budget only if one on the wire is not charged."""
        first = self._queue.first()
        return first is not None and first.model is not None and spending.must_wait(first.model)

    def probes_cap(self) -> bool:
        """Tell whether the next create is a probe of the cap on running tasks."""
        return self.running.active and self.running.is_test_due(self.counts.in_flight, self.counts.creating)

    def take(self, now: float) -> _J:
        """Return the first job of the queue, and count its create as sent."""
        job = self._queue.pop_due(math.inf)
        assert job is not None  # ready_at is finite
        job.phase = Phase.CREATING
        job.sent_at = now
        if self.running.active:
            self.running.on_send(job, self.counts.in_flight)
        self._queues.occupy_slot(job)
        self.counts.creating += 1
        self.counts.creates_sent += 1
        self.rates.on_send("create", now, job)
        self.breaker.on_send(job, now)
        return job

    # ---- replies

    def answered(self, job: _J, reply: Reply, now: float) -> CreateStep:
        """Learn from the *reply* to a create; return what to do."""
        self.counts.creating -= 1
        self.counts.reached = True
        verdict = classify_create(reply)
        if verdict is CreateVerdict.UNKNOWN:
            self.breaker.on_unknown(job, now, sent_at=job.sent_at)
        else:
            self._on_clear_outcome(job, now)
        if verdict is CreateVerdict.THROTTLED:
            self._on_reject(job, reply, now)
            return self._put_off(job, now)
        self.rates.on_accept("create", now, sent_at=job.sent_at, job=job)
        if reply.quota is not None:
            self.rates.on_quota("create", reply.quota, now, sent_at=job.sent_at)
        if verdict is CreateVerdict.ACCEPTED:
            job.task_id = reply.task_id
            job.accepted_at = now
            self.counts.accepted += 1
            self._denial.on_good()
            if self.running.watching:
                self._on_accept_under_cap(job, now)
            return CreateStep.ACCEPTED
        self.running.on_inconclusive(job)
        if verdict is CreateVerdict.REFUSED:
            if is_denied(reply):
                self._denial.on_denied(job, now)
            self._queues.free_slot(job)
            self.counts.refused += 1
            return CreateStep.REFUSED
        return self._unknown(job)

    def _on_clear_outcome(self, job: _J, now: float) -> None:
        """Tell the circuit breaker; if it closes, make the queries due that failed during the outage."""
        was_open = self.breaker.is_open
        self.breaker.on_good(job, now, sent_at=job.sent_at)
        if was_open and not self.breaker.is_open:
            self._queues.queries.set_all(lambda other, at: min(at, now) if other.failures else at)

    def _on_reject(self, job: _J, reply: Reply, now: float) -> None:
        """Attribute a rejection to the cap on running tasks or to the rate limit."""
        held, retry_after = self._others_running(), retry_after_of(reply, self.creates)
        rated = self.creates.has_discovered_rate or (reply.quota is not None and reply.quota.remaining == 0)
        if self.running.on_reject(job, held, now, sent_at=job.sent_at, is_rate_known=rated):
            if self.running.is_confirmed:
                self.rates.restore()
            self.rates.on_cap_reject(now, retry_after, job=job)
            return
        if self.running.is_suspected:
            self.rates.save()
        self.rates.on_reject("create", now, retry_after, sent_at=job.sent_at, job=job)
        if reply.quota is not None:
            refused_for = retry_after or 0.0
            self.rates.on_quota("create", reply.quota, now, sent_at=job.sent_at, rejected_for=refused_for)

    def _on_accept_under_cap(self, job: _J, now: float) -> None:
        """Tell the cap on running tasks, and keep or undo what the rate limiters learned meanwhile."""
        may_ask = not self.rates.binding
        held = self._others_running()
        if self.running.on_accept(job, held, now, sent_at=job.sent_at, may_ask=may_ask):
            self.rates.restore()
        elif self.running.is_in_doubt:
            self._polls.poll_rested(now)
        elif not self.running.is_suspected and not self.running.is_tentative:
            self.rates.discard_saved()

    def _others_running(self) -> int:
        """Return how many accepted tasks run beside the one whose create was just answered."""
        return self.counts.in_flight - self.counts.creating - 1

    def not_sent(self, job: _J, now: float) -> CreateStep:
        """Note that no byte of a create was sent; return what to do."""
        self.counts.creating -= 1
        self.running.on_inconclusive(job)
        self.creates.on_not_sent(now)
        self.breaker.on_not_sent(job, now)
        return self._put_off(job, now)

    def _put_off(self, job: _J, now: float) -> CreateStep:
        self._queues.free_slot(job)
        return CreateStep.GIVE_UP if self.has_waited_too_long(job, now) else CreateStep.REQUEUE

    def lost(self, job: _J, now: float) -> CreateStep:
        """Note that bytes of a create were sent and no complete reply will come; return what to do."""
        self.counts.creating -= 1
        self.counts.reached = True
        self.running.on_inconclusive(job)
        self.creates.on_no_response(now)
        self.breaker.on_unknown(job, now, sent_at=job.sent_at)
        return self._unknown(job)

    def _unknown(self, job: _J) -> CreateStep:
        self._queues.free_slot(job)
        if self._retries.resend_unknown and job.resends < MAX_RESENDS:
            job.resends += 1
            return CreateStep.RESEND
        self.counts.unknown += 1
        return CreateStep.UNKNOWN

    def aborted(self, job: _J, now: float) -> None:
        """Note that the client did not send a create that it took; *job* is over."""
        self.counts.creating -= 1
        self.counts.creates_sent -= 1
        self.running.on_inconclusive(job)
        self.creates.on_no_response(now)
        self.breaker.on_not_sent(job, now)
        self._queues.release(job)
