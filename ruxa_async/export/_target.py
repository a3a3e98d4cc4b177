"""Files and folders that appear whole under their name, or not at all, and never in place of another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from ruxa_async._internal.files import name_file, sync_folder
from ruxa_async.errors import RuxaError

__all__ = ("ExportError", "new_file", "new_folder", "require_free", "synced")


class ExportError(RuxaError):
    """The export cannot be made; the message says why, and what to do. Nothing was written."""


def require_free(target: Path) -> None:
    """Raise `ExportError` if *target* exists, unless it is an empty folder."""
    if target.is_symlink() or (target.exists() and not _is_empty_folder(target)):
        raise _taken(target)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and next(path.iterdir(), None) is None


def _taken(target: Path) -> ExportError:
    return ExportError(f"{target} exists and is not replaced: remove it, or give another --out")


@contextmanager
def new_file(target: Path) -> Generator[BinaryIO]:
    """Yield a file to write; it is called *target* when the body ends.

    Raises `ExportError` if *target* exists.
    """
    part = _part(target)
    try:
        with part.open("xb") as file, synced(file):
            yield file
        try:
            name_file(part, target)
        except FileExistsError:
            raise _taken(target) from None
        sync_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def new_folder(target: Path) -> Generator[Path]:
    """Yield a folder to fill; it is called *target* when the body ends.

    Raises `ExportError` if *target* exists and is not an empty folder.
    """
    part = _part(target)
    part.mkdir()
    try:
        yield part
        _name_folder(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    sync_folder(target.parent)


def _name_folder(part: Path, target: Path) -> None:
    try:
        with suppress(FileNotFoundError):
            target.rmdir()  # raises OSError if it holds something
        part.rename(target)
    except OSError:
        require_free(target)
        raise


@contextmanager
def synced(file: BinaryIO) -> Generator[None]:
    """Make what the body wrote to *file* durable."""
    yield
    file.flush()
    os.fsync(file.fileno())


def _part(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{target.name}-{uuid4().hex}.part")
