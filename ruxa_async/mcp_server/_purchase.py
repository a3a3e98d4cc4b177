"""One purchase of an agent: its state, from the first call to the saved files."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
from attrs import define, field

from ruxa_async import Generation, GenerationTask
from ruxa_async.errors import (
    MalformedResponseError,
    SubmissionUnknownError,
    TaskFailedError,
)
from ruxa_async.journal import JobState, JournalEntry
from ruxa_async.requests import GenerationRequest

from ._charges import Charged, was_not_sent

__all__ = ("Purchase", "State", "recorded_purchase")


class State(enum.Enum):
    """The state of a purchase."""

    #: The request waits to be sent, or is being sent.
    BUYING = "buying"
    #: Accepted and paid; the task has not ended.
    RUNNING = "running"
    #: The task succeeded; the files may still have to be saved.
    SUCCEEDED = "succeeded"
    #: The task was accepted and failed.
    FAILED = "failed"
    #: It may have been bought; no reply tells.
    UNKNOWN = "unknown"
    #: Refused, outside the budget or never sent.
    NOT_BOUGHT = "not_bought"


_RECORDED = {
    JobState.INTENDED: State.UNKNOWN,
    JobState.NOT_BOUGHT: State.NOT_BOUGHT,
    JobState.FORGOTTEN: State.NOT_BOUGHT,
    JobState.ACCEPTED: State.RUNNING,
    JobState.ADOPTED: State.RUNNING,
    JobState.UNKNOWN: State.UNKNOWN,
    JobState.SUCCEEDED: State.SUCCEEDED,
    JobState.FAILED: State.FAILED,
}


@define(eq=False, kw_only=True)
class Purchase:
    """The purchase of *request*, whose key is the *handle*.

    *is_followed* tells whether a task of the server works on it. *settled* is set once it was accepted or is
    over, *over* when nothing changes any more. *credits* is the reported charge, None if there is none.
    *result* is the service's result of a task without files, else None.
    """

    handle: str
    request: GenerationRequest
    state: State = State.BUYING
    task: GenerationTask | None = None
    task_id: str | None = None
    files: Sequence[Path] = ()
    result: Mapping[str, Any] | None = None
    credits: float | None = None
    error: str | None = None
    is_followed: bool = False
    settled: anyio.Event = field(factory=anyio.Event)
    over: anyio.Event = field(factory=anyio.Event)

    @property
    def charged(self) -> Charged:
        """Whether it was charged. A failed task may have been, unless the service reports its credits."""
        if self.state is State.NOT_BOUGHT:
            return Charged.NO
        if self.state in (State.BUYING, State.UNKNOWN):
            return Charged.MAYBE
        if self.state is State.FAILED and not self.credits:
            return Charged.MAYBE if self.credits is None else Charged.NO
        return Charged.YES

    @property
    def progress(self) -> float | None:
        """The progress of a running task in percent, None if the service names none."""
        status = self.task.status if self.task is not None else None
        return status.progress if status is not None and self.state is State.RUNNING else None

    @property
    def is_paid(self) -> bool:
        """Whether a task was accepted that has not failed: following it costs nothing."""
        return self.state in (State.RUNNING, State.SUCCEEDED)

    @property
    def is_complete(self) -> bool:
        """Whether its files are saved and still there, or its task has a result without files."""
        return self.result is not None or (bool(self.files) and all(path.exists() for path in self.files))

    def restart(self) -> None:
        """Note that a task of the server begins to work on it."""
        if self.state in (State.NOT_BOUGHT, State.UNKNOWN):
            self.state = State.BUYING
        self.is_followed, self.error = True, None
        self.settled, self.over = anyio.Event(), anyio.Event()

    def accept(self, task: GenerationTask) -> None:
        """Note the *task* that was bought now or earlier."""
        self.task, self.task_id = task, task.task_id or None
        if self.state is State.BUYING:
            self.state = State.RUNNING
        self.settled.set()

    def succeed(self, generation: Generation) -> None:
        """Note that the task succeeded."""
        self.state, self.credits = State.SUCCEEDED, generation.credits
        self.result = None if generation.urls else generation.raw

    def stop(self, error: Exception) -> None:
        """Note why it cannot go on."""
        self.error = str(error) or type(error).__name__
        if isinstance(error, (TaskFailedError, MalformedResponseError)):
            self.state = State.FAILED
            self.credits = error.credits if isinstance(error, TaskFailedError) else None
        elif isinstance(error, SubmissionUnknownError):
            self.state = State.UNKNOWN
        elif self.state is State.BUYING:
            self.state = State.NOT_BOUGHT if was_not_sent(error) else State.UNKNOWN

    def end(self) -> None:
        """Note that nobody works on it any more."""
        self.is_followed = False
        self.settled.set()
        self.over.set()


def recorded_purchase(handle: str, entry: JournalEntry, folder: Path) -> Purchase:
    """Return the purchase that the journal recorded as *entry*; its files are in *folder*."""
    failure, status = entry.failure, entry.status
    has_no_files = entry.state is JobState.SUCCEEDED and status is not None and not status.urls
    purchase = Purchase(
        handle=handle,
        request=entry.request,
        state=_RECORDED[entry.state],
        task_id=entry.task_id,
        files=[folder / file.name for file in entry.files],
        result=status.raw if status is not None and has_no_files else None,
        credits=None if status is None else status.credits,
        error=entry.error_message if failure is None else str(failure),
    )
    purchase.end()
    return purchase
