"""Looking at a journal without owning it, also while another process has it open."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from anyio import to_thread
from attrs import frozen

from ruxa_async.errors import JournalError, JournalInUseError

from ._failures import explain
from ._opening import Connect, connect, lock
from ._records import JournalCounts, JournalEntry
from ._rows import count, list_unknown
from ._schema import SchemaError, migrate
from ._store import Store

__all__ = ("JournalView", "looked_into", "view_journal")


@frozen(kw_only=True)
class JournalView:
    """What can be seen of a journal at one moment.

    While somebody has it open, *in_use* says who, *counts* is None and *unknowns* is empty: the lock keeps readers
    out. *results* counts the lines of a ``results.jsonl`` by their state, the last line of each row, in either case;
    it is empty if none was named or there is none yet.
    """

    path: str
    in_use: JournalInUseError | None = None
    counts: JournalCounts | None = None
    unknowns: tuple[JournalEntry, ...] = ()
    results: Mapping[str, int]


async def view_journal(
    path: str | PathLike[str],
    *,
    run: str | None = None,
    results: str | PathLike[str] | None = None,
    connect: Connect = connect,
) -> JournalView:
    """Return what can be seen of the journal at *path*, and of *run* only if it is given; nothing is changed.

    Who opens the journal meanwhile may have to wait for a moment. Raises `JournalError` if there is no journal, or one
    that cannot be read.
    """
    return await to_thread.run_sync(_look, path, run, results, connect)


def _look(
    given: str | PathLike[str], run: str | None, results: str | PathLike[str] | None, connect: Connect
) -> JournalView:
    path = str(Path(given).absolute())
    counted = {} if results is None else _count_results(Path(results))
    if not Path(path).is_file():
        raise JournalError(path, "there is no journal here")
    try:
        with looked_into(path, connect) as store:
            return JournalView(
                path=path,
                counts=count(store.connection, run),
                unknowns=tuple(list_unknown(store.connection, run)),
                results=counted,
            )
    except JournalInUseError as exc:
        return JournalView(path=path, in_use=exc, results=counted)


@contextmanager
def looked_into(path: str | PathLike[str], connect: Connect = connect) -> Iterator[Store]:
    """Give the store of the journal at *path* for a look: nothing that is done to it lasts. Blocking.

    Raises `JournalInUseError`, or `JournalError` if it cannot be read.
    """
    path = str(Path(path).absolute())
    connection = lock(path, connect)
    try:
        # An older file is brought up to date, and what was cut off called unknown, but only for this look.
        migrate(connection)
        yield Store.over(connection)
        connection.execute("ROLLBACK")
    except (sqlite3.Error, SchemaError) as exc:
        raise explain(path, exc) from exc
    finally:
        connection.close()


def _count_results(path: Path) -> Mapping[str, int]:
    states: dict[object, str] = {}
    try:
        with path.open("rb") as lines:
            for line in lines:
                _note(line, states)
    except FileNotFoundError:
        return {}
    return Counter(states.values())


def _note(line: bytes, states: dict[object, str]) -> None:
    try:
        result = json.loads(line)
        states[result.get("id") or result["key"] or result["index"]] = str(result["state"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return  # the line that is being written, or was when the power failed
