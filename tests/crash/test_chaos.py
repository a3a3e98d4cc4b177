"""The service fails every moment in every way: every task is delivered or listed, none bought twice.

It is killed and comes back with its ledger, or it answers as a service does that is out of order, for up to a
minute at a time. A real process is killed, a real journal is kept. RUXA_LONG=1 makes it 5,000 tasks; `nox -s
chaos` shows the figures.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Self

import pytest
from attrs import define
from harness import prompts
from outages import KINDS, Observer, lasting

from ruxa_async import (
    Limits,
    Outcome,
    Polling,
    RateLimit,
    RuxaClient,
    SqliteJournal,
    SubmissionUnknownError,
    Succeeded,
)
from ruxa_async.emulator import Emulator, EmulatorSettings, Fault
from ruxa_async.emulator._ledger import LedgerFile
from ruxa_async.journal import view_journal
from ruxa_async.transports import AiohttpTransport, Request, Response, Transport

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="it kills by signal"),
    pytest.mark.timeout(900),
]

LONG = bool(os.environ.get("RUXA_LONG"))
TASKS, RATE, RESTARTS = (5000, 40.0, 25) if LONG else (300, 80.0, 2)
#: Seconds between a start of the service and its end, and for which it is down.
UP, DOWN = ((2.0, 6.0), (0.0, 1.0)) if LONG else ((0.5, 1.0), (0.0, 0.2))
#: Outages, and the seconds between two and of each.
OUTAGES = 12 if LONG else 2
GOOD, BAD = ((2.0, 15.0), (1.0, 60.0)) if LONG else ((0.5, 1.0), (1.0, 2.0))
_logger = logging.getLogger("crash")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Watched:
    """A transport, and how many creates it has in hand."""

    def __init__(self, inner: Transport) -> None:
        self.in_hand = 0
        self._send = inner.send
        self.stream = inner.stream
        self.aclose = inner.aclose

    async def send(self, request: Request) -> Response:
        creates = request.method == "POST"
        self.in_hand += creates
        try:
            return await self._send(request)
        finally:
            self.in_hand -= creates


@define(eq=False)
class Served:
    """The emulator in a process of its own, on one port, with one ledger."""

    ledger: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    async def start(self) -> Self:
        options = (
            "--port",
            str(self.port),
            "--ledger",
            str(self.ledger),
            "--speed",
            "10",
            "--latency",
            "0.1",
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ruxa_async", "emulate", *options],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.DEVNULL,
        )
        while not self._listens():
            assert self.process.poll() is None
            await asyncio.sleep(0.01)
        return self

    def kill(self) -> None:
        """End it in the middle of whatever it does; return when its connections are closed."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@define
class Endpoint:
    """What was on the wire at the restarts."""

    restarts: int = 0
    creates: int = 0
    over: bool = False


async def restart_at_random(served: Served, watched: Watched, seen: Endpoint) -> None:
    """Kill the service and bring it back, again and again."""
    chance = random.Random(4)
    while seen.restarts < RESTARTS:
        await asyncio.sleep(chance.uniform(*UP))
        while not (watched.in_hand or seen.over):
            await asyncio.sleep(0.005)
        seen.creates += watched.in_hand
        served.kill()
        seen.restarts += 1
        await asyncio.sleep(chance.uniform(*DOWN))
        await served.start()


@asynccontextmanager
async def chaos(path: Path, watched: Watched, seen: Endpoint) -> AsyncIterator[Served]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    served = await Served(path / "ledger.jsonl", port).start()
    killer = asyncio.create_task(restart_at_random(served, watched, seen))
    try:
        yield served
        await killer
    finally:
        killer.cancel()
        served.kill()


async def all_outcomes(client: RuxaClient) -> list[Outcome]:
    async with client.as_completed(prompts(TASKS), resume="chaos") as outcomes:
        return [outcome async for outcome in outcomes]


async def test_every_task_is_delivered_or_listed_and_none_is_bought_twice(tmp_path: Path) -> None:
    watched, seen = Watched(AiohttpTransport()), Endpoint()
    async with chaos(tmp_path, watched, seen) as served:
        client = RuxaClient(
            api_key="sk-emulated",
            base_url=f"http://127.0.0.1:{served.port}",
            transport=watched,
            limits=Limits(max_in_flight=200, create_rate=RateLimit(int(RATE))),
            polling=Polling(max_interval=2.0),
            journal=(journal := SqliteJournal(tmp_path / "journal.sqlite")),
        )
        async with journal, client:
            outcomes = await all_outcomes(client)
        seen.over = True
    delivered = {outcome.key: outcome.task_id for outcome in outcomes if isinstance(outcome, Succeeded)}
    unknown = {o.key for o in outcomes if isinstance(getattr(o, "error", None), SubmissionUnknownError)}
    _logger.info(
        "%d tasks, %d restarts: %d delivered, %d unknown with %d creates on the wire",
        *(TASKS, seen.restarts, len(delivered), len(unknown), seen.creates),
    )
    assert len(outcomes) == TASKS == len(delivered) + len(unknown)
    assert len(unknown) <= seen.creates != 0
    assert {entry.key for entry in (await view_journal(tmp_path / "journal.sqlite")).unknowns} == unknown
    with closing(LedgerFile(tmp_path / "ledger.jsonl")) as ledger:
        bought = {
            f"prompt-{kept.task.input['prompt'].split()[1]}": kept.task.task_id for kept in ledger.tasks
        }
        assert len(bought) == len(ledger.tasks)  # none of them twice
    assert delivered.items() <= bought.items()
    assert bought.keys() <= delivered.keys() | unknown  # none of them lost


def random_outages(chance: random.Random) -> tuple[Fault, ...]:
    """Return outages of random kinds and lengths, each after a few good seconds."""
    faults: list[Fault] = []
    now = 0.0
    for _ in range(OUTAGES):
        begin = now + chance.uniform(*GOOD)
        seconds = chance.uniform(*BAD)
        faults += lasting(KINDS[chance.choice([*KINDS])], begin, seconds)
        now = begin + seconds
    return tuple(faults)


async def test_outages_leave_few_creates_of_unknown_outcome(tmp_path: Path) -> None:
    observer = Observer()
    settings = EmulatorSettings(speed=10, latency=0.1, faults=random_outages(random.Random(5)))
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    async with Emulator(settings) as emulator, journal:
        client = RuxaClient(
            api_key=emulator.key,
            base_url=emulator.url,
            limits=Limits(max_in_flight=200, create_rate=RateLimit(int(RATE))),
            journal=journal,
            on_event=observer.on_event,
        )
        async with client:
            outcomes = await all_outcomes(client)
    delivered = {outcome.task_id or "" for outcome in outcomes if isinstance(outcome, Succeeded)}
    unknown = [o for o in outcomes if isinstance(getattr(o, "error", None), SubmissionUnknownError)]
    _logger.info(
        "%d tasks, %d outages: %d delivered, %d unknown with %d creates on the wire and %d probes",
        *(TASKS, len(observer.outages), len(delivered), len(unknown)),
        *(sum(outage.on_wire for outage in observer.outages), sum(o.probes for o in observer.outages)),
    )
    observer.check()
    assert observer.outages
    assert len(outcomes) == TASKS == len(delivered) + len(unknown)
    assert len(unknown) == observer.unknown
    assert len(emulator.service.ledger.missing(delivered)) <= len(unknown)
    assert emulator.service.ledger.duplicates() == []
