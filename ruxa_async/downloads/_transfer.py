"""One output, over as many attempts as it takes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import anyio

from ruxa_async.errors import DownloadError, TransportError
from ruxa_async.settings import Downloads
from ruxa_async.transports import PrivateAddressError, StreamedResponse

from ._failures import PassingError, TooSlowError
from ._media import HEAD, NotMediaError, extension_of
from ._opening import Opener, check_status, without_query
from ._pace import Pace
from ._ranges import Version, length_of, part_of, version_of
from ._sinks import Sink

__all__ = ("Transfer",)

#: An attempt that came at least so much further than all before it gives the next ones all their chances again.
_PROGRESS: Final = 4096
#: What is as bad however much came.
_NO_PROGRESS: Final = (TooSlowError, NotMediaError)
_NOT_PUBLIC: Final = "leads to an address that is not public; Downloads(allow_private=True) would permit it"


class Transfer:
    """Bring what is at *url* into *sink*.

    It is tried again after each of *pauses*, in seconds; *window* are the seconds over which it may not be too slow. What was cut off goes on where it was, if its server names
    the version of the file and still has that one; otherwise it begins anew.
    """

    def __init__(
        self,
        url: str,
        sink: Sink,
        opener: Opener,
        settings: Downloads,
        *,
        pauses: Sequence[float],
        window: float,
    ) -> None:
        self._url = url
        self._sink = sink
        self._opener = opener
        self._settings = settings
        self._pauses = pauses
        self._window = window
        self._ends = anyio.current_time() + settings.timeout
        self._furthest = 0
        self._forget()

    def _forget(self) -> None:
        self._received = 0
        self._total: int | None = None
        self._version = Version()
        self._told = ""
        self._head = b""
        self._extension = ""

    async def through(self) -> str:
        """Return when all of it is in the sink: the extension that its content has. Raises `DownloadError`."""
        with anyio.CancelScope(deadline=self._ends):
            return await self._persist()
        raise self._failure(f"not whole after {self._settings.timeout:g} s, which is the most it may take")

    async def _persist(self) -> str:
        attempts, failed = 0, 0
        while True:
            furthest = self._furthest
            attempts += 1
            try:
                return await self._attempt()
            except (PassingError, TransportError) as error:
                failure = error
            if isinstance(failure.__cause__, PrivateAddressError):
                raise self._failure(_NOT_PUBLIC) from failure
            if isinstance(
                failure, NotMediaError
            ):  # some page, from something on the way: not to be gone on with
                await self._restart()
            came_on = self._furthest >= furthest + _PROGRESS and not isinstance(failure, _NO_PROGRESS)
            failed = 0 if came_on else failed + 1
            if failed > len(self._pauses):
                said = str(failure) or type(failure).__name__
                raise self._failure(f"{said} ({attempts} attempts)") from failure
            await self._pause(failed, failure)

    async def _pause(self, failed: int, failure: Exception) -> None:
        ours = self._pauses[max(failed, 1) - 1] if self._pauses else 0.0
        await anyio.sleep(max(ours, failure.wait if isinstance(failure, PassingError) else 0.0))

    async def _attempt(self) -> str:
        pace = Pace(self._settings.min_rate, self._window)
        async with AsyncExitStack() as stack:
            asked = self._version.headers(self._received)
            left = max(self._ends - anyio.current_time(), 0.001)
            opening = self._opener.opened(self._url, asked, left)
            response = await pace.wait(stack.enter_async_context(opening))
            await self._begin(response, asked_for_rest=bool(asked))
            await self._drain(response, pace)
        if self._total is not None and self._received < self._total:
            raise PassingError(f"broke off after {self._received:,} of {self._total:,} bytes")
        return self._extension or extension_of(self._head, self._told)

    async def _begin(self, response: StreamedResponse, *, asked_for_rest: bool) -> None:
        """Decide from the head of a reply whether its body follows on what is there, or replaces it."""
        status, headers = response.status, response.headers
        if status == 416 and asked_for_rest:
            await self._restart()
            raise PassingError("changed while it was being fetched")
        check_status(self._url, response)
        if status == 206:
            if not asked_for_rest:
                raise self._failure("HTTP 206: a part came where the whole was asked for")
            if not self._version.continues(headers, self._received, self._total):
                await self._restart()
                raise PassingError("changed while it was being fetched")
            self._total = part_of(headers)[1]
            return
        if self._received:
            await self._restart()
        self._version = version_of(headers)
        self._total = length_of(headers)
        self._told = headers.get("content-type", "")
        if self._total is not None and self._total > self._settings.max_bytes:
            raise self._too_large()

    async def _drain(self, response: StreamedResponse, pace: Pace) -> None:
        pace.restart()
        async with _closing(response.chunks()) as chunks:
            while (chunk := await pace.wait(anext(chunks, None))) is not None:
                pace.count(len(chunk))
                came = anyio.current_time()
                await self._take(chunk)
                pace.excuse(anyio.current_time() - came)

    async def _take(self, chunk: bytes) -> None:
        """Check *chunk* and keep it."""
        self._received += len(chunk)
        self._furthest = max(self._furthest, self._received)
        if self._received > self._settings.max_bytes:
            raise self._too_large()
        if self._total is not None and self._received > self._total:
            await self._restart()
            raise PassingError("more came than was told")
        if not self._extension:
            self._head += chunk[: HEAD - len(self._head)]
            if len(self._head) == HEAD:
                self._extension = extension_of(self._head, self._told)
        await self._sink.add(chunk)

    async def _restart(self) -> None:
        self._forget()
        await self._sink.restart()

    def _too_large(self) -> DownloadError:
        return self._failure(
            f"larger than the {self._settings.max_bytes:,} bytes allowed for one output (Downloads(max_bytes=...))"
        )

    def _failure(self, message: str) -> DownloadError:
        return DownloadError(without_query(self._url), message)


@asynccontextmanager
async def _closing(chunks: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Close a generator that was not read to its end now, not when it is collected."""
    try:
        yield chunks
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
