"""Which run of a journal on a server a folder belongs to.

Folders share that journal, so each has a run of its own there. The file ``journal.json`` in the folder names
it. On another machine the folder may be empty. Then only you know that it continues a run, so you name it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anyio import to_thread
from attrs import frozen

from ruxa_async._internal.files import sync_folder
from ruxa_async.errors import JournalError
from ruxa_async.journal import PostgresJournal

from ._input_lines import InputError
from ._layout import JOURNAL, LINK, RESULTS

__all__ = ("choose_run", "join_run", "linked_run")


@frozen
class _Link:
    """What ``journal.json`` says: the name of the run, and when it was begun, which tells it from others."""

    run: str
    begun_at: float


def linked_run(folder: Path) -> str | None:
    """Return the name of the run that *folder* belongs to, None if it belongs to none yet."""
    link = _read(folder)
    return None if link is None else link.run


def choose_run(folder: Path, given: str | None) -> str:
    """Return the name of the run for *folder*: *given* by the user, else of earlier runs, else the folder's.

    Raises `InputError` if *folder* belongs to another run, or to a journal of its own.
    """
    link = _read(folder)
    if link is not None:
        if given not in (None, link.run):
            raise InputError(
                f"{folder} belongs to the run {link.run!r} of its journal: leave --run out, or give another "
                "--out"
            )
        return link.run
    for name in (JOURNAL, RESULTS):
        if (folder / name).exists():
            raise InputError(
                f"{folder / name} is there already, so what was bought for this folder is not in a journal "
                "on a server: run it without --journal and RUXA_JOURNAL, or give another --out"
            )
    return given if given is not None else folder.resolve().name or "batch"


async def join_run(journal: PostgresJournal, folder: Path, run: str, *, named: bool) -> None:
    """Begin or continue *run* in the open *journal*, and write into *folder* that it belongs to it.

    Raises `InputError` if the run has jobs and the user has not *named* it, since it may be another folder's.
    Raises `JournalError` if *folder* belongs to a run that this journal does not have.
    """
    link = await to_thread.run_sync(_read, folder)
    if link is None and not named and (await journal.counts(run)).total:
        raise InputError(
            f"{journal.path} has a run {run!r} already, and nothing of it is in {folder}. To continue that "
            f"run here, add --run {run}; for a new one, give --run another name"
        )
    begun_at = await journal.run_begun_at(run)
    if link is not None and begun_at != link.begun_at:
        raise JournalError(
            journal.path,
            f"it does not have the run {run!r} that {folder} belongs to: it is another journal, or was made "
            "again. Give the address of that journal, or another --out",
        )
    if begun_at is None:
        (await journal.open_run(run)).close()
        begun_at = await journal.run_begun_at(run)
    if link is None:
        await to_thread.run_sync(_write, folder, {"run": run, "begun_at": begun_at})


def _read(folder: Path) -> _Link | None:
    try:
        held = json.loads((folder / LINK).read_text())
        return _Link(str(held["run"]), float(held["begun_at"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise InputError(
            f"{folder / LINK} cannot be read ({exc}): put it back, or give another --out"
        ) from exc


def _write(folder: Path, values: Mapping[str, Any]) -> None:
    """Write the file so that it is whole or missing after a crash."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{LINK}.part"
    with part.open("w") as file:
        json.dump(values, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / LINK)
    sync_folder(folder)
