"""Queued operations share a commit, cancelled callers still write, and each caller gets its own error."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from journal.tools import Gate, Spoiler, Watched, job, journal_threads, of, rows, watching

from ruxa_async import JournalError, SqliteJournal
from ruxa_async.journal import _database as database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def reached(gate: Gate) -> None:
    """Wait until the journal's thread stands before a commit."""
    await to_thread.run_sync(gate.reached.wait, 30)


async def test_a_single_operation_is_one_commit(path: Path) -> None:
    gate = Gate()
    async with SqliteJournal(path, connect=watching(gate)) as journal:
        before = gate.commits
        for key in "abc":
            await journal.intend(job(key))
        assert gate.commits - before == 3


async def test_operations_queued_during_a_commit_share_the_next_one(path: Path) -> None:
    gate = Gate()
    async with SqliteJournal(path, connect=watching(gate)) as journal:
        before = gate.commits
        async with anyio.create_task_group() as tg:
            gate.shut()
            tg.start_soon(journal.intend, job("first"))
            await reached(gate)
            for number in range(500):
                tg.start_soon(journal.intend, job(f"k{number}"))
            await anyio.wait_all_tasks_blocked()
            gate.open()
        assert gate.commits - before == 2
        assert (await journal.counts()).total == 501


async def test_no_caller_continues_before_the_commit(path: Path) -> None:
    gate, done = Gate(), []

    async def intend() -> None:
        done.append(await journal.intend(job("k")))

    async with SqliteJournal(path, connect=watching(gate)) as journal, anyio.create_task_group() as tg:
        gate.shut()
        tg.start_soon(intend)
        await reached(gate)
        await anyio.wait_all_tasks_blocked()
        assert done == []
        gate.open()
    assert done == [1]


async def test_an_operation_whose_caller_is_cancelled_is_still_written(path: Path) -> None:
    gate = Gate()
    async with SqliteJournal(path, connect=watching(gate)) as journal:
        async with anyio.create_task_group() as tg:
            gate.shut()
            tg.start_soon(journal.intend, job("first"))
            await reached(gate)
            tg.start_soon(journal.intend, job("queued"))
            await anyio.wait_all_tasks_blocked()
            tg.cancel_scope.cancel()
        gate.open()
    assert len(rows(path, "SELECT * FROM jobs")) == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_operation_whose_caller_is_cancelled_natively_is_still_written(path: Path) -> None:
    gate = Gate()
    async with SqliteJournal(path, connect=watching(gate)) as journal:
        gate.shut()
        tasks = [asyncio.create_task(journal.intend(job(key))) for key in "abc"]
        await reached(gate)
        for task in tasks:
            task.cancel()
        assert await asyncio.gather(*tasks, return_exceptions=True) != []
        assert all(task.cancelled() for task in tasks)
        gate.open()
    assert len(rows(path, "SELECT * FROM jobs")) == 3


async def test_closing_writes_what_is_queued_and_refuses_more(path: Path) -> None:
    gate = Gate()
    refused: list[str] = []

    async def late() -> None:
        try:
            await journal.intend(job("late"))
        except JournalError as error:
            refused.append(str(error))

    async with anyio.create_task_group() as tg:
        journal = await SqliteJournal(path, connect=watching(gate)).__aenter__()
        gate.shut()
        tg.start_soon(journal.intend, job("first"))
        await reached(gate)
        tg.start_soon(journal.intend, job("queued"))
        await anyio.wait_all_tasks_blocked()
        tg.start_soon(journal.aclose)
        await anyio.wait_all_tasks_blocked()
        tg.start_soon(late)
        await anyio.wait_all_tasks_blocked()
        gate.open()
    assert len(rows(path, "SELECT * FROM jobs")) == 2
    assert len(refused) == 1
    assert journal_threads() == []


async def test_closing_is_not_cut_short_by_a_cancel(path: Path) -> None:
    with anyio.CancelScope() as scope:
        async with SqliteJournal(path) as journal:
            await journal.intend(job("k"))
            scope.cancel()
    assert journal_threads() == []
    assert len(rows(path, "SELECT * FROM jobs")) == 1


async def test_opening_under_a_cancel_leaves_nothing_open(path: Path) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with SqliteJournal(path) as journal:
            await journal.intend(job("k"))
    assert journal_threads() == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_native_cancel_of_opening_leaves_nothing_open(path: Path) -> None:
    gate = Gate()
    gate.shut()
    task = asyncio.create_task(SqliteJournal(path, connect=watching(gate)).__aenter__())
    await reached(gate)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open()
    with anyio.fail_after(30):
        while journal_threads():
            await anyio.sleep(0.01)
    async with SqliteJournal(path):
        pass


