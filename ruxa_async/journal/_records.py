"""The values that a journal holds."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from attrs import define, field, frozen

from ruxa_async.errors import MalformedResponseError, TaskError, TaskFailedError
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import TaskState, TaskStatus

__all__ = ("Bought", "JobState", "JournalCounts", "JournalEntry", "KeptCallback", "Match", "SavedFile")


class JobState(enum.Enum):
    """The state of a job in the journal."""

    #: Being sent. Becomes unknown when the journal is opened, or when its last client ends.
    INTENDED = "intended"
    #: Refused, rejected (429) or never sent: nothing was charged.
    NOT_BOUGHT = "not_bought"
    #: Paid; its task id is known, its outcome is not.
    ACCEPTED = "accepted"
    #: It may have been charged; a person or a callback has to settle it.
    UNKNOWN = "unknown"
    #: The task succeeded.
    SUCCEEDED = "succeeded"
    #: Paid, but the task failed.
    FAILED = "failed"
    #: Was unknown; its task id was found. Followed like an accepted job.
    ADOPTED = "adopted"
    #: Was unknown; a person said that it was not bought. Bought like a new job.
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
        """The error that the caller of a failed task got, else None."""
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
    """A callback that matched no job in the journal. *received_at* is in seconds since the epoch."""

    callback_id: bytes
    task_id: str | None
    status: TaskStatus | None = field(repr=False)
    received_at: float


@frozen(kw_only=True)
class Match:
    """What a journal knows of one request in a run. *known* is None if it was never intended to be sent.

    *entry* belongs into the `JobRecord` of its job; *name* identifies it for people.
    """

    entry: object = field(repr=False)
    name: str = ""
    known: JournalEntry | None = None


@define(kw_only=True)
class Bought:
    """The tasks of one model that were or may have been bought; running, unknown and earlier attempts count.

    For *unpriced* of the *tasks* the service reported no price. The others cost *credits* in total, and at
    most *highest_price* each, None if there are none.
    """

    tasks: int = 0
    unpriced: int = 0
    credits: float = 0.0
    highest_price: float | None = None

    def add(self, credits: float | None) -> None:  # noqa: A002 - the service's word
        """Count one more task, with its reported price in credits, if any."""
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

    *models* holds what was bought of each model, earlier attempts of the same jobs included.
    """

    jobs: Mapping[JobState, int]
    files: int = 0
    credits: float = 0.0
    models: Mapping[str, Bought] = field(factory=dict)

    @property
    def total(self) -> int:
        """The number of all jobs."""
        return sum(self.jobs.values())
