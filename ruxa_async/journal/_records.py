"""What a journal holds, as values."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from attrs import define, field, frozen

from ruxa_async.errors import MalformedResponseError, TaskError, TaskFailedError
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import TaskState, TaskStatus

__all__ = ("Bought", "JobState", "JournalCounts", "JournalEntry", "KeptCallback", "Match", "SavedFile")


class JobState(enum.Enum):
    """What the journal knows of a purchase."""

    #: It is being sent. Seen when the journal is opened or its last client ends, it becomes unknown.
    INTENDED = "intended"
    #: Refused, throttled or never sent: nothing was charged.
    NOT_BOUGHT = "not_bought"
    #: Paid, its task id is known, its end is not.
    ACCEPTED = "accepted"
    #: It may have been charged; a person has to decide.
    UNKNOWN = "unknown"
    #: It ended well.
    SUCCEEDED = "succeeded"
    #: It was paid and ended without a result.
    FAILED = "failed"
    #: Unknown once; a person found its task id. To be followed like an accepted one.
    ADOPTED = "adopted"
    #: Unknown once; a person said that it was not bought. To be bought like a new one.
    FORGOTTEN = "forgotten"


@frozen(kw_only=True)
class SavedFile:
    """An output on the disk: which one of its task (from 0), its final *name*, its *size* in bytes and its SHA-256 in hex."""

    number: int
    name: str
    size: int
    sha256: str


@frozen(kw_only=True)
class JournalEntry:
    """One job as the journal has it.

    *name* is the caller's key, or what stands for it where there is none; `LastingJournal.adopt` and `forget` take it.
    *run* is None for what `submit` and `generate` bought. *status* is the last one of a task that ended. *error_kind*
    is the name of an exception's class. *attempts* is how often it was going to be sent, *past_tasks* the ids of
    tasks that an earlier attempt bought, *callback_id* what the callback of the last attempt is known by. Times are in seconds since the epoch.
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
    past_tasks: tuple[str, ...] = ()
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
        """The error with which a task that failed was delivered."""
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
    """A callback for a job that is not in the journal, or not any more: what it was known by, and what it said.

    *received_at* is in seconds since the epoch.
    """

    callback_id: bytes
    task_id: str | None
    status: TaskStatus | None = field(repr=False)
    received_at: float


@frozen(kw_only=True)
class Match:
    """What a journal knows of one request of a run: *known* is None if it was never going to be sent.

    *entry* goes into the `JobRecord` of the job that is made for it, *name* is what a person calls it.
    """

    entry: object = field(repr=False)
    name: str = ""
    known: JournalEntry | None = None


@define(kw_only=True)
class Bought:
    """What was bought of one model, or may have been: running and unknown ones count, and so do earlier attempts.

    For *untold* of the *tasks* the service reported no price; the others came to *credits*, the *dearest* of them to
    so many, None if there is none.
    """

    tasks: int = 0
    untold: int = 0
    credits: float = 0.0
    dearest: float | None = None

    def add(self, credits: float | None) -> None:  # noqa: A002 - the service's word
        """Count one more, for which so many credits were reported."""
        self.tasks += 1
        if credits is None:
            self.untold += 1
        else:
            self.credits += credits
            self.dearest = credits if self.dearest is None else max(self.dearest, credits)


@frozen(kw_only=True)
class JournalCounts:
    """How many jobs are in each state, how many files were saved, and what the ended tasks cost as far as was said.

    *models* says what was *bought* of each model, earlier attempts of the same jobs included.
    """

    jobs: Mapping[JobState, int]
    files: int = 0
    credits: float = 0.0
    models: Mapping[str, Bought] = field(factory=dict)

    @property
    def total(self) -> int:
        """All jobs."""
        return sum(self.jobs.values())
