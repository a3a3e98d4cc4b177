"""``ruxa-async completion``: the script works in a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ruxa_async.__main__ import main

BASH = shutil.which("bash")


def script(capsys: pytest.CaptureFixture[str], shell: str) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """`ruxa-async` as an executable of this interpreter."""
    made = tmp_path / "ruxa-async"
    made.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ruxa_async "$@"\n')
    made.chmod(0o755)
    return made


@pytest.mark.skipif(BASH is None, reason="there is no bash")
def test_bash_completes_commands_options_and_values(
    tmp_path: Path, program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "complete.bash").write_text(script(capsys, "bash"))
    asked = {
        "gen": ["generate"],
        "generate --asp": ["--aspect-ratio"],
        "batch --format ": ["jsonl", "csv", "tsv", "text", "parquet"],
        "generate --model google/nano-banana-": ["google/nano-banana-edit", "google/nano-banana-pro"],
        "generate --model sora-2 --input character_f": ["character_from_task="],
        "completion f": ["fish"],
    }
    lines = ["source complete.bash"]
    for words in asked:
        quoted = " ".join(f"'{word}'" for word in ["ruxa-async", *words.split(" ")])
        lines += [f"COMP_WORDS=({quoted})", "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))"]
        lines += ["COMPREPLY=()", "_ruxa_async", 'echo "${COMPREPLY[*]}"']
    lines.append("complete -p ruxa-async")
    assert BASH is not None
    done = subprocess.run(
        [BASH, "--norc", "-c", "\n".join(lines)],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    *replies, registered = done.stdout.splitlines()
    assert "_ruxa_async" in registered
    assert {words: reply.split() for words, reply in zip(asked, replies, strict=True)} == asked


@pytest.mark.parametrize("shell", ["zsh", "fish", "powershell"])
def test_scripts_of_other_shells_name_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = script(capsys, shell)
    for command in (
        "generate",
        "batch",
        "status",
        "journal",
        "report",
        "export",
        "models",
        "doctor",
        "emulate",
    ):
        assert command in made


@pytest.mark.skipif(sys.platform == "win32", reason="there is no bash")
def test_install_writes_the_script_to_the_folder_of_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["completion", "bash", "--install"]) == 0
    printed = capsys.readouterr()
    path = Path(printed.out.strip())
    assert path.is_relative_to(tmp_path)
    assert "_ruxa_async" in path.read_text()
    assert "open a new shell" in printed.err


def test_a_shell_that_is_not_known_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert "tcsh" in capsys.readouterr().err
    for name in ("ZSH_VERSION", "BASH_VERSION", "SHELL", "FISH_VERSION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")
    code = main(["completion"])  # the shell is also looked for among the parents of this process
    assert code in (0, 2)
    assert code == 0 or "the shell is not known: give bash" in capsys.readouterr().err
