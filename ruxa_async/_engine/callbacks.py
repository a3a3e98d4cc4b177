"""What each callback of the service leads to for its job."""

from __future__ import annotations

from typing import Generic, TypeVar

from attrs import define

from .circuit_breaker import CircuitBreaker
from .job import Counts, CreateStep, Job, Phase
from .job_queues import JobQueues
from .polling.callback_polling import CallbackPolling, CallbackStep
from .polls import Polls

__all__ = ("Callbacks",)

_J = TypeVar("_J", bound=Job)


@define(eq=False)
class Callbacks(Generic[_J]):
    """Apply each callback to its job: query its task now, or recover its create of unknown outcome."""

    _queues: JobQueues[_J]
    _polls: Polls[_J]
    _callback_polling: CallbackPolling[_J]
    _counts: Counts
    _breaker: CircuitBreaker

    def on_callback(
        self, callback_id: bytes, now: float, *, over: bool, settles: bool
    ) -> tuple[CallbackStep, _J | None]:
        """Return the step for the callback with *callback_id*, and its job (None if no job matches).

        *over* tells whether it may mean that the task has ended. *settles* tells whether it holds the task id
        or the result, so that a create of unknown outcome can be recovered from it.
        """
        step, job = self._callback_polling.look_up(callback_id)
        if job is None:
            return step, None
        if job.phase is Phase.CREATING:
            step = CallbackStep.EARLY
        elif job.phase is Phase.FOLLOWED:
            if over:
                self._polls.poll_soon(job, now)
                step = CallbackStep.WOKEN
        elif settles:
            self._queues.creates.discard(job)
            self._queues.deadlines.discard(job)
            job.phase = Phase.CREATING
            step = CallbackStep.RECOVER
        elif job.phase is Phase.QUEUED:
            self._queues.creates.discard(job)
            step = CallbackStep.AWAIT_NEXT
        if over and job.phase in (Phase.CREATING, Phase.FOLLOWED):
            job.callback_at = now
        return step, job

    def await_callback(self, job: _J, now: float, seconds: float) -> None:
        """Wait up to *seconds* for a callback that proves the create of *job* accepted."""
        job.phase = Phase.AWAITING_CALLBACK
        self._queues.occupy_slot(job)
        self._queues.deadlines.set(job, now + seconds)

    def doubt(self, step: CreateStep) -> None:
        """Count a create as unknown although its reply led to *step*: a callback contradicts the reply."""
        self._counts.refused -= step is CreateStep.REFUSED
        self._counts.unknown += 1

    def recover(self, job: _J, task_id: str | None, now: float, *, was_unknown: bool) -> None:
        """Count the create of *job* as accepted, as a callback proved; *task_id* is None if it holds none.

        *was_unknown* tells whether it is counted as unknown so far.
        """
        job.task_id = task_id
        job.accepted_at = job.sent_at
        self._breaker.on_proven(now, sent_at=job.sent_at)
        self._counts.accepted += 1
        self._counts.unknown -= was_unknown
