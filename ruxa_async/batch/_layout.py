"""The names of the files that a batch writes besides its outputs, and the journal of its folder."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from ruxa_async.journal import SqliteJournal

from ._input_lines import InputError

__all__ = ("EMULATOR", "JOURNAL", "LINK", "RESULTS", "RUN", "RUNS", "folder_journal")

#: One line for each row, for people and scripts.
RESULTS = "results.jsonl"
#: One line for each run that ended.
RUNS = "runs.jsonl"
#: Purchases and their outcomes.
JOURNAL = "journal.sqlite"
#: The run of a journal on a server, instead of a journal of the folder's own.
LINK = "journal.json"
#: The charges of the emulator that a batch with ``--emulator`` starts.
EMULATOR = "emulator.jsonl"
#: The name of the run in the folder's journal.
RUN = "batch"


def folder_journal(
    folder: str | PathLike[str], *, service: str | None = None, new_key: bool = False
) -> SqliteJournal:
    """Return the journal of *folder*, which may be new. *service* and *new_key* are as for `SqliteJournal`.

    Nothing is opened or created yet. Raises `InputError` if the folder holds results but not their journal,
    or if its journal is on a server.
    """
    home = Path(folder)
    if home.exists() and not home.is_dir():
        raise InputError(f"{home} is not a folder: give another --out")
    if (home / LINK).exists():
        raise InputError(
            f"the journal of {home} is on a server ({LINK}): give its address with --journal or "
            "RUXA_JOURNAL, or give another --out"
        )
    if (home / RESULTS).exists() and _is_lost(home / JOURNAL):
        raise InputError(
            f"{home / RESULTS} is there already, but not the journal ({JOURNAL}) of the run that wrote it, "
            "so what was bought for it is not known: give another --out, or move that folder away"
        )
    return SqliteJournal(home / JOURNAL, service=service, new_key=new_key)


def _is_lost(journal: Path) -> bool:
    """Tell whether *journal* is missing or empty; a run creates its tables before it writes a result."""
    try:
        return journal.stat().st_size == 0
    except FileNotFoundError:
        return True
