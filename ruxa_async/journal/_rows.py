"""Rows of the tables as values: jobs, callbacks, counts. Blocking, inside a transaction."""

from __future__ import annotations

import json
from typing import Any

from attrs import asdict

from ruxa_async.results import TaskState, TaskStatus

from ._identity import key_of, name_of, rebuild
from ._records import Bought, GroupBy, JobState, JournalCounts, JournalEntry, KeptCallback, SavedFile
from ._schema import Connection, SchemaError

__all__ = (
    "JOB_COLUMNS",
    "PAID_STATES",
    "SELECT_JOB",
    "bought_anything",
    "clean",
    "count",
    "dump_status",
    "entry_of",
    "list_callbacks",
    "list_jobs",
    "list_new_callbacks",
    "list_unknown",
)

#: SQL: what `entry_of` reads.
JOB_COLUMNS = (
    "jobs.id, runs.name, jobs.handle, jobs.ordinal, jobs.digest, jobs.request, jobs.state,"
    " jobs.attempts, jobs.intended_at, jobs.task_id, jobs.accepted_at, jobs.status, jobs.finished_at,"
    " jobs.error_kind, jobs.error_message, jobs.past_tasks, jobs.call"
)
SELECT_JOB = f"SELECT {JOB_COLUMNS} FROM jobs JOIN runs ON runs.id = jobs.run"  # noqa: S608

#: SQL: the states of jobs that were or may have been bought.
PAID_STATES = "('intended', 'accepted', 'adopted', 'unknown', 'succeeded', 'failed')"


def entry_of(connection: Connection, row: Any) -> tuple[JournalEntry, bytes]:
    """Return the job in a *row* of `SELECT_JOB`, and the digest of its request. Raises `SchemaError`."""
    try:
        digest = b"".join([row[4]])  # not bytes(): an int in a damaged file would allocate that many
        return _entry(connection, row), digest
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as exc:
        raise SchemaError(
            f"job {row[0]} cannot be read ({exc}): the file is damaged; keep it, and use another journal"
        ) from exc


def _entry(connection: Connection, row: Any) -> JournalEntry:
    number, run, handle, ordinal, _, text, state, attempts, intended_at, task_id = row[:10]
    accepted_at, status, finished_at, error_kind, error_message, past, callback_id = row[10:]
    key = key_of(handle)
    files = connection.execute(
        "SELECT number, name, size, sha256 FROM files WHERE job = ? ORDER BY number", (number,)
    ).fetchall()
    return JournalEntry(
        entry=number,
        run=run or None,
        name=name_of(handle, ordinal),
        key=key,
        request=rebuild(text, key),
        state=JobState(state),
        task_id=task_id,
        status=None if status is None else _status(status),
        error_kind=error_kind,
        error_message=error_message,
        attempts=attempts,
        earlier_task_ids=tuple(past.split("\n")[:-1]),
        intended_at=intended_at,
        accepted_at=accepted_at,
        finished_at=finished_at,
        callback_id=callback_id,
        files=tuple(SavedFile(number=file[0], name=file[1], size=file[2], sha256=file[3]) for file in files),
    )


def bought_anything(connection: Connection) -> bool:
    """Return whether any job was or may have been bought."""
    row = connection.execute(
        f"SELECT EXISTS (SELECT 1 FROM jobs WHERE past_bought > 0 OR state IN {PAID_STATES})"  # noqa: S608
    ).fetchone()
    return bool(row[0])


def clean(text: str) -> str:
    """Return *text* with lone surrogates escaped, which UTF-8 cannot encode."""
    return text.encode(errors="backslashreplace").decode()


def dump_status(status: TaskStatus) -> str:
    """Return *status* as JSON, which `_status` reads."""
    return json.dumps({**asdict(status, recurse=False), "state": status.state.value})


def _status(text: str) -> TaskStatus:
    held = json.loads(text)
    return TaskStatus(**{**held, "state": TaskState(held["state"]), "urls": tuple(held["urls"])})


