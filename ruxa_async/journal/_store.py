"""The changes that a client makes to the tables. Blocking: for the thread that owns the connection.

Every method runs inside a transaction that other methods share. It makes all its checks before its first
write, so that an error of its own leaves no partial change. An error of SQLite rolls the transaction back.
`Journal` documents the methods of the same names.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

from attrs import define, field, frozen

from ruxa_async._internal.failpoints import failpoint
from ruxa_async._internal.files import FileId, file_id
from ruxa_async.errors import JournalError, KeyConflictError, RunInUseError
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import JobRecord, TaskState, TaskStatus

from ._identity import Identity, identify, name_of
from ._records import GroupBy, JobState, JournalCounts, Match, SavedFile
from ._rows import JOB_COLUMNS, PAID_STATES, SELECT_JOB, clean, count, dump_status, entry_of
from ._schema import Connection, Cursor

__all__ = ("OpenFiles", "Slot", "Store", "Unread", "entry_number")

_T = TypeVar("_T")

#: ``jobs.run`` of jobs outside any run.
_NO_RUN = 0
#: SQL: the ordinal of one more row with a run and a handle.
_NEXT_ORDINAL = "(SELECT coalesce(max(ordinal), 0) + 1 FROM jobs WHERE run = ? AND handle = ?)"
#: SQL that adds the last attempt, if it was or may have been paid, to the sums of earlier attempts.
_ADD_TO_PAST = (
    f"past_bought = past_bought + CASE WHEN state IN {PAID_STATES} THEN 1 ELSE 0 END,"
    f" past_untold = past_untold + CASE WHEN state IN {PAID_STATES} AND credits IS NULL THEN 1 ELSE 0 END,"
    f" past_credits = past_credits + CASE WHEN state IN {PAID_STATES} THEN coalesce(credits, 0) ELSE 0 END,"
)
#: SQL: the first job of a run's name and a handle, and the id of the run; a run without that job is one row.
_FIND = (
    f"SELECT {JOB_COLUMNS}, runs.id FROM runs LEFT JOIN jobs"  # noqa: S608 - texts of ours alone
    " ON jobs.run = runs.id AND jobs.handle = ? AND jobs.ordinal = 1 WHERE runs.name = ?"
)

#: The states of a job for which nothing was bought, so that a changed request may use its key.
_FREE_FOR_ANY_REQUEST = frozenset({"not_bought", "forgotten"})
#: The states of a job that may be sent again. For unknown and failed jobs, the user must have asked for it.
_MAY_BE_SENT_AGAIN = _FREE_FOR_ANY_REQUEST | {"unknown", "failed"}


@frozen
class Slot:
    """The unique key of a row in ``jobs``; the row may not exist yet."""

    run: int
    ordinal: int
    identity: Identity = field(repr=False)


@frozen
class Unread(Generic[_T]):
    """The result of an operation whose statements were sent; *read* returns it from their rows.

    A database at a distance receives the statements of many operations before the first rows are awaited.
    """

    read: Callable[[], _T]


@frozen
class OpenFiles:
    """The database at *path* and its write-ahead log, by device and inode.

    SQLite keeps writing to a file that was moved or removed. The next run would find no journal at *path*
    and buy everything again.
    """

    path: str
    _ids: tuple[tuple[str, FileId], ...] = field(alias="_ids", repr=False)

    @classmethod
    def of(cls, path: str) -> Self:
        """Return the files of the journal that was just opened at *path*."""
        found = ((name, file_id(name)) for name in (path, f"{path}-wal"))
        return cls(path, _ids=tuple((name, known) for name, known in found if known is not None))

    @property
    def missing(self) -> str | None:
        """The path of a file that was moved, replaced or removed since, None if all are in place."""
        return next((name for name, known in self._ids if file_id(name) != known), None)

    def ensure_in_place(self) -> None:
        """Raise `JournalError` if a file was moved, replaced or removed since."""
        if (missing := self.missing) is not None:
            raise JournalError(
                self.path,
                f"{missing} was moved, replaced or removed while the journal was open, so nothing more is "
                "bought. Requests on the wire are still awaited and reported. Before you run this again, put "
                "the folder back or give its new path: without it, everything would be bought again",
            )


@define(eq=False)
class Store:
    """The tables of one open journal. *path* names it in messages.

    *files* are checked before each intent; None skips the check.
    """

    connection: Connection
    next_id: int
    path: str = ""
    files: OpenFiles | None = None

    @classmethod
    def load(cls, connection: Connection, path: str = "") -> Self:
        """Return the store of a migrated database, after changing its intended jobs to unknown."""
        highest = connection.execute("SELECT coalesce(max(id), 0) FROM jobs").fetchone()[0]
        store = cls(connection, 1 + highest, path)
        store.mark_intended_unknown("the process ended while it was on the wire")
        connection.execute(
            "CREATE TEMP TABLE IF NOT EXISTS passed (run INTEGER, handle BLOB, times INTEGER,"
            " PRIMARY KEY (run, handle)) WITHOUT ROWID"
        )
        return store

    def mark_intended_unknown(self, reason: str) -> None:
        """Change every intended job to unknown for *reason*, because its reply can no longer arrive."""
        self.connection.execute(
            "UPDATE jobs SET state = 'unknown', error_kind = 'SubmissionUnknownError', error_message = ?"
            " WHERE state = 'intended'",
            (reason,),
        )

    @property
    def is_beside_holder(self) -> bool:
        """Whether another process holds the journal, or may hold it."""
        return False

    def ensure_held(self) -> None:
        """Raise `JournalError` unless this process may buy. Here the lock of the file says so."""

    # ---- what the client reports

    def intend(self, job: JobRecord, at: float) -> Unread[int]:
        """Record that a create of *job* is about to be sent; return the id of its row.

        Raises `JournalError` if the journal's files are not where they were opened. Reading the id raises it
        if the job was bought or is being sent since the client looked it up.
        """
        if self.files is not None:
            self.files.ensure_in_place()
        if job.entry is None:
            assert job.request is not None
            number, _ = self._insert(job, at, _NO_RUN, identify(job.request))
            return Unread(lambda: self._begun(number, 1))
        if isinstance(job.entry, Slot):
            return self._intend_at(job.entry, job, at)
        return self._intend_again(entry_number(job), _MAY_BE_SENT_AGAIN, job.callback_id, at)

    def _intend_at(self, slot: Slot, job: JobRecord, at: float) -> Unread[int]:
        """Record an intent at *slot*, where a job may stand already, for which nothing was bought."""
        number, inserted = self._insert(job, at, slot.run, slot.identity, slot.ordinal)

        def read() -> int:
            if inserted.fetchall():
                return self._begun(number, 1)
            (known,) = self.connection.execute(
                "SELECT id FROM jobs WHERE run = ? AND handle = ? AND ordinal = ?",
                (slot.run, slot.identity.handle, slot.ordinal),
            ).fetchone()
            self._intend_again(known, _FREE_FOR_ANY_REQUEST, job.callback_id, at).read()
            self.connection.execute(
                "UPDATE jobs SET digest = ?, request = ? WHERE id = ?",
                (slot.identity.digest, slot.identity.text, known),
            )
            return int(known)

        return Unread(read)

    def _insert(
        self, job: JobRecord, at: float, run: int, identity: Identity, ordinal: int | None = None
    ) -> tuple[int, Cursor]:
        """Write the first intent of *job*; return its id, and its row if no job stood there.

        Without *ordinal*, it never matches an earlier job.
        """
        number = self.next_id
        self.next_id += 1
        place: tuple[Any, ...] = (ordinal,) if ordinal is not None else (run, identity.handle)
        inserted = self.connection.execute(
            "INSERT INTO jobs (id, run, handle, ordinal, digest, request, state, attempts, intended_at,"  # noqa: S608
            f" call) VALUES (?, ?, ?, {'?' if ordinal is not None else _NEXT_ORDINAL}, ?, ?, 'intended', 1,"
            " ?, ?) ON CONFLICT (run, handle, ordinal) DO NOTHING RETURNING id",
            (
                number,
                run,
                identity.handle,
                *place,
                identity.digest,
                identity.text,
                at,
                job.callback_id,
            ),
        )
        failpoint("intent written")
        return number, inserted

    def _begun(self, number: int, attempts: int) -> int:  # noqa: ARG002 - for databases that can be taken over
        """Note that the job *number* is sent for the time *attempts*; return its number."""
        return number

    def _intend_again(
        self, number: int, allowed: frozenset[str], callback_id: bytes | None, at: float
    ) -> Unread[int]:
        """Record one more attempt of the job *number*.

        Reading the number raises `JournalError` unless its state was *allowed*. Passes and purchases by key
        exclude each other, so this refuses only what a dropped batch left behind, or what was settled in the
        meantime.
        """
        states = ", ".join(f"'{state}'" for state in sorted(allowed))
        changed = self.connection.execute(
            f"UPDATE jobs SET state = 'intended', {_ADD_TO_PAST} attempts = attempts + 1,"  # noqa: S608
            " intended_at = ?,"
            " past_tasks = CASE WHEN task_id IS NULL THEN past_tasks"
            " ELSE past_tasks || task_id || ? END,"
            " task_id = NULL, accepted_at = NULL, status = NULL, credits = NULL, finished_at = NULL,"
            " error_kind = NULL, error_message = NULL, call = ?"
            f" WHERE id = ? AND state IN ({states}) RETURNING attempts",
            (at, "\n", callback_id, number),
        )

        def read() -> int:
            rows = changed.fetchall()
            if not rows:
                self._refuse_another_attempt(number)
                return number
            self.connection.execute("DELETE FROM files WHERE job = ?", (number,))
            return self._begun(number, rows[0][0])

        return Unread(read)

    def _refuse_another_attempt(self, number: int) -> None:
        row = self.connection.execute("SELECT state FROM jobs WHERE id = ?", (number,)).fetchone()
        if row is not None:
            raise RunInUseError(
                self.path,
                f"the request was not sent: its job became {row[0]} since it was looked up. Run it again",
            )

    def not_bought(self, job: JobRecord) -> None:
        self._record_create(job, JobState.NOT_BOUGHT)

    def unknown(self, job: JobRecord) -> None:
        self._record_create(job, JobState.UNKNOWN)

    def _record_create(self, job: JobRecord, state: JobState) -> None:
        # A callback that another process recorded meanwhile is the proof of a purchase: it stays.
        self.connection.execute(
            "UPDATE jobs SET state = ?, error_kind = ?, error_message = ?"
            " WHERE id = ? AND state NOT IN ('adopted', 'succeeded', 'failed')",
            (state.value, *_error(job.error), entry_number(job)),
        )

    def accepted(self, job: JobRecord, at: float) -> None:
        self.connection.execute(
            "UPDATE jobs SET state = 'accepted', task_id = ?, accepted_at = ?, error_kind = NULL,"
            " error_message = NULL WHERE id = ?",
            (clean(job.task_id or ""), at, entry_number(job)),
        )
        failpoint("task id written")

    def finished(self, job: JobRecord, status: TaskStatus | None, at: float) -> None:
        """Record how the task ended; without *status*, only the error is recorded and the state stays."""
        where = "id = ?" if job.entry is not None else "task_id = ?"
        what = entry_number(job) if job.entry is not None else clean(job.task_id or "")
        kind, message = _error(job.error)
        columns: dict[str, Any] = {"error_kind": kind, "error_message": message}
        if status is not None:
            good = status.state is TaskState.SUCCESS and job.error is None
            columns |= {
                "state": "succeeded" if good else "failed",
                "status": dump_status(status),
                "credits": status.credits,
                "finished_at": at,
            }
        changes = ", ".join(f"{name} = ?" for name in columns)
        if status is not None:
            # A task known only by its callback was never recorded as accepted.
            changes += ", accepted_at = coalesce(accepted_at, intended_at)"
        self.connection.execute(
            f"UPDATE jobs SET {changes} WHERE {where}",  # noqa: S608 - texts of ours alone
            (*columns.values(), what),
        )
        failpoint("outcome written")

    def saved(self, task_id: str, file: SavedFile) -> None:
        self.connection.execute(
            "INSERT INTO files (job, number, name, size, sha256)"
            " SELECT id, ?, ?, ?, ? FROM jobs WHERE task_id = ?"
            " ON CONFLICT (job, number) DO UPDATE SET name = excluded.name, size = excluded.size,"
            " sha256 = excluded.sha256",
            (file.number, clean(file.name), file.size, file.sha256, clean(task_id)),
        )
        failpoint("file row written")

    # ---- runs

    def open_run(self, name: str, at: float) -> int:
        """Begin a pass through the run *name*; return the id of the run."""
        number = self._run_number(name, at)
        self.connection.execute("DELETE FROM passed WHERE run = ?", (number,))
        return number

    def _run_number(self, name: str, at: float) -> int:
        """Return the id of the run *name*, which is created if it does not exist."""
        row = self.connection.execute("SELECT id FROM runs WHERE name = ?", (name,)).fetchone()
        if row is not None:
            return int(row[0])
        number: int = self.connection.execute("SELECT max(id) + 1 FROM runs").fetchone()[0]
        self.connection.execute("INSERT INTO runs VALUES (?, ?, ?)", (number, name, at))
        return number

    def find(self, run: str, request: GenerationRequest, at: float) -> Unread[Match]:
        """Return what the run *run* recorded for *request* by key. Reading it raises `KeyConflictError`."""
        identity = identify(request)
        found = self.connection.execute(_FIND, (identity.handle, run))

        def read() -> Match:
            rows = found.fetchall()
            number = rows[0][-1] if rows else self._run_number(run, at)
            row = rows[0][:-1] if rows and rows[0][0] is not None else None
            return self._match(Slot(number, 1, identity), row, run, request)

        return Unread(read)

    def run_begun_at(self, name: str) -> float | None:
        row = self.connection.execute("SELECT begun_at FROM runs WHERE name = ?", (name,)).fetchone()
        return None if row is None else float(row[0])

    def match(self, run: int, name: str, request: GenerationRequest) -> Match:
        """Return what earlier passes of *run* recorded for *request*. Raises `KeyConflictError`."""
        identity = identify(request)
        times = self._occurrence(run, identity.handle)  # before the check: a key that comes again is refused
        if request.key is not None and times > 1:
            raise KeyConflictError(
                request.key,
                name,
                "it came before in this run: give each request its own key, or none",
            )
        row = self.connection.execute(
            f"{SELECT_JOB} WHERE jobs.run = ? AND jobs.handle = ? AND jobs.ordinal = ?",
            (run, identity.handle, times),
        ).fetchone()
        return self._match(Slot(run, times, identity), row, name, request)

    def _match(self, slot: Slot, row: Any, name: str, request: GenerationRequest) -> Match:
        """Return what *row*, the job at *slot* in the run *name*, says of *request*."""
        identity = slot.identity
        if row is None:
            return Match(entry=slot, name=name_of(identity.handle, slot.ordinal))
        entry, digest = entry_of(self.connection, row)
        if digest != identity.digest:
            if entry.state.value in _FREE_FOR_ANY_REQUEST:
                return Match(entry=slot, name=entry.name)
            raise KeyConflictError(
                request.key or "",
                name,
                f"it belongs to another request there ({entry.request!r:.200}), not to this one "
                f"({request!r:.200}): give the changed request another key, or the run another name",
            )
        return Match(entry=entry.entry, name=entry.name, known=entry)

    def _occurrence(self, run: int, handle: bytes) -> int:
        """Count a request with *handle*; return 1 for the first one in this pass, 2 for the second, ..."""
        ((times,),) = self.connection.execute(
            "INSERT INTO passed VALUES (?, ?, 1)"
            " ON CONFLICT (run, handle) DO UPDATE SET times = passed.times + 1 RETURNING times",
            (run, handle),
        ).fetchall()
        return int(times)

    # ---- counts and learned values

    def counts(self, run: str | None, group_by: GroupBy | None = None) -> JournalCounts:
        return count(self.connection, run, group_by)

    def learned(self, name: str) -> Any:
        row = self.connection.execute("SELECT value FROM learned WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def learn(self, name: str, value: str, at: float) -> None:
        """Store *value*, a JSON text, under *name*."""
        self.connection.execute(
            "INSERT INTO learned VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE"
            " SET value = excluded.value, learned_at = excluded.learned_at",
            (name, value, at),
        )


def entry_number(job: JobRecord) -> int:
    if not isinstance(job.entry, int):
        raise TypeError(f"{job.entry!r} is not an entry of this journal")
    return job.entry


def _error(error: BaseException | None) -> tuple[str | None, str | None]:
    return (None, None) if error is None else (type(error).__name__, clean(str(error)))
