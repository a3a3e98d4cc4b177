"""A view does not change the journal, and names the process that has it open."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from journal.tools import job, of, rows, success

from ruxa_async import JournalError, SqliteJournal
from ruxa_async.journal import JobState, view_journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def fill(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        run = await journal.open_run("run")
        match = await run.match(job("done").request)  # type: ignore[arg-type]
        entry = await journal.intend(job("done", entry=match.entry))
        await journal.accepted(of(entry, "task_1"))
        await journal.finished(of(entry, "task_1"), success("task_1", credits=4.0))
        await journal.unknown(of(await journal.intend(job("in doubt"))))
        await journal.intend(job("cut off"))


async def test_a_view_shows_counts_and_unknown_jobs(path: Path) -> None:
    await fill(path)
    view = await view_journal(path)
    assert view.in_use is None
    assert view.counts is not None
    assert (view.counts.jobs[JobState.SUCCEEDED], view.counts.jobs[JobState.UNKNOWN]) == (1, 2)
    assert view.counts.credits == 4.0
    assert [entry.name for entry in view.unknowns] == ["in doubt", "cut off"]
    of_run = await view_journal(path, run="run")
    assert of_run.counts is not None
    assert (of_run.counts.total, of_run.unknowns) == (1, ())


async def test_a_view_does_not_change_the_journal(path: Path) -> None:
    await fill(path)
    await view_journal(path)
    assert rows(path, "SELECT state FROM jobs ORDER BY id") == [("succeeded",), ("unknown",), ("intended",)]


async def test_a_view_of_an_open_journal_names_its_holder_and_counts_the_results(
    path: Path, tmp_path: Path
) -> None:
    lines = [
        {"index": 0, "key": "a", "state": "download_failed"},
        {"index": 1, "key": None, "state": "succeeded"},
        {"index": 0, "key": "a", "state": "succeeded"},
        {"index": 2, "key": None, "state": "failed"},
    ]
    results = tmp_path / "results.jsonl"
    results.write_text("".join(json.dumps(line) + "\n" for line in lines) + '[]\n{"ind')
    async with SqliteJournal(path):
        view = await view_journal(path, results=results)
    assert view.in_use is not None
    assert view.in_use.holder.startswith("process ")
    assert (view.counts, view.unknowns) == (None, ())
    assert view.results == {"succeeded": 2, "failed": 1}


async def test_a_view_works_without_results(path: Path, tmp_path: Path) -> None:
    await fill(path)
    assert (await view_journal(path, results=tmp_path / "results.jsonl")).results == {}


async def test_a_view_creates_no_journal(path: Path) -> None:
    with pytest.raises(JournalError, match="no journal here"):
        await view_journal(path)
    assert not path.exists()


async def test_a_view_refuses_a_file_that_is_not_a_journal_and_closes_it(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(JournalError, match="another program"):
        await view_journal(path)
    assert rows(path, "SELECT * FROM mine") == []


async def test_a_view_holds_no_lock_when_it_returns(path: Path) -> None:
    await fill(path)
    await view_journal(path)
    async with SqliteJournal(path) as journal:
        assert len(await journal.unknowns()) == 2
