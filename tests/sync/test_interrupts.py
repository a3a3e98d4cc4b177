"""Ctrl-C in the calling thread: what is paid is received or listed, and nothing is bought twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import prompts

from ruxa_async import NanoBanana
from ruxa_async.emulator import Emulator, EmulatorSettings, Service
from ruxa_async.sync import RuxaClient

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="os.kill there ends a process without a signal"
)


def start(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUXA_")}
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    return subprocess.Popen(
        [sys.executable, "-W", "error", *map(str, arguments)],
        env={**kept, **environment, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_at_any_moment_what_was_charged_is_received_or_listed_and_never_bought_twice() -> None:
    out, err = start(ROOT / "tests/sync/interrupts.py", "1", "4").communicate(timeout=100)
    rounds: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert len(rounds) == 5 * (10 + 4), err
    assert "Traceback" not in err
    for each in rounds:
        assert each["interrupts"] == 1, each
        assert {*each["charged"]} <= {*each["known"]}, each
        assert max(Counter(each["prompts"]).values(), default=1) == 1, each
    assert sum(len(each["charged"]) for each in rounds) > 100
    assert sum(len(each["charged"]) == 0 for each in rounds) > 0, "none was interrupted before it bought"


class SoftTimeLimitError(Exception):
    pass


def test_a_time_limit_of_a_task_queue_stops_a_loop_and_lists_what_was_paid(
    ruxa: RuxaClient, service: Service
) -> None:
    """Celery raises it from a signal handler; while it is handled, nothing is bought any more."""

    def on_signal(*_: object) -> None:
        raise SoftTimeLimitError

    def source() -> Iterator[NanoBanana]:
        for n, request in enumerate(prompts(1000)):
            if n == 20:
                timer.start()
            yield request

    received: list[str | None] = []
    timer = threading.Timer(0.01, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1))
    before = signal.signal(signal.SIGUSR1, on_signal)
    try:
        for outcome in ruxa.as_completed(source(), window=10):
            received.append(outcome.task_id)
    except SoftTimeLimitError:
        while ruxa.stats().in_flight or ruxa.stats().creates_on_wire:
            pass
        charged = [entry.task_id for entry in service.ledger.entries]
        assert {*charged} == {*received, *(record.task_id for record in ruxa.orphans)}
        assert ruxa.stats().queued == 0
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert 10 < len(charged) < 1000


PROGRAM = """
import threading
import time
from ruxa_async import NanoBanana, Timeouts
from ruxa_async.sync import RuxaClient

def requests():
    for n in range(100):
        yield NanoBanana(prompt=f"prompt {n}")

def say(event):
    if type(event).__name__ == "CreateSent":
        print("sent", flush=True)

def watch():
    while not ruxa._client._driver._drains:
        time.sleep(0.01)
    print("leaving", flush=True)

with RuxaClient(timeouts=Timeouts(create_drain=60.0), on_event=say) as ruxa:
    threading.Thread(target=watch, daemon=True).start()
    outcomes = ruxa.as_completed(requests(), window=3)
    try:
        with outcomes:
            for outcome in outcomes:
                print("received", outcome.task_id, flush=True)
    finally:
        for job in (*outcomes.unfinished, *outcomes.unknown):
            print("listed", job.task_id, flush=True)
"""


def first_lines(process: subprocess.Popen[str], word: str, count: int) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    while sum(line.startswith(word) for line in lines) < count:
        line = process.stdout.readline()
        assert line, "the program ended early"
        lines.append(line)
    return lines


@pytest.mark.parametrize(("word", "count"), [("sent", 1), ("received", 2)])
def test_a_script_that_is_interrupted_lists_every_purchase_and_ends_by_the_interrupt(
    word: str, count: int, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    with Emulator(EmulatorSettings(speed=20, latency=0.2)) as emulator:
        process = start(tmp_path / "program.py", RUXA_API_KEY=emulator.key, RUXA_BASE_URL=emulator.url)
        lines = first_lines(process, word, count)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        out = process.stdout.read()  # `communicate` would lose what `readline` has read ahead
        _, err = process.communicate(timeout=60)
        charged = {entry.task_id for entry in emulator.service.ledger.entries}
    assert "KeyboardInterrupt" in err
    assert process.returncode == -signal.SIGINT
    known = {
        line.split()[1] for line in (*lines, *out.splitlines()) if line.startswith(("received", "listed"))
    }
    assert charged
    assert charged == known


def test_a_second_interrupt_ends_the_wait_for_creates_and_lists_them_as_unknown(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    with Emulator(EmulatorSettings(latency=50.0)) as emulator:
        process = start(tmp_path / "program.py", RUXA_API_KEY=emulator.key, RUXA_BASE_URL=emulator.url)
        first_lines(process, "sent", 3)
        process.send_signal(signal.SIGINT)
        first_lines(process, "leaving", 1)
        assert process.poll() is None  # it waits for three creates
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=40)
    assert "KeyboardInterrupt" in err
    assert [line for line in out.splitlines() if line.startswith("listed")] == ["listed None"] * 3
