"""Fetching the outputs of a generation: saved files are kept, and expired links are renewed by a query."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from os import PathLike, fspath
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import anyio
from anyio import to_thread
from attrs import evolve, frozen

from ruxa_async import events
from ruxa_async._internal.hosts import is_loopback
from ruxa_async.downloads import Downloader, ObjectStore
from ruxa_async.downloads._downloader import all_of
from ruxa_async.errors import DownloadError, LinkExpiredError, RuxaError
from ruxa_async.journal import SavedFile
from ruxa_async.results import Generation, TaskState, TaskStatus

from .event_bus import EventBus

__all__ = ("OutputFetcher", "outputs_kept")

_T = TypeVar("_T")


async def outputs_kept(files: Iterable[SavedFile], home: Path | ObjectStore) -> dict[int, Path]:
    """Return the path of each of *files* that is complete in *home*, by output number.

    Raises `DownloadError` if a store cannot tell.
    """
    if isinstance(home, ObjectStore):
        try:
            return await home.kept(files)  # noqa: ASYNC240 - of a store
        except OSError as error:
            raise DownloadError(fspath(home), f"cannot be read: {error}") from error
    return await to_thread.run_sync(_files_kept, files, home)


def _files_kept(files: Iterable[SavedFile], folder: Path) -> dict[int, Path]:
    """Blocking."""
    kept: dict[int, Path] = {}
    for file in files:
        path = Path(folder, file.name)
        if path.is_file() and path.stat().st_size == file.size:
            kept[file.number] = path
    return kept


def _free_names(files: Iterable[SavedFile], folder: Path) -> None:
    """Remove empty files with the names of *files*: left by a kill on a disk without hard links. Blocking."""
    for file in files:
        path = Path(folder, file.name)
        with suppress(OSError):  # then the download gets another name
            if file.size and path.is_file() and not path.stat().st_size:
                path.unlink()


@frozen
class OutputFetcher:
    """Fetches the outputs of one generation.

    *files* were saved by an earlier run; None if no earlier run had the generation. *status* queries a task.
    *ensure_open* raises once the client is closed. *event_bus* gets a `DownloadEnded` for each download.
    A link from an earlier run counts as expired after any download error; a new one only if its server says
    so.
    """

    downloader: Downloader
    files: tuple[SavedFile, ...] | None
    status: Callable[[str], Awaitable[TaskStatus]]
    ensure_open: Callable[[Generation], None]
    event_bus: EventBus

    @property
    def here(self) -> str:
        """The base URL if it is on loopback, as an emulator's is, otherwise empty."""
        home = self.downloader.home
        return home if is_loopback(urlsplit(home).hostname or "") else ""

    async def save(
        self, generation: Generation, folder: str | PathLike[str], *, name: str | None = None
    ) -> list[Path]:
        """Save each output that is not in *folder* yet; return all paths."""
        self.ensure_open(generation)
        kept: Mapping[int, Path] = {}
        with self._reported(generation):
            home = self.downloader.destination(folder)
            if self.files and isinstance(home, Path):
                await to_thread.run_sync(_free_names, self.files, home)
            if self.files:
                kept = await outputs_kept(self.files, home)
            results = await self.downloader.save_each(generation, home, kept=kept, name=name)
            renewed = await self._renew(generation, results)
            if renewed is not None:
                results = await self.downloader.save_each(renewed, home, kept=_good(results), name=name)
            return all_of(results)

    async def read(self, generation: Generation) -> list[bytes]:
        """Return the content of each output."""
        self.ensure_open(generation)
        with self._reported(generation):
            results = await self.downloader.read_each(generation)
            renewed = await self._renew(generation, results)
            if renewed is not None:
                results = await self.downloader.read_each(renewed, kept=_good(results))
            return all_of(results)

    @contextmanager
    def _reported(self, generation: Generation) -> Iterator[None]:
        """Emit `DownloadEnded` at the end of the block."""
        began, failure = anyio.current_time(), None
        try:
            yield
        except BaseException as error:
            failure = error
            raise
        finally:
            seconds = anyio.current_time() - began
            self.event_bus.emit_for_client(events.DownloadEnded, generation, seconds, failure)

    async def _renew(self, generation: Generation, results: Sequence[object]) -> Generation | None:
        """Return *generation* with new links, None if none expired. Raises if the query fails."""
        expired = [each for each in results if isinstance(each, Exception) and self._is_expired(each)]
        if not expired or generation.task_id is None:
            return None
        try:
            status = await self.status(generation.task_id)
        except RuxaError as reason:
            raise expired[0] from reason
        if status.state is not TaskState.SUCCESS or len(status.urls) != len(generation.urls):
            return None
        return evolve(generation, urls=status.urls)

    def _is_expired(self, error: Exception) -> bool:
        if self.files is None:
            return isinstance(error, LinkExpiredError)
        return isinstance(error, DownloadError) and not isinstance(error.__cause__, OSError)


def _good(results: Sequence[_T | Exception]) -> dict[int, _T]:
    return {number: each for number, each in enumerate(results) if not isinstance(each, Exception)}
