"""``ruxa-async generate``: fields, JSON, the viewer, and purchases that cannot be saved."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ruxa_async.__main__ import main
from ruxa_async._internal.files import PartFile
from ruxa_async.cli._viewer import open_files
from ruxa_async.emulator import Emulator, EmulatorSettings, parse_fault

URL = "https://h.test/a.png"


@pytest.fixture
def settings() -> EmulatorSettings:
    return EmulatorSettings(speed=500, dialect="detailed")


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch, settings: EmulatorSettings) -> Iterator[Emulator]:
    served = Emulator(settings)
    served.start()
    monkeypatch.setenv("RUXA_API_KEY", served.key)
    monkeypatch.setenv("RUXA_BASE_URL", served.url)
    monkeypatch.delenv("RUXA_DEBUG", raising=False)
    yield served
    served.stop()


def bought(emulator: Emulator) -> list[dict[str, object]]:
    return [dict(entry.input) for entry in emulator.service.ledger.entries]


def test_json_is_one_object_with_the_files_and_the_charge(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "a cat", "--key", "cat", "--json", "--out", str(tmp_path)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    printed = json.loads(line)
    (entry,) = emulator.service.ledger.entries
    assert list(printed) == [
        "task_id", "model", "key", "state", "files", "urls", "credits", "seconds", "error",
    ]  # fmt: skip
    assert printed["task_id"] == entry.task_id
    assert (printed["model"], printed["key"]) == ("google/nano-banana", "cat")
    assert printed["state"] == "success"
    assert printed["files"] == [str(tmp_path / "cat.png")]
    assert printed["credits"] == 3
    assert printed["seconds"] > 0
    assert printed["error"] is None


def test_input_values_are_json_or_text_and_text_fields_take_any_text(
    emulator: Emulator, tmp_path: Path
) -> None:
    given = [
        "--input", "prompt=123", "--input", "aspect_ratio=16:9", "--input", f'image_input=["{URL}"]',
        "--input", 'extra={"seed": 7}',
    ]  # fmt: skip
    assert main(["generate", *given, "--out", str(tmp_path)]) == 0
    video = [
        "--model",
        "sora-2",
        "--input",
        "seconds=15",
        "--input",
        "watermark=true",
        "--input",
        "metadata=[draft",
    ]
    assert main(["generate", "waves", *video, "--out", str(tmp_path)]) == 0
    assert bought(emulator) == [
        {"prompt": "123", "aspect_ratio": "16:9", "image_input": [URL], "seed": 7},
        {"prompt": "waves", "seconds": "15", "watermark": True, "metadata": "[draft"},
    ]


def test_a_model_without_documentation_takes_any_field(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "--input",
        "strength=0.5",
        "--input",
        'style={"name": "ink"}',
        "--input",
        "id=plain",
        "--input",
        "n=NaN",
    ]
    assert main(["generate", "a cat", "--model", "lab/inks", *given, "--out", str(tmp_path)]) == 0
    assert bought(emulator) == [
        {"prompt": "a cat", "strength": 0.5, "style": {"name": "ink"}, "id": "plain", "n": "NaN"}
    ]
    assert "'lab/inks' is not known here" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--input", "aspect_ratio"], "'aspect_ratio' is not FIELD=VALUE"),
        (["--input", "=1"], "is not FIELD=VALUE"),
        (["--aspect-ratio", "1:1", "--input", "aspect_ratio=16:9"], "aspect_ratio is given twice"),
        (["--input", "prompt=a dog"], "prompt is given twice"),
        (["--input", "key=cat"], "give --key instead"),
        (["--input", "colour=red"], "'colour': google/nano-banana has no such field"),
        (["--input", "aspect_ratio=9:9"], "aspect_ratio='9:9' is not valid"),
        (["--model", "lab/inks", "--input", 'style={"a":1,}'], "--input style: not JSON"),
        (["--model", "lab/inks", "--input", 'style={"a":1,"a":2}'], "'a' stands twice"),
        (["--model", "lab/inks", "--input", f"style={'[' * 200}{']' * 200}"], "nested too deeply"),
        (["--model", " "], "--model is empty"),
    ],
)
def test_wrong_input_is_one_sentence_and_buys_nothing(
    given: list[str], said: str, emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "a cat", "--json", *given, "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert said in " ".join(printed.err.split())
    assert printed.out == ""
    assert bought(emulator) == []


def test_a_missing_prompt_is_one_sentence(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate"]) == 2
    assert "'prompt' is missing" in capsys.readouterr().err
    assert bought(emulator) == []


# ---- what is paid for and cannot be saved


def full_disk(*_: object) -> Path:
    raise OSError(errno.ENOSPC, "No space left on device", "a.png")


def test_a_purchase_that_cannot_be_written_names_the_command_that_fetches_it(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(PartFile, "place", full_disk)
        assert main(["generate", "a cat", "--json", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    said = " ".join(printed.err.split())
    (entry,) = emulator.service.ledger.entries
    assert "No space left on device" in said
    assert f"'ruxa-async status {entry.task_id} --out DIR' downloads it" in said
    assert "again" not in said, "to run it again would buy it again"
    result = json.loads(printed.out)
    assert (result["task_id"], result["state"], result["files"]) == (entry.task_id, "success", [])
    assert len(result["urls"]) == 1
    assert "No space left" in result["error"]
    assert main(["status", str(entry.task_id), "--out", str(tmp_path / "new"), "--json"]) == 0
    fetched = json.loads(capsys.readouterr().out)
    assert [Path(name).exists() for name in fetched["files"]] == [True]
    assert len(bought(emulator)) == 1


class TestFailures:
    @pytest.fixture
    def settings(self) -> EmulatorSettings:
        return EmulatorSettings(speed=500, dialect="detailed", fail_share=1)

    def test_a_failed_task_is_an_object_with_its_error(
        self, emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["generate", "a cat", "--json", "--out", str(tmp_path)]) == 1
        printed = capsys.readouterr()
        result = json.loads(printed.out)
        assert (result["state"], result["files"]) == ("fail", [])
        assert "generation failed" in result["error"]
        assert "downloads it" not in printed.err
        assert main(["status", result["task_id"], "--out", str(tmp_path)]) == 1


class TestUnknown:
    @pytest.fixture
    def settings(self) -> EmulatorSettings:
        return EmulatorSettings(speed=500, faults=(parse_fault("reset_after:create:nth=1"),))

    def test_a_create_of_unknown_outcome_is_an_object_without_a_task(
        self, emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["generate", "a cat", "--json", "--out", str(tmp_path)]) == 1
        result = json.loads(capsys.readouterr().out)
        assert (result["state"], result["task_id"]) == ("unknown", None)
        assert result["error"]


class TestSlow:
    @pytest.fixture
    def settings(self) -> EmulatorSettings:
        return EmulatorSettings(speed=0.001)

    def test_outputs_of_a_task_that_has_not_ended_are_not_there_yet(
        self, emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import httpx2

        body = {"model": "google/nano-banana", "input": {"prompt": "a cat"}}
        headers = {"Authorization": f"Bearer {emulator.key}"}
        reply = httpx2.post(f"{emulator.url}/api/v1/tasks/create", json=body, headers=headers)
        task = reply.json()["data"]["taskId"]
        assert main(["status", task, "--out", str(tmp_path)]) == 1
        assert "has not ended" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
class TestInterrupted:
    @pytest.fixture(params=[0.0, 1.5], ids=["while the task runs", "while the create is on the wire"])
    def settings(self, request: pytest.FixtureRequest) -> EmulatorSettings:
        return EmulatorSettings(speed=0.01, latency=request.param)

    def test_an_interrupted_purchase_is_an_object_with_its_task(
        self, settings: EmulatorSettings, emulator: Emulator, tmp_path: Path
    ) -> None:
        program = [sys.executable, "-m", "ruxa_async", "generate", "a cat", "--json", "--out", str(tmp_path)]
        with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            ended = time.monotonic() + 60
            counts = emulator.service.counts
            while not (counts.creates if settings.latency else counts.queries):
                assert time.monotonic() < ended
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert process.returncode == 130
        (entry,) = emulator.service.ledger.entries
        result = json.loads(out)
        assert (result["task_id"], result["state"]) == (entry.task_id, "unfinished")
        assert f"'ruxa-async status {entry.task_id} --out DIR' downloads it, once it has ended" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_standard_output_names_the_task_and_the_file(emulator: Emulator, tmp_path: Path) -> None:
    program = [
        sys.executable,
        "-m",
        "ruxa_async",
        "generate",
        "a cat",
        "--key",
        "cat",
        "--out",
        str(tmp_path),
    ]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            program, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    (entry,) = emulator.service.ledger.entries
    assert f"Task {entry.task_id} is paid for, and saved is: {tmp_path / 'cat.png'}" in done.stderr


# ---- the viewer


@pytest.fixture
def viewer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A program in place of the platform's viewer; it writes down which file it opened."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / ("open" if sys.platform == "darwin" else "xdg-open")
    program.write_text(f'#!/bin/sh\nprintf %s "$1" > "{tmp_path}/opened"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return program


@pytest.mark.skipif(sys.platform == "win32", reason="the viewer is not a program there")
def test_open_gives_the_file_to_the_viewer(emulator: Emulator, viewer: Path, tmp_path: Path) -> None:
    assert main(["generate", "a cat", "--key", "cat", "--open", "--out", str(tmp_path / "o")]) == 0
    assert (tmp_path / "opened").read_text() == str(tmp_path / "o" / "cat.png")


@pytest.mark.skipif(sys.platform == "win32", reason="the viewer is not a program there")
@pytest.mark.parametrize("broken", ["fails", "missing"])
def test_a_viewer_that_fails_does_not_fail_the_purchase(
    broken: str,
    emulator: Emulator,
    viewer: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    viewer.write_text("#!/bin/sh\nexit 3\n")
    if broken == "missing":
        viewer.unlink()
        monkeypatch.setenv("PATH", str(viewer.parent))
    assert main(["generate", "a cat", "--key", "cat", "--open", "--out", str(tmp_path / "o")]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'o' / 'cat.png'}\n"
    assert "is saved, and no viewer opened it" in " ".join(printed.err.split())


@pytest.mark.skipif(sys.platform == "win32", reason="the viewer is not a program there")
def test_a_viewer_that_stays_open_is_not_waited_for(
    viewer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = tmp_path / "stop"
    viewer.write_text(f'#!/bin/sh\nwhile [ ! -e "{stop}" ]; do sleep 0.05; done\n')
    monkeypatch.setattr("ruxa_async.cli._viewer._START_SECONDS", 0.05)
    try:
        open_files([tmp_path / "cat.png"])
    finally:
        stop.touch()
    assert capsys.readouterr().err == ""
