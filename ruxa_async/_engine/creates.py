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

#: How often `Retries.resend_unknown` sends a create of unknown outcome again: each time may be charged.
MAX_RESENDS = 3
#: Seconds; tasks of the slowest models have ended by then.
_LONGEST_TASK = 600.0

_J = TypeVar("_J", bound=Job)


@define(eq=False)
class Creates(Generic[_J]):
    """The queue of creates, and those on the wire. Times are in seconds."""

    _limits: Limits
    _retries: Retries
    _queues: JobQueues[_J]
    _polls: Polls[_J]
    _counts: Counts
    _scopes: Scopes
    _cap: ConcurrencyLimit
    _breaker: CircuitBreaker
    _denial: Denial
    _spending: Spending[_J] | None
    _limiter: ScopeLimiter = field(init=False)
    _queue: PriorityQueue[_J] = field(init=False)
    _submitted: int = field(default=0, init=False)
    #: Tasks that may run and are followed by nobody, and until when.
    _left_unknown: int = field(default=0, init=False)
    _left_accepted: int = field(default=0, init=False)
    _left_until: float = field(default=-math.inf, init=False)

    def __attrs_post_init__(self) -> None:
        self._limiter = self._scopes.create
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
        self._counts.withdrawn += 1
        return True

    def give_up_waiting(self, now: float) -> list[_J]:
        """Remove from the queue every job that has waited too long; return them in order."""
        waiting = [job for job in self._queue if self.has_waited_too_long(job, now)]
        for job in waiting:
            self._queues.release(job)
        return waiting

    def has_waited_too_long(self, job: _J, now: float) -> bool:
        """Tell whether *job* has waited longer than `Retries` allows, or will in the current pause."""
        if self._limiter.paused_for(now) > self._retries.max_retry_after:
            return True
        failing_for = max(self._limiter.rejecting_for(now), self._breaker.open_for(now))
        patience = self._retries.throttled_timeout
        if not self._counts.reached and self._retries.unreachable_timeout is not None:
            patience = self._retries.unreachable_timeout
        return min(failing_for, now - job.queued_at) >= patience

    def count_left_behind(self, sent_at: float, *, unknown: int, accepted: int) -> None:
        """Count what another process sent until *sent_at* against `Limits.max_in_flight` while it may run.

        These are *unknown* creates, and *accepted* tasks, which no longer count here when they are followed
        again. One slot is left, so that the client does not stand still.
        """
        self._left_unknown, self._left_accepted = unknown, accepted
        self._left_until = sent_at + _LONGEST_TASK

    def on_recovered(self) -> None:
        """Record that a task of another process is followed again, so that it occupies a slot of its own."""
        self._left_accepted = max(0, self._left_accepted - 1)

    # ---- sending

    def ready_at(self, now: float) -> float:
        """Return when the next create may be sent if no query goes first, infinity if none may."""
        waits = (
            len(self._queue) > 0
            and self._counts.in_flight < self._limits.max_in_flight
            and self._counts.creates_on_wire < self._limits.max_concurrent_creates
        )
        if not waits or (self._spending is not None and self._must_wait_for_budget(self._spending)):
            return math.inf
        if self._counts.in_flight >= self._limits.max_in_flight - self._left_behind(now):
            return self._left_until
        healthy_at = self._breaker.ready_at()
        if healthy_at > now:
            return healthy_at
        if self._cap.active:
            opens = self._cap.ready_at(self._counts.in_flight, now)
            if opens > now:
                return opens
            if self.probes_cap():
                return self._limiter.ready_ignoring_rate(now)
        return self._scopes.ready_at("create", now)

    def _left_behind(self, now: float) -> int:
        """Return how many slots are kept for tasks that another process left behind."""
        if now >= self._left_until:
            return 0
        return min(self._left_unknown + self._left_accepted, self._limits.max_in_flight - 1)

    def _must_wait_for_budget(self, spending: Spending[_J]) -> bool:
        """Tell whether the next create fits the budget only if one on the wire is not charged."""
        first = self._queue.first()
        return first is not None and first.model is not None and spending.must_wait(first)

    def probes_cap(self) -> bool:
        """Tell whether the next create tests the cap on running tasks, regardless of the rate limit."""
        return self._cap.active and self._cap.is_test_due(
            self._counts.in_flight, self._counts.creates_on_wire
        )

    def take(self, now: float) -> _J:
        """Return the first job of the queue, and count its create as sent."""
        job = self._queue.pop_due(math.inf)
        assert job is not None  # ready_at is finite
        job.phase = Phase.CREATING
        job.sent_at = now
        if self._cap.active:
            self._cap.on_send(job, self._counts.in_flight)
        self._queues.occupy_slot(job)
        self._counts.creates_on_wire += 1
        self._counts.creates_sent += 1
        self._scopes.on_send("create", now, job)
        self._breaker.on_send(job, now)
        return job

    def hold_back(self) -> None:
        """Note that the create that was just taken waits until its intent is durable."""
        self._limiter.hold_back()

    def on_departure(self, now: float) -> None:
        """Note that a create that was held back departs, or is aborted."""
        self._limiter.on_departure(now)

    # ---- replies

    def on_reply(self, job: _J, reply: Reply, now: float) -> CreateStep:
        """Learn from the *reply* to the create of *job*; return what to do next."""
        self._counts.creates_on_wire -= 1
        self._counts.reached = True
        verdict = classify_create(reply)
        if verdict is CreateVerdict.UNKNOWN:
            self._breaker.on_unknown(job, now, sent_at=job.sent_at)
        else:
            self._on_clear_outcome(job, now)
        if verdict is CreateVerdict.REJECTED:
            self._on_reject(job, reply, now)
            return self._put_off(job, now)
        self._scopes.on_accept("create", now, sent_at=job.sent_at, job=job)
        if reply.quota is not None:
            self._scopes.on_quota("create", reply.quota, now, sent_at=job.sent_at)
        if verdict is CreateVerdict.ACCEPTED:
            job.task_id = reply.task_id
            job.accepted_at = now
            self._counts.accepted += 1
            self._denial.on_good()
            if self._cap.watching:
                self._on_accept_under_cap(job, now)
            return CreateStep.ACCEPTED
        self._cap.on_inconclusive(job)
        if verdict is CreateVerdict.REFUSED:
            if is_denied(reply):
                self._denial.on_denied(job, now)
            self._queues.free_slot(job)
            self._counts.refused += 1
            return CreateStep.REFUSED
        return self._unknown(job)

    def _on_clear_outcome(self, job: _J, now: float) -> None:
        """Report a clear reply to the circuit breaker; if that closes it, retry failed queries now."""
        was_open = self._breaker.is_open
        self._breaker.on_good(job, now, sent_at=job.sent_at)
        if was_open and not self._breaker.is_open:
            self._queues.queries.set_all(lambda other, at: min(at, now) if other.failures else at)

    def _on_reject(self, job: _J, reply: Reply, now: float) -> None:
        """Attribute a rejection to the cap on running tasks or to the rate limit."""
        running, retry_after = self._others_running(), retry_after_of(reply, self._limiter)
        rated = self._limiter.has_discovered_rate or (reply.quota is not None and reply.quota.remaining == 0)
        if self._cap.on_reject(job, running, now, sent_at=job.sent_at, is_rate_known=rated):
            if self._cap.is_confirmed:
                self._scopes.restore()
            self._scopes.on_cap_reject(now, retry_after, job=job)
            return
        if self._cap.is_suspected:
            self._scopes.save()
        self._scopes.on_reject("create", now, retry_after, sent_at=job.sent_at, job=job)
        if reply.quota is not None:
            self._scopes.on_quota(
                "create", reply.quota, now, sent_at=job.sent_at, rejected_for=retry_after or 0.0
            )

    def _on_accept_under_cap(self, job: _J, now: float) -> None:
        """Report an accepted create to the concurrency limit.

        If a cap explains the rejections before it, undo what the rate limiter learned from them.
        """
        may_query_all = not self._scopes.shares_limited_quota
        running = self._others_running()
        if self._cap.on_accept(job, running, now, sent_at=job.sent_at, may_query_all=may_query_all):
            self._scopes.restore()
        elif self._cap.is_in_doubt:
            self._polls.poll_rested(now)
        elif not self._cap.is_suspected and not self._cap.is_tentative:
            self._scopes.discard_saved()

    def _others_running(self) -> int:
        """Return how many accepted tasks run beside the one whose create was just answered."""
        return self._counts.in_flight - self._counts.creates_on_wire - 1

    def on_not_sent(self, job: _J, now: float) -> CreateStep:
        """Record that no byte of the create was sent; return what to do next."""
        self._counts.creates_on_wire -= 1
        self._cap.on_inconclusive(job)
        self._limiter.on_not_sent(now)
        self._breaker.on_not_sent(job, now)
        return self._put_off(job, now)

    def _put_off(self, job: _J, now: float) -> CreateStep:
        """Return whether *job*, which was not bought, waits in the queue again or has waited too long."""
        self._queues.free_slot(job)
        return CreateStep.GIVE_UP if self.has_waited_too_long(job, now) else CreateStep.REQUEUE

    def on_no_response(self, job: _J, now: float) -> CreateStep:
        """Note that bytes of the create were sent and no complete reply will come; return what to do next."""
        self._counts.creates_on_wire -= 1
        self._counts.reached = True
        self._cap.on_inconclusive(job)
        self._limiter.on_no_response(now)
        self._breaker.on_unknown(job, now, sent_at=job.sent_at)
        return self._unknown(job)

    def _unknown(self, job: _J) -> CreateStep:
        self._queues.free_slot(job)
        if self._retries.resend_unknown and job.resends < MAX_RESENDS:
            job.resends += 1
            return CreateStep.RESEND
        self._counts.unknown += 1
        return CreateStep.UNKNOWN

    def on_abort(self, job: _J, now: float) -> None:
        """Release *job*, whose create was taken but not sent."""
        self._counts.creates_on_wire -= 1
        self._counts.creates_sent -= 1
        self._cap.on_inconclusive(job)
        self._limiter.on_no_response(now)
        self._breaker.on_not_sent(job, now)
        self._queues.release(job)
