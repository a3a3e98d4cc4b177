"""The costs of a batch: what would be bought, where the budget stops it, and what was spent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ruxa_async import BudgetExceededError, JournalInUseError
from ruxa_async.__main__ import main
from ruxa_async.batch import Summary
from ruxa_async.batch._dry_run import DryRun
from ruxa_async.cli._spending import budget_reason, dry_run_code, spent
from ruxa_async.emulator._ledger import LedgerFile
from ruxa_async.journal import Bought
from ruxa_async.settings import Budget

MODEL = "google/nano-banana"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUXA_API_KEY", "RUXA_BASE_URL", "RUXA_DEBUG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def prompts(folder: Path, count: int) -> str:
    path = folder / "in.jsonl"
    path.write_text("".join(f'{{"prompt": "prompt {n}", "key": "k{n}"}}\n' for n in range(count)))
    return str(path)


def charged(out: Path) -> int:
    file = LedgerFile(out / "emulator.jsonl")
    file.close()
    return len(file.tasks)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_dry_run_shows_what_would_be_bought_and_writes_nothing(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["batch", prompts(tmp_path, 5), "--out", str(out), "--dry-run"]
    assert main([*arguments, "--price", f"{MODEL}=3", "--max-credits", "10"]) == 3
    said = capsys.readouterr().err
    assert "5 rows read, 0 bad; nothing was sent or written" in said
    assert f"{MODEL}: 5, 15 credits at 3 each" in said
    assert (
        f"the budget would stop this after 3 of 5 tasks: one more task of {MODEL} costs 3 credits and would "
        "exceed --max-credits 10: 9 spent, or perhaps spent; raise it and run the same again to continue"
    ) in said
    assert "max_credits" not in said
    assert main([*arguments, "--price", "sora-3=1"]) == 0
    said = capsys.readouterr().err
    assert f"its price is not known (add --price {MODEL}=CREDITS)" in said
    assert "no task of sora-3 would be bought" in said
    assert not out.exists()


def test_prices_of_parameters_count_on_the_command_line(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.jsonl"
    pro = "google/nano-banana-pro"
    sizes = ("4k", "1k", "1k", "4k", None)
    rows = (
        {"prompt": "x", "model": pro, "key": str(n)} | ({"resolution": k} if k else {})
        for n, k in enumerate(sizes)
    )
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    arguments = ["batch", str(source), "--out", str(out), "--emulator", "--speed", "300"]
    dear = ["--price", f"{pro}[resolution=4k]=24"]
    assert main([*arguments, *dear, "--max-credits", "90", "--dry-run"]) == 3
    said = capsys.readouterr().err
    assert f"{pro}[resolution=4k]: 2, 48 credits at 24 each" in said
    assert (
        f"{pro}[resolution=1k]: 2, its price is not known (add --price '{pro}[resolution=1k]=CREDITS')"
        in said
    )
    assert f"{pro}: 1, its price is not known (add --price {pro}=CREDITS)" in said
    arguments += [*dear, "--price", f"{pro}=12", "--max-in-flight", "1"]
    assert main([*arguments, "--max-credits", "40"]) == 3
    said = capsys.readouterr().err
    assert f"    {pro}[resolution=4k]: 1 task, 8 credits as the service reported" in said
    assert (
        f"one more task of {pro}[resolution=4k] costs 24 credits and would exceed --max-credits 40: 24 spent"
    ) in said


def test_dry_run_reports_bad_rows(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.csv"
    source.write_text("prompt,key\na cat,one\n,two\na dog,one\n" + ",x\n" * 25)
    assert main(["batch", str(source), "--out", str(out), "--dry-run"]) == 1
    said = capsys.readouterr().err
    assert "line 3: prompt=''" in said
    assert "line 4: key 'one' in run 'batch': it came before" in said
    assert "further bad rows are not shown" in said
    assert "28 rows read, 27 bad" in said
    assert main(["batch", str(source), "--out", str(out), "--dry-run", "--strict"]) == 2
    assert "2 rows read, 1 bad" in (said := capsys.readouterr().err)
    assert "the run would stop at the first bad row (--strict)" in said


def test_dry_run_knows_what_was_bought_and_changes_nothing(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = prompts(tmp_path, 6)
    assert main(["batch", source, "--out", str(out), "--emulator", "--speed", "300", "--limit", "4"]) == 0
    before = contents(out)
    capsys.readouterr()
    assert main(["batch", source, "--out", str(out), "--dry-run", "--max-tasks", "5"]) == 3
    said = capsys.readouterr().err
    assert f"bought in {out} before: 4 tasks" in said
    assert "of these rows: 4 finished" in said
    assert "would buy 2 tasks" in said
    assert "stop this after 1 of 2 tasks: --max-tasks 5 is reached: 5 tasks bought, or perhaps bought" in said
    assert contents(out) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-credits", "-1"], "--max-credits -1"),
        (["--max-credits", "nan"], "--max-credits nan"),
        (["--max-tasks", "-3"], "--max-tasks -3"),
        (["--price", "sora-2"], "--price 'sora-2' is not MODEL=CREDITS"),
        (["--price", "=3"], "--price '=3' is not MODEL=CREDITS"),
        (["--price", "sora-2[seconds=10]"], "--price 'sora-2[seconds=10]' is not MODEL=CREDITS"),
        (
            ["--price", "sora-2[10]=3"],
            "--price: 'sora-2[10]' is not valid: the id of a model is needed, or one",
        ),
        (["--price", "sora-2=inf"], "--price: inf for 'sora-2' is not valid"),
    ],
)
def test_an_invalid_budget_is_refused_before_anything_is_sent(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert main(["batch", prompts(tmp_path, 1), "--out", str(out), "--emulator", *options]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_batch_stops_at_its_budget_and_continues_with_a_larger_one(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["batch", prompts(tmp_path, 8), "--out", str(out), "--emulator", "--speed", "300"]
    arguments += ["--price", f"{MODEL}=3"]
    assert main([*arguments, "--max-credits", "10"]) == 3
    said = capsys.readouterr().err
    assert "3 succeeded, 0 failed" in said
    assert "spent: 3 tasks, 9 credits as the service reported" in said
    assert "budget of this folder: 9 of 10 credits" in said
    assert (
        f"stopped by the budget: one more task of {MODEL} costs 3 credits and would exceed --max-credits 10"
        in said
    )
    assert main([*arguments, "--max-credits", "10", "--dry-run"]) == 3
    assert main([*arguments, "--max-credits", "10"]) == 3
    assert charged(out) == 3
    assert main([*arguments, "--max-tasks", "5"]) == 3
    assert "budget of this folder: 5 of 5 tasks" in capsys.readouterr().err
    assert main([*arguments, "--max-tasks", "8", "--max-credits", "24"]) == 0
    assert charged(out) == 8
    runs = [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]
    assert [run["ending"] for run in runs] == ["halted by the budget"] * 3 + ["finished"]
    assert (runs[0]["prices"], runs[0]["max_credits"], runs[2]["max_tasks"]) == ({MODEL: 3.0}, 10.0, 5)
    assert '<td class="number">24</td>' in (out / "report.html").read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_budget_holds_over_a_kill(tmp_path: Path, out: Path, how: signal.Signals) -> None:
    arguments = ["batch", prompts(tmp_path, 30), "--out", str(out), "--emulator", "--max-credits", "36"]
    arguments += ["--price", f"{MODEL}=3"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ruxa_async", *arguments, "--speed", "4", "--max-in-flight", "4"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        lines = out / "results.jsonl"
        while not lines.exists() or lines.read_bytes().count(b"\n") < 2:
            time.sleep(0.02)
        os.kill(process.pid, how)
    finally:
        process.wait(timeout=60)
    before = charged(out)
    assert 2 <= before < 12
    assert main([*arguments, "--speed", "200"]) == 3
    results = [json.loads(line) for line in lines.read_text().splitlines()]
    unknown = sum(line["state"] == "unknown" for line in results)
    # A create that was on the wire at the kill counts whether it was charged or not.
    assert 12 - unknown <= charged(out) <= 12
    assert main([*arguments, "--speed", "200"]) == 3
    assert charged(out) <= 12


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (DryRun(), 0),
        (DryRun(finished=3, picked_up=1), 0),
        (DryRun(bad=1), 1),
        (DryRun(failed=1), 1),
        (DryRun(unknown=1), 1),
        (DryRun(bad=1, refused=True), 2),
        (DryRun(bad=1, halted=BudgetExceededError("x", model="m", price=None, tasks=0, credits=0.0)), 3),
        (DryRun(in_use=JournalInUseError("journal.sqlite", "a run has it")), 2),
    ],
)
def test_a_dry_run_ends_with_the_code_of_the_real_one(found: DryRun, code: int) -> None:
    assert dry_run_code(found) == code


def test_a_budget_without_a_price_is_explained_by_options() -> None:
    error = BudgetExceededError("x", model="sora-2", price=None, tasks=0, credits=0.0)
    assert budget_reason(error, Budget(max_credits=5)) == (
        "the price of sora-2 is not known, so --max-credits 5 cannot be kept: add --price sora-2=CREDITS"
    )


def test_a_price_that_was_not_reported_is_shown_as_such() -> None:
    summary = Summary(folder=Path(), models={MODEL: Bought(tasks=2, unpriced=2)})
    assert [*spent(summary, None)] == ["  spent: 2 tasks, price not reported by the service"]


def test_the_spending_names_each_model_and_what_failed_after_being_paid_for() -> None:
    sora = Bought(tasks=3, unpriced=2, credits=10.0)
    summary = Summary(
        folder=Path(),
        models={MODEL: Bought(tasks=4, unpriced=4), "sora-2": sora},
        lost={"sora-2": Bought(tasks=1, credits=10.0)},
        prices={MODEL: 3.0},
    )
    assert [*spent(summary, None)] == [
        (
            "  spent: 7 tasks, 10 credits as the service reported, 12 credits at the listed price for 4 of "
            "them, "
            "price not reported by the service for 2 of them"
        ),
        (
            "    sora-2: 3 tasks, 10 credits as the service reported, "
            "price not reported by the service for 2 of them"
        ),
        f"    {MODEL}: 4 tasks, 12 credits at the listed price",
        "  failed after being paid for: 1 task, 10 credits as the service reported",
    ]
