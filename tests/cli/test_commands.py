"""The commands, run against an emulator."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ruxa_async.__main__ import main
from ruxa_async.cli._runtime import exit_code_of
from ruxa_async.emulator import Emulator, EmulatorSettings

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUXA_API_KEY", "RUXA_BASE_URL", "RUXA_DEBUG"):
        monkeypatch.delenv(name, raising=False)


def result_lines(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_batch_makes_pictures_from_prompts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert (
        main(["batch", str(EXAMPLES / "prompts.txt"), "--emulator", "--speed", "100", "--out", str(out)]) == 0
    )
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("ruxa-async: 24 rows in ") == 1  # on a slow machine, lines of progress precede it
    assert said.err.splitlines()[-2:] == [
        f"  results: {out / 'results.jsonl'}",
        f"  report: {out / 'report.html'}",
    ]
    assert "spent: 24 tasks, 72 credits as the service reported" in said.err
    assert (out / "0008-a-sleepy-red-fox-curled-up-on-a-stack-of-old-atlases.png").is_file()
    assert all(line["duration"] and line["credits"] for line in result_lines(out))
    assert "24 succeeded, 0 failed" in said.err
    assert len(list(out.glob("*.png"))) == len(result_lines(out)) == 24
    assert "\x1b" not in said.err


def test_files_are_named_by_a_template(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    fast = ["--emulator", "--speed", "500", "--out", str(out)]
    assert main(["generate", "a cat", "--key", "cat", "--name", "{model} {key} {n:02}", *fast]) == 0
    assert [path.name for path in out.iterdir()] == ["google-nano-banana cat 01.png"]
    source = tmp_path / "in.csv"
    source.write_text("prompt,key\na fox,fox\n")
    assert main(["batch", str(source), "--name", "{key}-{n}", *fast]) == 0
    assert (out / "fox-1.png").exists()
    capsys.readouterr()
    for command in (["generate", "a cat"], ["batch", str(source)]):
        assert main([*command, "--name", "../{key}", *fast]) == 2
        assert "--name '../{key}' cannot name files" in capsys.readouterr().err


def test_batch_generates_the_example_of_every_model(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert (
        main(["batch", str(EXAMPLES / "prompts.jsonl"), "--emulator", "--speed", "500", "--out", str(out)])
        == 0
    )
    assert len(list(out.glob("*.mp4"))) == 2
    assert (out / "fox.jpg").exists()


def test_batch_skips_bad_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.csv"
    source.write_text("prompt,aspect_ratio\na cat,16:9\n,\nx,9:9\n")
    arguments = ["batch", str(source), "--emulator", "--speed", "200", "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "line 3: prompt=''" in said
    assert "line 4: aspect_ratio='9:9'" in said
    assert "2 x bad row" in said
    assert main(arguments) == 1
    assert "1 was finished before" in capsys.readouterr().err
    arguments[-1] = str(tmp_path / "strict")
    assert main([*arguments, "--strict"]) == 2
    assert "stopped at line 3" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_batch_of_an_empty_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    source = tmp_path / "in.txt"
    source.write_text("\n")
    assert main(["batch", str(source), "--emulator", "--out", str(tmp_path / "out"), *more]) == 2
    assert f"{source} holds no rows, so there is nothing to generate" in capsys.readouterr().err.replace(
        "\n", " "
    )
    assert not (tmp_path / "out").exists()


def test_an_unknown_model_is_warned_about_before_anything_is_bought(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.txt"
    source.write_text("a cat\na dog\n")
    given = ["--model", "nano-banana", "--out", str(tmp_path / "out")]
    served = ["--emulator", "--speed", "500"]
    for command in (
        ["batch", str(source), *given, *served, "--quiet"],
        ["batch", str(source), *given, "--dry-run"],
        ["generate", "a cat", *given, *served],
    ):
        main(command)
        assert capsys.readouterr().err.count("did you mean google/nano-banana?") == 1


def test_batch_reads_a_limited_number_of_rows(tmp_path: Path) -> None:
    arguments = ["--emulator", "--speed", "200", "--out", str(tmp_path / "out"), "--limit", "3"]
    assert main(["batch", str(EXAMPLES / "prompts.txt"), *arguments]) == 0
    assert len(result_lines(tmp_path / "out")) == 3


def test_account_without_credits_halts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator = Emulator(EmulatorSettings(speed=100, credits=6))
    emulator.start()
    try:
        monkeypatch.setenv("RUXA_API_KEY", emulator.key)
        monkeypatch.setenv("RUXA_BASE_URL", emulator.url)
        assert main(["batch", str(EXAMPLES / "prompts.txt"), "--out", str(tmp_path / "out")]) == 3
        assert "2 succeeded" in capsys.readouterr().err
        assert main(["generate", "x", "--out", str(tmp_path)]) == 3
        assert "credits" in capsys.readouterr().err
        monkeypatch.setenv("RUXA_API_KEY", "sk-canary-wrong")
        assert main(["generate", "x", "--out", str(tmp_path)]) == 3
        assert "canary" not in capsys.readouterr().err
    finally:
        emulator.stop()


def test_generate_prints_where_the_picture_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--emulator",
        "--speed",
        "100",
        "--out",
        str(tmp_path),
        "--key",
        "cat",
        "--aspect-ratio",
        "16:9",
    ]
    assert main(["generate", "a cat", *arguments]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'cat.png'}\n"
    assert (tmp_path / "cat.png").exists()


def test_status_shows_one_task(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    emulator = Emulator(EmulatorSettings(speed=100))
    emulator.start()
    try:
        monkeypatch.setenv("RUXA_API_KEY", emulator.key)
        monkeypatch.setenv("RUXA_BASE_URL", emulator.url)
        assert main(["generate", "x", "--out", str(tmp_path)]) == 0
        task_id = emulator.service.ledger.entries[0].task_id
        capsys.readouterr()
        assert main(["status", task_id]) == 0
        assert re.match(rf"{task_id}: success.*\nhttp", capsys.readouterr().out)
        assert main(["status", task_id, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["state"] == "success"
        assert main(["status", "task_missing"]) == 1
        assert "Traceback" not in capsys.readouterr().err
    finally:
        emulator.stop()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["batch"], "--out"),
        (["batch", "--out", "o", "--emulator"], "there is no INPUT"),
        (["bogus"], "bogus"),
        (["batch", "x.txt"], "--out"),
        (["batch", "missing.txt", "--out", "o", "--emulator"], "missing.txt cannot be read: No such file"),
        (["batch", ".", "--out", "o", "--emulator"], "cannot be read"),
        (["batch", "x.txt", "--out", "o", "--max-in-flight", "0"], "must be"),
        (["batch", "x.txt", "--out", "o", "--limit", "many"], "many"),
        (["batch", "x.txt", "--out", "o", "--format", "xml"], "xml"),
        (["batch", "x.txt", "--out", "o", "--api-key", "sk"], "--api-key"),
        (["generate", "x", "--aspect-ratio", "9:9"], "aspect_ratio='9:9'"),
        (["generate", "  "], "prompt="),
        (["generate", "x"], "RUXA_API_KEY"),
        (["status", "x"], "RUXA_API_KEY"),
    ],
)
def test_wrong_usage_is_one_sentence(
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert said.lower() in err.lower()
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [["--help"], ["batch", "--help"], ["generate", "--help"], ["status", "--help"]]
)
def test_help_is_on_standard_output(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert "Usage: ruxa-async" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        "batch",
        "completion",
        "doctor",
        "emulate",
        "export",
        "generate",
        "journal",
        "models",
        "report",
        "status",
    ],
)
def test_help_of_an_option_is_one_paragraph_that_ends_with_a_period(command: str) -> None:
    program = [sys.executable, "-m", "ruxa_async", command, "--help"]
    wide = {**os.environ, "COLUMNS": "2000", "PYTHONUTF8": "1"}  # no text is so long that it is wrapped
    done = subprocess.run(program, capture_output=True, encoding="utf-8", env=wide, check=True, timeout=60)
    rows = [line.strip("│ ") for line in done.stdout.splitlines() if line.startswith("│")]
    assert rows
    for row in rows:
        assert re.match(r"(\* +)?(--[a-z]|[A-Z])", row)
        assert re.sub(r"( \[[^]]*\])+$", "", row).endswith((".", "hint=2", "burst=10"))


def test_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"ruxa-async \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_missing_extra_is_named() -> None:
    program = (
        "import sys; sys.modules['cyclopts'] = None\n"
        "from ruxa_async.__main__ import main\n"
        "sys.exit(main(['--version']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'ruxa-async[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_entry_point_imports_no_dependency() -> None:
    program = "import sys, ruxa_async.__main__; print(*(m for m in ('cyclopts', 'rich', 'aiohttp', 'anyio') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_batch_records_every_task_that_is_paid_for(
    tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    source = tmp_path / "in.txt"
    source.write_text("a prompt\n" * 500)
    arguments = [
        "batch",
        str(source),
        "--emulator",
        "--speed",
        "1",
        "--max-in-flight",
        "9",
        "--out",
        str(out),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "ruxa_async", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:  # the first plain line of progress: by then tasks are running
        if "running" in line:
            break
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping" in err
    assert "paid for and not ended yet" in err
    assert json.loads((out / "runs.jsonl").read_text())["ending"] == "interrupted"
    assert "Unfinished</bdi>" in (out / "report.html").read_text()
    assert "Traceback" not in err
    unfinished = [line for line in result_lines(out) if line["state"] == "unfinished"]
    assert len(unfinished) == 9
    assert all(line["task_id"] for line in unfinished)


def test_a_full_disk_is_reported_with_the_file_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "out/results.jsonl")

    assert exit_code_of(work) == 1
    assert (
        "out/results.jsonl: the disk is full: free some space and run the same again"
        in capsys.readouterr().err
    )


def test_old_journal_beside_newer_results_is_refused_before_anything_is_bought(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = [
        "batch",
        str(EXAMPLES / "prompts.txt"),
        "--emulator",
        "--speed",
        "100",
        "--out",
        str(out),
        "--limit",
    ]
    assert main([*command, "2"]) == 0
    old = (out / "journal.sqlite").read_bytes()
    assert main([*command, "4"]) == 0
    (out / "journal.sqlite").write_bytes(old)
    ledger = (out / "emulator.jsonl").read_bytes()
    capsys.readouterr()
    assert main([*command, "6"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "it knows 2 rows, and results.jsonl says that 4 were bought" in said
    assert (out / "emulator.jsonl").read_bytes() == ledger


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc")
def test_a_results_file_on_a_full_disk_ends_the_run_and_every_paid_task_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def full(file: int) -> None:
        if Path(f"/proc/self/fd/{file}").readlink().name == "results.jsonl":
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    out = tmp_path / "out"
    command = [
        "batch",
        str(EXAMPLES / "prompts.txt"),
        "--emulator",
        "--speed",
        "20",
        "--limit",
        "3",
        "--out",
        str(out),
    ]
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert main(command) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"{out / 'results.jsonl'}: the disk is full" in said
    assert main(command) == 0
    assert len(list(out.glob("*.png"))) == 3
    kept = [json.loads(line) for line in (out / "emulator.jsonl").read_text().splitlines()]
    charged = {line["task_id"]: line["input"]["prompt"] for line in kept if "task_id" in line}
    assert len(charged) == 3
    named = re.findall(r"task (\S+) was or may have been charged: (.{20})", said)
    assert named
    assert all(charged[task_id].startswith(prompt) for task_id, prompt in named)


# ---- output folders and files


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/missing"])
def test_an_output_folder_that_cannot_be_written_to_is_refused_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    (tmp_path / "file").write_text("kept")
    source = tmp_path / "in.txt"
    source.write_text("a cat\n")
    emulator = Emulator(EmulatorSettings(speed=500))
    emulator.start()
    try:
        monkeypatch.setenv("RUXA_API_KEY", emulator.key)
        monkeypatch.setenv("RUXA_BASE_URL", emulator.url)
        for command in (["generate", "a cat"], ["batch", str(source)]):
            assert main([*command, "--out", str(tmp_path / out)]) == 2
            assert re.search(r"is not a folder|cannot be written to", capsys.readouterr().err)
    finally:
        emulator.stop()
    assert emulator.service.counts.creates == 0
    assert (tmp_path / "file").read_text() == "kept"


def test_an_output_folder_on_a_full_disk_is_refused_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: object, __: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ruxa_async._internal.files.PartFile._append", full)
    assert main(["generate", "a cat", "--out", str(tmp_path / "out"), "--emulator"]) == 2
    assert "cannot be written to: No space left" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("ledger", ["file/below", "/proc/missing/ledger", "."])
def test_a_ledger_that_cannot_be_written_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ledger: str
) -> None:
    (tmp_path / "file").write_text("kept")
    assert main(["emulate", "--port", "0", "--ledger", str(tmp_path / ledger)]) == 1
    assert "cannot be kept" in capsys.readouterr().err


def test_a_ledger_of_deep_json_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ledger").write_text("[" * 100_000 + "\n")
    assert main(["emulate", "--port", "0", "--ledger", str(tmp_path / "ledger")]) == 1
    assert "is no ledger" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["99999", "-1"])
def test_a_port_out_of_range_is_reported(capsys: pytest.CaptureFixture[str], port: str) -> None:
    assert main(["emulate", "--port", port]) == 2
    assert "for --port" in capsys.readouterr().err


def test_a_base_url_with_a_bad_port_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUXA_API_KEY", "sk-canary")
    monkeypatch.setenv("RUXA_BASE_URL", "http://127.0.0.1:99999")
    source = tmp_path / "in.txt"
    source.write_text("a cat\n")
    out = ["--out", str(tmp_path)]
    for command in (["generate", "x", *out], ["batch", str(source), *out], ["status", "task_1"]):
        assert main(command) == 2
        assert "Port out of range" in capsys.readouterr().err


def test_commands_without_standard_input_or_output_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    source = tmp_path / "in.txt"
    source.write_text("a cat\n")
    served = ["--out", str(out), "--emulator", "--speed", "500"]
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdin", None)
        assert main(["batch", "-", *served]) == 2
        assert "no standard input" in capsys.readouterr().err
        patched.setattr(sys, "stdout", None)
        assert main(["batch", str(source), *served]) == 0  # its results are in the folder
        for command in (["journal", str(out)], ["report", str(out)]):
            assert main(command) == 2
            assert "no standard output" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_a_full_standard_output_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text("")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ruxa_async", "report", str(tmp_path)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "ruxa-async: standard output cannot be written to: No space left on device\n"


def test_results_with_strange_ids_and_deep_json_are_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    source = tmp_path / "in.txt"
    source.write_text("a cat\n")
    command = ["batch", str(source), "--out", str(out), "--emulator", "--speed", "500"]
    assert main(command) == 0
    strange = ['{"id": [1], "task_id": "t"}', '{"id": {}}', "[" * 100_000, "17", '{"key": [1], "state": "x"}']
    with (out / "results.jsonl").open("a") as file:
        file.write("\n".join(strange) + "\n")
    for again in (["journal", str(out)], ["report", str(out)], [*command, "--dry-run"], command):
        assert main(again) == 0
        assert "is a bug" not in capsys.readouterr().err
    assert [line["state"] for line in result_lines(out)] == ["succeeded"]
