"""What Windows does differently, as far as it can be imitated elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ruxa_async.batch._layout import RESULTS
from ruxa_async.batch._result_line import Result
from ruxa_async.batch._results_file import ResultsFile

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals cannot be sent there")

WITHOUT_SIGNALS = """
import asyncio, sys

def add_signal_handler(*_):
    raise NotImplementedError  # as the event loops of Windows

asyncio.SelectorEventLoop.add_signal_handler = add_signal_handler
from ruxa_async.__main__ import main
sys.argv[1:] = ["emulate", "--port", "0"]
sys.exit(main())
"""

OPEN_FILES = Path("/proc/self/fd")


def test_the_emulator_ends_with_its_summary_where_event_loops_receive_no_signals() -> None:
    process = subprocess.Popen([sys.executable, "-c", WITHOUT_SIGNALS], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        greeting = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert "export RUXA_BASE_URL=" in greeting[1]
    assert process.returncode == 0
    assert "Charged 0 tasks" in rest


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="needs the list of open files that Linux has")
async def test_the_results_are_closed_before_they_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def replace_closed(self: Path, target: Any) -> Path:
        opened = {os.path.realpath(each) for each in OPEN_FILES.iterdir()}
        if os.path.realpath(target) in opened:
            raise PermissionError(13, "the file is open", str(target))  # as Windows
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_closed)

    def result(state: Any) -> Result:
        return Result(index=0, line=1, id="a", state=state)

    async with ResultsFile(tmp_path, resumable=True) as file:
        file.add(result("unfinished"))
        file.add(result("succeeded"))
    assert len((tmp_path / RESULTS).read_text(encoding="utf-8").splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [RESULTS]
