"""Standard output holds nothing but results, with a fast, slow or absent reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in {"RUXA_API_KEY", "FORCE_COLOR", "TTY_COMPATIBLE"}
}


def batch(out: Path, *options: str, source: Path = EXAMPLES / "prompts.txt") -> list[str]:
    program = [sys.executable, "-m", "ruxa_async", "batch", str(source)]
    return [*program, "--emulator", "--speed", "100", "--out", str(out), *options]


def videos(out: Path, *options: str, source: Path) -> list[str]:
    """Return a batch of what the emulator makes fastest: it draws each picture, and keeps one video."""
    program = [sys.executable, "-m", "ruxa_async", "batch", str(source), "--model", "sora-2"]
    return [*program, "--emulator", "--speed", "1000", "--out", str(out), *options]


def done(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    options.setdefault("stdout", PIPE)
    return subprocess.run(command, stderr=PIPE, env=ENVIRONMENT, check=False, timeout=100, **options)


def test_json_lines_are_those_of_the_file_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("prompt,key,aspect_ratio\na cat,cat,16:9\nbad,,9:9\n\u05e9\u05dc\u05d5\u05dd,,\n")
    ran = done(batch(tmp_path / "out", "--json-lines", source=source))
    assert ran.returncode == 1
    assert sorted(ran.stdout.splitlines()) == sorted(
        (tmp_path / "out" / "results.jsonl").read_bytes().splitlines()
    )
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert {row["line"]: row["state"] for row in rows} == {2: "succeeded", 3: "invalid", 4: "succeeded"}
    assert b"3 rows in" in ran.stderr
    # Results of earlier runs are printed again, so that a reader gets all of them.
    again = done(batch(tmp_path / "out", "--json-lines", source=source))
    assert sorted(json.loads(line)["line"] for line in again.stdout.splitlines()) == [2, 3, 4]


def test_a_pipe_gets_no_control_characters(tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("\x1b[31mred \u202egnp.exe\n" + "x\n" * 3)
    ran = done(batch(tmp_path / "out", source=source))
    assert ran.returncode == 0
    assert b"\x1b" not in ran.stdout + ran.stderr
    assert b"\r" not in ran.stderr


def test_paths_are_printed_when_they_are_asked_for_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("prompt,key,aspect_ratio\na cat,cat,16:9\nbad,,9:9\na dog,,\n")
    ran = done(batch(tmp_path / "out", "--paths", source=source))
    printed = {Path(line) for line in ran.stdout.decode().splitlines()}
    assert printed == {tmp_path / "out" / "cat.png", tmp_path / "out" / "0002-a-dog.png"}
    assert all(path.is_file() for path in printed)
    ran = done(batch(tmp_path / "out", "--paths", "--json-lines"))
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert b"give --json-lines or --paths, not both" in ran.stderr


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_the_summary_is_one_block_and_no_line_is_cut_off(tmp_path: Path, columns: str) -> None:
    source = tmp_path / "in.csv"
    source.write_text("prompt,aspect_ratio\na cat,16:9\nx,9:9\n")
    command = batch(tmp_path / "out", source=source)
    ran = subprocess.run(
        command, capture_output=True, env={**ENVIRONMENT, "COLUMNS": columns}, check=False, timeout=100
    )
    assert ran.stdout == b""
    lines = ran.stderr.decode().splitlines()
    begins = next(place for place, line in enumerate(lines) if line.startswith("ruxa-async: 2 rows in"))
    block = lines[begins + 1 :]
    assert block
    assert all(line.startswith("  ") for line in block)
    assert block[-1] == f"  report: {tmp_path / 'out' / 'report.html'}"
    assert "…" not in ran.stderr.decode()


def test_quiet_shows_only_what_is_left_to_do(tmp_path: Path) -> None:
    ran = done(batch(tmp_path / "good", "--quiet"))
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    source = tmp_path / "in.csv"
    source.write_text("prompt,aspect_ratio,colour\na cat,16:9,red\nx,9:9,red\n")
    ran = done(batch(tmp_path / "bad", "--quiet", source=source))
    assert ran.returncode == 1
    lines = ran.stderr.decode().splitlines()
    assert lines[0].startswith("ruxa-async: line 3: aspect_ratio='9:9'")
    assert lines[1:] == [f"ruxa-async: 1 of 2 rows failed; {tmp_path / 'bad' / 'results.jsonl'} says why"]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes differ there")
def test_a_reader_that_leaves_stops_the_batch_which_can_be_continued(tmp_path: Path) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out"
    source.write_text("".join(f"prompt {n}\n" for n in range(400)))
    options = ("--json-lines", "--max-in-flight", "10")
    with subprocess.Popen(
        videos(out, *options, source=source), stdout=PIPE, stderr=PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read().decode()
    assert process.returncode == 130
    assert "the reader of standard output left" in said
    assert "Traceback" not in said
    assert json.loads((out / "runs.jsonl").read_text())["ending"] == "interrupted"
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert len(rows) < 400
    bought = {row["task_id"] for row in rows}
    ran = done(videos(out, "--quiet", source=source))
    assert ran.returncode == 0
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert len(rows) == len({row["task_id"] for row in rows}) == 400
    assert bought <= {row["task_id"] for row in rows}


@pytest.mark.skipif(sys.platform == "win32", reason="pipes differ there")
def test_a_batch_that_prints_no_results_needs_no_reader(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = done(batch(tmp_path / "out"), stdout=writing)
    finally:
        os.close(writing)
    assert ran.returncode == 0
    assert b"24 succeeded" in ran.stderr
    assert b"Broken pipe" not in ran.stderr
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_standard_output_ends_the_batch_with_its_cause(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = done(batch(tmp_path / "out", "--json-lines"), stdout=full)
    assert ran.returncode == 1
    assert b"standard output cannot be written to: No space left on device" in ran.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="pipes differ there")
def test_a_slow_reader_does_not_delay_purchases_and_downloads(tmp_path: Path) -> None:
    """A pipe holds 64 kB; everything is bought and on the disk before the reader takes a byte."""
    source, out = tmp_path / "in.txt", tmp_path / "out"
    source.write_text("".join(f"{n} {'long ' * 300}\n" for n in range(120)))
    with subprocess.Popen(
        videos(out, "--json-lines", source=source), stdout=PIPE, stderr=DEVNULL, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        ended = time.monotonic() + 90
        while sum(1 for _ in out.glob("*.mp4")) < 120:
            assert time.monotonic() < ended
            time.sleep(0.1)
        assert len(process.stdout.read().splitlines()) == 120
    assert process.returncode == 0
