"""Programs in processes of their own that receive callbacks: the examples, the command, a killed client."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
from processes import free_port, until

from ruxa_async.__main__ import main
from ruxa_async.emulator import Callbacks, Durations, Emulator, EmulatorSettings, Fault
from ruxa_async.emulator._ledger import LedgerFile

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 100.0


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUXA_")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


@contextmanager
def started(*command: str, cwd: Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=cwd,
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(url: str, body: bytes, kind: str) -> tuple[int, Any]:
    request = Request(url, body, {"Content-Type": kind})
    try:
        with urlopen(request, timeout=PATIENCE) as response:
            return response.status, json.loads(response.read())
    except HTTPError as error:
        return error.code, None


@pytest.mark.parametrize(
    ("example", "kind", "good", "bad"),
    [
        ("callbacks_aiohttp.py", "text/plain", b"a fox", b" "),
        ("callbacks_fastapi.py", "application/json", b'{"prompt": "a fox"}', b'{"prompt": ""}'),
    ],
)
def test_an_example_answers_when_it_is_called_back(
    example: str, kind: str, good: bytes, bad: bytes, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/pictures"
    with started(str(ROOT / "examples" / example), cwd=tmp_path, PORT=str(port)) as app:

        def is_up() -> bool:
            assert app.poll() is None, app.communicate()[0]
            try:
                return ask(url, bad, kind)[0] in (400, 422)
            except URLError:
                return False

        until(is_up, PATIENCE)
        status, said = ask(url, good, kind)
        assert status == 200
        assert said["task_id"].startswith("task_")
        with urlopen(said["urls"][0], timeout=PATIENCE) as picture:
            assert picture.read(4) == b"\x89PNG"
        # It was called back: its address is there, and tells a stranger nothing.
        assert ask(f"http://127.0.0.1:{port}/ruxa/{'x' * 43}", b"{}", kind)[0] == 401
        assert ask(f"http://127.0.0.1:{port}/ruxa/other", b"{}", kind)[0] == 404
        app.send_signal(signal.SIGINT)
        out = app.communicate(timeout=PATIENCE)[0]
    assert "Traceback" not in out


@pytest.mark.parametrize(
    ("example", "kind", "bad"),
    [
        ("callbacks_aiohttp.py", "text/plain", b" "),
        ("callbacks_fastapi.py", "application/json", b'{"prompt": ""}'),
    ],
)
def test_an_example_starts_with_the_users_own_key(
    example: str, kind: str, bad: bytes, tmp_path: Path
) -> None:
    port = free_port()
    own = {"RUXA_API_KEY": "sk-mine", "RUXA_BASE_URL": "http://127.0.0.1:1"}
    with started(str(ROOT / "examples" / example), cwd=tmp_path, PORT=str(port), **own) as app:

        def is_up() -> bool:
            assert app.poll() is None, app.communicate()[0]
            try:
                return ask(f"http://127.0.0.1:{port}/pictures", bad, kind)[0] in (400, 422)
            except URLError:
                return False

        until(is_up, PATIENCE)


def test_the_command_is_called_back(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "prompts.txt").write_text("".join(f"prompt {n}\n" for n in range(20)))
    url = f"http://127.0.0.1:{port}"
    command = ["-m", "ruxa_async", "batch", "prompts.txt", "--out", "out", "--emulator", "--speed", "5"]
    options = ["--callback-url", url, "--callback-listen", f"127.0.0.1:{port}"]
    with started(*command, *options, cwd=tmp_path) as batch:
        out = batch.communicate(timeout=PATIENCE)[0]
    assert batch.returncode == 0, out
    assert "20 succeeded" in " ".join(out.split())
    assert "not one callback" not in out
    ledger = LedgerFile(tmp_path / "out" / "emulator.jsonl")
    ledger.close()
    addresses = {kept.callback or "" for kept in ledger.tasks}
    assert len(addresses) == 20
    assert all(address.startswith(f"{url}/") for address in addresses)
    assert not any(address.rpartition("/")[2] in out for address in addresses)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the command, without the user's variables."""
    for name in [name for name in os.environ if name.startswith("RUXA_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_reports_that_no_callback_came(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "prompts.txt").write_text("".join(f"prompt {n}\n" for n in range(3)))
    nowhere = f"http://127.0.0.1:{free_port()}"
    command = ["batch", "prompts.txt", "--out", "out", "--emulator", "--speed", "50", "--quiet"]
    options = ["--callback-url", nowhere, "--callback-listen", "127.0.0.1:0"]
    printed = []
    for _ in range(2):
        assert main([*command, *options]) == 0
        printed.append(" ".join("".join(capfd.readouterr()).split()))
    assert "3 tasks ended and not one callback came" in printed[0]
    assert "--callback-url" in printed[0]
    assert "callback" not in printed[1]  # nothing ended in this run


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--callback-url", "http://x"], "go together"),
        (["--callback-listen", "127.0.0.1:80"], "go together"),
        (["--callback-url", "http://x", "--callback-listen", "80"], "not an address"),
        (["--callback-url", "http://x", "--callback-listen", "127.0.0.1:99999"], "not an address"),
        (["--callback-url", "nonsense", "--callback-listen", "127.0.0.1:0"], "public_url='nonsense'"),
    ],
)
def test_invalid_callback_options_are_rejected(
    options: list[str], words: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "prompts.txt").write_text("a fox\n")
    assert main(["batch", "prompts.txt", "--out", "out", "--emulator", *options]) == 2
    assert words in " ".join("".join(capfd.readouterr()).split())


