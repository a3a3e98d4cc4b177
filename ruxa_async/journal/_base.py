"""What a journal is told and what it is asked, and when.

The client reports every purchase to its journal, in an order that makes a crash at any point explicable: the
intent is durable before the first byte of a create leaves, the task id before the first query, the outcome before
it is delivered. So each of these is awaited, and an error out of `intend` means that nothing is sent.

`Journal` is all that the client needs. `LastingJournal` is a journal that remembers: what resuming a run, settling
what is unknown and starting with learned durations need. `SqliteJournal` is one.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from ruxa_async.requests import GenerationRequest
from ruxa_async.results import JobRecord, TaskStatus

from ._records import JournalCounts, JournalEntry, KeptCallback, Match, SavedFile

__all__ = ("Journal", "JournalRun", "LastingJournal", "NullJournal")


class Journal(Protocol):
    """Where purchases are written down."""

    async def intend(self, job: JobRecord) -> object:
        """Record that *job* is about to be sent; return when that is durable.

        What is returned becomes the ``entry`` of every later record of this purchase. ``job.entry`` is None, or what
        a `Match` gave, or what an earlier attempt of the same job returned.
        """
        ...

    async def not_bought(self, job: JobRecord) -> None:
        """Record that the attempt bought nothing: refused, throttled or never sent; its ``error`` may say why."""
        ...

    async def accepted(self, job: JobRecord) -> None:
        """Record the task id of *job*; return when that is durable."""
        ...

    async def unknown(self, job: JobRecord) -> None:
        """Record that nobody knows whether *job* was bought; its ``error`` says why."""
        ...

    async def finished(self, job: JobRecord, status: TaskStatus | None) -> None:
        """Record how the task ended: its last status, or None and the ``error`` of *job* if polling gave up.

        A status with an ``error`` is a task that failed, or one that succeeded without a usable answer. A task that
        was attached to has no entry; it is known by its id, or not at all.
        """
        ...


class JournalRun(Protocol):
    """One pass through the requests of a run that has a name. One pass at a time: close it before the next."""

    @property
    def name(self) -> str:
        """What the run is called."""
        ...

    async def match(self, request: GenerationRequest) -> Match:
        """Return what the journal knows of *request* in this run; ask once for each request of the pass.

        A job is known by its key, else by its model and input and by how many equal ones came before it in this
        pass. Raises `KeyConflictError` if its key stands for another request, or came before in this pass.
        """
        ...

    def close(self) -> None:
        """End the pass."""
        ...


@runtime_checkable
class LastingJournal(Journal, Protocol):
    """A journal that remembers from one process to the next.

    It is an async context manager that is entered by whoever made it, or else by the client, which then leaves it
    as well. Everything that changes it returns when the change is durable. A caller that is cancelled takes nothing
    back: what was asked for is still written.
    """

    @property
    def is_open(self) -> bool:
        """Whether it was entered and not left."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    async def bind(self, *, base_url: str, api_key: str) -> None:
        """Note that a client of this service and account begins. Raises `JournalMismatchError` if it is another's.

        A journal is an account's once a job of that account was accepted or is unknown, or while its client is at work.
        """
        ...

    async def unbind(self) -> None:
        """Note that a client ended. After the last one, a create that is still only intended is unknown."""
        ...

    async def open_run(self, name: str) -> JournalRun:
        """Begin a pass through the run *name*, a new one or one that was begun earlier.

        Raises `JournalError` if a pass through it is under way.
        """
        ...

    async def saved(self, task_id: str, file: SavedFile) -> None:
        """Record that an output is whole on the disk, under a name of its own; call it before the file gets its final one.

        In this order a final name never stands for anything that the journal does not know. After a crash between
        the two the row is there and the file is not: who resumes looks, and fetches it again.
        """
        ...

    async def unknowns(self, run: str | None = None) -> list[JournalEntry]:
        """Return the jobs of which nobody knows whether they were bought, those of *run* only if it is given."""
        ...

    async def adopt(self, name: str, task_id: str, run: str | None = None) -> JournalEntry:
        """Settle the unknown job *name* by a person's word: it was bought, as *task_id*.

        *name* is the ``name`` of its entry; *run* is needed where several runs hold one of that name. Raises
        `JournalError` if there is no such job, several, or one that is not in doubt.
        """
        ...

    async def forget(self, name: str, run: str | None = None) -> JournalEntry:
        """Settle the unknown job *name* by a person's word: it was not bought, and may be.

        Raises what `adopt` raises.
        """
        ...

    async def called_back(self, callback_id: bytes, task_id: str | None, status: TaskStatus | None) -> bool:
        """Note that the service called back about the attempt that was known as *callback_id*: so it was bought.

        A job that was in doubt, or taken for not bought, becomes adopted if *task_id* is told, else ended if *status*
        says how, else unknown. What settles nothing here is kept for `callbacks`. Return whether a job was settled.
        """
        ...

    async def callbacks(self) -> list[KeptCallback]:
        """Return what was kept of callbacks that settled nothing, the last 10,000, the oldest first."""
        ...

    async def counts(self, run: str | None = None) -> JournalCounts:
        """Return how many jobs are in each state, those of *run* only if it is given."""
        ...

    async def learned(self, name: str) -> Any:
        """Return what was last learned under *name*, None if nothing was."""
        ...

    async def learn(self, name: str, value: Any) -> None:
        """Keep *value*, which must be JSON, under *name* for the next run."""
        ...


class NullJournal:
    """Remember nothing."""

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
