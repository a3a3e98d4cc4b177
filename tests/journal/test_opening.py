"""One process at a time, mode 0600, and unusable files are reported before they are changed."""

from __future__ import annotations

import json
import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from journal.tools import Watched, damage, job, journal_threads, of, rows

from ruxa_async import JournalError, JournalInUseError, SqliteJournal
from ruxa_async.journal import _database as database
from ruxa_async.journal._database import _is_transient, _open_store, journal_error, who_holds

#: Opens a journal, writes what it is told to, says so, and waits to be killed.
CHILD = """
import sys, anyio
sys.path.insert(0, "tests")
from journal.tools import job, of
from ruxa_async import SqliteJournal
async def main(path):
    async with SqliteJournal(path) as journal:
        await journal.accepted(of(await journal.intend(job("paid")), "task_1"))
        await journal.intend(job("on the wire"))
        print("ready", flush=True)
        await anyio.sleep_forever()
anyio.run(main, sys.argv[1], backend=sys.argv[2])
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class Holder:
    """A process that has the journal open."""

    def __init__(self, path: Path, backend: str = "asyncio") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), backend],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parent.parent.parent,
        )

    def __enter__(self) -> Self:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        return self

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def __exit__(self, *_: object) -> None:
        self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()


async def test_files_are_readable_by_their_owner_only(path: Path) -> None:
    umask = os.umask(0)
    try:
        async with SqliteJournal(path) as journal:
            await journal.intend(job("k"))
            files = {file.name: mode(file) for file in path.parent.iterdir()}
            assert files == {
                "journal.db": 0o600,
                "journal.db-wal": 0o600,
                "journal.db-holder": 0o600,
            }
        assert {file.name for file in path.parent.iterdir()} == {"journal.db"}
    finally:
        os.umask(umask)


async def test_a_file_that_others_can_read_is_made_private(path: Path) -> None:
    async with SqliteJournal(path):
        pass
    path.chmod(0o644)
    async with SqliteJournal(path):
        assert mode(path) == 0o600


async def test_folders_are_made(tmp_path: Path) -> None:
    async with SqliteJournal(tmp_path / "a" / "b" / "journal.db"):
        pass
    assert (tmp_path / "a" / "b" / "journal.db").is_file()


async def test_every_commit_is_synced_to_a_log_under_an_exclusive_lock(path: Path) -> None:
    store = _open_store(str(path), lambda name: sqlite3.connect(name, isolation_level=None))
    pragmas = {
        name: store.connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "locking_mode", "synchronous")
    }
    assert pragmas == {"journal_mode": "wal", "locking_mode": "exclusive", "synchronous": 2}
    store.connection.close()


async def test_a_second_opener_is_refused_every_time(path: Path) -> None:
    slowest = 0.0
    with Holder(path) as holder:
        for _ in range(100 if os.environ.get("RUXA_LONG") else 5):
            began = time.perf_counter()
            with pytest.raises(JournalInUseError, match=f"in use by process {holder.process.pid} on"):
                await SqliteJournal(path).__aenter__()
            slowest = max(slowest, time.perf_counter() - began)
    assert journal_threads() == []
    logging.getLogger(__name__).info("refused after %.3f s at most", slowest)


async def test_a_second_opener_in_the_same_process_is_refused_and_breaks_no_lock(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        for _ in range(2):
            with pytest.raises(JournalInUseError, match=f"process {os.getpid()}"):
                await SqliteJournal(path).__aenter__()
        await journal.intend(job("k"))
        said = subprocess.run(
            [sys.executable, "-c", CHILD, str(path), "asyncio"],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parent.parent.parent,
        )
        assert "JournalInUseError" in said.stderr
    async with SqliteJournal(path):
        pass


async def test_after_a_kill_the_lock_is_free_and_everything_acknowledged_is_there(
    path: Path, anyio_backend: str
) -> None:
    with Holder(path, anyio_backend) as holder:
        holder.kill()
        assert path.with_name("journal.db-holder").exists()
        async with SqliteJournal(path) as journal:
            assert [entry.name for entry in await journal.unknowns()] == ["on the wire"]
            run = await journal.counts()
            assert run.total == 2
        assert rows(path, "SELECT task_id FROM jobs WHERE state = 'accepted'") == [("task_1",)]


async def test_the_error_names_the_holder_if_its_note_can_be_read(path: Path) -> None:
    note = path.with_name("journal.db-holder")
    assert who_holds(str(path)) == ""
    for nonsense in ("", "{}", "[]", '{"pid": 1, "host": "h", "since": 1e999}', "\x00"):
        note.write_text(nonsense)
        assert who_holds(str(path)) == ""
    note.write_text(json.dumps({"pid": 7, "host": "h", "since": 0}))
    assert who_holds(str(path)).startswith("process 7 on h since 19")


# ---- files that are no good


async def refusal(path: Path) -> JournalError:
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(JournalError) as caught:
        await SqliteJournal(path).__aenter__()
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.path == str(path)
    assert journal_threads() == []
    if before is not None:
        assert path.read_bytes() == before
    return caught.value


async def test_a_file_that_is_not_a_database_is_refused(path: Path) -> None:
    path.write_bytes(b"these are my notes\n" * 100)
    assert "not a journal" in str(await refusal(path))


async def test_a_database_of_another_program_is_refused(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    assert "another program" in str(await refusal(path))


async def test_a_journal_of_a_newer_version_is_refused(path: Path) -> None:
    async with SqliteJournal(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "upgrade ruxa_async" in str(await refusal(path))


async def test_a_damaged_file_is_refused(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        for number in range(100):
            await journal.intend(job(f"key {number}", prompt="x" * 500))
    damage(path, 4096, 60_000)
    assert "damaged: keep it" in str(await refusal(path))


async def test_half_a_file_is_refused(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        for number in range(100):
            await journal.intend(job(f"key {number}", prompt="x" * 500))
    with path.open("r+b") as file:
        file.truncate(20_000)
    assert "damaged: keep it" in str(await refusal(path))


async def test_a_row_that_cannot_be_read_is_refused_and_the_file_is_kept(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        await journal.unknown(of(await journal.intend(job("k"))))
    connection = sqlite3.connect(path)
    connection.execute("UPDATE jobs SET request = '{'")
    connection.commit()
    connection.close()
    async with SqliteJournal(path) as journal:
        with pytest.raises(JournalError, match="job 1 cannot be read"):
            await journal.unknowns()


async def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "cannot be opened" in str(await refusal(tmp_path))


async def test_a_path_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "check the permissions" in str(await refusal(tmp_path / "file" / "journal.db"))


async def test_a_disk_without_a_log_is_refused(path: Path) -> None:
    class NoLog(Watched):
        def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Any:
            return super().execute(sql.replace("journal_mode = WAL", "journal_mode = TRUNCATE"), parameters)

    def connect(name: str) -> NoLog:
        return NoLog(database.connect(name), lambda *_: None)

    with pytest.raises(JournalError, match="no write-ahead log"):
        await SqliteJournal(path, connect=connect).__aenter__()


async def test_an_empty_file_is_a_new_journal(path: Path) -> None:
    path.touch()
    async with SqliteJournal(path) as journal:
        await journal.intend(job("k"))


def test_a_disk_without_locks_has_an_error_of_its_own() -> None:
    """A file system that is mounted for reading answers so."""
    for code, said in (
        (sqlite3.SQLITE_IOERR_LOCK, "mounted for writing"),
        (sqlite3.SQLITE_IOERR_FSYNC, "disk failed"),
    ):
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        assert said in str(journal_error("/out/journal.sqlite", error))
        assert not _is_transient(error)


# ---- files that move while they are open


def moved(path: Path) -> Path:
    """Move the folder of the journal elsewhere, and return where the journal is now."""
    elsewhere = path.parent.with_name("elsewhere")
    path.parent.rename(elsewhere)
    return elsewhere / path.name


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "journal.db"


async def test_nothing_is_intended_in_a_journal_whose_folder_was_moved(deep: Path) -> None:
    async with SqliteJournal(deep) as journal:
        on_wire = await journal.intend(job("on the wire"))
        elsewhere = moved(deep)
        with pytest.raises(JournalError, match=r"journal\.db was moved, replaced or removed .* nothing more"):
            await journal.intend(job("next"))
        await journal.accepted(of(on_wire, "task_1"))
    assert rows(elsewhere, "SELECT handle, task_id FROM jobs") == [(b"kon the wire", "task_1")]
    assert not deep.exists()


async def test_a_moved_journal_does_not_touch_the_one_in_its_place(deep: Path) -> None:
    async with SqliteJournal(deep) as journal:
        await journal.intend(job("first"))
        elsewhere = moved(deep)
        async with SqliteJournal(deep) as other:
            entry = await other.intend(job("other"))
            with pytest.raises(JournalError, match="replaced"):
                await journal.intend(job("next"))
            await journal.aclose()
            assert {file.name for file in deep.parent.iterdir()} == {
                deep.name,
                f"{deep.name}-wal",
                f"{deep.name}-holder",
            }
            await other.accepted(of(entry, "task_2"))
            await other.intend(job("other's next"))
    assert rows(deep, "SELECT count(*) FROM jobs") == [(2,)]
    async with SqliteJournal(elsewhere) as journal:
        assert [entry.name for entry in await journal.unknowns()] == ["first"]


@pytest.mark.parametrize("name", ["journal.db", "journal.db-wal"])
async def test_a_journal_that_lost_a_file_buys_nothing_more(deep: Path, name: str) -> None:
    async with SqliteJournal(deep) as journal:
        await journal.intend(job("first"))
        deep.with_name(name).unlink()
        with pytest.raises(JournalError, match=rf"{name} was moved"):
            await journal.intend(job("next"))
        assert (await journal.counts()).total == 1


async def test_what_was_written_survives_a_lost_write_ahead_log(deep: Path) -> None:
    async with SqliteJournal(deep) as journal:
        await journal.accepted(of(await journal.intend(job("first")), "task_1"))
        deep.with_name(f"{deep.name}-wal").unlink()
    assert rows(deep, "SELECT task_id FROM jobs") == [("task_1",)]


async def test_a_journal_that_is_moved_back_continues(deep: Path) -> None:
    async with SqliteJournal(deep) as journal:
        elsewhere = moved(deep)
        with pytest.raises(JournalError):
            await journal.intend(job("first"))
        elsewhere.parent.rename(deep.parent)
        await journal.intend(job("first"))
