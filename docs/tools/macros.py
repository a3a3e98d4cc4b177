"""What the site takes from the repository when it is built, in the pages that zensical.toml lists."""  # noqa: INP001 - not a package: zensical imports it by its path

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).parents[2]

_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


class _Pages(Protocol):
    def macro(self, function: Callable[..., str]) -> object: ...


def define_env(env: _Pages) -> None:
    """Give the pages their macros; zensical calls this."""
    for macro in (command_line, example, repository_page):
        env.macro(macro)


def command_line() -> str:
    """Return every command and option of ``ruxa-async``, from the texts of ``--help``."""
    from ruxa_async.cli._app import app  # noqa: PLC0415 - the command line has no other

    _, first, commands = app.generate_docs().partition("\n## ruxa-async ")
    return re.sub(r"^```console$", "```text", first + commands, flags=re.MULTILINE)


def example(name: str) -> str:
    """Return the program *name* of ``examples/`` as a block of code."""
    return f"```python\n{(ROOT / 'examples' / name).read_text(encoding='utf-8')}```\n"


def repository_page(name: str) -> str:
    """Return the page *name* of the repository, with links as seen from ``docs/``."""

    def link(found: re.Match[str]) -> str:
        text, target = found.groups()
        if "://" in target:
            return found[0]
        inside = target.removeprefix("docs/")
        return text if inside == target else f"[{text}]({inside})"

    return _LINK.sub(link, (ROOT / name).read_text(encoding="utf-8"))
