"""The protocols of a journal, and the order of its records.

The client awaits each record, so that a crash at any point can be resumed from: the intent is durable before
the first byte of a create is sent, the task id before the first query, and the outcome before it is
delivered. If `intend` raises, nothing is sent.

`Journal` is all that a client needs. A `LastingJournal` keeps its records, which is needed to resume runs, to
settle unknown jobs and to start with learned values. `SqliteJournal` is one.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from ruxa_async.requests import GenerationRequest
from ruxa_async.results import JobRecord, TaskStatus

from ._records import JournalCounts, JournalEntry, KeptCallback, Match, SavedFile

__all__ = ("Journal", "JournalRun", "LastingJournal", "NullJournal")


class Journal(Protocol):
    """Records purchases."""

    async def intend(self, job: JobRecord) -> object:
        """Record that *job* is about to be sent; return its entry when that is durable.

        The returned entry becomes ``job.entry`` in every later record of this purchase. Before, ``job.entry``
        is None, or comes from a `Match` or from an earlier attempt of the same job.
        """
        ...

    async def not_bought(self, job: JobRecord) -> None:
        """Record that the attempt bought nothing, because it was refused, rejected (429) or never sent."""
        ...

    async def accepted(self, job: JobRecord) -> None:
        """Record the task id of *job*; return when that is durable."""
        ...

    async def unknown(self, job: JobRecord) -> None:
        """Record that *job* may have been bought; ``job.error`` says why it is not known."""
        ...

    async def finished(self, job: JobRecord, status: TaskStatus | None) -> None:
        """Record the final *status* of the task, or None and ``job.error`` if polling stopped.

        A status with an error is a failed task, or one that succeeded without a usable answer. An attached
        task has no entry; it is found by its id, if it is in the journal at all.
        """
        ...


class JournalRun(Protocol):
    """One pass through the requests of a named run. Close it before the next pass begins."""

    @property
    def name(self) -> str:
        """The name of the run."""
        ...

    async def match(self, request: GenerationRequest) -> Match:
        """Return what the journal knows of *request* in this run. Call it once for each request of the pass.

        A request is identified by its key, else by its model and input and the number of equal requests
        before it in this pass. Raises `KeyConflictError` if the key belongs to another request or is used
        twice in this pass.
        """
        ...

    def close(self) -> None:
        """End the pass."""
        ...


@runtime_checkable
class LastingJournal(Journal, Protocol):
    """A journal that keeps its records from one process to the next.

    It is an async context manager. The client enters and leaves it unless it is open already. Every change is
    durable when its method returns. Cancelling a caller does not undo the change: it is still written.
    """

    @property
    def is_open(self) -> bool:
        """Whether the journal is open."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    async def bind(self, *, base_url: str, api_key: str) -> None:
        """Begin to serve a client of this service and account.

        Raises `JournalMismatchError` if the journal belongs to another account. It belongs to an account
        while a client of it is open, and for good once a job of it was accepted or is unknown.
        """
        ...

    async def unbind(self) -> None:
        """End to serve a client. After the last one, jobs that are still only intended become unknown."""
        ...

    async def open_run(self, name: str) -> JournalRun:
        """Begin a pass through the run *name*, which is created if it is new.

        Raises `JournalError` during another pass through it.
        """
        ...

    async def saved(self, task_id: str, file: SavedFile) -> None:
        """Record that *file* is complete on the disk. Call it before the file gets its final name.

        In this order the journal knows every file with a final name. After a crash in between, the row exists
        and the file does not; resuming finds that and downloads it again.
        """
        ...

    async def unknowns(self, run: str | None = None) -> list[JournalEntry]:
        """Return the jobs that may have been bought, only those of *run* if given."""
        ...

    async def adopt(self, name: str, task_id: str, run: str | None = None) -> JournalEntry:
        """Record that the unknown job *name* was bought as *task_id*, as found out by a person.

        *name* is `JournalEntry.name`; *run* is needed if several runs have a job of that name. Raises
        `JournalError` if there is not exactly one such job, or it is not unknown.
        """
        ...

    async def forget(self, name: str, run: str | None = None) -> JournalEntry:
        """Record that the unknown job *name* was not bought, so that it may be bought again.

        Raises what `adopt` raises.
        """
        ...

    async def called_back(self, callback_id: bytes, task_id: str | None, status: TaskStatus | None) -> bool:
        """Record a callback, which proves that the attempt with *callback_id* was bought.

        A job that is intended, unknown or not bought becomes adopted if *task_id* is given, else ended if
        *status* is final, else unknown. A callback that settles no job is kept for `callbacks`. Returns
        whether a job was settled.
        """
        ...

    async def callbacks(self) -> list[KeptCallback]:
        """Return the last 10,000 callbacks that settled no job, the oldest first."""
        ...

    async def counts(self, run: str | None = None) -> JournalCounts:
        """Count the jobs by state, only those of *run* if given."""
        ...

    async def learned(self, name: str) -> Any:
        """Return the value last stored under *name*, None if there is none."""
        ...

    async def learn(self, name: str, value: Any) -> None:
        """Store *value*, which must be JSON, under *name* for later runs."""
        ...


class NullJournal:
    """A journal that records nothing."""

    async def intend(self, job: JobRecord) -> None:
        """Do nothing."""

    async def not_bought(self, job: JobRecord) -> None:
        """Do nothing."""

    async def accepted(self, job: JobRecord) -> None:
        """Do nothing."""

    async def unknown(self, job: JobRecord) -> None:
        """Do nothing."""

    async def finished(self, job: JobRecord, status: TaskStatus | None) -> None:
        """Do nothing."""
