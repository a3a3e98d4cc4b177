"""Where the bytes of an output go: a file or memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol, Self, TypeAlias

import anyio
from anyio import SpooledTemporaryFile, to_thread
from attrs import evolve

from ruxa_async._internal.failpoints import failpoint
from ruxa_async._internal.files import PartFile, WholeFile

__all__ = ("FileSink", "MemorySink", "Note", "Sink")

#: bytes that are collected before a worker thread writes them; most pictures need one call
_BLOCK: Final = 1 << 20

#: Called with a complete file before it gets its final name.
Note: TypeAlias = Callable[[WholeFile], Awaitable[None]]


class Sink(Protocol):
    """Takes the bytes of one output."""

    async def add(self, chunk: bytes) -> None:
        """Append *chunk*."""

    async def restart(self) -> None:
        """Discard all bytes."""


class FileSink:
    """A hidden part file that gets its final name when it is complete."""

    def __init__(self, part: PartFile) -> None:
        self._part = part
        self._block = bytearray()

    @classmethod
    @asynccontextmanager
    async def opened(cls, folder: Path) -> AsyncIterator[Self]:
        """Yield a sink for a file in *folder*; its part file is deleted unless it was placed."""
        part = PartFile(folder)
        try:
            yield cls(part)
        finally:
            if part.touched:
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(part.discard)

    async def add(self, chunk: bytes) -> None:
        """Append *chunk*, and write to the disk once a whole block is collected."""
        self._block += chunk
        if len(self._block) >= _BLOCK:
            block, self._block = self._block, bytearray()
            await to_thread.run_sync(self._part.write, block)
            failpoint("block written")

    async def restart(self) -> None:
        """Discard all bytes."""
        self._block.clear()
        if self._part.touched:
            await to_thread.run_sync(self._part.restart)

    async def place(self, name: str, note: Note | None) -> Path:
        """Sync the file, call *note*, and give the file *name*, or a variant of it if *name* is taken."""
        if note is None:
            return await to_thread.run_sync(self._part.place, self._block, name)
        whole = await to_thread.run_sync(self._part.finish, self._block, name)
        failpoint("file whole")
        await note(whole)
        failpoint("file row durable")
        path = await to_thread.run_sync(self._part.place, b"", name)
        failpoint("file placed")
        if path.name != whole.name:  # another file took the name in between
            await note(evolve(whole, name=path.name))
        return path


class MemorySink:
    """Memory, with a temporary file for outputs over 1 MiB until they are complete."""

    def __init__(self, file: SpooledTemporaryFile[bytes]) -> None:
        self._file = file

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Self]:
        """Yield a sink; delete its temporary file on exit."""
        file = SpooledTemporaryFile[bytes](max_size=_BLOCK)
        try:
            yield cls(file)
        finally:
            with anyio.CancelScope(shield=True):
                await file.aclose()

    async def add(self, chunk: bytes) -> None:
        """Append *chunk*."""
        await self._file.write(chunk)

    async def restart(self) -> None:
        """Discard all bytes."""
        await self._file.seek(0)
        await self._file.truncate()

    async def content(self) -> bytes:
        """Return all bytes."""
        await self._file.seek(0)
        return await self._file.read()
