"""The README's commands and example are those that are run and checked, and the architecture names what exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ruxa_async.emulator import Emulator, EmulatorSettings

ROOT = Path(__file__).parent.parent
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = FENCED.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def example() -> str:
    """Return the one Python block."""
    (code,) = [code for language, code in BLOCKS if language == "python"]
    return str(code)


def test_the_commands_that_ci_runs_come_first() -> None:
    (_, pictures), (_, tests) = BLOCKS[:2]
    assert len(pictures.splitlines()) == len(tests.splitlines()) == 1
    assert "ruxa-async batch examples/prompts.txt --emulator --out out" in pictures
    assert "pytest" in tests


def test_the_type_checkers_see_the_example() -> None:
    docstring, _, checked = (ROOT / "tests/typing/readme.py").read_text(encoding="utf-8").partition("\n\n")
    assert docstring.startswith('"""The example of README.md')
    assert checked == example()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_the_example_saves_pictures_and_shows_failures(tmp_path: Path) -> None:
    prompts = [f"prompt {n} é" for n in range(8)]
    (tmp_path / "prompts.txt").write_text("\n  ".join(["", *prompts, " \t", ""]), encoding="utf-8")
    (tmp_path / "example.py").write_text(example(), encoding="utf-8")
    async with Emulator(EmulatorSettings(speed=100, fail_share=0.5, seed=1)) as emulator:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RUXA_")}
        service = {"RUXA_API_KEY": emulator.key, "RUXA_BASE_URL": emulator.url}
        ran = subprocess.run(
            [sys.executable, "-W", "error", "example.py"],
            cwd=tmp_path,
            env={**kept, **service, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=60,
        )
        bought = sorted(entry.input["prompt"] for entry in emulator.service.ledger.entries)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""  # a file that is not closed would be named here
    assert bought == prompts
    said = ran.stdout.splitlines()
    paths = {line for line in said if (tmp_path / line).is_file()}
    failed = {line.partition(": ")[0] for line in said} - paths
    assert failed < {*prompts}
    assert len(failed) + len(paths) == len(said) == len(prompts)
    assert failed
    assert {path.name for path in (tmp_path / "out").iterdir()} == {Path(path).name for path in paths}
    assert all((tmp_path / path).read_bytes()[:4] == b"\x89PNG" for path in paths)


PLACE = re.compile(r"`([\w/]+\.py)`(?:: ((?:`[\w.]+`(?:, )?)+))?")


def test_places_that_the_architecture_names_exist() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    _, _, table = page.partition("## Where to change what")
    places = PLACE.findall(table)
    assert len(places) >= 20
    for path, names in places:
        code = (ROOT / "ruxa_async" / path).read_text(encoding="utf-8")
        for name in re.findall(r"`([\w.]+)`", names):
            for part in name.split("."):
                assert re.search(
                    rf"^\s*(?:(?:async )?def|class) {part}\b|^{part}\b.* = ", code, re.MULTILINE
                ), (
                    path,
                    name,
                )


def test_modules_that_the_architecture_names_exist() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    before, _, _ = page.partition("## Where to change what")
    for path in re.findall(r"`(\w+/[\w/]*\.py)`", before):
        assert (ROOT / "ruxa_async" / path).exists() or (ROOT / path).exists(), path
