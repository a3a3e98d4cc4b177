"""The programs and commands of docs/many-machines.md do what the page says, with fewer pictures."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import free_port, until
from servers import postgres_or_skip, redis_missing, redis_server

from ruxa_async.emulator import Durations, Emulator, EmulatorSettings

pytest.importorskip("psycopg", reason="needs the extra postgres")
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="no PostgreSQL there"),
    pytest.mark.timeout(300),
]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/many-machines.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PATIENCE = 100.0
COUNT = 20


def program(name: str) -> str:
    """Return the program of the page that is called *name*, for COUNT pictures."""
    (source,) = [text for language, text in BLOCKS if language == "python" and text.startswith(f"# {name}\n")]
    return str(source).replace("range(1000)", f"range({COUNT})")


def command(first: str) -> list[str]:
    """Return the words of the command for a terminal that begins with *first*."""
    lines = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
    (line,) = [line for line in lines if line.startswith(first)]
    return shlex.split(line.removesuffix(" &"))


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    emulator = Emulator(EmulatorSettings(image=Durations(0.1)))
    emulator.start()
    yield emulator
    emulator.stop()


@pytest.fixture
def environment(emulator: Emulator) -> Iterator[dict[str, str]]:
    """What the page exports in each terminal."""
    (exports,) = [text for language, text in BLOCKS if language == "sh" and "\nexport " in text]
    names = re.findall(r"(\w+)=", exports)
    with postgres_or_skip() as server:
        values = dict(zip(names, (emulator.url, emulator.key, server.dsn), strict=True))
        assert values.keys() == {"RUXA_BASE_URL", "RUXA_API_KEY", "RUXA_JOURNAL"}
        yield {**os.environ, **values, "PYTHONPATH": str(ROOT)}


@contextmanager
def running(words: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run a command of Python during the block, and end it as a terminal does."""
    with subprocess.Popen([sys.executable, "-m", *words], cwd=folder, env=environment) as process:
        try:
            yield
        finally:
            process.terminate()


def run(folder: Path, environment: dict[str, str], *words: str) -> str:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
    ).stdout


def check(emulator: Emulator, folder: Path, key: str, outputs: list[str]) -> None:
    """Check that each run of the script printed every key and its file, and that all was bought once."""
    for output in outputs:
        lines = dict(line.split(" ", 1) for line in output.splitlines())
        assert lines.keys() == {f"{key}-{n}" for n in range(COUNT)}
        assert all(f"out/{name}.png" in line for name, line in lines.items())
    files = [*(folder / "out").iterdir()]
    assert len(files) == COUNT
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in files)
    prompts = [entry.input["prompt"] for entry in emulator.service.ledger.entries]
    assert sorted(prompts) == sorted(f"{key} {n}" for n in range(COUNT))


def test_the_programs_for_taskiq_buy_each_picture_once_and_save_it(
    tmp_path: Path, emulator: Emulator, environment: dict[str, str]
) -> None:
    pytest.importorskip("taskiq_redis", reason="needs the extra taskiq")
    if missing := redis_missing():
        pytest.skip(missing)
    for name in ("pictures.py", "buy.py"):
        (tmp_path / name).write_text(program(name), encoding="utf-8")
    with redis_server() as redis:
        environment["REDIS_URL"] = redis.url
        with running(command("taskiq worker"), tmp_path, environment):
            outputs = [run(tmp_path, environment, "buy.py") for _ in range(2)]
        check(emulator, tmp_path, "cat", outputs)
    assert "`ruxa-async journal --run cats`" in PAGE
    counted = run(tmp_path, environment, "-m", "ruxa_async", "journal", "--run", "cats")
    assert f"{COUNT} succeeded" in counted


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def test_the_program_for_dask_buys_each_picture_once_and_downloads_it_once(
    tmp_path: Path, emulator: Emulator, environment: dict[str, str]
) -> None:
    pytest.importorskip("distributed", reason="needs the extra dask")
    port = free_port()
    address, given = f"tcp://127.0.0.1:{port}", "tcp://127.0.0.1:8786"
    source, worker = program("boats.py"), command("dask worker")
    assert given in source
    (tmp_path / "boats.py").write_text(source.replace(given, address), encoding="utf-8")
    scheduler = [*command("dask scheduler"), "--port", str(port), "--dashboard-address", ":0"]
    worker[worker.index(given)] = address
    with running(scheduler, tmp_path, environment):
        until(lambda: listens(port), PATIENCE)
        with running(worker, tmp_path, environment):
            outputs = [run(tmp_path, environment, "boats.py") for _ in range(2)]
    check(emulator, tmp_path, "boat", outputs)
    assert emulator.service.counts.files == COUNT
