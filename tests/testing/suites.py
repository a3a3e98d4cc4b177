"""Run pytest on modules of their own, as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ("run_pytest",)

ROOT = Path(__file__).parents[2]


def run_pytest(folder: Path, *options: str, autoload: bool = False) -> str:
    """Run pytest in *folder* with warnings as errors; return its output.

    Without *autoload* only the plugins in question are loaded, which takes a third of the time.
    """
    if not autoload:
        options = (*options, "--disable-plugin-autoload", "-p", "anyio", "-p", "ruxa_async")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-W", "error", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.stderr == ""
    return done.stdout
