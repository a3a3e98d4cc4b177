"""The object store of a batch: where its outputs go with ``--store``."""

from __future__ import annotations

import io
from collections.abc import Iterable
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from anyio import to_thread

from ruxa_async.downloads import ObjectStore, StoredPath, destination
from ruxa_async.errors import ConfigurationError
from ruxa_async.journal import SavedFile

from ._input_lines import InputError
from ._result_line import describe_content

__all__ = ("BatchStore", "check_store", "opened_store")


class BatchStore(ObjectStore):
    """An object store that describes what was put into it, for the ``outputs`` of a line."""

    def __init__(self, url: str, store: Any = None) -> None:
        super().__init__(url, store=store)
        self._described: dict[str, dict[str, Any]] = {}

    async def put(self, content: bytes, name: str) -> StoredPath:
        path = await super().put(content, name)
        self._described[str(path)] = await to_thread.run_sync(describe_content, io.BytesIO(content))
        return path

    async def describe(self, path: Path, saved: Iterable[SavedFile]) -> dict[str, Any]:
        """Return the description of the object at *path*: of what was put, else of what is read.

        One that is listed in *saved* is not read as a whole. Raises OSError.
        """
        described = self._described.pop(str(path), None)
        if described is None:
            digest = next((file.sha256 for file in saved if file.name == str(path)), None)
            described = await self.read(path, lambda file: describe_content(file, digest))
        return described


def check_store(url: str) -> None:
    """Raise `InputError` if *url* is not that of an object store."""
    try:
        found = destination(url)
    except ConfigurationError as error:
        raise InputError(str(error)) from error
    if not isinstance(found, ObjectStore):
        raise InputError(f"{url} is a folder: give it as --out, or a store such as s3://bucket/prefix")


async def opened_store(store: str | PathLike[str]) -> BatchStore:
    """Return *store* after a proof that objects can be put into it. Raises `InputError`."""
    check_store(fspath(store))
    opened = BatchStore(fspath(store), store.store if isinstance(store, ObjectStore) else None)
    try:
        await opened.check()
    except OSError as error:
        raise InputError(f"{fspath(store)} cannot be written to: {error}") from error
    return opened
