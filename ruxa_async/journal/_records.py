"""The values that a journal holds."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from attrs import define, field, frozen

from ruxa_async.errors import MalformedResponseError, TaskError, TaskFailedError
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import TaskState, TaskStatus

__all__ = (
    "Bought",
    "GroupBy",
    "JobState",
    "JournalCounts",
    "JournalEntry",
    "KeptCallback",
    "Match",
    "SavedFile",
    "Takeover",
)


#: Returns the key of a model and an input in `JournalCounts.models`.
GroupBy: TypeAlias = Callable[[str, Mapping[str, Any]], str]


class JobState(enum.Enum):
    """The state of a job in the journal."""

    #: A create is being sent. If its reply is not recorded before the client or the process ends, it
    #: becomes unknown.
    INTENDED = "intended"
    #: Refused, rejected (429) or never sent: nothing was charged.
    NOT_BOUGHT = "not_bought"
    #: Paid; the task id is known, the outcome not yet.
    ACCEPTED = "accepted"
    #: It may have been charged. You or a callback can settle it.
    UNKNOWN = "unknown"
    #: The task succeeded.
    SUCCEEDED = "succeeded"
    #: Paid, but the task failed.
    FAILED = "failed"
    #: It was unknown, and its task id was found. It is treated like an accepted job.
    ADOPTED = "adopted"
    #: It was unknown, and you recorded that it was not bought. Resuming buys it.
    FORGOTTEN = "forgotten"


@frozen(kw_only=True)
class SavedFile:
    """A saved output: its *number* in the task (from 0), file *name*, *size* in bytes, and SHA-256 in hex."""

    number: int
    name: str
    size: int
    sha256: str


@frozen(kw_only=True)
class JournalEntry:
    """One job in the journal.

    *name* identifies the job for `LastingJournal.adopt` and `forget`: its key, else a digest of its request.
    *run* is None for jobs of `submit` and `generate`. *status* is the final status of an ended task.
    *error_kind* is the name of an exception class. *attempts* counts the intents to send it.
    *earlier_task_ids* are tasks that earlier attempts bought. *callback_id* identifies the callback of the
    last attempt. Times are in seconds since the epoch.
    """

    entry: object = field(repr=False)
    run: str | None
    name: str
    key: str | None
    request: GenerationRequest
    state: JobState
    task_id: str | None = None
    status: TaskStatus | None = field(default=None, repr=False)
    error_kind: str | None = None
    error_message: str | None = None
    attempts: int = 1
    earlier_task_ids: tuple[str, ...] = ()
    intended_at: float | None = None
    accepted_at: float | None = None
    finished_at: float | None = None
    files: tuple[SavedFile, ...] = ()
    callback_id: bytes | None = field(default=None, repr=False)

    @property
    def model(self) -> str:
        """The model's id."""
        return self.request.model

    @property
    def failure(self) -> TaskError | None:
        """The error with which a failed task ended, None for a job in another state."""
        if self.state is not JobState.FAILED:
            return None
        if self.status is not None and self.status.state is TaskState.FAIL:
            status = self.status
            return TaskFailedError(self.task_id or "", status.fail_code, status.fail_message, status.credits)
        if self.task_id is None:
            return None
        message = self.error_message or "it ended without a usable answer"
        return MalformedResponseError(self.task_id, message.removeprefix(f"task {self.task_id}: "))


@frozen(kw_only=True)
class KeptCallback:
    """A callback that settled no job in the journal. *received_at* is in seconds since the epoch."""

    callback_id: bytes
    task_id: str | None
    status: TaskStatus | None = field(repr=False)
    received_at: float


@frozen(kw_only=True)
class Takeover:
    """What an earlier process may have left at the service, from which this one took the journal over.

    *idle* is how many seconds ago it could send for the last time. *unknown* is the number of its creates
    that were being sent; they may run there. *accepted* is the number of its tasks of the last ten minutes
    whose end is not recorded.
    """

    idle: float
    unknown: int
    accepted: int = 0


@frozen(kw_only=True)
class Match:
    """What a journal has recorded for one request of a run: *known*, None if it is a new request.

    *entry* is the `JobRecord.entry` for the next `Journal.intend` of the request. *name* is
    `JournalEntry.name`.
    """

    entry: object = field(repr=False)
    name: str = ""
    known: JournalEntry | None = None


@define(kw_only=True)
class Bought:
    """How many *tasks* of one model were or may have been bought, and their price.

    Running tasks, unknown creates and earlier attempts of a job are included. The service reported no price
    for *unpriced* of them. The others cost *credits* in total, and the dearest of them cost
    *highest_price*, None if there are none.
    """

    tasks: int = 0
    unpriced: int = 0
    credits: float = 0.0
    highest_price: float | None = None

    def add(self, credits: float | None) -> None:  # noqa: A002 - the service's word
        """Add one task with its price in *credits*, None if the service reported none."""
        self.tasks += 1
        if credits is None:
            self.unpriced += 1
        else:
            self.credits += credits
            highest = self.highest_price
            self.highest_price = credits if highest is None else max(highest, credits)


@frozen(kw_only=True)
class JournalCounts:
    """The number of *jobs* in each state and of saved *files*, and the reported *credits* of the ended tasks.

    *models* holds what was bought of each model, or of each key that the caller asked for, earlier attempts
    of the same jobs included.
    """

    jobs: Mapping[JobState, int]
    files: int = 0
    credits: float = 0.0
    models: Mapping[str, Bought] = field(factory=dict)

    @property
    def total(self) -> int:
        """The number of jobs in all states."""
        return sum(self.jobs.values())