async def test_an_error_of_one_operation_does_not_affect_the_others(path: Path) -> None:
    gate = Gate()
    errors: list[Exception] = []

    async def odd() -> None:
        try:
            await journal.accepted(of("elsewhere", "task_1"))
        except TypeError as error:
            errors.append(error)

    async with SqliteJournal(path, connect=watching(gate)) as journal:
        async with anyio.create_task_group() as tg:
            gate.shut()
            tg.start_soon(journal.intend, job("first"))
            await reached(gate)
            tg.start_soon(journal.intend, job("a"))
            tg.start_soon(odd)
            tg.start_soon(journal.intend, job("b"))
            await anyio.wait_all_tasks_blocked()
            gate.open()
        assert len(errors) == 1
        assert (await journal.counts()).total == 3


FULL, BUSY, IOERR, READONLY, CORRUPT = 13, 5, 10, 8, 11


@pytest.mark.parametrize("at", ["BEGIN", "INSERT INTO jobs", "COMMIT"])
@pytest.mark.parametrize("code", [FULL, BUSY])
async def test_writing_continues_once_a_full_disk_has_room(path: Path, at: str, code: int) -> None:
    spoiler = Spoiler()
    async with SqliteJournal(path, connect=watching(spoiler)) as journal:
        kept = await journal.intend(job("kept"))
        spoiler.spoil(at, code)
        with pytest.raises(JournalError, match="spoiled") as caught:
            await journal.intend(job("lost"))
        assert caught.value.path == str(path)
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        spoiler.heal()
        await journal.accepted(of(kept, "task_1"))
        await journal.intend(job("again"))
    assert rows(path, "SELECT handle, state FROM jobs") == [(b"kkept", "accepted"), (b"kagain", "intended")]


@pytest.mark.parametrize("code", [IOERR, READONLY, CORRUPT, 0])
async def test_after_any_other_failure_nothing_more_is_written(path: Path, code: int) -> None:
    spoiler = Spoiler()
    async with SqliteJournal(path, connect=watching(spoiler)) as journal:
        await journal.intend(job("kept"))
        spoiler.spoil("COMMIT", code)
        messages = set()
        for _ in range(2):
            with pytest.raises(JournalError) as caught:
                await journal.intend(job("lost"))
            messages.add(str(caught.value))
            spoiler.heal()
        assert len(messages) == 1
    assert rows(path, "SELECT handle FROM jobs") == [(b"kkept",)]
    assert journal_threads() == []


async def test_each_caller_of_a_failed_group_gets_its_own_error(path: Path) -> None:
    gate, spoiler = Gate(), Spoiler()
    errors: list[Exception] = []

    def both(sql: str, parameters: Sequence[Any]) -> None:
        gate(sql, parameters)
        spoiler(sql, parameters)

    async def intend(key: str) -> None:
        try:
            await journal.intend(job(key))
        except JournalError as error:
            errors.append(error)

    async with SqliteJournal(path, connect=watching(both)) as journal:
        async with anyio.create_task_group() as tg:
            gate.shut()
            spoiler.spoil("COMMIT", FULL)
            for key in "abcd":
                tg.start_soon(intend, key)
            await reached(gate)
            await anyio.wait_all_tasks_blocked()
            gate.open()
        assert len(errors) == 4
        assert len({id(error) for error in errors}) == 4
        spoiler.heal()
    assert rows(path, "SELECT * FROM jobs") == []


async def test_an_error_that_is_not_sqlite_s_reaches_the_caller(path: Path) -> None:
    def told(sql: str, _parameters: Sequence[Any]) -> None:
        if armed and sql == "COMMIT":
            raise MemoryError("out of it")

    armed: list[bool] = []
    async with SqliteJournal(path, connect=watching(told)) as journal:
        armed.append(True)
        with pytest.raises(JournalError, match="out of it"):
            await journal.intend(job("k"))
        armed.clear()


async def test_an_error_of_closing_is_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Sticky(Watched):
        def close(self) -> None:
            super().close()
            raise sqlite3.OperationalError("sticky")

    def connect(name: str) -> Sticky:
        return Sticky(database.connect(name), lambda *_: None)

    async with SqliteJournal(path, connect=connect) as journal:
        await journal.intend(job("k"))
    assert journal_threads() == []
    assert len(rows(path, "SELECT * FROM jobs")) == 1
    assert "was not closed cleanly" in caplog.text
