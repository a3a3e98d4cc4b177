"""A batch continues after a kill, and ``ruxa-async journal`` shows and settles creates of unknown outcome."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ruxa_async.__main__ import main
from ruxa_async.emulator import Emulator, EmulatorSettings, parse_fault
from ruxa_async.emulator._ledger import LedgerFile

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUXA_API_KEY", "RUXA_BASE_URL", "RUXA_DEBUG"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def served(monkeypatch: pytest.MonkeyPatch, *faults: str) -> Iterator[Emulator]:
    emulator = Emulator(EmulatorSettings(speed=200, faults=[parse_fault(text) for text in faults]))
    emulator.start()
    monkeypatch.setenv("RUXA_API_KEY", emulator.key)
    monkeypatch.setenv("RUXA_BASE_URL", emulator.url)
    try:
        yield emulator
    finally:
        emulator.stop()


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "ruxa_async", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def result_lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def charged(out: Path) -> list[str]:
    file = LedgerFile(out / "emulator.jsonl")
    file.close()
    return [kept.task.task_id for kept in file.tasks]


def prompts(path: Path, count: int) -> str:
    path.write_text("".join(f'{{"prompt": "prompt {n}", "key": "k{n}"}}\n' for n in range(count)))
    return str(path)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_killed_batch_continues_with_its_emulator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["batch", str(EXAMPLES / "prompts.txt"), "--emulator", "--out", str(out)]
    with started(*arguments, "--speed", "4", "--max-in-flight", "8") as process:
        while not (out / "results.jsonl").exists() or len(result_lines(out)) < 3:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    before = charged(out)
    assert 3 < len(before) < 24
    assert main([*arguments, "--speed", "100"]) in (0, 1)
    said = capsys.readouterr().err
    assert "finished before" in said
    results = result_lines(out)
    ids = [line["task_id"] for line in results]
    assert len({line["id"] for line in results}) == len(results) == 24
    unknown = [line for line in results if line["state"] == "unknown"]
    assert len({*charged(out)} - {*ids}) <= len(unknown)
    assert {*before} - {*ids} == {*charged(out)} - {*ids}
    assert len(charged(out)) == len({*charged(out)}) <= 24
    assert all((out / name).exists() for line in results for name in line["files"])


def test_second_batch_in_a_folder_is_refused_and_journal_names_the_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, source = tmp_path / "out", prompts(tmp_path / "in.jsonl", 50)
    arguments = ["batch", source, "--emulator", "--speed", "20", "--max-in-flight", "1", "--out", str(out)]
    with started(*arguments) as process:
        while not (out / "results.jsonl").exists() or not result_lines(out):
            time.sleep(0.02)
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert f"in use by process {process.pid} on " in said
        assert len(said.splitlines()) == 1
        assert main(["journal", str(out)]) == 0
        said = capsys.readouterr().out
        assert f"is in use by process {process.pid} on " in said
        assert "succeeded" in said
        assert main(["journal", str(out), "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert f"process {process.pid} on " in shown["in_use"]["holder"]
        assert shown["unknown"] == []
        assert shown["jobs"] is None
        assert shown["results"]["succeeded"] >= 1
        assert main(["journal", str(out), "--forget", "k1"]) == 2
        assert "in use by" in capsys.readouterr().err


def test_unknowns_are_shown_and_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, source = tmp_path / "out", prompts(tmp_path / "in.jsonl", 3)
    with served(monkeypatch, "reset_after:create:nth=1,3") as emulator:
        assert main(["batch", source, "--out", str(out)]) == 1
        said = capsys.readouterr().err
        assert "2 requests may have been charged" in said
        assert f"'ruxa-async journal {out} --adopt KEY TASK_ID'" in said
        assert main(["journal", str(out), "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert (shown["in_use"], shown["jobs"]["unknown"], shown["jobs"]["succeeded"]) == (None, 2, 1)
        for unknown in shown["unknown"]:
            assert unknown["id"] == unknown["key"]
            assert unknown["model"] == unknown["request"]["model"] == "google/nano-banana"
            assert unknown["prompt"] == unknown["request"]["input"]["prompt"]
            assert unknown["run"] == "batch"
            assert abs(unknown["sent_at"] - time.time()) < 600
            assert unknown["error"]
        assert main(["journal", str(out)]) == 0
        text = capsys.readouterr().out
        assert "2 unknown, perhaps charged" in text
        first, second = shown["unknown"]
        assert f"{first['key']}: google/nano-banana, sent 20" in text
        bought = next(
            each.task_id
            for each in emulator.service.ledger.entries
            if each.input["prompt"] == first["prompt"]
        )
        assert main(["journal", str(out), "--adopt", first["key"], bought, "--forget", second["key"]]) == 0
        said = capsys.readouterr().err
        assert f"{first['key']} is task {bought}" in said
        assert f"{second['key']} counts as not bought" in said
        assert main(["batch", source, "--out", str(out)]) == 0
        assert "1 was finished before, 1 picked up" in capsys.readouterr().err
        assert emulator.service.ledger.charged == 4
        assert main(["journal", str(out), "--forget", first["key"]]) == 1
        assert "not in doubt" in capsys.readouterr().err


def test_unknown_row_without_a_key_is_settled_by_the_name_that_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, source = tmp_path / "out", tmp_path / "in.txt"
    source.write_text("the same\nthe same\n")
    with served(monkeypatch, "reset_after:create:nth=1,2") as emulator:
        assert main(["batch", str(source), "--out", str(out)]) == 1
        capsys.readouterr()
        assert main(["journal", str(out), "--json"]) == 0
        names = [each["id"] for each in json.loads(capsys.readouterr().out)["unknown"]]
        assert names == [names[0], f"{names[0]}~2"]
        # With the mark, and without: a shell takes what follows it for a comment.
        command = ["journal", str(out), "--forget", names[0], "--forget", names[1].removeprefix("#")]
        assert main(command) == 0
        assert main(["batch", str(source), "--out", str(out)]) == 0
        assert emulator.service.ledger.charged == 4


def test_unknown_creates_are_sent_again_only_with_resend_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, source = tmp_path / "out", prompts(tmp_path / "in.jsonl", 3)
    with served(monkeypatch, "reset_after:create:nth=2") as emulator:
        assert main(["batch", source, "--out", str(out)]) == 1
        assert main(["batch", source, "--out", str(out), "--retry-failed"]) == 1
        assert emulator.service.ledger.charged == 3
        assert main(["batch", source, "--out", str(out), "--resend-unknown"]) == 0
        assert emulator.service.ledger.charged == 4


def test_folder_of_another_service_or_key_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, source = tmp_path / "out", prompts(tmp_path / "in.jsonl", 1)
    assert main(["batch", source, "--emulator", "--speed", "200", "--out", str(out)]) == 0
    with served(monkeypatch) as emulator:
        capsys.readouterr()
        assert main(["batch", source, "--out", str(out)]) == 2
        said = capsys.readouterr().err
        assert "--emulator" in said
        assert emulator.url in said
        assert len(said.splitlines()) == 1
        other = tmp_path / "other"
        assert main(["batch", source, "--out", str(other)]) == 0
        monkeypatch.setenv("RUXA_API_KEY", "sk-renewed")
        assert main(["batch", source, "--out", str(other)]) == 2
        assert "fingerprint" in capsys.readouterr().err
        assert main(["batch", source, "--out", str(other), "--new-key"]) == 0
        assert emulator.service.ledger.charged == 1


def test_results_of_an_older_run_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, source = tmp_path / "out", prompts(tmp_path / "in.jsonl", 1)
    out.mkdir()
    (out / "results.jsonl").write_text("")
    assert main(["batch", source, "--emulator", "--out", str(out)]) == 2
    assert "is there already, but not the journal" in capsys.readouterr().err
    assert main(["journal", str(out)]) == 2
    assert "no journal here" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["results.jsonl"]
