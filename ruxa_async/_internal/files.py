"""Names that are safe on every disk, and atomic file writes. Blocking: call them in worker threads."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import unicodedata
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO, TypeAlias

from attrs import frozen

from .failpoints import failpoint

__all__ = (
    "FileId",
    "PartFile",
    "WholeFile",
    "clean_name",
    "clean_stem",
    "ensure_writable",
    "file_id",
    "is_inside",
    "marked_name",
    "name_file",
    "plain_stem",
    "remove_stale_parts",
    "sync_folder",
)

#: Bytes of a name, and hexadecimal digits of its mark.
_MAX_STEM = 100
_MAX_NAME = 200
_MARK = 12
_FORBIDDEN = frozenset('<>:"/\\|?*')
_RESERVED = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE
)
#: The end of a marked name. A text that ends like this is marked again, so that no two texts get one name.
_MARKED = re.compile(rf"~[0-9a-f]{{{_MARK}}}\Z")
#: Bytes that are compared at once.
_COMPARED = 1 << 20

Data: TypeAlias = bytes | bytearray
#: Device and inode: unchanged when the file is written or moved, different for another file of that name.
FileId: TypeAlias = tuple[int, int]


def clean_stem(text: str) -> str:
    """Return a file name for *text*, without extension, that no other text gets.

    It has about 100 bytes at most, and is never empty, hidden, reserved or a path. A name that differs from
    *text*, or that a case-insensitive disk could confuse, ends with a digest of *text*.
    """
    name = _plain(text, _MAX_STEM)
    plain = name == text == text.casefold() and not _MARKED.search(name)
    return name if plain else _with_mark(name, text, _MAX_STEM)


def clean_name(text: str) -> str:
    """Return a file name, without extension, for *text*, which is composed of results of `clean_stem`.

    It has about 200 bytes at most. Capitals stay, because they do not distinguish two such texts.
    """
    name = _plain(text, _MAX_NAME)
    return name if name == text else _with_mark(name, text, _MAX_NAME)


def plain_stem(text: str) -> str:
    """Return at most 100 bytes of *text* that are safe in a file name; two texts may get the same."""
    return _plain(text, _MAX_STEM)


def marked_name(name: str, digest: str) -> str:
    """Return the file name *name* with the beginning of *digest*, for a file whose name is taken."""
    plain = Path(name)
    return f"{plain.stem}~{digest[:_MARK]}{plain.suffix}"


def _plain(text: str, size: int) -> str:
    name = unicodedata.normalize("NFC", "".join(map(_allowed, text)))
    name = name.lstrip(". ")
    name = _cut(name, size).rstrip(". ") or "output"
    return f"_{name}" if _RESERVED.fullmatch(name) else name


def _with_mark(name: str, text: str, size: int) -> str:
    mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_MARK]
    return f"{_cut(name, size - _MARK - 1).rstrip('. ')}~{mark}"


def _allowed(character: str) -> str:
    """Return *character*, or "_" if disks, shells or readers could misunderstand it."""
    return character if character.isprintable() and character not in _FORBIDDEN else "_"


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")


def is_inside(name: str) -> bool:
    """Tell whether *name* is a relative path that stays in its folder on every system."""
    parts = name.split("/")
    return "\\" not in name and "\0" not in name and not any(part in ("", ".", "..") for part in parts)


def file_id(path: str | os.PathLike[str]) -> FileId | None:
    """Return the id of the file at *path*, None if it cannot be read."""
    try:
        found = os.stat(path)  # noqa: PTH116 - three times as fast, and each create waits for it
    except OSError:
        return None
    return found.st_dev, found.st_ino


def ensure_writable(folder: Path) -> None:
    """Create *folder* if it is missing, and create and remove a file in it. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = PartFile(folder)
    try:
        probe.write(b"\n")
    finally:
        probe.discard()


