"""The queues in which jobs wait, and the slots of `Limits.max_in_flight` that they occupy."""

from __future__ import annotations

from typing import Generic, TypeVar

from attrs import define, field

from .deadline_heap import DeadlineHeap, PriorityQueue
from .job import Counts, Job, Phase
from .polling.callback_polling import CallbackPolling

__all__ = ("JobQueues",)

_J = TypeVar("_J", bound=Job)


@define(eq=False)
class JobQueues(Generic[_J]):
    """The jobs of one client that wait for their create, for their next query, or for a deadline."""

    _callback_polling: CallbackPolling[_J]
    _counts: Counts
    #: Jobs whose create waits, by `Job.sequence`.
    creates: PriorityQueue[_J] = field(init=False, factory=PriorityQueue)
    #: Jobs whose next query waits, by the time at which it is due.
    queries: PriorityQueue[_J] = field(init=False, factory=PriorityQueue)
    deadlines: DeadlineHeap[_J] = field(init=False, factory=DeadlineHeap)

    def release(self, job: _J) -> None:
        """Remove *job* from every queue and free its slot: no request is sent for it any more."""
        (self.creates if job.phase is Phase.QUEUED else self.queries).discard(job)
        self.deadlines.discard(job)
        self.free_slot(job)
        self._callback_polling.forget(job)
        job.phase = Phase.OVER

    def occupy_slot(self, job: _J) -> None:
        """Count *job* as in flight, unless it is counted already."""
        if not job.occupies_slot:
            job.occupies_slot = True
            self._counts.in_flight += 1

    def free_slot(self, job: _J) -> None:
        """Stop counting *job* as in flight."""
        if job.occupies_slot:
            job.occupies_slot = False
            self._counts.in_flight -= 1
