"""Each block of docs/sync.md runs."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ruxa_async.emulator import Emulator, EmulatorSettings

PAGE = Path(__file__).parent.parent.parent / "docs" / "sync.md"
BLOCKS = re.findall(
    r"^## (.+?)\n|^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)


def blocks() -> Iterator[tuple[str, str]]:
    """Give each block with the heading that it stands under."""
    heading = ""
    for title, code in BLOCKS:
        heading = title or heading
        if code:
            yield heading, code


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.chdir(tmp_path)
    with Emulator(EmulatorSettings(speed=50)) as emulator:
        monkeypatch.setenv("RUXA_API_KEY", emulator.key)
        monkeypatch.setenv("RUXA_BASE_URL", emulator.url)
        yield emulator


def run(code: str) -> dict[str, object]:
    names: dict[str, object] = {"__name__": "__main__"}
    compiled = compile(code, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    started = eval(compiled, names)
    if inspect.iscoroutine(started):
        asyncio.run(started)
    return names


@pytest.mark.parametrize(("heading", "code"), [*blocks()])
def test_a_block_runs(
    heading: str, code: str, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run(code)
    bought = len(emulator.service.ledger.entries)
    assert bought == {"Script": 4, "Threads": 4, "Notebook": 1, "Ctrl-C": 20}[heading]
    if heading == "Threads":
        names["client"]().close()  # type: ignore[operator]
    if heading in ("Script", "Notebook"):
        assert len([*Path("out").iterdir()]) == bought
    if heading == "Ctrl-C":
        assert capsys.readouterr().out.count("True") == 20


def test_every_block_of_the_page_is_found() -> None:
    assert [heading for heading, _ in blocks()] == ["Script", "Threads", "Notebook", "Notebook", "Ctrl-C"]
    assert PAGE.read_text(encoding="utf-8").count("```python") == 5
