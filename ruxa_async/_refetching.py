"""Outputs of a generation that an earlier run saw: what is still on disk stays, the rest is fetched again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from os import PathLike
from pathlib import Path

from anyio import to_thread
from attrs import evolve, frozen

from .downloads import Downloader
from .errors import DownloadError, RuxaError
from .journal.records import SavedFile
from .results import Generation, TaskState, TaskStatus

__all__ = ("Refetcher", "files_kept")


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
class Refetcher:
    """The outputs of one generation, of which *files* were saved before; *status* asks the service for a task."""

    downloader: Downloader
    files: tuple[SavedFile, ...]
    status: Callable[[str], Awaitable[TaskStatus]]

    async def save(self, generation: Generation, folder: str | PathLike[str]) -> list[Path]:
        """Bring every output to *folder* that is not there yet."""
        await to_thread.run_sync(_free_names, self.files, folder)
        kept = await to_thread.run_sync(files_kept, self.files, folder)
        try:
            return await self.downloader.save(generation, folder, kept=kept)
        except DownloadError as error:
            fresh = await self._renewed(generation, error)
        return await self.downloader.save(fresh, folder, kept=kept)

    async def read(self, generation: Generation) -> list[bytes]:
        """Bring every output to memory."""
        try:
            return await self.downloader.read(generation)
        except DownloadError as error:
            fresh = await self._renewed(generation, error)
        return await self.downloader.read(fresh)

    async def _renewed(self, generation: Generation, error: DownloadError) -> Generation:
        """Return *generation* with fresh links, or raise *error* if that is not what is wrong or there are none."""
        if isinstance(error.__cause__, OSError) or generation.task_id is None:
            raise error
        try:
            status = await self.status(generation.task_id)
        except RuxaError as reason:
            raise error from reason
        if status.state is not TaskState.SUCCESS or len(status.urls) != len(generation.urls):
            raise error
        return evolve(generation, urls=status.urls)
