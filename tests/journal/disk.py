"""A disk that loses its power, fills up or fails, as an SQLite VFS (apsw, a development dependency).

What a program wrote and did not sync may be on the disk after a cut, or not, or in part. So every write is
kept apart until its file is synced, and a cut takes what was synced, and of the rest whatever chance leaves
of it.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
from attrs import define, field

from ruxa_async.journal._schema import Cursor

_NAMES = itertools.count()
_SECTOR = 512
_CODES = {apsw.IOError: 10, apsw.FullError: 13, apsw.CantOpenError: 14, apsw.ReadOnlyError: 8}


@define
class _Content:
    """One file: what is safe, and the writes that are not."""

    safe: bytearray = field(factory=bytearray)
    #: It exists for sure: its name was synced.
    named: bool = False
    pending: list[tuple[int, bytes | None]] = field(factory=list)  # None: cut off there

    def sync(self) -> None:
        for at, data in self.pending:
            _apply(self.safe, at, data)
        self.pending.clear()
        self.named = True

    def after_a_cut(self, chance: random.Random, *, torn: bool) -> bytes | None:
        left = bytearray(self.safe)
        if not self.named and chance.random() < 0.5:
            return None
        for number, (at, data) in enumerate(self.pending):
            last = number == len(self.pending) - 1
            if data is not None and (last if torn else chance.random() < 0.3):
                sectors = chance.randrange(0, len(data) + 1, 1 if torn else _SECTOR)
                _apply(left, at, data[:sectors])
            elif chance.random() < 0.5:
                _apply(left, at, data)
        return bytes(left)


def _apply(content: bytearray, at: int, data: bytes | None) -> None:
    if data is None:
        del content[at:]
        return
    content.extend(bytes(max(0, at + len(data) - len(content))))
    content[at : at + len(data)] = data


class Disk(apsw.VFS):  # type: ignore[misc, unused-ignore]
    """Files that behave, until `cut_in` operations have passed or `fail` says otherwise."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self.name = f"disk-{next(_NAMES)}"
        self._base = apsw.vfs_names()[0]
        super().__init__(self.name, self._base)
        self.chance = chance or random.Random(0)
        self.files: dict[str, _Content] = {}
        self.operations = 0
        self.cut_at: int | None = None
        self.torn = False
        #: The files as the cut left them.
        self.left: dict[str, bytes] | None = None
        self.failing: tuple[str, type[apsw.Error]] | None = None

    def cut_in(self, operations: int, *, torn: bool = False) -> None:
        self.cut_at = self.operations + operations
        self.torn = torn

    def fail(self, operation: str, error: type[apsw.Error]) -> None:
        self.failing = operation, error

    def heal(self) -> None:
        self.failing = None

    def connect(self, path: str) -> Connected:
        return Connected(self.checked_connection(path))

    def checked_connection(self, path: str) -> apsw.Connection:
        try:
            return apsw.Connection(path, vfs=self.name)
        except apsw.Error as error:
            raise translated(error) from error

    def step(self, operation: str) -> None:
        """Count an operation, and make it the last one, or a failure, if it is to be."""
        self.operations += 1
        if self.left is None and self.cut_at is not None and self.operations >= self.cut_at:
            found = {
                name: content.after_a_cut(self.chance, torn=self.torn) for name, content in self.files.items()
            }
            self.left = {name: content for name, content in found.items() if content is not None}
        if self.left is not None:
            raise apsw.IOError("no power")
        if self.failing is not None and self.failing[0] == operation:
            raise self.failing[1](f"{operation} fails")

    def restore(self, folder: Path) -> None:
        """Write the files as the cut left them into *folder*."""
        assert self.left is not None
        for name, content in self.left.items():
            (folder / Path(name).name).write_bytes(content)

    # ---- what SQLite calls

    def xOpen(self, name: Any, flags: list[int]) -> _File | apsw.VFSFile:  # noqa: N802
        if name is None:
            return apsw.VFSFile(self._base, name, flags)
        filename = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.step("open")
        return _File(self, self._base, name, filename, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self.step("delete")
        self.files.pop(filename, None)
        super().xDelete(filename, False)


class _File(apsw.VFSFile):  # type: ignore[misc, unused-ignore]
    def __init__(self, disk: Disk, base: str, name: Any, filename: str, flags: list[int]) -> None:
        super().__init__(base, name, flags)
        self._disk = disk
        known = disk.files.get(filename)
        if known is None:
            known = disk.files[filename] = _Content()
            if flags[0] & apsw.SQLITE_OPEN_MAIN_DB:  # made, and its folder synced, before SQLite sees it
                known.named = True
                known.safe[:] = Path(filename).read_bytes()
        self._content = known

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.step("write")
        self._content.pending.append((offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._disk.step("truncate")
        self._content.pending.append((newsize, None))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.step("sync")
        self._content.sync()


def translated(error: apsw.Error) -> sqlite3.Error:
    """Return what sqlite3 would have raised."""
    kinds = {apsw.NotADBError: sqlite3.DatabaseError, apsw.CorruptError: sqlite3.DatabaseError}
    made = kinds.get(type(error), sqlite3.OperationalError)(str(error))
    # One that was raised up here, in Python, has no code.
    made.sqlite_errorcode = getattr(error, "extendedresult", None) or _CODES[type(error)]
    return made


class Connected:
    """apsw's connection with the errors of sqlite3."""

    def __init__(self, inner: apsw.Connection) -> None:
        self._inner = inner
        self._inner.set_busy_timeout(300)

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Cursor:
        try:
            cursor: Cursor = self._inner.execute(sql, tuple(parameters))
        except apsw.Error as error:
            raise translated(error) from error
        return cursor

    def close(self) -> None:
        try:
            self._inner.close()
        except apsw.Error as error:
            raise translated(error) from error
