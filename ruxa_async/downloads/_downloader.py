"""The outputs of a generation, side by side: to disk or to memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import urlsplit

import anyio
from attrs import Factory, field, frozen

from ruxa_async._internal.files import WholeFile
from ruxa_async._internal.hosts import is_loopback
from ruxa_async.errors import DownloadError
from ruxa_async.journal import SavedFile
from ruxa_async.results import Generation
from ruxa_async.settings import Downloads

from ._naming import names_of
from ._opening import MediaTransport, Opener, without_query
from ._sinks import FileSink, MemorySink, Note, Sink
from ._transfer import Transfer

__all__ = ("Downloader", "all_of")

_T = TypeVar("_T")
_NOTHING: Mapping[int, Path] = MappingProxyType({})


@frozen(kw_only=True)
class Downloader:
    """Bring outputs to disk or memory through *transport*, as *settings* say.

    *home* is the address of the service: links to its host may lead to addresses that are not public. *connect_timeout*
    is in seconds: 10. *pauses* are the seconds between attempts, and their number says how often an output is tried again
    after one that came no further. *window* are the seconds over which ``Downloads.min_rate`` is measured, and that an
    answer may take to begin: 30. Everything that can go wrong with an output raises `DownloadError`, which names its
    address without the query string: signatures live there. *saved* is told, with its task's id, of each file
    that is whole, before it gets its name.
    """

    transport: MediaTransport = field(repr=False)
    settings: Downloads = Downloads()  # noqa: RUF009 - frozen
    home: str = ""
    connect_timeout: float = 10.0
    pauses: Sequence[float] = (0.5, 2.0, 5.0)
    window: float = 30.0
    user_agent: str = "ruxa-async"
    saved: Callable[[str, SavedFile], Awaitable[None]] | None = field(default=None, repr=False)
    _slots: anyio.Semaphore = field(
        default=Factory(lambda self: anyio.Semaphore(self.settings.max_concurrent), takes_self=True),
        init=False,
        repr=False,
        eq=False,
    )

    async def save(
        self, generation: Generation, folder: str | PathLike[str], *, name: str | None = None
    ) -> list[Path]:
        """Download every output of *generation* into *folder*; return the paths, in the order of its URLs.

        Files are named by the template *name* (see `names_of`). An output that cannot be had keeps none of the others
        back; the first error is raised when all have ended.
        """
        return all_of(await self.save_each(generation, folder, name=name))

    async def read(self, generation: Generation) -> list[bytes]:
        """Download every output of *generation* into memory, in the order of its URLs."""
        return all_of(await self.read_each(generation))

    async def save_each(
        self,
        generation: Generation,
        folder: str | PathLike[str],
        *,
        kept: Mapping[int, Path] = _NOTHING,
        name: str | None = None,
    ) -> list[Path | Exception]:
        """Do what `save` does; return for each output its path or what went wrong with it.

        What is *kept* already, by its place from 0, is not downloaded.
        """
        names, home = names_of(generation, name), Path(folder)

        async def one(number: int) -> Path:
            if number in kept:
                return kept[number]
            note = self._note(generation.task_id, number)
            return await self._save(generation.urls[number], home, names[number], note)

        return await _side_by_side(len(names), one)

    async def read_each(
        self, generation: Generation, *, kept: Mapping[int, bytes] = MappingProxyType({})
    ) -> list[bytes | Exception]:
        """Do what `read` does; return for each output its bytes or what went wrong with it."""

        async def one(number: int) -> bytes:
            return kept[number] if number in kept else await self._read(generation.urls[number])

        return await _side_by_side(len(generation.urls), one)

    def _note(self, task_id: str | None, number: int) -> Note | None:
        saved = self.saved
        if task_id is None or saved is None:
            return None

        async def note(file: WholeFile) -> None:
            await saved(task_id, SavedFile(number=number, name=file.name, size=file.size, sha256=file.sha256))

        return note

    async def _save(self, url: str, folder: Path, name: str, note: Note | None) -> Path:
        try:
            async with self._slots, FileSink.opened(folder) as sink:
                extension = await self._transfer(url, sink).through()
                return await sink.place(name + extension, note)
        except OSError as error:
            raise _local(url, f"be written to {str(folder)!r}", error) from error

    async def _read(self, url: str) -> bytes:
        try:
            async with self._slots, MemorySink.opened() as sink:
                await self._transfer(url, sink).through()
                return await sink.content()
        except OSError as error:
            raise _local(url, "be kept in a temporary file", error) from error

    def _transfer(self, url: str, sink: Sink) -> Transfer:
        opener = Opener(
            transport=self.transport,
            is_ours=self._is_ours,
            user_agent=self.user_agent,
            connect_timeout=self.connect_timeout,
        )
        return Transfer(url, sink, opener, self.settings, pauses=self.pauses, window=self.window)

    def _is_ours(self, host: str) -> bool:
        """Tell whether *host* may be at an address that is not public."""
        home = urlsplit(self.home).hostname or ""
        return self.settings.allow_private or host == home or (is_loopback(home) and is_loopback(host))


def all_of(results: Sequence[_T | Exception]) -> list[_T]:
    """Return *results*, or raise the first error among them; one that is not about an output comes before all others."""
    errors = [each for each in results if isinstance(each, Exception)]
    for error in sorted(errors, key=lambda each: isinstance(each, DownloadError)):
        raise error
    return [each for each in results if not isinstance(each, Exception)]


async def _side_by_side(count: int, one: Callable[[int], Awaitable[_T]]) -> list[_T | Exception]:
    """Await *one* for every number below *count* at once; return what each gave or raised."""
    results: dict[int, _T | Exception] = {}

    async def kept(number: int) -> None:
        try:
            results[number] = await one(number)
        except Exception as error:  # noqa: BLE001 - it is raised when all have ended: the others are paid for too
            results[number] = error

    if count == 1:
        await kept(0)
    else:
        async with anyio.create_task_group() as tg:
            for number in range(count):
                tg.start_soon(partial(kept, number))
    return [results[number] for number in range(count)]


def _local(url: str, what: str, error: OSError) -> DownloadError:
    return DownloadError(without_query(url), f"cannot {what}: {error.strerror or error}")