def list_unknown(connection: Connection, run: str | None) -> list[JournalEntry]:
    """Return the unknown jobs, only those of *run* if given, in the order in which they were intended."""
    rows = connection.execute(
        f"{SELECT_JOB} WHERE jobs.state = 'unknown' AND (CAST(? AS TEXT) IS NULL OR runs.name = ?)"
        " ORDER BY jobs.id",
        (run, run),
    ).fetchall()
    return [entry_of(connection, row)[0] for row in rows]


def list_jobs(connection: Connection, run: str) -> list[JournalEntry]:
    """Return the jobs of *run* in the order in which they were first intended."""
    rows = connection.execute(f"{SELECT_JOB} WHERE runs.name = ? ORDER BY jobs.id", (run,)).fetchall()
    return [entry_of(connection, row)[0] for row in rows]


def list_callbacks(connection: Connection) -> list[KeptCallback]:
    """Return the callbacks of no job, or of one that is not known to be bought, the oldest first."""
    return _callbacks(
        connection,
        "NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.call = callbacks.call"
        " AND jobs.state IN ('accepted', 'adopted', 'succeeded', 'failed'))",
    )


def list_new_callbacks(connection: Connection, since: float) -> list[KeptCallback]:
    """Return all callbacks received at *since* (seconds since the epoch) or later, the oldest first."""
    return _callbacks(connection, "received_at >= ?", since)


def _callbacks(connection: Connection, condition: str, *values: float) -> list[KeptCallback]:
    rows = connection.execute(
        f"SELECT call, task_id, status, received_at FROM callbacks WHERE {condition} ORDER BY received_at",  # noqa: S608
        values,
    ).fetchall()
    return [
        KeptCallback(
            callback_id=callback_id,
            task_id=task,
            status=None if status is None else _status(status),
            received_at=at,
        )
        for callback_id, task, status, at in rows
    ]


def count(connection: Connection, run: str | None, group_by: GroupBy | None = None) -> JournalCounts:
    """Return the numbers of jobs by state, files and credits, only those of *run* if given.

    *group_by* returns the key of a model and an input in `JournalCounts.models`, by default the model.
    """
    states = connection.execute(
        "SELECT jobs.state, count(*), sum(jobs.credits) FROM jobs JOIN runs ON runs.id = jobs.run"
        " WHERE (CAST(? AS TEXT) IS NULL OR runs.name = ?) GROUP BY jobs.state",
        (run, run),
    ).fetchall()
    files = connection.execute(
        "SELECT count(*) FROM files JOIN jobs ON jobs.id = files.job JOIN runs ON runs.id = jobs.run"
        " WHERE (CAST(? AS TEXT) IS NULL OR runs.name = ?)",
        (run, run),
    ).fetchone()
    counted = dict.fromkeys(JobState, 0) | {JobState(state): number for state, number, _ in states}
    total = sum(credit or 0.0 for _, _, credit in states)
    return JournalCounts(
        jobs=counted, files=files[0], credits=total, models=_bought(connection, run, group_by)
    )


def _bought(connection: Connection, run: str | None, group_by: GroupBy | None) -> dict[str, Bought]:
    """Sum up the tasks that were or may have been bought, by the key of *group_by*. Raises `SchemaError`."""
    rows = connection.execute(
        "SELECT jobs.request, jobs.state, jobs.credits,"  # noqa: S608
        " jobs.past_bought, jobs.past_untold, jobs.past_credits"
        " FROM jobs JOIN runs ON runs.id = jobs.run WHERE (CAST(? AS TEXT) IS NULL OR runs.name = ?)"
        f" AND (jobs.past_bought > 0 OR jobs.state IN {PAID_STATES})",
        (run, run),
    ).fetchall()
    models: dict[str, Bought] = {}
    for text, state, credit, earlier, earlier_unpriced, earlier_credits in rows:
        try:
            request = json.loads(text)
            model = str(request["model"])
            key = model if group_by is None else group_by(model, dict(request["input"]))
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise SchemaError(
                f"a job cannot be read ({exc}): the file is damaged; keep it, and use another journal"
            ) from exc
        bought = models.setdefault(key, Bought())
        bought.tasks += earlier
        bought.unpriced += earlier_unpriced
        bought.credits += earlier_credits
        if JobState(state) not in (JobState.NOT_BOUGHT, JobState.FORGOTTEN):
            bought.add(credit)
    return models
