"""Each block of docs/testing.md is a test module that passes."""

from __future__ import annotations

import re
from pathlib import Path

from testing.suites import run_pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
#: Of the contract, which test_aiohttp.py runs in full, the quick tests.
CHOSEN = "not TestMyTransport or refused or forgotten or unchanged or allowed"


def test_every_block_is_a_module_whose_tests_pass(tmp_path: Path) -> None:
    for number, code in enumerate(BLOCKS):
        (tmp_path / f"test_block_{number}.py").write_text(code, encoding="utf-8")
    said = run_pytest(tmp_path, "--strict-markers", "-k", CHOSEN)
    results = re.findall(r"^test_block_(\d)\.py::\S+ (\w+)", said, re.MULTILINE)
    assert {result for _, result in results} == {"PASSED"}, said
    assert {int(number) for number, _ in results} == {*range(len(BLOCKS))}
    assert len(BLOCKS) == PAGE.count("```python") == 8
