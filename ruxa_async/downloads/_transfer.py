"""One output: attempts, pauses, resumption and the minimum rate."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, TypeVar

import anyio
from attrs import define, field

from ruxa_async.errors import ConfigurationError, DownloadError, TransportError
from ruxa_async.settings import Downloads
from ruxa_async.transports import PrivateAddressError, StreamedResponse

from ._media import HEAD, NotMediaError, extension_of
from ._request import (
    Opener,
    TransientError,
    Version,
    check_status,
    length_of,
    part_of,
    version_of,
    without_query,
)
from ._sinks import Sink

__all__ = ("Transfer",)

_T = TypeVar("_T")

#: bytes by which an attempt must pass all earlier ones to reset the count of failed attempts
_PROGRESS: Final = 4096


class TooSlowError(TransientError):
    """The rate fell below the minimum."""


class RateMonitor:
    """Raises `TooSlowError` if less than *rate* bytes a second arrive, averaged over *window* seconds.

    A window ends as soon as its bytes have arrived, and the next one begins. The first window includes the
    wait for the response. Seconds passed to `exclude` do not count.
    """

    def __init__(self, rate: float, window: float) -> None:
        self._rate = rate
        self._window = window
        self.restart()

    def restart(self) -> None:
        """Begin a new window now."""
        self._deadline = anyio.current_time() + self._window
        self._missing = self._rate * self._window

    async def wait(self, awaitable: Awaitable[_T]) -> _T:
        """Await *awaitable* until the window ends; then raise `TooSlowError`."""
        with anyio.CancelScope(deadline=self._deadline):
            return await awaitable
        raise TooSlowError(f"less than {self._rate:,.10g} bytes a second came for {self._window:g} s")

    def exclude(self, seconds: float) -> None:
        """Extend the window by *seconds*, which were spent on writing."""
        self._deadline += seconds

    def count(self, received: int) -> None:
        """Count *received* bytes."""
        self._missing -= received
        if self._missing <= 0:
            self.restart()


#: Errors of an attempt that count as failed, even if bytes arrived.
_NO_PROGRESS: Final = (TooSlowError, NotMediaError)


@define(slots=False, eq=False)
class Transfer:
    """Download *url* into *sink*.

    The transfer is repeated after *pauses* seconds and over *window* seconds as `Downloader` says. It resumes
    where it stopped if the server identifies the version of the file and that is unchanged; otherwise it
    starts over. *permission* says in the error of an address that is not public how to permit it.
    """

    _url: str
    _sink: Sink
    _opener: Opener
    _settings: Downloads
    _pauses: Sequence[float] = field(kw_only=True)
    _window: float = field(kw_only=True)
    _permission: str = field(kw_only=True)

    def __attrs_post_init__(self) -> None:
        self._ends = anyio.current_time() + self._settings.timeout
        self._furthest = 0
        self._reset()

    def _reset(self) -> None:
        self._received = 0
        self._total: int | None = None
        self._version = Version()
        self._declared_type = ""
        self._head = b""
        self._extension = ""

    async def run(self) -> str:
        """Return the extension of the content once all of it is in the sink. Raises `DownloadError`."""
        with anyio.CancelScope(deadline=self._ends):
            return await self._retry()
        raise self._failure(f"not complete after {self._settings.timeout:g} s (Downloads(timeout=...))")

    async def _retry(self) -> str:
        attempts, failed = 0, 0
        while True:
            furthest = self._furthest
            attempts += 1
            try:
                return await self._attempt()
            except (TransientError, NotMediaError, TransportError) as error:
                failure = error
            if isinstance(failure.__cause__, PrivateAddressError):
                raise self._failure(
                    f"leads to an address that is not public; {self._permission}"
                ) from failure
            if isinstance(failure.__cause__, ConfigurationError):
                raise self._failure(str(failure.__cause__)) from failure
            if isinstance(failure, NotMediaError):  # such as an error page of a proxy: nothing to resume
                await self._restart()
            progressed = self._furthest >= furthest + _PROGRESS and not isinstance(failure, _NO_PROGRESS)
            failed = 0 if progressed else failed + 1
            if failed > len(self._pauses):
                said = str(failure) or type(failure).__name__
                raise self._failure(f"{said} ({attempts} attempts)") from failure
            await self._pause(failed, failure)

    async def _pause(self, failed: int, failure: Exception) -> None:
        pause = self._pauses[max(failed, 1) - 1] if self._pauses else 0.0
        await anyio.sleep(max(pause, failure.wait if isinstance(failure, TransientError) else 0.0))

    async def _attempt(self) -> str:
        monitor = RateMonitor(self._settings.min_rate, self._window)
        async with AsyncExitStack() as stack:
            range_headers = self._version.headers(self._received)
            left = max(self._ends - anyio.current_time(), 0.001)
            opening = self._opener.opened(self._url, range_headers, left)
            response = await monitor.wait(stack.enter_async_context(opening))
            await self._begin(response, partial=bool(range_headers))
            await self._read(response, monitor)
        if self._total is not None and self._received < self._total:
            raise TransientError(f"broke off after {self._received:,} of {self._total:,} bytes")
        return self._extension or extension_of(self._head, self._declared_type)

    async def _begin(self, response: StreamedResponse, *, partial: bool) -> None:
        """Decide from the head of *response* whether its body continues the file or replaces it."""
        status, headers = response.status, response.headers
        if status == 416 and partial:
            await self._restart()
            raise TransientError("the file changed during the download")
        check_status(self._url, response)
        if status == 206:
            if not partial:
                raise self._failure("HTTP 206: a part came, but the whole file was requested")
            if not self._version.continues(headers, self._received, self._total):
                await self._restart()
                raise TransientError("the file changed during the download")
            self._total = part_of(headers)[1]
            return
        if self._received:
            await self._restart()
        self._version = version_of(headers)
        self._total = length_of(headers)
        self._declared_type = headers.get("content-type", "")
        if self._total is not None and self._total > self._settings.max_bytes:
            raise self._too_large()

    async def _read(self, response: StreamedResponse, monitor: RateMonitor) -> None:
        monitor.restart()
        async with _closing(response.chunks()) as chunks:
            while (chunk := await monitor.wait(anext(chunks, None))) is not None:
                monitor.count(len(chunk))
                arrived = anyio.current_time()
                await self._take(chunk)
                monitor.exclude(anyio.current_time() - arrived)

    async def _take(self, chunk: bytes) -> None:
        """Check *chunk* and append it to the sink."""
        self._received += len(chunk)
        self._furthest = max(self._furthest, self._received)
        if self._received > self._settings.max_bytes:
            raise self._too_large()
        if self._total is not None and self._received > self._total:
            await self._restart()
            raise TransientError("more bytes came than Content-Length promises")
        if not self._extension:
            self._head += chunk[: HEAD - len(self._head)]
            if len(self._head) == HEAD:
                self._extension = extension_of(self._head, self._declared_type)
        await self._sink.add(chunk)

    async def _restart(self) -> None:
        self._reset()
        await self._sink.restart()

    def _too_large(self) -> DownloadError:
        return self._failure(
            f"larger than the {self._settings.max_bytes:,} bytes allowed (Downloads(max_bytes=...))"
        )

    def _failure(self, message: str) -> DownloadError:
        return DownloadError(without_query(self._url), message)


@asynccontextmanager
async def _closing(chunks: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Close a generator that is left early at once, not when it is garbage-collected."""
    try:
        yield chunks
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