def sync_folder(folder: Path) -> None:
    """Make the names in *folder* durable (fsync), where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_stale_parts(folder: Path, before: float) -> None:
    """Remove part files in *folder* that were last modified before *before*, in seconds since the epoch."""
    for part in folder.glob(".ruxa-*.part"):
        with suppress(OSError):  # another process was faster, or we may not remove it
            if part.stat().st_mtime < before:
                part.unlink()


@frozen
class WholeFile:
    """A file that is durable and does not have its *name* yet; *size* in bytes, SHA-256 in hex."""

    name: str
    size: int
    sha256: str


class PartFile:
    """A file that is being written, under a hidden name in its target folder.

    Each method holds a lock. A native cancel abandons the thread that runs a method, and `discard` must wait
    for that thread before it removes the file.
    """

    def __init__(self, folder: Path) -> None:
        self.touched: bool = False
        self._folder = folder
        self._path = folder / f".ruxa-{uuid.uuid4().hex}.part"
        self._file: IO[bytes] | None = None
        self._digest = hashlib.sha256()
        self._size = 0
        self._discarded = False
        self._lock = threading.Lock()

    def write(self, data: Data) -> None:
        self.touched = True
        with self._lock:
            self._append(data)

    def restart(self) -> None:
        """Discard the content, to write it again."""
        with self._lock:
            if self._file is not None and not self._discarded:
                self._file.seek(0)
                self._file.truncate()
            self._digest = hashlib.sha256()
            self._size = 0

    def finish(self, data: Data, name: str) -> WholeFile:
        """Append *data*, and make the file durable; return the name that `place` will give it."""
        self.touched = True
        with self._lock:
            self._append(data)
            self._sync()
            target = self._folder / name
            taken = target.exists() and not _same_content(self._path, target)
            return WholeFile(self._marked(name) if taken else name, self._size, self._digest.hexdigest())

    def place(self, data: Data, name: str) -> Path:
        """Append *data*, make the file durable, and rename it to *name*; return its path.

        If a file of that name has the same content, it is kept and returned. If it has other content, the new
        name ends with a digest of this file's content.
        """
        self.touched = True
        with self._lock:
            self._append(data)
            self._sync()
            marked = self._marked(name)
            try:
                placed = self._link(self._folder / name) or self._link(self._folder / marked)
                failpoint("file named")
            finally:
                self._remove()
            if placed is None:
                raise FileExistsError(f"other files are called {name!r} and {marked!r}")
            sync_folder(self._folder)
            return placed

    def _sync(self) -> None:
        assert self._file is not None
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def _marked(self, name: str) -> str:
        return marked_name(name, self._digest.hexdigest())

    def discard(self) -> None:
        """Remove the file unless it was placed; nothing can be written afterwards."""
        with self._lock:
            self._discarded = True
            if self._file is not None:
                self._file.close()
            self._remove()

    def _append(self, data: Data) -> None:
        if self._discarded:
            raise OSError("discarded while it was being written")
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("xb", buffering=0)
        self._digest.update(data)
        self._size += len(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]

    def _link(self, target: Path) -> Path | None:
        """Name the file *target*; return None if a different file has that name."""
        try:
            name_file(self._path, target)
        except FileExistsError:
            return target if _same_content(self._path, target) else None
        return target

    def _remove(self) -> None:
        self._path.unlink(missing_ok=True)


def name_file(part: Path, target: Path) -> None:
    """Give the file *part* the name *target*; *part* may stay as a second name.

    Raises FileExistsError if *target* exists.
    """
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links: reserve the name, then replace it
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        failpoint("name taken")
        try:
            part.replace(target)
        except OSError:
            target.unlink(missing_ok=True)
            raise


def _same_content(ours: Path, theirs: Path) -> bool:
    if not theirs.is_file() or ours.stat().st_size != theirs.stat().st_size:
        return False
    with ours.open("rb") as left, theirs.open("rb") as right:
        while block := left.read(_COMPARED):
            if block != right.read(len(block)):
                return False
    return True
