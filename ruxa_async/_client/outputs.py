"""Outputs of a generation: what an earlier run left on disk stays, and where a link expired a fresh one is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from anyio import to_thread
from attrs import evolve, frozen

from ruxa_async._internal.hosts import is_loopback
from ruxa_async.downloads import Downloader
from ruxa_async.downloads._downloader import all_of
from ruxa_async.errors import DownloadError, LinkExpiredError, RuxaError
from ruxa_async.journal import SavedFile
from ruxa_async.results import Generation, TaskState, TaskStatus

__all__ = ("OutputFetcher", "files_kept")

_T = TypeVar("_T")


def files_kept(files: Iterable[SavedFile], folder: str | PathLike[str]) -> dict[int, Path]:
    """Return which of *files*, by their place, are in *folder* with their whole size. Blocking."""
    kept = {}
    for file in files:
        path = Path(folder, file.name)
        if path.is_file() and path.stat().st_size == file.size:
            kept[file.number] = path
    return kept


def _free_names(files: Iterable[SavedFile], folder: str | PathLike[str]) -> None:
    """Remove empty files that have the names of *files*: taken on a disk without links, and never filled. Blocking."""
    for file in files:
        path = Path(folder, file.name)
        with suppress(OSError):  # then the file takes another name, as it does beside somebody else's
            if file.size and path.is_file() and not path.stat().st_size:
                path.unlink()


@frozen
class OutputFetcher:
    """The outputs of one generation; *status* asks the service for a task, *ensure_open* raises once the client is closed.

    *files* were saved by an earlier run, None if no earlier run saw the generation. A link from then is taken for
    expired whatever is wrong with it; one that came just now only if its server says so.
    """

    downloader: Downloader
    files: tuple[SavedFile, ...] | None
    status: Callable[[str], Awaitable[TaskStatus]]
    ensure_open: Callable[[Generation], None]

    @property
    def here(self) -> str:
        """The address of the service if that is on this very machine, else "": an emulator's, which a browser may be led to."""
        home = self.downloader.home
        return home if is_loopback(urlsplit(home).hostname or "") else ""

    async def save(
        self, generation: Generation, folder: str | PathLike[str], *, name: str | None = None
    ) -> list[Path]:
        """Bring every output to *folder* that is not there yet."""
        self.ensure_open(generation)
        kept: Mapping[int, Path] = {}
        if self.files:
            await to_thread.run_sync(_free_names, self.files, folder)
            kept = await to_thread.run_sync(files_kept, self.files, folder)
        results = await self.downloader.save_each(generation, folder, kept=kept, name=name)
        fresh = await self._renewed(generation, results)
        if fresh is not None:
            results = await self.downloader.save_each(fresh, folder, kept=_good(results), name=name)
        return all_of(results)

    async def read(self, generation: Generation) -> list[bytes]:
        """Bring every output to memory."""
        self.ensure_open(generation)
        results = await self.downloader.read_each(generation)
        fresh = await self._renewed(generation, results)
        if fresh is not None:
            results = await self.downloader.read_each(fresh, kept=_good(results))
        return all_of(results)

    async def _renewed(self, generation: Generation, results: Sequence[object]) -> Generation | None:
        """Return *generation* with fresh links if that may help, None if not; raise what went wrong if nobody can tell."""
        expired = [each for each in results if isinstance(each, Exception) and self._is_stale(each)]
        if not expired or generation.task_id is None:
            return None
        try:
            status = await self.status(generation.task_id)
        except RuxaError as reason:
            raise expired[0] from reason
        if status.state is not TaskState.SUCCESS or len(status.urls) != len(generation.urls):
            return None
        return evolve(generation, urls=status.urls)

    def _is_stale(self, error: Exception) -> bool:
        if self.files is None:
            return isinstance(error, LinkExpiredError)
        return isinstance(error, DownloadError) and not isinstance(error.__cause__, OSError)


def _good(results: Sequence[_T | Exception]) -> dict[int, _T]:
    return {number: each for number, each in enumerate(results) if not isinstance(each, Exception)}
