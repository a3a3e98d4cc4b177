"""The result of one check of ``ruxa-async doctor``, and the checks of this machine."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal, TypeAlias

from attrs import frozen

from ruxa_async import __version__
from ruxa_async._client.config import resolve_key
from ruxa_async.errors import ConfigurationError

__all__ = ("Finding", "check_folder", "check_key", "check_versions")

State: TypeAlias = Literal["ok", "warning", "failed", "skipped"]

#: Bytes of free space below which a folder fails, and below which it is warned about.
_TOO_LITTLE = 100 * 2**20
_LITTLE = 2**30
#: Characters of the shortest key that is plausible; shorter ones are usually cut off when pasted.
_SHORT_KEY = 16


@frozen
class Finding:
    """What one check found, in a sentence, and what to do about it."""

    check: str
    state: State
    message: str
    advice: str = ""

    def line(self) -> str:
        """Return the line that is printed."""
        return f"{self.state:8} {self.check:10} {self.message}{f'. {self.advice}' if self.advice else ''}"


def check_versions() -> Finding:
    """Return the versions of this package, of Python and of the installed dependencies."""
    names = {re.split(r"[^\w-]", text)[0] for text in metadata.requires("ruxa-async") or ()}
    found = []
    for name in sorted(names, key=str.lower):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("versions", "ok", ", ".join([f"ruxa-async {__version__}", python, *found]))


def check_key() -> tuple[str | None, Finding]:
    """Return the key, None if it cannot be used, and what is to say about its shape without showing it."""
    try:
        key = resolve_key(None)
    except ConfigurationError as error:
        missing = not os.environ.get("RUXA_API_KEY", "").strip()
        advice = (
            "Set it: export RUXA_API_KEY=sk-..." if missing else "Copy it again, without quotes or spaces"
        )
        return None, Finding("key", "failed", "RUXA_API_KEY is not set" if missing else str(error), advice)
    shape = f"RUXA_API_KEY holds {len(key)} characters"
    if key[0] in "'\"" or key[-1] in "'\"":
        return key, Finding("key", "failed", f"{shape} and a quotation mark", "Set it without the quotes")
    if not key.startswith("sk-"):
        advice = "Keys of Ruxa begin so: check that it is the right one"
        return key, Finding("key", "warning", f"{shape} and does not begin with sk-", advice)
    if len(key) < _SHORT_KEY:
        return key, Finding("key", "warning", f"{shape}, which is short", "Check that it was pasted whole")
    return key, Finding("key", "ok", f"{shape} and begins with sk-")


def check_folder(name: str, folder: Path) -> Iterator[Finding]:
    """Yield whether *folder* can be written to, its free space, and whether links and a journal work in it.

    All files are made in a temporary folder inside it. Of a folder that does not exist, the nearest existing
    parent is checked.
    """
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    shown = str(place) if place == folder.absolute() else f"{place}, where {folder} would be created,"
    try:
        with tempfile.TemporaryDirectory(prefix=".ruxa-doctor-", dir=place) as probe:
            linked = _links(Path(probe))
            locked = _locks(Path(probe))
        free = shutil.disk_usage(place).free
    except OSError as error:
        reason = error.strerror or str(error)
        yield Finding(name, "failed", f"{shown} cannot be written to: {reason}", "Give another folder")
        return
    space: State = "failed" if free < _TOO_LITTLE else "warning" if free < _LITTLE else "ok"
    advice = "" if space == "ok" else "Free some space: outputs that cannot be saved stay paid for"
    yield Finding(name, space, f"{shown} can be written to; {free / 2**30:,.1f} GiB are free", advice)
    if linked is not None:
        yield Finding(name, "warning", f"{shown} has no hard links ({linked})", _NO_LINKS)
    if locked is not None:
        yield Finding(name, "failed", f"{shown} cannot hold a journal ({locked})", _NO_JOURNAL)


_NO_LINKS = "Files are reserved and renamed instead; a local disk is safer"
_NO_JOURNAL = "Use a local disk, or a journal in PostgreSQL"


def _links(probe: Path) -> str | None:
    """Return why hard links do not work in *probe*, None if they do."""
    (probe / "file").write_bytes(b"\n")
    try:
        os.link(probe / "file", probe / "link")
    except OSError as error:
        return error.strerror or str(error)
    return None


def _locks(probe: Path) -> str | None:
    """Return why SQLite cannot write with a log and locks in *probe*, None if it can."""
    connection = sqlite3.connect(probe / "journal.sqlite")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("CREATE TABLE probe (id INTEGER)")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        return str(error)
    finally:
        connection.close()
    return None
