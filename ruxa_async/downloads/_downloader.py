"""All outputs of a generation, downloaded concurrently to disk or to memory."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import urlsplit

import anyio
from anyio import to_thread
from attrs import Factory, field, frozen

from ruxa_async._internal.files import WholeFile
from ruxa_async._internal.hosts import is_loopback
from ruxa_async.errors import DownloadError
from ruxa_async.journal import SavedFile
from ruxa_async.results import Generation
from ruxa_async.settings import Downloads

from ._names import names_of
from ._object_store import ObjectStore, destination
from ._request import MediaTransport, Opener, without_query
from ._sinks import FileSink, MemorySink, Note, Sink
from ._transfer import Transfer

__all__ = ("Downloader", "all_of")

_T = TypeVar("_T")


@frozen(kw_only=True)
class Downloader:
    """Download outputs through *transport*, within the bounds of *settings*.

    *home* is the base URL of the service; its host may have a private address. *connect_timeout* is in
    seconds (10). *pauses* are the seconds to wait after the first, second, ... failed attempt; an output
    fails with the next failed attempt. An attempt that makes progress resets the count. *window* is in
    seconds (30): ``Downloads.min_rate`` is averaged over it, and a response must begin within it. *saved* is
    awaited with the task id and the `SavedFile` of each complete file, before the file gets its final name.
    *permission* says in the error of an address that is not public how to permit it.

    A failed output raises `DownloadError` with its URL, without the query string, which may hold a signature.
    """

    transport: MediaTransport = field(repr=False)
    settings: Downloads = Downloads()  # noqa: RUF009 - frozen
    home: str = ""
    connect_timeout: float = 10.0
    pauses: Sequence[float] = (0.5, 2.0, 5.0)
    window: float = 30.0
    user_agent: str = "ruxa-async"
    permission: str = "Downloads(allow_private=True) would permit it"
    saved: Callable[[str, SavedFile], Awaitable[None]] | None = field(default=None, repr=False)
    _slots: anyio.Semaphore = field(
        default=Factory(lambda self: anyio.Semaphore(self.settings.max_concurrent), takes_self=True),
        init=False,
        repr=False,
        eq=False,
    )
    _stores: dict[str, ObjectStore] = field(factory=dict, init=False, repr=False, eq=False)

    def destination(self, folder: str | PathLike[str]) -> Path | ObjectStore:
        """Return what *folder* names, see `destination`; always the same store for a URL."""
        if isinstance(folder, ObjectStore):
            return folder
        found = self._stores.get(fspath(folder)) or destination(folder)
        if isinstance(found, ObjectStore):
            self._stores[fspath(folder)] = found
        return found

    async def save(
        self, generation: Generation, folder: str | PathLike[str], *, name: str | None = None
    ) -> list[Path]:
        """Download every output of *generation* into *folder* and return the paths in the order of its URLs.

        *folder* may be an `ObjectStore` or the URL of one; then each path is a `StoredPath`. *name* is a
        template (see `names_of`). A failed output does not stop the others; the first error is raised when
        all have ended.
        """
        return all_of(await self.save_each(generation, folder, name=name))

    async def read(self, generation: Generation) -> list[bytes]:
        """Download every output of *generation* into memory; return the contents in the order of its URLs."""
        return all_of(await self.read_each(generation))

    async def save_each(
        self,
        generation: Generation,
        folder: str | PathLike[str],
        *,
        kept: Mapping[int, Path] = MappingProxyType({}),
        name: str | None = None,
    ) -> list[Path | Exception]:
        """Download as `save` does, and return for each output its path or its error.

        Outputs in *kept*, by their index from 0, are not downloaded again.
        """
        names, home = names_of(generation, name), self.destination(folder)

        async def one(number: int) -> Path:
            if number in kept:
                return kept[number]
            note = self._note(generation.task_id, number)
            return await self._save(generation.urls[number], home, names[number], note)

        return await _gather(len(names), one)

    async def read_each(
        self, generation: Generation, *, kept: Mapping[int, bytes] = MappingProxyType({})
    ) -> list[bytes | Exception]:
        """Download as `read` does, and return for each output its content or its error."""

        async def one(number: int) -> bytes:
            return kept[number] if number in kept else await self._read(generation.urls[number])

        return await _gather(len(generation.urls), one)

    def _note(self, task_id: str | None, number: int) -> Note | None:
        saved = self.saved
        if task_id is None or saved is None:
            return None

        async def note(file: WholeFile) -> None:
            await saved(task_id, SavedFile(number=number, name=file.name, size=file.size, sha256=file.sha256))

        return note

    async def _save(self, url: str, folder: Path | ObjectStore, name: str, note: Note | None) -> Path:
        try:
            if isinstance(folder, ObjectStore):
                return await self._store(url, folder, name, note)
            async with self._slots, FileSink.opened(folder) as sink:
                extension = await self._transfer(url, sink).run()
                return await sink.place(name + extension, note)
        except OSError as error:
            raise _disk_error(url, f"be written to {fspath(folder)!r}", error) from error

    async def _store(self, url: str, store: ObjectStore, name: str, note: Note | None) -> Path:
        """Download to a temporary file, check it, and put it into *store* at once.

        Its row follows the put: an object of that name and size may be another one.
        """
        async with self._slots, MemorySink.opened() as sink:
            extension = await self._transfer(url, sink).run()
            content = await sink.content()
            path = await store.put(content, name + extension)
            if note is not None:
                digest = await to_thread.run_sync(hashlib.sha256, content)
                await note(WholeFile(str(path), len(content), digest.hexdigest()))
            return path

    async def _read(self, url: str) -> bytes:
        try:
            async with self._slots, MemorySink.opened() as sink:
                await self._transfer(url, sink).run()
                return await sink.content()
        except OSError as error:
            raise _disk_error(url, "be kept in a temporary file", error) from error

    def _transfer(self, url: str, sink: Sink) -> Transfer:
        opener = Opener(
            transport=self.transport,
            may_be_private=self._may_be_private,
            user_agent=self.user_agent,
            connect_timeout=self.connect_timeout,
        )
        return Transfer(
            url,
            sink,
            opener,
            self.settings,
            pauses=self.pauses,
            window=self.window,
            permission=self.permission,
        )

    def _may_be_private(self, host: str) -> bool:
        """Return whether *host* may have a private address."""
        home = urlsplit(self.home).hostname or ""
        return self.settings.allow_private or host == home or (is_loopback(home) and is_loopback(host))


def all_of(results: Sequence[_T | Exception]) -> list[_T]:
    """Return *results*, or raise their first error; errors other than `DownloadError` come first."""
    errors = [each for each in results if isinstance(each, Exception)]
    for error in sorted(errors, key=lambda each: isinstance(each, DownloadError)):
        raise error
    return [each for each in results if not isinstance(each, Exception)]


async def _gather(count: int, one: Callable[[int], Awaitable[_T]]) -> list[_T | Exception]:
    """Await *one* for every number below *count* concurrently; return each result or error."""
    results: dict[int, _T | Exception] = {}

    async def collect(number: int) -> None:
        try:
            results[number] = await one(number)
        except Exception as error:  # noqa: BLE001 - returned: the others must not stop
            results[number] = error

    if count == 1:
        await collect(0)
    else:
        async with anyio.create_task_group() as tg:
            for number in range(count):
                tg.start_soon(partial(collect, number))
    return [results[number] for number in range(count)]


def _disk_error(url: str, what: str, error: OSError) -> DownloadError:
    return DownloadError(without_query(url), f"cannot {what}: {error.strerror or error}")
