"""Telling: the end of a job to whoever waits for it, an orphan to the log, and every step to the event hook."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import anyio

from ruxa_async import events
from ruxa_async._engine.engine import Engine
from ruxa_async._logging import logger
from ruxa_async.errors import SubmissionUnknownError
from ruxa_async.results import JobRecord, TaskStatus

from .job import ClientJob

__all__ = ("Delivery",)

_ORPHANS_KEPT = 10_000
_DURATIONS_KEPT = 64
#: seconds; what two readings of a clock that nobody sets can be apart is far less
_CLOCK_SET = 1.0


class Delivery:
    """Keep the counts, and pass on what happened. Nothing here awaits, so nothing can be lost on the way."""

    def __init__(
        self,
        engine: Engine[ClientJob],
        on_event: events.EventHook | None,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.engine = engine
        self.orphans: deque[JobRecord] = deque(maxlen=_ORPHANS_KEPT)
        self.succeeded = self.failed = self.stopped = self.orphaned = 0
        self.durations: dict[str, deque[float]] = {}
        self.on_event = on_event
        self._hook_failed = False
        #: The event loop's clock in seconds; bound once the loop runs, because looking it up costs more than reading it.
        self.now: Callable[[], float] = anyio.current_time
        self._read_wall = wall
        self._read_monotonic = monotonic
        #: Seconds from the event loop's clock to the wall clock when the client opened.
        self._wall_offset = 0.0
        #: The same from the monotonic clock: it changes when the wall clock is set, or the machine sleeps.
        self._reference = 0.0
        self._set_by = 0.0

    def open(self) -> None:
        """Bind the clock, and note how far the wall clock is from it."""
        self.now = _clock()
        wall = self._read_wall()
        self._wall_offset = wall - self.now()
        self._reference = wall - self._read_monotonic()

    def wall(self, at: float) -> float:
        """Return the instant *at* on the event loop's clock in seconds since the epoch, as the wall clock counts now.

        A wall clock that was set while the client is open moves the past along, so that no duration changes.
        """
        set_by = self._read_wall() - self._read_monotonic() - self._reference
        if abs(set_by - self._set_by) > _CLOCK_SET:
            self._set_by = set_by
        return self.steady(at) + self._set_by

    def steady(self, at: float) -> float:
        """Return *at* in seconds since the epoch by the wall clock of the opening, which is never set."""
        return at + self._wall_offset

    def wall_now(self) -> float:
        """Return the time in seconds since the epoch."""
        return self.wall(self.now())

    # ---- ends

    def fail(self, job: ClientJob, error: Exception) -> None:
        """Deliver that *job* never became a task that is known of."""
        self.engine.release(job)
        if not job.caller_left:
            job.error = error
            self._deliver(job)

    def unknown(self, job: ClientJob, cause: BaseException | None) -> None:
        """Deliver that *job* may have been charged."""
        if cause is None:
            why = "the reply holds no task id"
        else:
            why = str(cause) if isinstance(cause, Exception) else "it was cut off when the client was closed"
        error = SubmissionUnknownError(
            f"the request was sent and no answer says what became of it ({why}): it may have been charged, "
            "so it is not sent again by itself"
        )
        error.__cause__ = cause
        self.tell(events.CreateUnknown, job, error)
        if job.caller_left:
            job.error = error
            self.orphan(job)
        self.fail(job, error)

    def end(self, job: ClientJob, error: Exception | None) -> None:
        """Deliver the end of a task, or that it is followed no longer."""
        if self.on_event is not None and not job.single_shot:
            status = job.status if job.status is not None and job.status.state.terminal else None
            self.tell(events.TaskEnded, job, status, error, job.queries, self.now() - job.accepted_at)
        if not job.caller_left:
            job.error = error
            self._deliver(job)

    def publish(self, job: ClientJob, status: TaskStatus) -> None:
        """Pass on a change of state that a query saw."""
        job.status = status
        for listener in job.listeners or ():
            listener.append(status)
        self.tell(events.TaskStateChanged, job, status)
        job.notify()

    def orphan(self, job: ClientJob) -> None:
        """List a purchase whose caller is gone."""
        self.orphaned += 1
        self.orphans.append(job.record())
        extra = {"orphan": self.orphaned}
        if job.task_id is None:
            logger.warning("a create whose caller is gone may have been charged: %s", job.error, extra=extra)
        else:
            logger.warning(
                "task %s was paid for, but its caller is gone: pick it up with attach(%r)",
                job.task_id,
                job.task_id,
                extra=extra,
            )
        self.tell(events.TaskOrphaned, job)

    def count_end(self, job: ClientJob, status: TaskStatus, *, good: bool) -> None:
        """Count a task that ended, and how long it took."""
        if good:
            self.succeeded += 1
        else:
            self.failed += 1
        if job.model is not None:
            seconds = status.duration if status.duration is not None else self.now() - job.accepted_at
            if job.model not in self.durations:
                self.durations[job.model] = deque(maxlen=_DURATIONS_KEPT)
            self.durations[job.model].append(seconds)

    def _deliver(self, job: ClientJob) -> None:
        if job.task_id is not None:
            job.submitted_at = self.wall(job.accepted_at)
        job.finished_at = self.wall(self.now())
        job.create_settled = True
        if job.owner is not None:
            job.owner.ended(job)
        job.notify()

    # ---- events

    def tell(self, kind: Callable[..., events.Event], job: ClientJob, *details: Any) -> None:
        """Tell the hook, if there is one; an event is made only then."""
        if self.on_event is not None:
            self._send(kind(self.now(), job.record(), *details))

    def tell_pause(self, scope: events.Scope, seconds: float) -> None:
        """Tell the hook that the service refused for the rate."""
        if self.on_event is not None:
            self._send(events.ScopePaused(self.now(), scope, seconds))

    def circuit_opened(self, error: Exception) -> None:
        """Log and tell the hook that creates wait because the service is failing."""
        logger.warning("the service is failing (%s): creates wait, nothing is being bought", error)
        if self.on_event is not None:
            self._send(events.CircuitOpened(self.now(), error))

    def circuit_closed(self, seconds: float) -> None:
        """Log and tell the hook that creates leave again."""
        logger.warning("the service answers again after %.0f s: creates go on", seconds)
        if self.on_event is not None:
            self._send(events.CircuitClosed(self.now(), seconds))

    def _send(self, event: events.Event | events.ClientEvent) -> None:
        assert self.on_event is not None
        try:
            self.on_event(event)
        except Exception:  # noqa: BLE001 - it is logged with its traceback
            if not self._hook_failed:
                self._hook_failed = True
                logger.exception("on_event raised on %r; this is logged once, and the work goes on", event)


def _clock() -> Callable[[], float]:
    try:
        return asyncio.get_running_loop().time
    except RuntimeError:
        return anyio.current_time
