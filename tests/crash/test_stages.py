"""Three stages that are killed at random times and resumed: nothing bought twice, every key ends once.

The service lives through the kills; its ledger is the witness. RUXA_LONG=1 makes it 100 kills.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from crash import stages_program
from crash.forks import CREATES, TRANSPORTS
from crash.lanes import served
from processes import fork_context

from ruxa_async.emulator import Durations, Emulator, Purchase

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="it kills by signal"),
    pytest.mark.timeout(900),
]

KILLS = 100 if os.environ.get("RUXA_LONG") else 10
#: Kills of one folder, before it may go on to its end.
KILLS_A_FOLDER = 3
ROWS = 6
DURATIONS = {"google/nano-banana-pro": Durations(0.15, 0.5), "sora-2": Durations(0.1, 0.5)}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@define
class Chain:
    """One folder with its journal, before one service."""

    folder: Path
    emulator: Emulator
    backend: str
    kills: int = field(default=0, init=False)

    def run(self, *, kill_after: float | None = None) -> int:
        """Run the stages until they end, or until *kill_after* seconds; return the exit status."""
        context = fork_context("crash.stages_program")
        is_open = context.Event()
        arguments = (self.emulator.url, self.emulator.key, self.folder, ROWS, self.backend, is_open)
        process = context.Process(target=stages_program.run, args=arguments)
        process.start()
        assert is_open.wait(60)
        process.join(60 if kill_after is None else kill_after)
        if process.exitcode is None:
            process.kill()
            process.join()
            self.kills += 1
        assert process.exitcode is not None
        return int(process.exitcode)

    def outcomes(self) -> list[dict[str, Any]]:
        lines = (self.folder / "outcomes.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    @property
    def purchases(self) -> list[Purchase]:
        return self.emulator.service.ledger.entries


def ends_of(row: int, outcomes: list[dict[str, Any]]) -> list[str]:
    """Return the keys that *row* has to end with, by the stage that it came to."""
    ended = [outcome["stage"] for outcome in outcomes if outcome["key"] == f"k{row}"]
    return [f"k{row}"] if ended == [1] else [f"k{row}.1", f"k{row}.2"]


def check(chain: Chain) -> int:
    """Check the outcomes of the last run against the ledger; return how many creates are unknown."""
    outcomes = chain.outcomes()
    assert chain.emulator.service.ledger.duplicates() == []
    wanted = Counter(key for row in range(ROWS) for key in ends_of(row, outcomes))
    assert Counter(outcome["key"] for outcome in outcomes) == wanted
    failed = [outcome for outcome in outcomes if outcome["state"] != "succeeded"]
    assert {outcome["state"] for outcome in failed} <= {"unknown"}
    assert all(outcome["stage"] == 3 for outcome in outcomes if outcome not in failed)
    # Each purchase was delivered, became the input of another one, or is listed as unknown.
    delivered = {outcome["task_id"] for outcome in outcomes}
    inputs = str([purchase.input for purchase in chain.purchases] + [outcome["input"] for outcome in failed])
    unknown = [outcome["input"] for outcome in failed]
    lost = [
        each
        for each in chain.purchases
        if each.task_id not in delivered and each.task_id not in inputs and each.input not in unknown
    ]
    assert lost == []
    return len(failed)


def killed_at_random(folder: Path, backend: str, seed: int) -> int:
    """Kill the stages of *folder* at times that *seed* decides, resume them to the end; return the kills."""
    folder.mkdir()
    chance = random.Random(seed)
    with served(seed=seed, durations=DURATIONS) as emulator:
        chain = Chain(folder, emulator, backend)
        for _ in range(KILLS_A_FOLDER):
            chain.run(kill_after=chance.uniform(0.0, 0.6))
        assert chain.run() == 0
        assert check(chain) <= CREATES * chain.kills
        bought = len(chain.purchases)
        assert chain.run() == 0
        check(chain)
        assert len(chain.purchases) == bought
        return chain.kills


@pytest.mark.parametrize("backend", TRANSPORTS)
def test_stages_that_are_killed_at_random_times_buy_nothing_twice_and_end_every_key_once(
    tmp_path: Path, backend: str
) -> None:
    kills = seed = 0
    while kills < KILLS:
        kills += killed_at_random(tmp_path / str(seed), backend, seed)
        seed += 1


def test_the_check_finds_a_row_that_ended_twice_and_a_lost_purchase(tmp_path: Path) -> None:
    with served(durations=DURATIONS) as emulator:
        chain = Chain(tmp_path, emulator, "asyncio")
        assert chain.run() == 0
        assert check(chain) == 0
        lines = (tmp_path / "outcomes.jsonl").read_text(encoding="utf-8")
        (tmp_path / "outcomes.jsonl").write_text(lines + lines.splitlines()[0] + "\n", encoding="utf-8")
        with pytest.raises(AssertionError):
            check(chain)
        (tmp_path / "outcomes.jsonl").write_text(
            lines.replace(chain.purchases[-1].task_id, "task_x"), encoding="utf-8"
        )
        with pytest.raises(AssertionError):
            check(chain)
