"""What lies in the folder of a batch beside its pictures, and whether a run may go on there."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from ruxa_async.journal import SqliteJournal

from ._input_tables import InputError

__all__ = ("EMULATOR", "JOURNAL", "RESULTS", "RUN", "folder_journal")

#: One line for each row, for people and scripts.
RESULTS = "results.jsonl"
#: Purchases and their outcomes.
JOURNAL = "journal.sqlite"
#: What the embedded emulator charged.
EMULATOR = "emulator.jsonl"
#: The name of the run in the folder's journal.
RUN = "batch"


def folder_journal(
    folder: str | PathLike[str], *, service: str | None = None, new_key: bool = False
) -> SqliteJournal:
    """Return the journal of *folder*, which may be new. *service* and *new_key* are as for `SqliteJournal`.

    Nothing is opened or made yet. Raises `InputError` if there are results of a run that kept no journal,
    or whose journal is lost.
    """
    home = Path(folder)
    if home.exists() and not home.is_dir():
        raise InputError(f"{home} is not a folder: give another --out")
    if (home / RESULTS).exists() and _is_lost(home / JOURNAL):
        raise InputError(
            f"{home / RESULTS} is there already, but not the journal ({JOURNAL}) of the run that wrote it, "
            "so what was bought for it is not known: give another --out, or move that folder away"
        )
    return SqliteJournal(home / JOURNAL, service=service, new_key=new_key)


def _is_lost(journal: Path) -> bool:
    """Tell whether *journal* is gone, or emptied: it holds its tables before the first result is written."""
    try:
        return journal.stat().st_size == 0
    except FileNotFoundError:
        return True
