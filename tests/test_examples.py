"""Examples do what they say.

Those that others start with are run by hand and by the README's own commands.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp.test_utils import TestClient, TestServer

from ruxa_async.emulator._ledger import LedgerFile

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_resumed_pictures_are_bought_once(tmp_path: Path) -> None:
    def start() -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RUXA_")}
        return subprocess.Popen(
            [sys.executable, str(EXAMPLES / "resume.py")],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(EXAMPLES.parent)},
            stdout=subprocess.PIPE,
            text=True,
        )

    killed = start()
    assert killed.stdout is not None
    early = [killed.stdout.readline() for _ in range(3)]
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    out, _ = start().communicate(timeout=100)
    ledger = LedgerFile(tmp_path / "pictures" / "emulator.jsonl")
    ledger.close()
    prompts = [kept.task.input["prompt"] for kept in ledger.tasks]
    assert len(prompts) == len({*prompts}) <= 24
    told = dict(line.split(": ", 1) for line in out.splitlines())
    assert len(told) == 24
    for line in early:
        key, path = line.rstrip("\n").split(": ")
        assert told[key] == path
    made = [tmp_path / path for path in told.values() if path.endswith(".png")]
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in made)
    # What was on the wire at the kill is told as such, and nothing else may be missing.
    missing = [text for text in told.values() if not text.endswith(".png")]
    assert all("it may have been charged" in text for text in missing)
    assert len(missing) <= 16


def output_of(example: str, folder: Path) -> list[str]:
    """Run *example* in *folder*, and return the lines that it printed."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / example)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return ran.stdout.splitlines()


def test_three_stages_run_as_the_page_prints_them_and_buy_nothing_on_a_second_run(tmp_path: Path) -> None:
    program = (EXAMPLES / "three_stages.py").read_text(encoding="utf-8")
    page = (EXAMPLES.parent / "docs" / "pipelines.md").read_text(encoding="utf-8")
    assert f"```python\n{program}```\n" in page

    def run() -> list[str]:
        return sorted(output_of("three_stages.py", tmp_path))

    lines = run()
    assert len(lines) == 4
    assert all(Path(tmp_path, line.split()[-1]).suffix == ".mp4" for line in lines)
    assert run() == lines
    ledger = LedgerFile(tmp_path / "catalogue" / "emulator.jsonl")
    ledger.close()
    models = Counter(kept.task.model for kept in ledger.tasks)
    assert models == {"google/nano-banana": 4, "google/nano-banana-pro": 4, "sora-2": 4}


async def test_a_catalogue_buys_a_picture_once_for_all_requests_and_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delenv("RUXA_API_KEY", raising=False)
    make_app = import_module("catalogue").make_app
    pictures: list[bytes] = []

    async def get(client: TestClient[Any, Any]) -> None:
        response = await client.get("/pictures/chair")
        assert response.status == 200
        pictures.append(await response.read())

    for _ in range(2):
        async with TestClient(TestServer(make_app())) as client, anyio.create_task_group() as tg:
            for _ in range(5):
                tg.start_soon(get, client)
    assert len(pictures) == 10
    assert all(each[:4] == b"\x89PNG" for each in pictures)
    ledger = LedgerFile(tmp_path / "catalogue" / "emulator.jsonl")
    ledger.close()
    assert len(ledger.tasks) == 1


def test_a_batch_without_async_saves_every_picture(tmp_path: Path) -> None:
    lines = dict(line.split() for line in output_of("sync_batch.py", tmp_path))
    assert {*lines} == {f"heron-{n}" for n in range(1, 9)}
    assert all((tmp_path / path).read_bytes()[:4] == b"\x89PNG" for path in lines.values())
