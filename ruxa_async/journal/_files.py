"""Whether the files of an open journal are still where they were opened. Blocking, but only for microseconds."""

from __future__ import annotations

from typing import Self

from attrs import field, frozen

from ruxa_async._internal.files import FileId, file_id
from ruxa_async.errors import JournalError

__all__ = ("OpenFiles",)


@frozen
class OpenFiles:
    """The database at *path* and its write-ahead log, by device and inode.

    SQLite goes on writing to a file that was moved or removed, and nothing fails. But the next run would find nothing
    at *path*, and buy everything again.
    """

    path: str
    _ids: tuple[tuple[str, FileId], ...] = field(alias="_ids", repr=False)

    @classmethod
    def of(cls, path: str) -> Self:
        """Note the files of the journal that was just opened at *path*."""
        found = ((name, file_id(name)) for name in (path, f"{path}-wal"))
        return cls(path, _ids=tuple((name, known) for name, known in found if known is not None))

    @property
    def missing(self) -> str | None:
        """The first file that was moved, replaced or removed since, None if all are in place."""
        return next((name for name, known in self._ids if file_id(name) != known), None)

    def ensure_in_place(self) -> None:
        """Raise `JournalError` if a file was moved, replaced or removed since."""
        if (missing := self.missing) is not None:
            raise JournalError(
                self.path,
                f"{missing} was moved, replaced or removed while the journal was open, so nothing more is bought. What is "
                "on the wire is still waited for and reported. Before you run this again, put the folder back or name "
                "its new place: without this journal, everything would be bought again",
            )
