"""Where the bytes of an output go: a file in the making, or memory."""

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

#: What is collected before a worker thread writes it: small pictures cost one hop, large videos one a mebibyte.
_BLOCK: Final = 1 << 20

#: Told of a file that is whole and has no name yet.
Note: TypeAlias = Callable[[WholeFile], Awaitable[None]]


class Sink(Protocol):
    """What a transfer needs."""

    async def add(self, chunk: bytes) -> None:
        """Take *chunk*."""
        ...

    async def restart(self) -> None:
        """Forget everything."""
        ...


class FileSink:
    """A file in *folder* that has no name yet."""

    def __init__(self, part: PartFile) -> None:
        self._part = part
        self._block = bytearray()

    @classmethod
    @asynccontextmanager
    async def opened(cls, folder: Path) -> AsyncIterator[Self]:
        """Give one that leaves nothing behind unless it was placed."""
        part = PartFile(folder)
        try:
            yield cls(part)
        finally:
            if part.touched:
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(part.discard)

    async def add(self, chunk: bytes) -> None:
        """Take *chunk*, and write when there is a block of them."""
        self._block += chunk
        if len(self._block) >= _BLOCK:
            block, self._block = self._block, bytearray()
            await to_thread.run_sync(self._part.write, block)
            failpoint("block written")

    async def restart(self) -> None:
        """Forget everything."""
        self._block.clear()
        if self._part.touched:
            await to_thread.run_sync(self._part.restart)

    async def place(self, name: str, note: Note | None) -> Path:
        """Make the file durable and give it its *name*, or one like it; *note* is told before."""
        if note is None:
            return await to_thread.run_sync(self._part.place, self._block, name)
        whole = await to_thread.run_sync(self._part.finish, self._block, name)
        failpoint("file whole")
        await note(whole)
        failpoint("file row durable")
        path = await to_thread.run_sync(self._part.place, b"", name)
        failpoint("file placed")
        if path.name != whole.name:  # somebody took the name in between
            await note(evolve(whole, name=path.name))
        return path


class MemorySink:
    """Memory; what is larger than a mebibyte waits on the disk until it is whole, so that no stream can fill memory."""

    def __init__(self, file: SpooledTemporaryFile[bytes]) -> None:
        self._file = file

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Self]:
        """Give one that leaves nothing behind."""
        file = SpooledTemporaryFile[bytes](max_size=_BLOCK)
        try:
            yield cls(file)
        finally:
            with anyio.CancelScope(shield=True):
                await file.aclose()

    async def add(self, chunk: bytes) -> None:
        """Take *chunk*."""
        await self._file.write(chunk)

    async def restart(self) -> None:
        """Forget everything."""
        await self._file.seek(0)
        await self._file.truncate()

    async def content(self) -> bytes:
        """Return everything."""
        await self._file.seek(0)
        return await self._file.read()
