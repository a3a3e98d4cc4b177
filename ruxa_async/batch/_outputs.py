"""What a result line says of each file. Blocking: for worker threads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ruxa_async.downloads import HEAD, content_type, dimensions
from ruxa_async.journal import SavedFile

__all__ = ("describe_files",)


def describe_files(paths: Iterable[Path], known: Iterable[SavedFile] = ()) -> list[dict[str, Any]]:
    """Return size, SHA-256 in hex, media type, width and height of each of *paths*; None where unknown.

    The content of a file that the journal has *known* since it was saved is not hashed again.
    """
    digests = {(file.name, file.size): file.sha256 for file in known}
    return [_described(path, digests) for path in paths]


def _described(path: Path, digests: dict[tuple[str, int], str]) -> dict[str, Any]:
    described: dict[str, Any] = {"bytes": None, "sha256": None, "type": None, "width": None, "height": None}
    with suppress(OSError):  # it is gone again, or cannot be read: the outcome does not depend on it
        size = path.stat().st_size
        with path.open("rb") as file:
            described |= {"bytes": size, "type": content_type(file.read(HEAD))}
            described["width"], described["height"] = dimensions(file) or (None, None)
            file.seek(0)
            digest = digests.get((path.name, size))
            described["sha256"] = digest or hashlib.file_digest(file, "sha256").hexdigest()
    return described
