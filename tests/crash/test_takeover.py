"""Processes that share a journal in PostgreSQL are killed and stopped: nothing is lost or bought twice.

Real processes and a real server. The emulator is in this process, and its ledger is the witness. RUXA_LONG=1
kills ten times as often.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from crash.lanes import served
from servers import Postgres, postgres_or_skip

from ruxa_async.emulator import Emulator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it kills and stops processes")

LONG = bool(os.environ.get("RUXA_LONG"))
KILLS, STOPS, SERVER_KILLS = (100, 100, 50) if LONG else (6, 4, 3)
#: Creates that one process sends at once, as in `holder`: what a kill makes unknown at most.
AT_ONCE = 4
#: Rows that are bought between two kills, about.
STRIDE = 6
PATIENCE = 120.0


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres_or_skip() as running:
        yield running


@pytest.fixture
def fleet(server: Postgres) -> Iterator[Fleet]:
    with ExitStack() as stack:
        fleet = Fleet(server, stack.enter_context(served()))
        stack.callback(fleet.end)
        yield fleet


@define
class Fleet:
    """Processes that buy one run of one account."""

    server: Postgres
    emulator: Emulator
    rows: int = 0
    schema: str = field(factory=lambda: f"fleet_{uuid.uuid4().hex}")
    processes: list[subprocess.Popen[Any]] = field(factory=list)

    def start(self) -> subprocess.Popen[str]:
        command = {
            "dsn": f"{self.server.dsn}#{self.schema}",
            "url": self.emulator.url,
            "key": self.emulator.key,
            "rows": self.rows,
        }
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("holder.py")), json.dumps(command)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    @property
    def charged(self) -> int:
        return self.emulator.service.ledger.charged

    def wait_for_charges(self, process: subprocess.Popen[str], count: int) -> None:
        """Wait until *count* more tasks were bought, or all, or *process* has ended."""
        target = min(self.charged + count, self.rows)
        wait_until(lambda: self.charged >= target or process.poll() is not None)

    def query(self, sql: str) -> list[Any]:
        import psycopg

        with psycopg.connect(self.server.dsn) as connection:
            connection.execute(f"SET search_path = {self.schema}")
            return connection.execute(sql).fetchall()

    def check(self, *, unknown_at_most: int) -> None:
        """Assert that each row was bought once at most, and that the journal explains every charge."""
        entries = self.emulator.service.ledger.entries
        times = Counter(each.input["prompt"] for each in entries)
        assert [prompt for prompt, count in times.items() if count > 1] == []
        jobs = self.query("SELECT convert_from(handle, 'UTF8'), state, task_id FROM jobs")
        states = {key[1:]: (state, task_id) for key, state, task_id in jobs}
        for each in entries:
            state, task_id = states["k" + each.input["prompt"].removeprefix("prompt ")]
            assert task_id == each.task_id or state == "unknown"
        unknown = sum(state == "unknown" for state, _ in states.values())
        assert unknown <= unknown_at_most
        succeeded = sum(state == "succeeded" for state, _ in states.values())
        assert succeeded + unknown == self.rows


def holds(process: subprocess.Popen[str]) -> bool:
    """Wait until *process* holds the journal."""
    assert process.stdout is not None
    return process.stdout.readline() == "holds\n"


def outcome(process: subprocess.Popen[str]) -> dict[str, int]:
    """Wait until *process* ends, and return how its rows ended."""
    assert process.stdout is not None
    said = process.stdout.read()  # `communicate` would lose what `readline` has read ahead
    assert process.wait(PATIENCE) == 0
    counts: dict[str, int] = json.loads(said.splitlines()[-1])
    return counts


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_killed_holder_is_taken_over_and_nothing_is_bought_twice(fleet: Fleet) -> None:
    fleet.rows = KILLS * STRIDE
    holder = fleet.start()
    for _ in range(KILLS):
        standby = fleet.start()
        assert holds(holder)
        fleet.wait_for_charges(holder, STRIDE // 2)
        holder.kill()
        holder.wait()
        holder = standby
    assert holds(holder)
    ended = outcome(holder)
    assert ended["refused"] == 0
    assert ended["succeeded"] + ended["unknown"] == fleet.rows
    fleet.check(unknown_at_most=KILLS * AT_ONCE)


def test_a_holder_that_was_stopped_past_its_lease_buys_nothing_more(fleet: Fleet) -> None:
    fleet.rows = STOPS * STRIDE * 2
    holder = fleet.start()
    assert holds(holder)
    refused = 0
    for _ in range(STOPS):
        standby = fleet.start()
        fleet.wait_for_charges(holder, STRIDE // 2)
        holder.send_signal(signal.SIGSTOP)
        assert holds(standby)
        holder.send_signal(signal.SIGCONT)
        refused += outcome(holder)["refused"] > 0
        holder = standby
    assert outcome(holder)["refused"] == 0
    assert refused > 0
    fleet.check(unknown_at_most=STOPS * AT_ONCE)


def test_a_server_that_is_killed_loses_nothing_that_it_acknowledged(fleet: Fleet) -> None:
    fleet.rows = (SERVER_KILLS + 1) * STRIDE * 2
    holder = fleet.start()
    assert holds(holder)
    for _ in range(SERVER_KILLS):
        fleet.wait_for_charges(holder, STRIDE)
        fleet.server.kill()
        fleet.server.restart()
    assert outcome(holder) == {"succeeded": fleet.rows, "unknown": 0, "refused": 0}
    fleet.check(unknown_at_most=0)


def test_a_batch_that_is_terminated_hands_the_journal_over(fleet: Fleet, tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("".join(f"prompt {n}\n" for n in range(500)))
    environment = {
        **os.environ,
        "RUXA_API_KEY": fleet.emulator.key,
        "RUXA_BASE_URL": fleet.emulator.url,
        "RUXA_JOURNAL": f"{fleet.server.dsn}#{fleet.schema}",
    }
    batch = subprocess.Popen(
        [sys.executable, "-m", "ruxa_async", "batch", str(source), "--out", str(tmp_path / "out"), "--quiet"],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    fleet.processes.append(batch)
    wait_until(lambda: fleet.charged > 5)
    standby = fleet.start()
    batch.send_signal(signal.SIGTERM)
    assert batch.wait(PATIENCE) == 130
    assert holds(standby)
    assert fleet.query("SELECT count(*) FROM jobs WHERE state IN ('intended', 'unknown')") == [(0,)]
