"""The command line, killed: with the emulator in the same process, and how soon it is at work again.

RUXA_LONG=1.
"""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from crash.lanes import served

from ruxa_async.emulator import Durations
from ruxa_async.emulator._ledger import LedgerFile
from ruxa_async.journal import view_journal

pytestmark = [
    pytest.mark.skipif(not os.environ.get("RUXA_LONG"), reason="takes minutes: RUXA_LONG=1"),
    pytest.mark.timeout(600),
]

_logger = logging.getLogger("crash")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def command(path: Path, rows: int, *options: str, **environment: str) -> subprocess.Popen[bytes]:
    """Begin a batch of so many *rows* in *path*."""
    source = path / "rows.jsonl"
    lines = (json.dumps({"prompt": f"prompt {n}", "key": f"k{n}"}) for n in range(rows))
    source.write_text("\n".join(lines))
    return subprocess.Popen(
        [sys.executable, "-m", "ruxa_async", "batch", str(source), "--out", str(path / "out"), *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


async def test_a_kill_of_the_command_and_its_emulator_loses_nothing(tmp_path: Path) -> None:
    """The ledger in the folder is the witness.

    It is written before the answer, in the process that is killed.
    """
    chance, kills, largest = random.Random(1), 0, 0
    for place in range(10):
        path = tmp_path / str(place)
        path.mkdir()
        unknown = 0
        for _ in range(3):
            process = command(path, 30, "--emulator", "--speed", "30")
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.7, 2.0))
            process.kill()
            kills += process.wait() == -9
            if (path / "out" / "journal.sqlite").exists():
                found = len((await view_journal(path / "out" / "journal.sqlite")).unknowns)
                assert unknown <= found <= unknown + 16
                largest = max(largest, found - unknown)
                unknown = found
        assert command(path, 30, "--emulator", "--speed", "30").wait(60) == (1 if unknown else 0)
        with closing(LedgerFile(path / "out" / "emulator.jsonl")) as ledger:
            bought = {kept.task.input["prompt"]: kept.task.task_id for kept in ledger.tasks}
            assert len(bought) == len(ledger.tasks)  # none of them twice
        told = [json.loads(line) for line in (path / "out" / "results.jsonl").read_text().splitlines()]
        assert len({line["id"] for line in told}) == len(told) == 30
        for line in told:
            if line["state"] != "unknown":
                assert (line["state"], line["task_id"]) == ("succeeded", bought.pop(line["prompt"]))
                assert (path / "out" / line["files"][0]).stat().st_size > 0
        listed = {
            entry.request.input()["prompt"]
            for entry in (await view_journal(path / "out" / "journal.sqlite")).unknowns
        }
        assert bought.keys() <= listed  # 0 lost
    _logger.info("with its own emulator: %s kills, at most %s became unknown at one", kills, largest)


@pytest.mark.parametrize("rows", [10, 1000, 10_000])
def test_a_restarted_command_buys_within_seconds(tmp_path: Path, rows: int) -> None:
    """Half of the rows are bought when it is killed; how long until the next process sends its first request?"""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import ruxa_async.cli._app, aiohttp, cattrs"], check=True)
    start_up = time.monotonic() - began
    with served(image=Durations(0.5), latency=0.0) as emulator:
        service, settings = emulator.service, {"RUXA_BASE_URL": emulator.url, "RUXA_API_KEY": emulator.key}
        process = command(tmp_path, rows, **settings)
        while service.ledger.charged < rows // 2:
            time.sleep(0.005)
        process.kill()
        process.wait()
        first: list[float] = []
        handle = service.handle

        def timed(request: Any, now: float) -> Any:
            first.append(time.monotonic())
            return handle(request, now)

        time.sleep(0.2)  # what was on the wire has been served
        service.handle = timed  # type: ignore[method-assign]
        began = time.monotonic()
        process = command(tmp_path, rows, **settings)
        while not first:
            time.sleep(0.001)
        process.kill()
        process.wait()
    _logger.info(
        "%s rows, half of them bought: first request %.2f s after the restart, of which %.2f s are imports",
        rows,
        first[0] - began,
        start_up,
    )
    assert service.ledger.duplicates() == []
