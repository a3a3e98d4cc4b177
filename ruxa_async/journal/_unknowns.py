"""Settling unknown jobs, by a person or a callback. Blocking, inside a transaction, as in `_store`."""

from __future__ import annotations

from ruxa_async.errors import JournalError
from ruxa_async.results import TaskState, TaskStatus

from ._records import JobState, JournalEntry
from ._rows import SELECT_JOB, clean, dump_status, entry_of
from ._schema import Connection

__all__ = ("adopt", "called_back", "forget")

#: The states that a callback changes, because it proves that the job was bought.
_CALLBACK_CHANGES = frozenset({"intended", "unknown", "not_bought", "forgotten"})
#: The states in which the holder may still follow the task, so that a callback has it queried.
_FOLLOWED = frozenset({"accepted", "adopted"})
#: callbacks without a job that are kept, at most; `LastingJournal.callbacks` documents the number
_CALLBACKS_KEPT = 10_000
#: The states that `adopt` and `forget` change: you may correct yourself.
_PERSON_CHANGES = frozenset({JobState.UNKNOWN, JobState.ADOPTED, JobState.FORGOTTEN})


def adopt(connection: Connection, path: str, name: str, task_id: str, run: str | None) -> JournalEntry:
    """Record that the unknown job *name* was bought as *task_id*."""
    job = _find_unknown(connection, path, name, run)
    others = connection.execute(
        f"{SELECT_JOB} WHERE jobs.task_id = ? AND jobs.id <> ?", (task_id, job.entry)
    ).fetchall()
    if others:
        other = entry_of(connection, others[0])[0]
        raise JournalError(path, f"task {task_id} already belongs to job {other.name!r}: check the id")
    connection.execute(
        "UPDATE jobs SET state = 'adopted', task_id = ?,"
        " accepted_at = coalesce(accepted_at, intended_at) WHERE id = ?",
        (task_id, job.entry),
    )
    return _entry(connection, job.entry)


def forget(connection: Connection, path: str, name: str, run: str | None) -> JournalEntry:
    """Record that the unknown job *name* was not bought."""
    job = _find_unknown(connection, path, name, run)
    connection.execute(
        "UPDATE jobs SET state = 'forgotten', task_id = NULL, accepted_at = NULL WHERE id = ?", (job.entry,)
    )
    return _entry(connection, job.entry)


def called_back(
    connection: Connection,
    callback_id: bytes,
    task_id: str | None,
    status: TaskStatus | None,
    at: float,
    *,
    beside_holder: bool = False,
) -> bool:
    """Record a callback for the create with *callback_id*; return whether it settled a job.

    *beside_holder* also keeps one that settles a job, or whose task is followed: the holder looks for it.
    """
    row = connection.execute("SELECT id, state FROM jobs WHERE call = ?", (callback_id,)).fetchone()
    if row is not None and row[1] not in _CALLBACK_CHANGES:  # the job is known to be bought
        may_have_ended = status is None or status.state.terminal
        if beside_holder and may_have_ended and row[1] in _FOLLOWED:
            _keep(connection, callback_id, task_id, status, at)
        return False
    settled = row is not None and _settle(connection, row[0], task_id, status, at)
    if beside_holder or not settled:
        _keep(connection, callback_id, task_id, status, at)
    return settled


def _settle(
    connection: Connection, number: object, task_id: str | None, status: TaskStatus | None, at: float
) -> bool:
    """Record what a callback proves about the job *number*; return whether that settles it."""
    if task_id is not None:
        connection.execute(
            "UPDATE jobs SET state = 'adopted', task_id = ?, accepted_at = intended_at WHERE id = ?",
            (clean(task_id), number),
        )
        return True
    if status is not None and (status.state is TaskState.FAIL or status.urls):
        state = "failed" if status.state is TaskState.FAIL else "succeeded"
        connection.execute(
            "UPDATE jobs SET state = ?, status = ?, credits = ?, finished_at = ?, accepted_at = intended_at,"
            " error_kind = NULL, error_message = NULL WHERE id = ?",
            (state, dump_status(status), status.credits, at, number),
        )
        return True
    connection.execute(
        "UPDATE jobs SET state = 'unknown', error_kind = 'SubmissionUnknownError', error_message = ?"
        " WHERE id = ?",
        ("the service called back, so it was accepted, but the callback names no task and no output", number),
    )
    return False


def _keep(
    connection: Connection, callback_id: bytes, task_id: str | None, status: TaskStatus | None, at: float
) -> None:
    connection.execute(
        "INSERT INTO callbacks VALUES (?, ?, ?, ?) ON CONFLICT (call) DO UPDATE SET"
        " task_id = excluded.task_id, status = excluded.status, received_at = excluded.received_at",
        (
            callback_id,
            None if task_id is None else clean(task_id),
            None if status is None else dump_status(status),
            at,
        ),
    )
    connection.execute(
        "DELETE FROM callbacks WHERE call IN"
        " (SELECT call FROM callbacks ORDER BY received_at DESC LIMIT 1000 OFFSET ?)",
        (_CALLBACKS_KEPT,),
    )


def _entry(connection: Connection, number: object) -> JournalEntry:
    row = connection.execute(f"{SELECT_JOB} WHERE jobs.id = ?", (number,)).fetchone()
    return entry_of(connection, row)[0]


def _find_unknown(connection: Connection, path: str, name: str, run: str | None) -> JournalEntry:
    """Return the only unknown job called *name*. Raises `JournalError`."""
    named = [job for job in _named(connection, name, run) if name in (job.name, job.key)]
    if not named:
        raise JournalError(path, f"no job is called {name!r}: list the unknown jobs to see their names")
    candidates = [job for job in named if job.state is JobState.UNKNOWN] or [
        job for job in named if job.state in _PERSON_CHANGES
    ]
    if not candidates:
        states = ", ".join(sorted({job.state.value for job in named}))
        raise JournalError(path, f"job {name!r} is not in doubt: it is {states}")
    if len(candidates) > 1:
        where = ", ".join(repr(job.run) if job.run else "no run" for job in candidates)
        raise JournalError(path, f"{len(candidates)} jobs are called {name!r}, in {where}: name the run")
    return candidates[0]


def _named(connection: Connection, name: str, run: str | None) -> list[JournalEntry]:
    """Return the jobs that may be called *name*; `_find_unknown` compares their names."""
    stem, _, number = name.rpartition("~")
    keys = [name, stem] if number.isdecimal() else [name]
    handles = [b"k" + key.encode("utf-8", "surrogatepass") for key in keys]
    digest = _digest_start(keys[-1])
    rows = connection.execute(
        f"{SELECT_JOB} WHERE (CAST(? AS TEXT) IS NULL OR runs.name = ?) AND (jobs.handle IN (?, ?)"
        " OR substr(jobs.handle, 1, 7) = ?) ORDER BY jobs.id",
        (run, run, handles[0], handles[-1], digest),
    ).fetchall()
    return [entry_of(connection, row)[0] for row in rows]


def _digest_start(name: str) -> bytes | None:
    """Return how the handle of a job without a key begins, if *name* is one that `name_of` gives it."""
    try:
        return b"h" + bytes.fromhex(name.removeprefix("#")) if name.startswith("#") else None
    except ValueError:
        return None
