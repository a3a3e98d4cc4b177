"""Part 3 of the benchmark `machines`: the sending process or its database stops, and buying goes on."""

from __future__ import annotations

import signal
import time
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import anyio
from attrs import evolve

from benchmarks._children import Child
from benchmarks._figures import Row, spread
from benchmarks._harness import Options
from benchmarks._machines_parts import Deployment, Servers, Worker, deployment, until
from benchmarks._machines_senders import BURST, RATE
from ruxa_async import JobRecord, NanoBanana
from ruxa_async.journal import PostgresJournal

__all__ = ("failover_rows",)

#: seconds; the lease of the sending process
_LEASE = 2.0
_SETTINGS = {"median": 0.5, "sigma": 0.3, "latency": 0.05}
#: seconds after the loss of the database in which a create may arrive whose intent was durable before
_ON_THE_WAY = 0.25


def failover_rows(servers: Servers, options: Options) -> list[Row]:
    """Measure handovers, a takeover with many accepted rows, and the database away."""
    times = options.times(5)
    away = 10.0 if options.quick else 30.0
    rows = 10_000 if options.quick else 100_000
    signals = {"SIGKILL": _LEASE + 2, "SIGTERM": 1.0}
    return [
        *(
            _handover(servers, through, name, target, times)
            for through in ("PostgresJournal", "taskiq")
            for name, target in signals.items()
        ),
        _takeover(servers, rows),
        _away(servers, away),
    ]


# ---- another process stands by


class _Pair:
    """Two sending processes of one deployment: one holds the journal, the other stands by."""

    def __init__(self, world: Deployment, stack: ExitStack, through: str) -> None:
        self._world = world
        self._stack = stack
        self._through = through
        self._job = world.job(through, rate=RATE, burst=BURST, lease=_LEASE)
        self._started = 0
        self._holder = self._start()
        until(world.holder)
        self._standby = self._start()
        if through == "taskiq":
            self._demand(self._open_submitter())

    def _start(self) -> Child | Worker:
        self._started += 1
        if self._through == "taskiq":
            log = self._world.servers.redis.folder / "worker.log"
            worker = self._stack.enter_context(Worker(self._job, log))
            worker.hear()
            return worker
        child = self._stack.enter_context(Child("_machines_caller"))
        child.ask(self._job)
        self._demand(child)
        return child

    def _open_submitter(self) -> Child:
        child = self._stack.enter_context(Child("_machines_caller"))
        child.ask(self._job)
        return child

    def _demand(self, child: Child) -> None:
        """Let *child* ask for new pictures at the rate of the limit, once it can."""
        child.tell({"name": f"demand {self._started}", "calls_per_second": RATE})

    def stop(self, number: int) -> float:
        """Send the signal *number* to the holder; return the seconds until creates arrive again."""
        world = self._world
        before, creates = world.holder(), len(world.creates())
        until(lambda: len(world.creates()) >= creates + RATE)
        at = time.monotonic()
        self._holder.signal(number)
        until(lambda: world.holder() not in {0, before})
        taken = time.monotonic()
        instants = until(lambda: _with_creates_after(world, taken))
        self._holder, self._standby = self._standby, self._start()
        return _end_of_longest_gap(instants, at) - at


def _with_creates_after(world: Deployment, instant: float) -> Sequence[float]:
    """Return the instants of all creates once the last ten are after *instant*, before that none."""
    instants = sorted(world.creates())
    return instants if instants[-10] > instant else ()


def _end_of_longest_gap(instants: Sequence[float], start: float) -> float:
    """Return the end of the longest time without a create that ends after *start*."""
    after = instants[max(0, bisect_left(instants, start) - 1) :]
    return max(pairwise(after), key=lambda pair: pair[1] - pair[0])[1]


def _handover(servers: Servers, through: str, name: str, target: float, times: int) -> Row:
    with deployment(servers, **_SETTINGS) as world, ExitStack() as stack:
        pair = _Pair(world, stack, through)
        seconds = [pair.stop(signal.Signals[name]) for _ in range(times)]
        twice = world.report()["bought_twice"]
    return {
        "handover": name,
        "sender": through,
        "times": times,
        "creates again, s": spread(seconds),
        "slowest, s": max(seconds),
        "target, s": target,
        "bought twice": twice,
    }


# ---- a takeover with many accepted rows


def _takeover(servers: Servers, rows: int) -> Row:
    with deployment(servers, **_SETTINGS) as world, Child("_machines_caller") as child:
        job = world.job("PostgresJournal", rate=RATE, burst=BURST)
        anyio.run(_fill, job, rows)
        began = child.ask(job)["opening"]
        opened = child.hear()["open"]
        child.ask({"name": "first", "keys": [0, 1], "callers": 1})
        created = world.creates()[0]
    return {
        "takeover with": f"{rows:,} accepted rows",
        "open after, s": opened - began,
        "first create after, s": created - began,
        "target, s": 10.0,
    }


async def _fill(job: dict[str, Any], rows: int) -> None:
    """Write *rows* accepted jobs, as a process does that ended without an outcome of any of them."""
    numbers = iter(range(rows))
    async with PostgresJournal(job["dsn"], schema=job["schema"]) as journal:
        await journal.bind(base_url=job["url"], api_key="sk-emulated")

        async def write() -> None:
            for number in numbers:
                request = NanoBanana(prompt=f"picture {number}", key=f"old {number}")
                record = JobRecord(request=request, key=request.key)
                entry = await journal.intend(record)
                await journal.accepted(evolve(record, entry=entry, task_id=f"task-{number}"))

        async with anyio.create_task_group() as tg:
            for _ in range(500):
                tg.start_soon(write)


# ---- the database is away


def _away(servers: Servers, seconds: float) -> Row:
    with deployment(servers, **_SETTINGS) as world, Child("_machines_caller") as child:
        child.ask(world.job("PostgresJournal", rate=RATE, burst=BURST, lease=_LEASE))
        child.hear()
        child.tell({"name": "demand", "calls_per_second": RATE})
        until(lambda: len(world.creates()) >= 2 * RATE)
        stopped = time.monotonic()
        servers.database.kill()
        time.sleep(seconds)
        servers.database.restart()
        back = time.monotonic()
        instants = until(lambda: _speed_after(world, back))
        child.signal(signal.SIGTERM)
        until(lambda: not world.holder())
        report = world.report()
        known = {row[0] for row in world.query("SELECT task_id FROM {}.jobs WHERE task_id IS NOT NULL")}
    return {
        "PostgreSQL away for": f"{seconds:g} s",
        "sent meanwhile": sum(stopped + _ON_THE_WAY < at < back for at, _ in report["accepted"]),
        "charged, not recorded": len(set(report["task_ids"]) - known),
        "bought twice": report["bought_twice"],
        "full speed after, s": _full_speed(instants, back) - back,
        "target, s": 2.0,
    }


def _speed_after(world: Deployment, instant: float) -> Sequence[float]:
    """Return the instants of all creates once there is a second at full speed, before that none."""
    instants = sorted(world.creates())
    return instants if _full_speed(instants, instant) else ()


def _full_speed(instants: Sequence[float], start: float) -> float:
    """Return the beginning of the first second after *start* with 95 % of the rate, 0 if there is none."""
    for at in instants[bisect_left(instants, start) :]:
        if bisect_left(instants, at + 1.0) - bisect_left(instants, at) >= 0.95 * RATE:
            return at
    return 0.0
