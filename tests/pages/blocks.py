"""The pages of the documentation, and what their blocks need to run."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from processes import free_port
from sybil import Document, Example, Region
from sybil.parsers.markdown import CodeBlockParser, SkipParser

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

README = ROOT / "README.md"

#: All pages of the site, and README.md.
PAGES = [README, *sorted(DOCS.rglob("*.md"))]

#: Languages of blocks that are run, and of those that hold no program.
RUN = ("python", "sh")
SHOWN = ("html", "ini", "json", "jsonl", "text", "toml")

_FENCE = re.compile(r"^ *```([^\n]*)\n.*?^ *```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def languages(page: Path) -> list[str]:
    """Return what stands behind the opening fence of each block of *page*."""
    return _FENCE.findall(page.read_text(encoding="utf-8"))


class Blocks:
    """Runs the blocks of one page, in order, with the same names and in one event loop."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._parsers: tuple[Callable[[Document], Iterable[Region]], ...] = (
            SkipParser(),
            CodeBlockParser("python", self._run_python),
            CodeBlockParser("sh", _run_commands),
        )

    def examples(self, page: Path) -> Iterator[Example]:
        """Yield the blocks of *page*, and the comments that say which are not run."""
        return Document.parse(str(page), *self._parsers).examples()

    def _run_python(self, example: Example) -> None:
        """Run a block as a program; it may also await at the top, as a cell of a notebook does."""
        source = _on_this_machine("\n" * (example.line + example.parsed.line_offset) + example.parsed)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(source, example.path, "exec", flags=flags, dont_inherit=True)
        names: dict[str, Any] = example.namespace
        names["__name__"] = "__main__"
        waiting = eval(code, names)
        if inspect.iscoroutine(waiting):
            self._runner.run(waiting)


def _on_this_machine(source: str) -> str:
    """Return *source* with a free port, to which the public address of the page leads too."""
    port = str(free_port())
    return source.replace("https://example.org/", f"http://127.0.0.1:{port}/").replace("8080", port)


def _run_commands(example: Example) -> None:
    """Run the lines of a shell block one after the other; the first that fails ends it."""
    path = os.pathsep.join(
        [sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", example.parsed],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, f"{example.parsed}\n{ran.stdout}{ran.stderr}"
