"""Delivery of outcomes to callers, batches, listeners and the list of orphans.

Nothing here awaits, so no cancellation can separate an outcome from its delivery.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ruxa_async import events
from ruxa_async._engine.engine import Engine
from ruxa_async._logging import logger
from ruxa_async.errors import SubmissionUnknownError
from ruxa_async.results import JobRecord, TaskStatus

from .clock import Clock
from .event_bus import EventBus
from .job import ClientJob
from .stats import Counters

__all__ = ("SETTLE", "Outcomes")

#: How to settle a create of unknown outcome that is in a journal: a part of messages.
SETTLE: Final = "`ruxa-async journal FOLDER_OR_FILE` (on a server: --journal ADDRESS) shows how to settle it"
#: Orphans that `RuxaClient.orphans` lists; older ones are only counted.
_ORPHANS_KEPT = 10_000


class Outcomes:
    """Deliver the outcome of each job, emit its event and count it."""

    def __init__(self, engine: Engine[ClientJob], clock: Clock, event_bus: EventBus) -> None:
        self.clock: Clock = clock
        self.events: EventBus = event_bus
        self.counters: Counters = Counters()
        self.orphans: deque[JobRecord] = deque(maxlen=_ORPHANS_KEPT)
        self._engine = engine

    def fail(self, job: ClientJob, error: Exception) -> None:
        """Deliver *error* for a *job* that has no known task."""
        self._engine.release(job)
        if not job.caller_left:
            self.deliver(job, error)

    def abandon(self, job: ClientJob, error: Exception) -> None:
        """Deliver *error* for a *job* that is not bought, and not tried again."""
        self.events.emit(events.CreateAbandoned, job, error)
        self.fail(job, error)

    def fail_unknown(self, job: ClientJob, cause: BaseException | None) -> None:
        """Deliver `SubmissionUnknownError` for *job*, which may have been charged."""
        if cause is None:
            why = "the reply holds no task id"
        else:
            why = str(cause) if isinstance(cause, Exception) else "it was cut off when the client was closed"
        error = SubmissionUnknownError(
            f"the request was sent and no reply shows its outcome ({why}): it may have been charged, "
            "so it is not sent again by itself. Look at your account. "
            f"With a journal: {SETTLE}. Without one: if the task is there, attach() to its id; "
            "if it is not, send the request again"
        )
        error.__cause__ = cause
        self.events.emit(events.CreateUnknown, job, error)
        if job.caller_left:
            job.error = error
            self.add_orphan(job)
        self.fail(job, error)

    def publish_status(self, job: ClientJob, status: TaskStatus) -> None:
        """Pass *status*, a change of state, to listeners, the hook and waiting callers."""
        job.set_status(status)
        self.events.emit(events.TaskStateChanged, job, status)
        job.notify()

    def publish_end(self, job: ClientJob, status: TaskStatus, *, succeeded: bool) -> None:
        """Pass on the terminal *status* of a task, and count it."""
        self.publish_status(job, status)
        seconds = status.duration if status.duration is not None else self.clock.now() - job.accepted_at
        self.counters.on_end(job.model, seconds, succeeded=succeeded)

    def end(self, job: ClientJob, error: Exception | None) -> None:
        """Deliver *error* or, if that is None, the status that *job* has."""
        if self.events.enabled:
            status = job.status if job.status is not None and job.status.state.terminal else None
            seconds = self.clock.now() - job.accepted_at
            self.events.emit(events.TaskEnded, job, status, error, job.queries, seconds)
        if not job.caller_left:
            self.deliver(job, error)

    def stop(self, job: ClientJob, error: Exception) -> None:
        """Deliver *error* for a task that may still run, but is queried no more."""
        self.counters.stopped += 1
        self.end(job, error)

    def deliver(self, job: ClientJob, error: Exception | None) -> None:
        """Finish *job* with *error* or, if that is None, with the status that it has; emit no event."""
        submitted_at = None if job.task_id is None else self.clock.wall(job.accepted_at)
        job.finish(error, submitted_at=submitted_at, finished_at=self.clock.wall_now())

    def add_orphan(self, job: ClientJob) -> None:
        """List *job*, which is or may be paid and whose caller left; log a warning."""
        self.counters.orphaned += 1
        self.orphans.append(job.record())
        extra = {"orphan": self.counters.orphaned}
        if job.task_id is None:
            logger.warning("a create whose caller is gone may have been charged: %s", job.error, extra=extra)
        else:
            logger.warning(
                "task %s was paid for, but its caller is gone: pick it up with attach(%r)",
                job.task_id,
                job.task_id,
                extra=extra,
            )
        self.events.emit(events.TaskOrphaned, job)
