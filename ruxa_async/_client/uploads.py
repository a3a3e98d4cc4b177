"""Local files of requests: uploaded before the request is queued, removed when its task has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from uuid import uuid4

import anyio
from anyio import to_thread
from attrs import define, field

from ruxa_async import events
from ruxa_async._logging import logger
from ruxa_async.downloads import HEAD, recognize, without_query
from ruxa_async.errors import RequestValidationError, UploadError
from ruxa_async.requests import LocalFile
from ruxa_async.uploads import Uploader

from .job import ClientJob

__all__ = ("Uploads",)

#: Files that are read and uploaded at once; each is in memory meanwhile.
_MAX_UPLOADS = 8
#: Seconds that a client that closes takes to remove what is not needed any more.
_REMOVE_WITHIN = 10.0
#: The events after which the service does not need the files: the task ended, or was not bought.
_OVER = (events.CreateRefused, events.CreateAbandoned, events.JobWithdrawn)
#: The events after which a task may still run, and need its files: they stay.
_LEFT = (events.CreateUnknown, events.TaskReleased, events.TaskOrphaned, events.TaskEnded)


@define(eq=False)
class _Upload:
    """An uploaded file, and the number of jobs that need it."""

    users: int = 0
    #: Whether a task that nobody follows may need it.
    stays: bool = False
    url: str | None = None
    lock: anyio.Lock = field(factory=anyio.Lock)


@define(eq=False)
class Uploads:
    """The files that jobs of one client need. Jobs that need the same content share it.

    *start* runs a function in a task of the client.
    """

    _uploader: Uploader | None
    _start: Callable[[Callable[[], Awaitable[None]], str], object]
    _shared: dict[str, _Upload] = field(factory=dict, init=False)
    _needed: dict[int, list[str]] = field(factory=dict, init=False)
    _removable: set[str] = field(factory=set, init=False)
    _slots: anyio.Semaphore = field(factory=lambda: anyio.Semaphore(_MAX_UPLOADS), init=False)
    _closing: bool = field(default=False, init=False)

    async def upload(self, job: ClientJob, files: Iterable[LocalFile]) -> dict[str, str]:
        """Upload *files*, and return the URL of each. They are kept until an event says that *job* is over.

        Raises `UploadError`, `RequestValidationError` without an uploader.
        """
        links: dict[str, str] = {}
        try:
            for file in files:
                if file not in links:
                    links[file] = await self._link(file)
        except BaseException:
            for uploaded in links:
                self._let_go(uploaded)
            raise
        self._needed[id(job)] = list(links)
        return links

    def release(self, job: ClientJob) -> None:
        """Remove the files of *job*, which is not bought."""
        for file in self._needed.pop(id(job), ()):
            self._let_go(file)

    def on_event(self, event: events.Event | events.ClientEvent) -> None:
        """Remove the files of a job that is over; forget those of a task that may still run."""
        if not isinstance(event, (*_OVER, *_LEFT)):
            return
        ended = isinstance(event, events.TaskEnded) and event.status is not None
        for file in self._needed.pop(event.job_id, ()):
            self._let_go(file, keep=not (ended or isinstance(event, _OVER)))

    async def close(self) -> None:
        """Remove what is not needed any more, for 10 s at most."""
        self._closing = True
        with anyio.move_on_after(_REMOVE_WITHIN, shield=True):
            for url in tuple(self._removable):
                await self._remove(url)

    async def _link(self, file: LocalFile) -> str:
        if self._uploader is None:
            raise RequestValidationError(
                "input",
                file,
                "a local file needs an uploader, which puts it where the service can download it: "
                "RuxaClient(uploader=ObjectStoreUploader('s3://bucket/prefix')), on the command line "
                "--uploader s3://bucket/prefix",
            )
        shared = self._shared.setdefault(str(file), _Upload())
        shared.users += 1
        try:
            async with shared.lock:
                if shared.url is None:
                    async with self._slots:
                        shared.url = await self._upload(self._uploader, file)
        except BaseException:
            self._let_go(file)
            raise
        return shared.url

    async def _upload(self, uploader: Uploader, file: LocalFile) -> str:
        try:
            content = file.source
            if not isinstance(content, bytes):
                content = await to_thread.run_sync(file.read)
            ending = recognize(content[:HEAD])
            if ending is None:  # nobody should be able to make the client publish other files
                raise OSError("it is not a picture, video or sound")  # noqa: TRY301
            return await uploader.upload(content, f"{uuid4().hex}{ending}")
        except Exception as error:
            raise UploadError(
                f"{file!r} cannot be uploaded, so the request was not sent, and nothing was bought: {error}"
            ) from error

    def _let_go(self, file: str, *, keep: bool = False) -> None:
        """Note that a job does not need *file* any more, and remove it if no other does, unless *keep*."""
        shared = self._shared[str(file)]
        shared.users -= 1
        shared.stays = shared.stays or keep
        if shared.users == 0:
            del self._shared[str(file)]
            if shared.url is not None and not shared.stays:
                self._removable.add(shared.url)
                if not self._closing:
                    self._start(partial(self._remove, shared.url), "removal")

    async def _remove(self, url: str) -> None:
        if url not in self._removable:
            return
        assert self._uploader is not None
        self._removable.discard(url)
        try:
            await self._uploader.delete(url)
        except Exception as error:  # noqa: BLE001 - the task does not depend on it
            logger.warning("an uploaded file stays at %s: %s", without_query(url), error)
        except BaseException:
            self._removable.add(url)  # cancelled: `close` goes on
            raise