PROGRAM = """
import asyncio, os, sys
from ruxa_async import CallbackReceiver, Limits, NanoBanana, RateLimit, RuxaClient, SqliteJournal, Timeouts

async def main():
    port = int(os.environ["PORT"])
    receiver = CallbackReceiver(public_url=f"http://127.0.0.1:{port}/ruxa")
    # All are on the wire before the first reply is lost, or the circuit breaker would hold the others back.
    limits = Limits(max_concurrent_creates=100, create_rate=RateLimit(1000, burst=1000))
    timeouts = Timeouts(callback_wait=90)  # the emulator doubles its pauses
    client = RuxaClient(
        callbacks=receiver, journal=SqliteJournal("journal"), limits=limits, timeouts=timeouts
    )
    async with receiver.serve("127.0.0.1", port), client as ruxa:
        requests = (NanoBanana(prompt=f"prompt {n}") for n in range(100))
        async for outcome in ruxa.as_completed(requests, resume="run"):
            print(outcome.ok, outcome.task_id, outcome.unwrap().urls[0], flush=True)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
@pytest.mark.parametrize("style", ["query", "no_id"])
def test_lost_creates_are_adopted_across_a_kill(style: Any, tmp_path: Path) -> None:
    """The replies to all 100 creates are lost, then the process is; the next one is called back about them."""
    emulator = Emulator(
        EmulatorSettings(
            image=Durations(0.2),
            # Slow enough that all are sent before the first reply is lost, on a busy machine too.
            faults=(Fault("slow", "create", seconds=8.0), Fault("reset_after", "create")),
            callbacks=Callbacks(style=style, delay=0.0, attempts=120, pause=0.5),
        )
    )
    emulator.start()
    try:
        env = {
            "RUXA_API_KEY": emulator.key,
            "RUXA_BASE_URL": emulator.url,
            "RUXA_CALLBACK_SECRET": "a secret of this test alone",
            "PORT": str(free_port()),
        }
        ledger = emulator.service.ledger
        with started("-c", PROGRAM, cwd=tmp_path, **env) as killed:
            until(lambda: ledger.charged == 100, PATIENCE)
            os.kill(killed.pid, signal.SIGKILL)
            before = killed.communicate()[0].splitlines()
        with started("-c", PROGRAM, cwd=tmp_path, **env) as resumed:
            after = resumed.communicate(timeout=PATIENCE)[0].splitlines()
        assert resumed.returncode == 0, "\n".join(after[-30:])
    finally:
        emulator.stop()
    assert ledger.charged == emulator.service.counts.creates == 100
    told = {line.split()[2] for line in after}
    assert len(after) == len(told) == 100
    assert all(line.startswith("True ") for line in (*before, *after))
    named = {line.split()[1] for line in after}
    assert named == ({purchase.task_id for purchase in ledger.entries} if style == "query" else {"None"})
