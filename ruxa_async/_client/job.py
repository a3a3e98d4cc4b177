"""`ClientJob`: the state of one request, from its queueing to its delivery."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

import anyio
from attrs import define, field

from ruxa_async._engine.classify import Refusal
from ruxa_async._engine.job import Job
from ruxa_async.errors import SubmissionUnknownError
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import JobRecord, TaskStatus

__all__ = ("ClientJob", "Owner")


class Owner(Protocol):
    """The batch that a job belongs to, which the driver notifies of each fact at once."""

    def accepted(self, job: ClientJob) -> None:
        """Go on after the service accepted *job*."""

    def withdrawn(self, job: ClientJob) -> None:
        """Go on after *job* was withdrawn: it was not bought and never will be."""

    def halted(self, job: ClientJob, cause: Exception) -> None:
        """Stop: *job* was not sent because of *cause*, and no other job will be."""

    def ended(self, job: ClientJob) -> None:
        """Deliver *job*, which has ended; its ``status`` or ``error`` says how."""

    def client_closed(self) -> None:
        """Stop waiting: the client has closed, and no job changes any more."""


@define(eq=False, kw_only=True, weakref_slot=False)
class ClientJob(Job):
    """The engine's `Job`, with its request, its outcome, and what waits for its changes."""

    request: GenerationRequest | None
    model: str | None
    key: str | None = None
    index: int | None = None
    owner: Owner | None = None
    #: The journal's reference to its row, None until the journal knows the request.
    entry: object = None
    #: The URLs of its local files, None without one.
    links: dict[str, str] | None = field(default=None, repr=False)
    timeout: float | None = None
    #: Whether the caller left, so that nothing may be bought for it any more.
    caller_left: bool = False
    #: Whether its create may not be sent (again); its outcome is still wanted.
    sending_forbidden: bool = False
    refusal: Refusal | None = None
    #: Whether the outcome of its create is final: accepted and recorded, or delivered.
    create_settled: bool = False
    #: Seconds since the epoch; both are set at the end, because a waiting job should be small.
    submitted_at: float | None = None
    finished_at: float = math.inf
    raw_state: str = ""
    status: TaskStatus | None = None
    error: Exception | None = None
    #: Set at the next change; None while no task waits for one.
    changed: anyio.Event | None = field(default=None, repr=False)
    listeners: list[deque[TaskStatus]] | None = field(default=None, repr=False)

    def input(self) -> Mapping[str, Any]:
        """Return the input of its request, empty without one."""
        return {} if self.request is None else self.request.input()

    @property
    def ended(self) -> bool:
        """Whether its outcome was delivered."""
        return self.finished_at < math.inf

    def record(self, error: BaseException | None = None) -> JobRecord:
        """Return what is known of this purchase, as a value for users and the journal."""
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
        """Wake every task that waits for a change."""
        if self.changed is not None:
            self.changed.set()
            self.changed = None

    # ---- transitions

    def settle_create(self) -> None:
        """Record that the outcome of its create is final."""
        assert not self.create_settled
        self.create_settled = True

    def mark_accepted(self) -> None:
        """Record that its task id is recorded."""
        assert self.task_id is not None
        self.settle_create()
        # Neither is needed any more. Sharing a float and a small int makes a waiting job smaller.
        self.queued_at: float = self.accepted_at
        self.sequence = 0

    def mark_recovered(self, accepted_at: float) -> None:
        """Record that its task was bought earlier, at *accepted_at* on the event loop's clock."""
        assert self.task_id is not None
        assert not self.ended
        self.accepted_at = accepted_at
        self.create_settled = True

    def set_status(self, status: TaskStatus) -> None:
        """Set *status*, and give it to every listener."""
        self.status = status
        for listener in self.listeners or ():
            listener.append(status)

    def finish(self, error: Exception | None, *, submitted_at: float | None, finished_at: float) -> None:
        """Set the outcome, and notify the owner and every waiting task. Times are seconds since the epoch."""
        assert not self.ended
        self.error = error
        if submitted_at is not None:
            self.submitted_at = submitted_at
        self.finished_at = finished_at
        self.create_settled = True
        if self.owner is not None:
            self.owner.ended(self)
        self.notify()

    def load_accepted(self, task_id: str | None, accepted_at: float | None) -> None:
        """Set the task that the journal recorded; *accepted_at* is in seconds since the epoch."""
        assert self.task_id is None
        self.task_id = task_id
        self.submitted_at = accepted_at

    def load_unknown(
        self, callback_id: bytes | None, intended_at: float | None, error: SubmissionUnknownError
    ) -> None:
        """Set what the journal recorded of a create of unknown outcome, whose callback may still come."""
        assert self.task_id is None
        self.callback_id = callback_id
        self.submitted_at = intended_at
        self.error = error

    def take_recorded_error(self) -> Exception:
        """Return the error that `load_unknown` set; clear it and the time."""
        assert self.error is not None
        error, self.error, self.submitted_at = self.error, None, None
        return error
