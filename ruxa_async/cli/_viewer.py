"""Opens files with the viewer of the platform."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ._runtime import say

__all__ = ("open_files",)

#: Seconds in which the program that starts the viewer can report that it failed; some run until it is closed.
_START_SECONDS = 2.0


def open_files(paths: list[Path]) -> None:
    """Open *paths*. A failure is reported in a sentence and raises nothing: the files are saved."""
    for path in paths:
        try:
            _open(path)
        except OSError as error:
            say(f"{path} is saved, and no viewer opened it ({error.strerror or error}): open it yourself")
            return


def _open(path: Path) -> None:
    if sys.platform == "win32":
        os.startfile(path)  # noqa: S606 - our own file
        return
    command = "open" if sys.platform == "darwin" else "xdg-open"
    null = subprocess.DEVNULL
    process = subprocess.Popen(  # noqa: S603 - our own file, without a shell
        [command, str(path.absolute())], stdin=null, stdout=null, stderr=null, start_new_session=True
    )
    try:
        code = process.wait(_START_SECONDS)
    except subprocess.TimeoutExpired:
        process.returncode = 0  # the viewer outlives this process, so nobody waits for it
        return
    if code:
        raise OSError(f"{command} ended with code {code}")
