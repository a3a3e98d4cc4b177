"""The examples for plain multiprocessing and for engines without an adapter do what they say."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from processes import free_port

from ruxa_async.emulator._ledger import LedgerFile

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")

ROOT = Path(__file__).parents[2]
PATIENCE = 100.0


def start(name: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RUXA_")}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / name), *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def bought(path: Path) -> list[str]:
    ledger = LedgerFile(path)
    ledger.close()
    return sorted(kept.task.input["prompt"] for kept in ledger.tasks)


def test_the_pool_makes_each_thumbnail_once_also_after_a_kill(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    killed = start("multiprocessing_pool.py", tmp_path)
    assert killed.stdout is not None
    killed.stdout.readline()
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=PATIENCE)
    out, _ = start("multiprocessing_pool.py", tmp_path).communicate(timeout=PATIENCE)
    lines = dict(line.split(": ", 1) for line in out.splitlines())
    assert lines.keys() == {f"picture-{number:02}" for number in range(24)}
    small = [tmp_path / path for path in lines.values() if path.endswith(".thumb.jpg")]
    assert all(path.read_bytes().startswith(b"\xff\xd8") for path in small)
    # Creates on the wire at the kill are listed as unknown, and nothing else may be missing.
    unknown = [text for text in lines.values() if not text.endswith(".thumb.jpg")]
    assert all("it may have been charged" in text for text in unknown)
    prompts = bought(tmp_path / "pool" / "emulator.jsonl")
    assert len(prompts) == len({*prompts})
    assert 24 - len(unknown) <= len(prompts) <= 24


@contextmanager
def sending_process(folder: Path) -> Iterator[str]:
    """Run the example in *folder* and yield its address."""
    port = free_port()
    with start("sending_process.py", folder, str(port)) as process:
        end = time.monotonic() + PATIENCE
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < end, "it did not start"
                time.sleep(0.05)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)


def ask(url: str, key: str, prompt: str) -> dict[str, Any]:
    body = json.dumps({"key": key, "prompt": prompt}).encode()
    with urlopen(Request(f"{url}/generate", body, {"content-type": "application/json"}), timeout=60) as reply:
        answer: dict[str, Any] = json.load(reply)
        return answer


def test_the_sending_process_buys_a_key_once_for_all_who_ask(tmp_path: Path) -> None:
    with sending_process(tmp_path) as url, ThreadPoolExecutor(8) as pool:
        orders = [(f"k{n % 5}", f"boat {n % 5}") for n in range(20)]
        answers = list(pool.map(lambda order: ask(url, *order), orders))
        conflict = ask(url, "k1", "another boat")
    assert bought(tmp_path / "emulator.jsonl") == [f"boat {n}" for n in range(5)]
    assert len({answer["generation"]["task_id"] for answer in answers}) == 5
    assert conflict["error"]["type"] == "KeyConflictError"
    with sending_process(tmp_path) as url:
        assert ask(url, "k1", "boat 1") in answers


def recipe(name: str) -> str:
    """Return the program of docs/recipes.md that is called *name*."""
    page = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    (source,) = re.findall(rf"```python\n(# {re.escape(name)}.*?)```", page, re.DOTALL)
    return str(source)


def test_the_celery_task_of_the_docs_is_delivered_twice_and_buys_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("celery", reason="needs Celery: pip install celery")
    from celery.contrib.testing.worker import start_worker

    for name in ("sending.py", "tasks.py"):
        (tmp_path / name).write_text(recipe(name), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with sending_process(tmp_path) as url:
        monkeypatch.setenv("SENDING_PROCESS", url)
        tasks = import_module("tasks")
        tasks.app.conf.update(broker_url="memory://", result_backend="cache+memory://")
        with start_worker(tasks.app, pool="threads", concurrency=4, perform_ping_check=False):
            waiting = [tasks.make_picture.delay(f"k{n % 3}", f"boat {n % 3}") for n in range(6)]
            answers = [each.get(timeout=60) for each in waiting]
    assert answers[:3] == answers[3:]
    assert bought(tmp_path / "emulator.jsonl") == ["boat 0", "boat 1", "boat 2"]


@pytest.mark.timeout(300)
def test_the_airflow_dag_of_the_docs_buys_each_row_once_in_two_runs(tmp_path: Path) -> None:
    if find_spec("airflow") is None:
        pytest.skip("needs Airflow: nox -s airflow")
    dags = tmp_path / "dags"
    dags.mkdir()
    for name in ("sending.py", "pictures_dag.py"):
        (dags / name).write_text(recipe(name), encoding="utf-8")
    with sending_process(tmp_path) as url:
        settings = {
            "AIRFLOW_HOME": str(tmp_path / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "SENDING_PROCESS": url,
        }
        for words in (["db", "migrate"], ["dags", "test", "pictures"], ["dags", "test", "pictures"]):
            command = [sys.executable, "-m", "airflow", *words]
            done = subprocess.run(
                command,
                env={**os.environ, **settings},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
    assert bought(tmp_path / "emulator.jsonl") == ["boat 0", "boat 1", "boat 2"]
