"""Measure the `ruxa_async` of another checkout. Import this before anything of the package."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

__all__ = ("code_of", "prepare", "use_code")


def use_code(directory: str | None) -> None:
    """Import `ruxa_async` from the checkout *directory*; None: do nothing."""
    if directory is None:
        return
    assert "ruxa_async" not in sys.modules, "the package is imported already"
    path = str(Path(directory).resolve())
    sys.path.insert(0, path)
    try:
        import ruxa_async
    finally:
        sys.path.remove(path)
    assert Path(ruxa_async.__file__).is_relative_to(path), f"there is no ruxa_async in {directory}"


def prepare(directory: str | None) -> None:
    """Use the code of *directory*, without warnings about tasks of batches that are cut off."""
    use_code(directory)
    logger = logging.getLogger("ruxa_async")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False


def code_of(directory: str | None) -> str:
    """Return the commit of the checkout *directory*, "this" if it is None."""
    if directory is None:
        return "this"
    asked = ["git", "-C", directory, "rev-parse", "--short=7", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
