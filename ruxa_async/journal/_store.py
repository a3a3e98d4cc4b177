"""What each operation does to the tables. Blocking: it belongs to the thread that owns the connection.

Every method is called inside a transaction. It checks first and writes afterwards, so that an error of ours leaves
nothing half done; an error of the database undoes the whole transaction.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import define, field, frozen

from ruxa_async._internal.failpoints import failpoint
from ruxa_async.errors import KeyConflictError
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import JobRecord, TaskState, TaskStatus

from ._files import OpenFiles
from ._identity import Identity, identify, name_of
from ._records import JobState, Match, SavedFile
from ._rows import SELECT_JOB, SPENT, clean, dump_status, entry_of
from ._schema import Connection

__all__ = ("Place", "Store")

_LOOSE = 0
#: An attempt that was bought, or may have been, stays on the bill when the next one takes its place in the row.
_INTO_PAST = (
    f"past_bought = past_bought + (state IN {SPENT}),"
    f" past_untold = past_untold + (state IN {SPENT} AND credits IS NULL),"
    f" past_credits = past_credits + CASE WHEN state IN {SPENT} THEN coalesce(credits, 0) ELSE 0 END,"
)


@frozen
class Place:
    """Where a job that was never going to be sent will stand, once it is."""

    run: int
    ordinal: int
    identity: Identity = field(repr=False)


@define(eq=False)
class Store:
    """The tables of one open journal."""

    connection: Connection
    next_id: int
    #: The files to check before each intent; None for tables that are only looked into.
    files: OpenFiles | None = None

    @classmethod
    def over(cls, connection: Connection) -> Store:
        """Return the store of an open, migrated file. A create that is only intended there was cut off: it is unknown."""
        store = cls(connection, 1 + connection.execute("SELECT coalesce(max(id), 0) FROM jobs").fetchone()[0])
        store.cut_off("the process ended while it was on the wire")
        connection.execute(
            "CREATE TEMP TABLE IF NOT EXISTS passed (run INTEGER, handle BLOB, times INTEGER, PRIMARY KEY (run, handle))"
            " WITHOUT ROWID"
        )
        return store

    def cut_off(self, why: str) -> None:
        """Call unknown what is only intended, now that nothing more will be heard of it."""
        self.connection.execute(
            "UPDATE jobs SET state = 'unknown', error_kind = 'SubmissionUnknownError', error_message = ?"
            " WHERE state = 'intended'",
            (why,),
        )

    # ---- what the client reports

    def intend(self, job: JobRecord, at: float) -> int:
        """Write down that *job* is about to be sent; return its id.

        Raises `JournalError` if the journal's files are not where they were opened.
        """
        if self.files is not None:
            self.files.ensure_in_place()
        if job.entry is None:
            assert job.request is not None
            place = self._loose(identify(job.request))
        elif isinstance(job.entry, Place):
            place = job.entry
            if (known := self._at(place)) is not None:
                self.connection.execute(
                    "UPDATE jobs SET digest = ?, request = ? WHERE id = ?",
                    (place.identity.digest, place.identity.text, known),
                )
                return self._intend_again(known, job.callback_id, at)
        else:
            return self._intend_again(_number(job), job.callback_id, at)
        number = self.next_id
        self.next_id += 1
        self.connection.execute(
            "INSERT INTO jobs (id, run, handle, ordinal, digest, request, state, attempts, intended_at,"
            " call) VALUES (?, ?, ?, ?, ?, ?, 'intended', 1, ?, ?)",
            (
                number,
                place.run,
                place.identity.handle,
                place.ordinal,
                place.identity.digest,
                place.identity.text,
                at,
                job.callback_id,
            ),
        )
        failpoint("intent written")
        return number

    def _at(self, place: Place) -> int | None:
        row = self.connection.execute(
            "SELECT id FROM jobs WHERE run = ? AND handle = ? AND ordinal = ?",
            (place.run, place.identity.handle, place.ordinal),
        ).fetchone()
        return None if row is None else int(row[0])

    def _loose(self, identity: Identity) -> Place:
        """Return the place of one that belongs to no run: those never match, so each is a new one."""
        row = self.connection.execute(
            "SELECT coalesce(max(ordinal), 0) FROM jobs WHERE run = ? AND handle = ?",
            (_LOOSE, identity.handle),
        ).fetchone()
        return Place(_LOOSE, row[0] + 1, identity)

    def _intend_again(self, number: int, callback_id: bytes | None, at: float) -> int:
        self.connection.execute(
            f"UPDATE jobs SET state = 'intended', attempts = attempts + 1, intended_at = ?, {_INTO_PAST}"  # noqa: S608
            " past_tasks = CASE WHEN task_id IS NULL THEN past_tasks ELSE past_tasks || task_id || char(10) END,"
            " task_id = NULL, accepted_at = NULL, status = NULL, credits = NULL, finished_at = NULL,"
            " error_kind = NULL, error_message = NULL, call = ? WHERE id = ?",
            (at, callback_id, number),
        )
        self.connection.execute("DELETE FROM files WHERE job = ?", (number,))
        return number

    def not_bought(self, job: JobRecord) -> None:
        """Write down that the attempt bought nothing."""
        self._end_of_create(job, JobState.NOT_BOUGHT)

    def unknown(self, job: JobRecord) -> None:
        """Write down that nobody knows."""
        self._end_of_create(job, JobState.UNKNOWN)

    def _end_of_create(self, job: JobRecord, state: JobState) -> None:
        self.connection.execute(
            "UPDATE jobs SET state = ?, error_kind = ?, error_message = ? WHERE id = ?",
            (state.value, *_error(job.error), _number(job)),
        )

    def accepted(self, job: JobRecord, at: float) -> None:
        """Write down the task id."""
        self.connection.execute(
            "UPDATE jobs SET state = 'accepted', task_id = ?, accepted_at = ?, error_kind = NULL, error_message = NULL"
            " WHERE id = ?",
            (clean(job.task_id or ""), at, _number(job)),
        )
        failpoint("task id written")

    def finished(self, job: JobRecord, status: TaskStatus | None, at: float) -> None:
        """Write down how the task ended; one that was only given up keeps its state."""
        where = "id = ?" if job.entry is not None else "task_id = ?"
        what = _number(job) if job.entry is not None else clean(job.task_id or "")
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
            # One that only a callback told of was never seen accepted.
            changes += ", accepted_at = coalesce(accepted_at, intended_at)"
        self.connection.execute(
            f"UPDATE jobs SET {changes} WHERE {where}",  # noqa: S608 - texts of ours alone
            (*columns.values(), what),
        )
        failpoint("outcome written")

    def saved(self, task_id: str, file: SavedFile) -> None:
        """Write down that a file is whole."""
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
        """Begin a pass through the run *name*; return its id."""
        row = self.connection.execute("SELECT id FROM runs WHERE name = ?", (name,)).fetchone()
        if row is None:
            number: int = self.connection.execute("SELECT max(id) + 1 FROM runs").fetchone()[0]
            self.connection.execute("INSERT INTO runs VALUES (?, ?, ?)", (number, name, at))
            return number
        self.connection.execute("DELETE FROM temp.passed WHERE run = ?", (row[0],))
        return int(row[0])

    def match(self, run: int, name: str, request: GenerationRequest) -> Match:
        """Return what is known of *request*."""
        identity = identify(request)
        times = self._times(run, identity.handle)
        if request.key is not None and times > 1:
            raise KeyConflictError(
                request.key,
                name,
                "it came before in this run: a key names one job, so give each its own, or none",
            )
        self.connection.execute(
            "INSERT INTO temp.passed VALUES (?, ?, 1) ON CONFLICT (run, handle) DO UPDATE SET times = times + 1",
            (run, identity.handle),
        )
        row = self.connection.execute(
            f"{SELECT_JOB} WHERE jobs.run = ? AND jobs.handle = ? AND jobs.ordinal = ?",
            (run, identity.handle, times),
        ).fetchone()
        if row is None:
            return Match(entry=Place(run, times, identity), name=name_of(identity.handle, times))
        entry, digest = entry_of(self.connection, row)
        if digest != identity.digest:
            if entry.state in (JobState.NOT_BOUGHT, JobState.FORGOTTEN):
                # Nothing was ever bought for this key, so a corrected request may have it.
                return Match(entry=Place(run, times, identity), name=entry.name)
            raise KeyConflictError(
                request.key or "",
                name,
                f"it stands for another request there ({entry.request!r:.200}), not for this one ({request!r:.200}): "
                "give the changed one a key of its own, or the run another name",
            )
        return Match(entry=entry.entry, name=entry.name, known=entry)

    def _times(self, run: int, handle: bytes) -> int:
        row = self.connection.execute(
            "SELECT times FROM temp.passed WHERE run = ? AND handle = ?", (run, handle)
        ).fetchone()
        return 1 if row is None else row[0] + 1

    # ---- what is learned

    def learned(self, name: str) -> Any:
        """Return what was learned under *name*, None if nothing usable was."""
        row = self.connection.execute("SELECT value FROM learned WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def learn(self, name: str, value: str, at: float) -> None:
        """Keep *value*, a JSON text."""
        self.connection.execute("INSERT OR REPLACE INTO learned VALUES (?, ?, ?)", (name, value, at))


def _number(job: JobRecord) -> int:
    if not isinstance(job.entry, int):
        raise TypeError(f"{job.entry!r} is no entry of this journal")
    return job.entry


def _error(error: BaseException | None) -> tuple[str | None, str | None]:
    return (None, None) if error is None else (type(error).__name__, clean(str(error)))
