"""A person's word on a job in doubt. Blocking, inside a transaction, like `store`."""

from __future__ import annotations

from ruxa_async.errors import JournalError

from .records import JobState, JournalEntry
from .rows import SELECT_JOB, entry_of
from .schema import Connection

__all__ = ("adopt", "forget")

#: What a person may still change her mind about.
_OPEN = frozenset({JobState.UNKNOWN, JobState.ADOPTED, JobState.FORGOTTEN})


def adopt(connection: Connection, path: str, name: str, task_id: str, run: str | None) -> JournalEntry:
    """Note that the job *name* was bought as *task_id*."""
    job = _in_doubt(connection, path, name, run)
    others = connection.execute(
        f"{SELECT_JOB} WHERE jobs.task_id = ? AND jobs.id <> ?", (task_id, job.entry)
    ).fetchall()
    if others:
        other = entry_of(connection, others[0])[0]
        raise JournalError(path, f"task {task_id} is that of job {other.name!r} already: check the id")
    connection.execute(
        "UPDATE jobs SET state = 'adopted', task_id = ?, accepted_at = coalesce(accepted_at, intended_at) WHERE id = ?",
        (task_id, job.entry),
    )
    return _entry(connection, job.entry)


def forget(connection: Connection, path: str, name: str, run: str | None) -> JournalEntry:
    """Note that the job *name* was not bought."""
    job = _in_doubt(connection, path, name, run)
    connection.execute(
        "UPDATE jobs SET state = 'forgotten', task_id = NULL, accepted_at = NULL WHERE id = ?", (job.entry,)
    )
    return _entry(connection, job.entry)


def _entry(connection: Connection, number: object) -> JournalEntry:
    row = connection.execute(f"{SELECT_JOB} WHERE jobs.id = ?", (number,)).fetchone()
    return entry_of(connection, row)[0]


def _in_doubt(connection: Connection, path: str, name: str, run: str | None) -> JournalEntry:
    """Return the one job that *name* can mean."""
    named = [job for job in _named(connection, name, run) if name in (job.name, job.key)]
    if not named:
        raise JournalError(path, f"no job is called {name!r}: list the unknown ones to see their names")
    open_ = [job for job in named if job.state is JobState.UNKNOWN] or [
        job for job in named if job.state in _OPEN
    ]
    if not open_:
        states = ", ".join(sorted({job.state.value for job in named}))
        raise JournalError(path, f"job {name!r} is not in doubt: it is {states}")
    if len(open_) > 1:
        where = ", ".join(repr(job.run) if job.run else "no run" for job in open_)
        raise JournalError(path, f"{len(open_)} jobs are called {name!r}, in {where}: say which run is meant")
    return open_[0]


def _named(connection: Connection, name: str, run: str | None) -> list[JournalEntry]:
    """Return every job that *name* could mean, and some that it does not."""
    stem, _, number = name.rpartition("~")
    keys = [name, stem] if number.isdecimal() else [name]
    handles = [b"k" + key.encode("utf-8", "surrogatepass") for key in keys]
    shown = keys[-1].removeprefix("#").upper() if keys[-1].startswith("#") else None
    rows = connection.execute(
        f"{SELECT_JOB} WHERE (? IS NULL OR runs.name = ?) AND (jobs.handle IN (?, ?)"
        " OR (substr(jobs.handle, 1, 1) = x'68' AND substr(hex(jobs.handle), 3, 12) = ?)) ORDER BY jobs.id",
        (run, run, handles[0], handles[-1], shown),
    ).fetchall()
    return [entry_of(connection, row)[0] for row in rows]
