"""journal: what a durable record of every step costs.

*rows*: tasks each write one intent after another (about 400 bytes) and wait for each to be durable, through
the event loop. "grouped" is `SqliteJournal`; "one a commit" does the same writes to the same tables with the
same settings, each in a transaction of its own in a worker thread, as a plain journal would. Targets: 10,000
rows/s with 1,000 waiters, and at 100 waiters three times the rate of one a commit.

*tasks*: a client buys pictures that are done at once from an emulator in memory, with a journal and without;
each task is three rows (intent, id, outcome). With real latencies the difference vanishes, because it is
waiting.

Not measured: a sync takes 0.2 ms on the disk of this machine, and 1 to 10 ms on a laptop. There one a commit
is slower in proportion, and grouping gains more.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import anyio
from anyio import to_thread

from benchmarks._figures import Row, Sample, ratios, spread
from benchmarks._harness import Measure, Options, Round, interleaved
from ruxa_async import JobRecord, Limits, NanoBanana, RuxaClient, SqliteJournal
from ruxa_async.emulator import Durations, EmulatorSettings, Service
from ruxa_async.journal._database import _open_store
from ruxa_async.journal._store import Store
from ruxa_async.transports import MemoryTransport

__all__ = ("run",)

_WAITERS = {1: 1_000, 100: 10_000, 1_000: 30_000}
_PROMPT = "a picture of a cat that sits on a windowsill and looks out into the rain " * 4
_KEY = "sk-emulated"

#: Writes a number of rows to the journal at a path, by a number of waiters.
_Write: TypeAlias = Callable[[Path, int, int], Awaitable[Sample]]


def run(options: Options) -> list[Row]:
    """Measure rows, then tasks, on both event loops."""
    rounds = options.times(5)
    scale = 10 if options.quick else 1
    rows = [row for waiters in _WAITERS for row in _rows(waiters, _WAITERS[waiters] // scale, rounds)]
    return rows + _tasks(2_000 // scale, rounds)


def _rows(waiters: int, total: int, rounds: int) -> list[Row]:
    variants: dict[str, Measure] = {}
    for backend in ("asyncio", "trio"):
        variants[f"grouped, {backend}"] = partial(_measured, backend, _grouped, waiters, total)
        variants[f"one a commit, {backend}"] = partial(_measured, backend, _single, waiters, total // 5)
    measured = interleaved(variants, rounds, about=f"{waiters:,} waiters")
    return [
        {
            "waiters": waiters,
            "variant": name,
            "rows/s": spread(_rate(each[name]) for each in measured),
            "CPU us/row": spread(each[name]["cpu"] * 1e6 / each[name]["rows"] for each in measured),
            "x one a commit": ratios(measured, name, f"one a commit, {name.rpartition(' ')[2]}", _rate),
        }
        for name in variants
    ]


def _rate(sample: Sample) -> float:
    rate: float = sample["rows"] / sample["wall"]
    return rate


def _measured(backend: str, write: _Write, waiters: int, total: int, _: Round) -> Sample:
    # Beside this file, because a temporary folder may be in memory.
    with TemporaryDirectory(dir=Path(__file__).parent, prefix=".journal-") as folder:
        sample: Sample = anyio.run(write, Path(folder) / "journal.db", waiters, total, backend=backend)
    return {**sample, "rows": total}


def _job(number: int) -> JobRecord:
    key = f"cat-{number}"
    return JobRecord(request=NanoBanana(prompt=_PROMPT, key=key), key=key)


async def _grouped(path: Path, waiters: int, total: int) -> Sample:
    async with SqliteJournal(path) as journal:
        return await _timed(journal.intend, waiters, total)


async def _single(path: Path, waiters: int, total: int) -> Sample:
    only = anyio.Lock()
    store = await to_thread.run_sync(_open_store, str(path), _shared)

    async def intend(job: JobRecord) -> None:
        async with only:
            await to_thread.run_sync(_commit, store, job)

    sample = await _timed(intend, waiters, total)
    await to_thread.run_sync(store.connection.close)
    return sample


def _shared(path: str) -> sqlite3.Connection:
    """Connect so that any worker thread may use the connection."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _commit(store: Store, job: JobRecord) -> None:
    store.connection.execute("BEGIN IMMEDIATE")
    store.intend(job, 0.0)
    store.connection.execute("COMMIT")


async def _timed(intend: Callable[[JobRecord], Awaitable[object]], waiters: int, total: int) -> Sample:
    numbers = iter(range(total))

    async def work() -> None:
        for number in numbers:
            await intend(_job(number))

    wall, cpu = time.perf_counter(), time.process_time()
    async with anyio.create_task_group() as tg:
        for _ in range(waiters):
            tg.start_soon(work)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def _tasks(total: int, rounds: int) -> list[Row]:
    variants: dict[str, Measure] = {
        f"{name}, {backend}": partial(_bought, backend, total, journalled=name == "journal")
        for backend in ("asyncio", "trio")
        for name in ("none", "journal")
    }
    measured = interleaved(variants, rounds, about="tasks")
    return [
        {
            "journal": name,
            "tasks": total,
            "tasks/s": spread(_rate(each[name]) for each in measured),
            "CPU us/task": spread(each[name]["cpu"] * 1e6 / total for each in measured),
            "x none": ratios(measured, name, f"none, {name.rpartition(' ')[2]}", _rate),
        }
        for name in variants
    ]


def _bought(backend: str, total: int, _: Round, *, journalled: bool) -> Sample:
    with TemporaryDirectory(dir=Path(__file__).parent, prefix=".journal-") as folder:
        path = Path(folder) / "journal.db" if journalled else None
        sample: Sample = anyio.run(_buy, path, total, backend=backend)
    return {**sample, "rows": total}


async def _buy(path: Path | None, total: int) -> Sample:
    service = Service(EmulatorSettings(key=_KEY, image=Durations(0.001, 0.0)))
    requests = (NanoBanana(prompt=_PROMPT, key=f"cat-{number}") for number in range(total))
    async with RuxaClient(
        api_key=_KEY,
        base_url="http://localhost",
        transport=MemoryTransport(service),
        journal=None if path is None else SqliteJournal(path),
        limits=Limits(max_in_flight=1_000),
    ) as ruxa:
        wall, cpu = time.perf_counter(), time.process_time()
        async with ruxa.as_completed(requests) as outcomes:
            async for outcome in outcomes:
                outcome.unwrap()
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
