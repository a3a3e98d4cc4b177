"""The protocols of a journal: what a client records of its purchases, and in which order.

For each request a client calls `Journal.intend` before the first byte of a create is sent, then
`Journal.accepted` with the task id before the first query, and `Journal.finished` before it delivers the
outcome. A create that was not accepted ends with `Journal.not_bought` or `Journal.unknown`. Each method
returns when its record is durable. After a crash, the journal therefore shows how far each request came.

A client needs a `Journal`. To resume runs, to settle unknown jobs and to start with learned values, it needs
a `LastingJournal`, such as `SqliteJournal`.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from ruxa_async.requests import GenerationRequest
from ruxa_async.results import JobRecord, TaskStatus

from ._records import GroupBy, JournalCounts, JournalEntry, KeptCallback, Match, SavedFile, Takeover

__all__ = ("Journal", "JournalPurchase", "JournalRun", "LastingJournal", "NullJournal", "SharedJournal")


class Journal(Protocol):
    """Records what a client buys."""

    async def intend(self, job: JobRecord) -> object:
        """Record that a create of *job* is about to be sent; return the id of the record.

        If this raises, nothing is sent. The client passes the returned id as ``job.entry`` in its later calls
        for this job. In this call, ``job.entry`` is None, a `Match.entry`, or the id of an earlier attempt.
        """

    async def not_bought(self, job: JobRecord) -> None:
        """Record that the create of *job* bought nothing: it was refused, rejected (429) or never sent."""

    async def accepted(self, job: JobRecord) -> None:
        """Record ``job.task_id``, the id of the task that the create bought."""

    async def unknown(self, job: JobRecord) -> None:
        """Record that the create of *job* may have bought a task; ``job.error`` is the reason."""

    async def finished(self, job: JobRecord, status: TaskStatus | None) -> None:
        """Record the final *status* of the task of *job*, None if polling stopped before the task ended.

        ``job.error`` is the reason why polling stopped, or the error of a task that failed or has no usable
        output. A job that follows a known task id has no entry: its record is found by ``job.task_id``, and
        nothing is recorded if there is none.
        """


class JournalRun(Protocol):
    """One pass through the requests of a named run, which matches them with the records of earlier passes.

    Only one pass of a run may be open at a time.
    """

    @property
    def name(self) -> str:
        """The name of the run."""

    async def match(self, request: GenerationRequest) -> Match:
        """Return what earlier passes recorded for *request*. Call it once for each request of the pass.

        A request is identified by its key. Without a key, it is identified by its model, its input, and the
        number of equal requests before it in this pass. Raises `KeyConflictError` if the key belongs to a
        different request, or is used twice in this pass.
        """

    def close(self) -> None:
        """End the pass."""


class JournalPurchase(Protocol):
    """The right of one caller to buy one request of a run. Nobody else has it until you close it."""

    @property
    def match(self) -> Match:
        """What earlier purchases of the run recorded for the request."""

    def close(self) -> None:
        """Give the right back, once: after the outcome is recorded or a caller can follow the task."""


@runtime_checkable
class LastingJournal(Journal, Protocol):
    """A journal whose records are kept for later processes.

    It is an async context manager. A client opens and closes it, unless it is open already. Each method
    returns when its change is durable. A change is completed even if its caller is cancelled.
    """

    @property
    def is_open(self) -> bool:
        """Whether the journal is open."""

    @property
    def takeover(self) -> Takeover | None:
        """What an earlier process may have left at the service; None if it is not known."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    async def bind(self, *, base_url: str, api_key: str) -> None:
        """Register a client that uses the service at *base_url* with *api_key*.

        Raises `JournalMismatchError` if the journal belongs to another account. It belongs to an account
        while a client of the account is registered, and forever once it has a job of the account that was
        accepted or is unknown.
        """

    async def unbind(self) -> None:
        """Remove a registered client. After the last one, jobs that are still intended become unknown."""

    async def open_run(self, name: str) -> JournalRun:
        """Begin a pass through the run *name*, which is created if it does not exist.

        Raises `RunInUseError` while another pass through this run or a purchase of it by key is open.
        """

    async def open_purchase(self, run: str, request: GenerationRequest) -> JournalPurchase:
        """Begin the purchase of *request* by key in *run*, which is created if it does not exist.

        A request is identified by its key. Without a key, it is identified by its model and input, and is the
        first of its kind in a pass through the run. Raises `KeyConflictError` if the key belongs to a
        different request, `RequestValidationError`, and `RunInUseError` while a pass through this run or
        another purchase of the same key is open.
        """

    async def saved(self, task_id: str, file: SavedFile) -> None:
        """Record that *file*, an output of the task, is complete. Call it before the file is renamed.

        Every file with a final name then has a record. After a crash before the renaming, the recorded file
        does not exist, and resuming downloads it again.
        """

    async def unknowns(self, run: str | None = None) -> list[JournalEntry]:
        """Return the jobs that may have been bought, only those of *run* if given."""

    async def adopt(self, name: str, task_id: str, run: str | None = None) -> JournalEntry:
        """Record that the unknown job *name* was bought as *task_id*, and return the job.

        *name* is `JournalEntry.name`. *run* is needed if several runs have a job of that name. Raises
        `JournalError` if no single unknown job matches, or if *task_id* belongs to another job.
        """

    async def forget(self, name: str, run: str | None = None) -> JournalEntry:
        """Record that the unknown job *name* was not bought, and return the job; it may be bought again.

        Raises `JournalError` if no single unknown job matches.
        """

    async def called_back(self, callback_id: bytes, task_id: str | None, status: TaskStatus | None) -> bool:
        """Record a callback, which proves that the create with *callback_id* was accepted.

        It settles a job that is recorded as intended, unknown, not bought or forgotten: the job becomes
        adopted if *task_id* is given, else ended if *status* is final. Otherwise the job becomes unknown, and
        the callback is kept for `callbacks`. Returns whether the callback settled a job.
        """

    async def callbacks(self) -> list[KeptCallback]:
        """Return the last 10,000 callbacks that settled no job, the oldest first."""

    async def counts(self, run: str | None = None, *, group_by: GroupBy | None = None) -> JournalCounts:
        """Return the numbers of jobs by state, files and credits, only those of *run* if given.

        *group_by* returns the key of a model and an input in `JournalCounts.models`, by default the model.
        """

    async def learned(self, name: str) -> Any:
        """Return the value last stored under *name* by `learn`, None if there is none."""

    async def learn(self, name: str, value: Any) -> None:
        """Store *value*, which must be JSON, under *name* for later runs."""


@runtime_checkable
class SharedJournal(LastingJournal, Protocol):
    """A journal in which other processes record callbacks while one process holds it."""

    async def recent_callbacks(self, seconds: float) -> list[KeptCallback]:
        """Return the callbacks of the last *seconds* that were kept or that another process recorded."""


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
