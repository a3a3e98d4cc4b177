"""Tests of a journal in a file only: it releases the file, and its SQL is old enough."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from anyio import to_thread
from journal.tools import job, journal_threads, rows

from ruxa_async import SqliteJournal
from ruxa_async import journal as package
from ruxa_async.journal._database import connect, lock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def test_a_journal_that_is_garbage_collected_releases_its_file(path: Path) -> None:
    journal = await SqliteJournal(path).__aenter__()
    await journal.intend(job("k"))
    (thread,) = journal_threads()
    del journal
    gc.collect()
    await to_thread.run_sync(thread.join, 10)
    assert not thread.is_alive()
    async with SqliteJournal(path) as journal:
        assert len(await journal.unknowns()) == 1


async def test_the_sql_works_with_sqlite_3_35(path: Path) -> None:
    """The SQL uses nothing newer than SQLite 3.35, such as STRICT tables, ``->`` and unixepoch()."""
    for source in Path(package.__path__[0]).glob("*.py"):
        text = source.read_text()
        for new in (
            " STRICT",
            "->>",
            "unixepoch",
            "iif(",
            "FULL JOIN",
            "RIGHT JOIN",
            " json_",
            "(json_",
            " FILTER ",
        ):
            assert new not in text, (source.name, new)
    async with SqliteJournal(path):
        pass
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


def test_commits_reach_the_drive_on_macos_too(path: Path) -> None:
    connection = lock(str(path), connect)
    settings = ("synchronous", "fullfsync", "checkpoint_fullfsync")
    assert [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in settings] == [2, 1, 1]
    connection.close()
