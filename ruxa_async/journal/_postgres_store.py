"""The operations of a journal in PostgreSQL, before and after another process took it over."""

from __future__ import annotations

from typing import Any, Self

from attrs import define, field

from ruxa_async.errors import JournalError
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import JobRecord, TaskState, TaskStatus

from ._records import Match
from ._rows import PAID_STATES, clean, dump_status
from ._schema import Connection
from ._store import Store, Unread, entry_number

__all__ = ("TAKEN_OVER", "PostgresStore")

#: Why a process that was taken over may not buy.
TAKEN_OVER = (
    "another process holds this journal now, because this one did not renew its lease in time. "
    "Nothing more is bought here; tasks that are already paid are still followed and recorded"
)
#: Why a process that never held the journal may not buy.
_BESIDE_HOLDER = "it was opened with hold=False, so nothing can be bought through it: open it with hold=True"

#: The states of an attempt of which the process that took over knows no reply.
_OPEN = "('intended', 'unknown', 'not_bought', 'forgotten')"


@define(eq=False)
class PostgresStore(Store):
    """The tables of a journal at *path*.

    *refusal* says why this process does not hold the journal; it is empty while it does. What a process that
    was taken over still learns of its own attempts is written, as long as no later attempt of the job
    replaced them; everything else raises `JournalError`.
    """

    refusal: str = ""
    #: The number of the attempt that this process sent, by the id of its job.
    attempts: dict[int, int] = field(factory=dict)

    @classmethod
    def beside_holder(cls, connection: Connection, path: str) -> Self:
        """Return a store that reads, settles unknown jobs and records callbacks, but begins no job."""
        return cls(connection, 0, path=path, refusal=_BESIDE_HOLDER)

    @classmethod
    def take_over(cls, connection: Connection, path: str) -> Self:
        """Return the store for a new holder. Jobs that an earlier one only intended become unknown."""
        highest = connection.execute("SELECT coalesce(max(id), 0) FROM jobs").fetchone()[0]
        store = cls(connection, 1 + int(highest), path=path)
        store.mark_intended_unknown("the process ended while it was on the wire")
        connection.execute("DELETE FROM passed")
        return store

    @property
    def is_beside_holder(self) -> bool:
        """Whether another process holds the journal, or may hold it."""
        return bool(self.refusal)

    def mark_intended_unknown(self, reason: str) -> None:
        """Change every job that is only intended to unknown. The new holder does this after a takeover."""
        if not self.refusal:
            super().mark_intended_unknown(reason)

    def intend(self, job: JobRecord, at: float) -> Unread[int]:
        """Record that *job* is about to be sent; return its id."""
        self.ensure_held()
        return super().intend(job, at)

    def _begun(self, number: int, attempts: int) -> int:
        self.attempts[number] = attempts
        return number

    def not_bought(self, job: JobRecord) -> None:
        """Record that the attempt bought nothing."""
        if not self.refusal:
            super().not_bought(job)
        else:
            self.connection.execute(
                "UPDATE jobs SET state = 'not_bought' WHERE id = ? AND attempts = ? AND state = 'unknown'",
                self._attempt(job),
            )
        self.attempts.pop(entry_number(job), None)

    def unknown(self, job: JobRecord) -> None:
        """Record that *job* may have been bought. After a takeover it is unknown already."""
        if not self.refusal:
            super().unknown(job)

    def accepted(self, job: JobRecord, at: float) -> None:
        """Record the task id of *job*."""
        if not self.refusal:
            super().accepted(job, at)
            return
        task_id = clean(job.task_id or "")
        adopted = self.connection.execute(
            "UPDATE jobs SET state = 'adopted', task_id = ?, accepted_at = ?, error_kind = NULL,"  # noqa: S608
            f" error_message = NULL WHERE id = ? AND attempts = ? AND state IN {_OPEN} RETURNING id",
            (task_id, at, *self._attempt(job)),
        ).fetchone()
        if adopted is None:
            self._add_to_earlier_attempts(entry_number(job), task_id)

    def _add_to_earlier_attempts(self, number: int, task_id: str) -> None:
        """Record a task that a replaced attempt bought, unless the job has it already."""
        self.connection.execute(
            "UPDATE jobs SET past_tasks = past_tasks || CAST(? AS TEXT), past_bought = past_bought + 1,"
            " past_untold = past_untold + 1 WHERE id = ? AND task_id IS DISTINCT FROM ?"
            " AND position(? in past_tasks) = 0",
            (f"{task_id}\n", number, task_id, f"{task_id}\n"),
        )

    def finished(self, job: JobRecord, status: TaskStatus | None, at: float) -> None:
        """Record how the task ended."""
        if not self.refusal:
            super().finished(job, status, at)
        elif status is not None:
            good = status.state is TaskState.SUCCESS and job.error is None
            self.connection.execute(
                "UPDATE jobs SET state = ?, status = ?, credits = ?, finished_at = ?"  # noqa: S608
                f" WHERE task_id = ? AND state IN {PAID_STATES} AND status IS NULL",
                (
                    "succeeded" if good else "failed",
                    dump_status(status),
                    status.credits,
                    at,
                    clean(job.task_id or ""),
                ),
            )
        if isinstance(job.entry, int):
            self.attempts.pop(job.entry, None)

    def open_run(self, name: str, at: float) -> int:
        """Begin a pass through the run *name*; return its id."""
        self.ensure_held()
        return super().open_run(name, at)

    def match(self, run: int, name: str, request: GenerationRequest) -> Match:
        """Return what is known of *request*."""
        self.ensure_held()
        return super().match(run, name, request)

    def find(self, run: str, request: GenerationRequest, at: float) -> Unread[Match]:
        """Return what is known of *request* in a purchase by key."""
        self.ensure_held()
        return super().find(run, request, at)

    def learn(self, name: str, value: str, at: float) -> None:
        """Store *value*, which the new holder learns for itself after a takeover."""
        if not self.refusal:
            super().learn(name, value, at)

    def _attempt(self, job: JobRecord) -> tuple[int, Any]:
        number = entry_number(job)
        return number, self.attempts.get(number)

    def ensure_held(self) -> None:
        """Raise `JournalError` unless this process holds the journal."""
        if self.refusal:
            raise JournalError(self.path, self.refusal)
