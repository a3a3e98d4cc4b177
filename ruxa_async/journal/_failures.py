"""What SQLite says, in words that help."""

from __future__ import annotations

import sqlite3

from ruxa_async.errors import JournalError

__all__ = ("explain", "may_pass")

_FULL, _BUSY, _LOCKED = 13, 5, 6
#: An extended code: what a file system that is mounted for reading answers, or one without locks.
_NO_LOCK = sqlite3.SQLITE_IOERR_LOCK
_WRITABLE = "check the permissions of the file and of its folder, and that the disk is mounted for writing"
_ADVICE = {
    _FULL: "the disk is full: free some space and run again",
    _BUSY: "another process is in its way: run again",
    _LOCKED: "another process is in its way: run again",
    3: f"it may not be used: {_WRITABLE}",
    8: f"it cannot be written: {_WRITABLE}",
    14: f"it cannot be opened: {_WRITABLE}",
    10: "the disk failed: check it, and run again once it is sound; what was reported as written is safe",
    _NO_LOCK: f"it cannot be locked: {_WRITABLE}",
    11: "the file is damaged: keep it (`sqlite3 FILE .recover` may bring back what it holds), and use another journal",
    26: "this is not a journal: give another path, or move the file away",
}


def code_of(error: BaseException) -> int:
    """Return the primary result code of *error*, 0 if it has none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def may_pass(error: BaseException) -> bool:
    """Tell whether a later write may work. Not after an I/O error: what the disk then holds is anybody's guess."""
    return code_of(error) in (_FULL, _BUSY, _LOCKED)


def is_busy(error: BaseException) -> bool:
    """Tell whether somebody else holds the lock."""
    return code_of(error) in (_BUSY, _LOCKED)


def explain(path: str, error: Exception) -> JournalError:
    """Return what to raise for *error*, with the file, the reason and what to do."""
    if isinstance(error, JournalError):
        return error
    if isinstance(error, sqlite3.Error):
        message = f"{_advice(error)} ({error})"
    elif isinstance(error, OSError):
        message = f"it cannot be opened: {error.strerror or error}; {_WRITABLE}"
    else:
        message = str(error)
    explained = JournalError(path, message)
    explained.__cause__ = error
    return explained


def _advice(error: sqlite3.Error) -> str:
    extended = getattr(error, "sqlite_errorcode", 0)
    return _ADVICE.get(extended) or _ADVICE.get(code_of(error), "the database failed")
