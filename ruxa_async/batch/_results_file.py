"""``results.jsonl`` of one run: lines are appended and made durable as outcomes become known.

A kill damages the last line at most, and the next run cuts that off. A later line of the same ``id``
overrides earlier ones; when the file is closed, a new file without the overridden lines replaces it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import anyio
from anyio import to_thread

from ruxa_async._internal.failpoints import failpoint
from ruxa_async._internal.files import FileId, file_id, sync_folder
from ruxa_async._internal.jsonl import JsonLine, read_json_lines
from ruxa_async.errors import JournalError

from ._input_lines import InputError
from ._layout import JOURNAL, RESULTS, RUN
from ._result_line import Result

if TYPE_CHECKING:
    from ruxa_async.journal import PostgresJournal, SqliteJournal

__all__ = ("ResultsFile", "check_journal")

#: A line that equals the last one of its row in these fields is not written again; other fields say when and
#: how the outcome was learned.
_COMPARED = ("index", "line", "task_id", "state", "files", "outputs", "error")


class ResultsFile:
    """The ``results.jsonl`` in *folder*, open for writing. Unless *resumable*, there must be none yet.

    `add` queues a line; `flush` writes and syncs all queued lines, so that many outcomes at once cost one
    fsync.
    """

    def __init__(self, folder: Path, *, resumable: bool = False) -> None:
        self.path: Path = folder / RESULTS
        self._resumable: bool = resumable
        self._pending: list[bytes] = []
        self._lock: anyio.Lock = anyio.Lock()
        self._file: IO[bytes] | None = None
        self._digests: dict[str, bytes] = {}  # by id: a digest of the compared fields of the last line
        self._bought: set[str] = set()  # ids whose last line of an earlier run names a task
        self._resumed_at: int = 0  # the offset after the lines of earlier runs
        self._overridden: bool = False
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
        """Queue the line of *result* for the next flush, unless the last line of its row says the same."""
        if result.id is not None and self._resumable:
            digest = _digest(getattr(result, name) for name in _COMPARED)
            if self._digests.get(result.id) == digest:
                return
            self._overridden = self._overridden or result.id in self._digests
            self._digests[result.id] = digest
        self._pending.append(result.encoded())

    def names_task(self, row_id: str) -> bool:
        """Tell whether the last line of the row *row_id*, written by an earlier run, has a task id."""
        return row_id in self._bought

    def has_line(self, row_id: str | None) -> bool:
        """Tell whether the row *row_id* has a line, of this run or an earlier one."""
        return row_id in self._digests

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
        """Return when every queued line is on disk.

        Raises OSError, and `JournalError` if the file was moved, replaced or removed.
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
                f"{self.path} is there already: a run without a journal cannot continue it, so give another "
                "--out (or move the folder away)"
            ) from error
        except OSError as error:
            raise InputError(f"{folder} cannot be written to: {error.strerror or error}") from error
        sync_folder(folder)
        self._id = file_id(self.path)
        return file

    def _read(self, file: IO[bytes]) -> None:
        """Read the lines of earlier runs, and cut off an incomplete last line."""
        for line, values, row_id in _lines(self.path):
            self._resumed_at = line.end
            self._overridden = self._overridden or row_id is None or row_id in self._digests
            if row_id is not None:
                self._digests[row_id] = _digest(values.get(name) for name in _COMPARED)
                (self._bought.add if values.get("task_id") else self._bought.discard)(row_id)
        file.truncate(self._resumed_at)

    def _append(self, lines: bytes) -> None:
        assert self._file is not None
        view = memoryview(lines)
        try:
            while view:
                view = view[self._file.write(view) or 0 :]
            failpoint("line written")
            os.fsync(self._file.fileno())
        except OSError as error:  # it does not name the file
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        failpoint("line durable")
        self.ensure_in_place()

    def _close(self) -> None:
        assert self._file is not None
        with self._file:
            self.ensure_in_place()
        if self._overridden:  # after the file is closed: Windows replaces no open file
            with suppress(OSError):  # the file is valid with its overridden lines too
                self._remove_overridden()
                self._id = file_id(self.path)

    def _remove_overridden(self) -> None:
        """Keep only the last line of each id, and of lines without an id those of this run."""
        last = {row_id: line.start for line, _, row_id in _lines(self.path)}
        part = self.path.with_name(f".{RESULTS}.part")
        with part.open("wb") as kept:
            for line, _, row_id in _lines(self.path):
                if last[row_id] == line.start if row_id is not None else line.start >= self._resumed_at:
                    kept.write(line.data)
            kept.flush()
            os.fsync(kept.fileno())
        failpoint("lines tidied")
        part.replace(self.path)
        sync_folder(self.path.parent)


async def check_journal(journal: SqliteJournal | PostgresJournal, folder: Path, run: str = RUN) -> None:
    """Raise `JournalError` if the results in *folder* name more tasks than *run* in its *journal* has jobs.

    Then a part of the journal is missing. The run would notice that only at the first row that the journal
    lacks, and could have bought other rows a second time by then.
    """
    bought = await to_thread.run_sync(_count_bought, folder / RESULTS)
    jobs = (await journal.counts(run)).total if bought else 0
    if bought > jobs:
        raise JournalError(
            journal.path,
            f"it knows {jobs:,} rows, and {RESULTS} says that {bought:,} were bought: it is an "
            f"old copy, or a part of it is missing, such as {JOURNAL}-wal. Put that back, or give another "
            "--out",
        )


def _count_bought(path: Path) -> int:
    if not path.exists():
        return 0
    return len({row_id for _, values, row_id in _lines(path) if row_id and values.get("task_id")})


def _lines(path: Path) -> Iterator[tuple[JsonLine, Mapping[str, Any], str | None]]:
    """Yield each complete line, its values, and the id of its row; values of a damaged line are empty."""
    for line in read_json_lines(path):
        if line.complete:
            values = line.values or {}
            row_id = values.get("id")
            yield line, values, row_id if isinstance(row_id, str) else None


def _digest(values: Iterable[Any]) -> bytes:
    return blake2b(json.dumps([*values], sort_keys=True, default=str).encode(), digest_size=8).digest()
