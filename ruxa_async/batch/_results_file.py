"""``results.jsonl`` itself: lines that are durable soon after they are known, one for each row in the end.

Lines are only appended, so a kill damages the last line at most, and the next run cuts it off. A later line
of the same ``id`` overrides earlier ones, which are removed when the file is closed: a new file replaces it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import anyio
from anyio import to_thread

from ruxa_async._internal.failpoints import failpoint
from ruxa_async._internal.files import FileId, file_id, sync_folder
from ruxa_async.errors import JournalError

from ._input_tables import InputError
from ._layout import JOURNAL, RESULTS, RUN
from ._result_line import Result

if TYPE_CHECKING:
    from ruxa_async.journal import SqliteJournal

__all__ = ("ResultsFile", "check_journal")

#: A line that differs in none of these tells nothing new: the rest says when and how it was learned.
_ESSENTIAL = ("index", "line", "task_id", "state", "files", "outputs", "error")


class ResultsFile:
    """The results of one run, in *folder*, which must not hold any yet unless the run is *resumable*.

    `add` only remembers; `flush` writes and syncs everything that was added by anybody, so that many outcomes
    at once cost one sync.
    """

    def __init__(self, folder: Path, *, resumable: bool = False) -> None:
        self.path = folder / RESULTS
        self._resumable = resumable
        self._pending: list[bytes] = []
        self._lock = anyio.Lock()
        self._file: IO[bytes] | None = None
        self._told: dict[str, bytes] = {}  # by id, a hash of what the last line says
        self._bought: set[str] = set()  # those that name a task
        self._began = 0
        self._overridden = False
        self._id: FileId | None = None

    async def __aenter__(self) -> Self:
        self._file = await to_thread.run_sync(self._open)
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await self.flush()
            finally:
                await to_thread.run_sync(self._close)

    def add(self, result: Result) -> None:
        """Remember *result* for the next flush, unless the file says the same already."""
        if result.id is not None and self._resumable:
            said = _essence(getattr(result, name) for name in _ESSENTIAL)
            if self._told.get(result.id) == said:
                return
            self._overridden = self._overridden or result.id in self._told
            self._told[result.id] = said
        self._pending.append(result.encoded())

    def names_task(self, name: str) -> bool:
        """Tell whether an earlier run wrote that the row called *name* became a task."""
        return name in self._bought

    @property
    def in_place(self) -> bool:
        """Whether the file is still where it was opened."""
        return self._id == file_id(self.path)

    def ensure_in_place(self) -> None:
        """Raise `JournalError` if the file was moved, replaced or removed since it was opened."""
        if not self.in_place:
            raise JournalError(
                str(self.path),
                "it was moved, replaced or removed while it was written, so this run was stopped. Before "
                "you run this again, put the folder back or name its new place as --out: in another "
                "folder, everything would be bought again",
            )

    async def flush(self) -> None:
        """Return when everything added so far is on the disk.

        Raises OSError, and what `ensure_in_place` raises.
        """
        with anyio.CancelScope(shield=True):
            async with self._lock:
                if self._pending:
                    lines = b"".join(self._pending)
                    self._pending.clear()
                    await to_thread.run_sync(self._append, lines)

    # ---- in a worker thread

    def _open(self) -> IO[bytes]:
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+b" if self._resumable else "xb", buffering=0)
            if self._resumable:
                self._read(file)
        except FileExistsError as error:
            if not folder.is_dir():
                raise InputError(f"{folder} is not a folder: give another --out") from error
            raise InputError(
                f"{self.path} is there already: a run without a journal never goes on, so give another --out "
                "(or move the folder away)"
            ) from error
        except OSError as error:
            raise InputError(f"{folder} cannot be written to: {error.strerror or error}") from error
        sync_folder(folder)
        self._id = file_id(self.path)
        return file

    def _read(self, file: IO[bytes]) -> None:
        """Read the lines of earlier runs, and cut off an incomplete last line."""
        for at, line, told in _lines(self.path):
            self._began = at + len(line)
            name = told.get("id")
            self._overridden = self._overridden or name is None or name in self._told
            if name is not None:
                self._told[name] = _essence(told.get(part) for part in _ESSENTIAL)
                (self._bought.add if told.get("task_id") else self._bought.discard)(name)
        file.truncate(self._began)

    def _append(self, lines: bytes) -> None:
        assert self._file is not None
        view = memoryview(lines)
        try:
            while view:
                view = view[self._file.write(view) or 0 :]
            failpoint("line written")
            os.fsync(self._file.fileno())
        except OSError as error:  # which does not say what was written to
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        failpoint("line durable")
        self.ensure_in_place()

    def _close(self) -> None:
        assert self._file is not None
        with self._file:
            self.ensure_in_place()
            if self._overridden:
                with suppress(OSError):  # as it is, the file is right as well
                    self._tidy()
                    self._id = file_id(self.path)

    def _tidy(self) -> None:
        """Keep the last line of each row, and of those that are no requests the lines of this run."""
        last = {told.get("id"): at for at, _, told in _lines(self.path)}
        part = self.path.with_name(f".{RESULTS}.part")
        with part.open("wb") as kept:
            for at, line, told in _lines(self.path):
                name = told.get("id")
                if last[name] == at if name is not None else at >= self._began:
                    kept.write(line)
            kept.flush()
            os.fsync(kept.fileno())
        failpoint("lines tidied")
        part.replace(self.path)
        sync_folder(self.path.parent)


async def check_journal(journal: SqliteJournal, folder: Path) -> None:
    """Raise `JournalError` if the results in *folder* name more tasks than its *journal* has jobs.

    A part of the journal is then missing. A run would notice it at the first row that the journal lacks, but
    may have bought other rows a second time by then.
    """
    named = await to_thread.run_sync(_count_bought, folder / RESULTS)
    known = (await journal.counts(RUN)).total if named else 0
    if named > known:
        raise JournalError(
            journal.path,
            f"it knows {known:,} rows, and {RESULTS} says that {named:,} were bought: a part of it is "
            f"missing, such as {JOURNAL}-wal, or it is an old copy. Put that back, or give another --out",
        )


def _count_bought(path: Path) -> int:
    if not path.exists():
        return 0
    return len({told["id"] for _, _, told in _lines(path) if told.get("task_id") and told.get("id")})


def _lines(path: Path) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    """Give where each whole line begins, the line, and what it says: nothing if it cannot be read."""
    at = 0
    with path.open("rb") as reader:
        for line in reader:
            if not line.endswith(b"\n"):
                return
            yield at, line, _told(line)
            at += len(line)


def _told(line: bytes) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    # No run writes an id of another type, so no row is known by it.
    return told if isinstance(told, dict) and isinstance(told.get("id"), str | None) else {}


def _essence(values: Iterable[Any]) -> bytes:
    return blake2b(json.dumps([*values], sort_keys=True, default=str).encode(), digest_size=8).digest()
