"""A process that buys by key is killed at any point: asked again, it buys nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from ruxa_async import NanoBanana, RuxaClient, SqliteJournal, SubmissionUnknownError
from ruxa_async.emulator import Durations, Emulator, EmulatorSettings

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")

KEYS = 6
#: Buys all keys at once and ends itself at the third time that a failpoint is reached.
PROGRAM = """
import os, signal, sys
import anyio
from ruxa_async import NanoBanana, RuxaClient, SqliteJournal
from ruxa_async._internal import failpoints

url, key, path, point, keys = sys.argv[1:]
times = 0

def end(reached):
    global times
    times += reached == point
    if times == 3:
        os.kill(os.getpid(), signal.SIGKILL)

failpoints.hook = end

async def main():
    async with (
        RuxaClient(api_key=key, base_url=url, journal=SqliteJournal(path)) as ruxa,
        anyio.create_task_group() as tg,
    ):
        for number in range(int(keys)):
            request = NanoBanana(prompt=f"picture {number}", key=f"k{number}")
            for _ in range(2):
                tg.start_soon(lambda r=request: ruxa.generate(r, run="catalogue"))

anyio.run(main)
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("point", ["create taken", "intent durable", "reply read", "task id durable"])
async def test_keys_that_are_asked_again_after_a_kill_are_bought_once(tmp_path: Path, point: str) -> None:
    path = tmp_path / "journal.db"
    unknown: list[int] = []

    async def ask(ruxa: RuxaClient, number: int) -> None:
        try:
            await ruxa.generate(NanoBanana(prompt=f"picture {number}", key=f"k{number}"), run="catalogue")
        except SubmissionUnknownError:
            unknown.append(number)

    async with Emulator(EmulatorSettings(image=Durations(0.3, 0.0))) as emulator:
        command = [sys.executable, "-c", PROGRAM, emulator.url, emulator.key, str(path), point, str(KEYS)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        killed = await anyio.run_process(command, check=False, env=environment, stderr=subprocess.DEVNULL)
        assert killed.returncode == -signal.SIGKILL
        async with (
            RuxaClient(api_key=emulator.key, base_url=emulator.url, journal=SqliteJournal(path)) as ruxa,
            anyio.create_task_group() as tg,
        ):
            for number in range(KEYS):
                tg.start_soon(ask, ruxa, number)
        ledger = emulator.service.ledger
    assert ledger.duplicates() == []
    assert len({entry.input["prompt"] for entry in ledger.entries}) == ledger.charged
    assert KEYS - len(unknown) <= ledger.charged <= KEYS
