"""A job as the driver delivers it: the engine's `Job`, and who waits for it."""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

import anyio
from attrs import define, field

from ruxa_async._engine.classify import Refusal
from ruxa_async._engine.job import Job
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import JobRecord, TaskStatus

__all__ = ("ClientJob", "Owner")


class Owner(Protocol):
    """Whoever a job belongs to, if not to a caller that waits for it alone."""

    def accepted(self, job: ClientJob) -> None:
        """Learn that *job* was accepted."""
        ...

    def withdrawn(self, job: ClientJob) -> None:
        """Learn that *job* was never bought and never will be."""
        ...

    def halted(self, job: ClientJob, cause: Exception) -> None:
        """Learn that *job* was not sent, and that nothing else may be because of *cause*."""
        ...

    def ended(self, job: ClientJob) -> None:
        """Learn that *job* is over: ``status`` or ``error`` says how."""
        ...


@define(eq=False, kw_only=True, weakref_slot=False)
class ClientJob(Job):
    """One request from its queueing to its delivery. What a waiter needs is made when someone waits."""

    request: GenerationRequest | None
    model: str | None
    key: str | None = None
    index: int | None = None
    owner: Owner | None = None
    #: What the journal calls it: from a match against a run, or once its intent is written.
    entry: object = None
    timeout: float | None = None
    #: The caller left: nothing that is still unsent may be bought for it.
    caller_left: bool = False
    #: It may not be sent (again), but whoever wants its outcome still does.
    last_attempt: bool = False
    refusal: Refusal | None = None
    #: The outcome of the create is known to the caller's side.
    create_settled: bool = False
    #: Both in seconds since the epoch, and both made at the end: a waiting task carries no more than it needs.
    submitted_at: float | None = None
    finished_at: float = math.inf
    raw_state: str = ""
    status: TaskStatus | None = None
    error: Exception | None = None
    changed: anyio.Event | None = field(default=None, repr=False)
    listeners: list[deque[TaskStatus]] | None = field(default=None, repr=False)

    @property
    def ended(self) -> bool:
        """Whether the outcome of the job is known to the caller's side."""
        return self.finished_at < math.inf

    def record(self, error: BaseException | None = None) -> JobRecord:
        """Return what is known of this job's purchase."""
        return JobRecord(
            request=self.request,
            key=self.key,
            index=self.index,
            task_id=self.task_id,
            model=self.model,
            error=error if error is not None else self.error,
            entry=self.entry,
            callback_id=self.callback_id,
        )

    def notify(self) -> None:
        """Wake whoever waits for a change."""
        if self.changed is not None:
            self.changed.set()
            self.changed = None
