"""After an interrupt with forty creates on the wire, the journal holds every task id that a reply named."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ruxa_async import NanoBanana, SqliteJournal
from ruxa_async.emulator import Emulator, EmulatorSettings, parse_fault
from ruxa_async.journal import JobState, JournalEntry

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")

CREATES = 40
CHILD = f"""
import sys, anyio
from ruxa_async import Limits, NanoBanana, RateLimit, SqliteJournal, Timeouts
from ruxa_async.cli._runtime import _interruptible, open_client
from ruxa_async.transports import AiohttpTransport, Httpx2Transport

async def command():
    limits = Limits(max_concurrent_creates={CREATES}, create_rate=RateLimit(1000))
    journal, timeouts = SqliteJournal(sys.argv[1]), Timeouts(create=900, create_drain=float(sys.argv[2]))
    transport = (AiohttpTransport if sys.argv[3] == "aiohttp" else Httpx2Transport)(pool_size={CREATES})
    requests = [NanoBanana(prompt=f"p{{n}}", key=f"k{{n}}") for n in range({CREATES})]
    async with open_client(
        emulator=False, speed=1, limits=limits, timeouts=timeouts, journal=journal, transport=transport
    ) as client:
        async with client.as_completed(requests, resume="run") as outcomes:
            async for _ in outcomes:
                pass
    return 0

sys.exit(anyio.run(_interruptible, command, backend=sys.argv[4]))
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def served(**settings: Any) -> Iterator[Emulator]:
    emulator = Emulator(EmulatorSettings(speed=0.01, **settings))
    emulator.start()
    try:
        yield emulator
    finally:
        emulator.stop()


@contextmanager
def child(
    emulator: Emulator, journal: Path, drain: float, stack: str = "aiohttp-asyncio"
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(journal), str(drain), *stack.split("-")],
        env={"RUXA_API_KEY": emulator.key, "RUXA_BASE_URL": emulator.url, "PYTHONPATH": ":".join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_creates(emulator: Emulator, process: subprocess.Popen[str]) -> None:
    """Return once the service has charged all creates; their replies are still to come."""
    while emulator.service.ledger.charged < CREATES:
        assert process.poll() is None
        time.sleep(0.005)


async def entries(path: Path) -> list[JournalEntry]:
    async with SqliteJournal(path) as journal:
        run = await journal.open_run("run")
        matches = [await run.match(NanoBanana(prompt=f"p{n}", key=f"k{n}")) for n in range(CREATES)]
        run.close()
    return [match.known for match in matches if match.known is not None]


@pytest.mark.parametrize("stack", ["aiohttp-asyncio", "httpx2-asyncio", "httpx2-trio"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_every_create_on_the_wire_is_recorded(
    tmp_path: Path, number: signal.Signals, stack: str
) -> None:
    with served(latency=0.4) as emulator:
        with child(emulator, tmp_path / "journal", 60, stack) as process:
            wait_for_creates(emulator, process)
            process.send_signal(number)
            _, said = process.communicate(timeout=100)
        assert process.returncode == 130
        assert "stopping" in said
        assert "Traceback" not in said
        kept = await entries(tmp_path / "journal")
        assert [entry.state for entry in kept] == [JobState.ACCEPTED] * CREATES
        assert emulator.service.ledger.charged == CREATES
        assert emulator.service.ledger.missing(entry.task_id or "" for entry in kept) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_second_signal_ends_the_process_at_once_and_keeps_the_replies(
    tmp_path: Path, number: signal.Signals
) -> None:
    with served(faults=[parse_fault("stall:create:every=2")]) as emulator:
        # Half of the replies never come, and the drain alone would wait for them for ten minutes.
        with child(emulator, tmp_path / "journal", drain=600) as process:
            wait_for_creates(emulator, process)
            time.sleep(0.5)  # the other half is answered by now, and read soon after
            process.send_signal(number)
            assert process.stderr is not None
            assert "stopping" in process.stderr.readline()
            process.send_signal(number)
            _, said = process.communicate(timeout=100)
        assert process.returncode == 130
        assert "leaving at once" in said
        assert "Traceback" not in said
        kept = await entries(tmp_path / "journal")
        states = [entry.state for entry in kept]
        assert states.count(JobState.ACCEPTED) == states.count(JobState.UNKNOWN) == CREATES // 2
        known = {entry.task_id for entry in kept}
        lost = emulator.service.ledger.missing(name for name in known if name)
        unknown = {entry.request.input()["prompt"] for entry in kept if entry.state is JobState.UNKNOWN}
        assert {purchase.input["prompt"] for purchase in lost} == unknown
