"""After a power cut every acknowledged row is there and no file is damaged.

RUXA_LONG=1 makes hundreds of cuts instead of forty; `--log-cli-level=INFO` shows how many jobs they met.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from journal.disk import Disk
from journal.tools import Watched, job, of, success

from ruxa_async import JournalError, SqliteJournal
from ruxa_async.journal._schema import Connection

# Where SQLite has no use for an error, as when a file is closed, apsw can only report that there was none to
# raise it to.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning"
)

CUTS = 150 if os.environ.get("RUXA_LONG") else 10  # for each backend, in each of the two tests
RANK = {"intended": 0, "unknown": 0, "accepted": 1, "succeeded": 2}


class Acknowledged:
    """What the journal said was durable."""

    def __init__(self) -> None:
        self.states: dict[str, int] = {}
        self.ids: dict[str, str] = {}

    async def work(self, journal: SqliteJournal, worker: int) -> None:
        """Buy one after another until the power fails."""
        number = 0
        try:
            while True:
                number += 1
                key = f"w{worker}-{number}"
                entry = await journal.intend(job(key, prompt=f"{key} " * 40))
                self.states[key] = 0
                await journal.accepted(of(entry, f"task {key}"))
                self.states[key], self.ids[key] = 1, f"task {key}"
                await journal.finished(of(entry, f"task {key}"), success(f"task {key}"))
                self.states[key] = 2
        except JournalError:
            return

    def lost(self, found: dict[str, tuple[str, str | None]]) -> list[str]:
        return [
            key
            for key, rank in self.states.items()
            if key not in found or RANK[found[key][0]] < rank or (rank > 0 and found[key][1] != self.ids[key])
        ]


async def until_the_cut(path: Path, disk: Disk, connect: Any, operations: int, *, torn: bool) -> Acknowledged:
    acknowledged = Acknowledged()
    journal = SqliteJournal(path, connect=connect)
    try:
        disk.cut_in(operations, torn=torn)
        async with journal, anyio.create_task_group() as tg:
            for worker in range(5):
                tg.start_soon(acknowledged.work, journal, worker)
    except JournalError:
        pass  # it was cut while it was opened
    assert disk.left is not None
    return acknowledged


async def found_after(folder: Path, disk: Disk) -> dict[str, tuple[str, str | None]]:
    """Return the jobs in the files that the cut left. Raises `JournalError` if they are damaged."""
    folder.mkdir()
    disk.restore(folder)
    path = folder / "journal.db"
    async with SqliteJournal(path) as journal:
        thread = journal._thread
        assert thread is not None
        found: list[tuple[bytes, str, str | None]] = await thread.run(
            lambda store: store.connection.execute("SELECT handle, state, task_id FROM jobs").fetchall()
        )
    return {handle[1:].decode(): (state, task_id) for handle, state, task_id in found}


async def cut(folder: Path, seed: int, *, torn: bool = False, wrap: Any = None) -> tuple[int, int]:
    """Cut the power once; return how many rows were acknowledged, and how many of them are lost."""
    chance = random.Random(seed)
    disk = Disk(chance)
    home = folder / f"before-{seed}"
    home.mkdir()

    def connect(path: str) -> Connection:
        connection: Connection = disk.connect(path)
        if seed % 2:  # the log is moved into the file all the time, not once in a thousand pages
            connection.execute("PRAGMA wal_autocheckpoint = 20").fetchall()
        return connection if wrap is None else wrap(connection)

    acknowledged = await until_the_cut(
        home / "journal.db", disk, connect, chance.randrange(1, 1500), torn=torn
    )
    found = await found_after(folder / f"after-{seed}", disk)
    disk.unregister()
    return len(acknowledged.states), len(acknowledged.lost(found))


@pytest.mark.parametrize("torn", [False, True], ids=["any of the unsynced", "torn in the last write"])
async def test_no_acknowledged_row_is_lost_and_no_file_is_damaged(tmp_path: Path, torn: bool) -> None:
    acknowledged = 0
    for seed in range(CUTS):
        kept, lost = await cut(tmp_path, seed, torn=torn)
        assert lost == 0, f"seed {seed}: {lost} of {kept}"
        acknowledged += kept
    assert acknowledged > 10 * CUTS
    logging.getLogger(__name__).info(
        "%d cuts, %d jobs acknowledged, 0 lost, 0 files damaged", CUTS, acknowledged
    )


class Unsynced(Watched):
    """Sync less than the journal asks for."""

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Any:
        return super().execute(sql.replace("synchronous = FULL", "synchronous = OFF"), parameters)


def unsynced(inner: Connection) -> Unsynced:
    return Unsynced(inner, lambda *_: None)


async def test_the_simulated_power_cuts_find_a_journal_that_does_not_sync(tmp_path: Path) -> None:
    wrong = 0
    for seed in range(8):
        try:
            _, lost = await cut(tmp_path, seed, wrap=unsynced)
        except JournalError:
            lost = 1  # damaged
        wrong += lost > 0
    assert wrong >= 4
