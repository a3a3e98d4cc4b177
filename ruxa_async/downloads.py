"""Outputs to files, safely.

A result URL is an address that somebody else chose. So nothing of ours goes with the request (no key, no cookie),
redirects are followed by hand and never from https to http, the size is bounded, and the name of the file is made
here: the address contributes an extension from a known list and nothing more.

A file appears whole or not at all. It is written under a hidden name in its own folder, synced, and linked into
place, which fails where something of that name exists. The same content there already counts as done, so saving
twice is harmless; different content is left alone and the new file takes a name with a mark of its content.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from os import PathLike
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import anyio
from anyio import to_thread
from attrs import evolve, field, frozen, validators

from ._files import PartFile, WholeFile, clean_stem
from ._points import reached
from .errors import DownloadError, TransportError
from .journal.records import SavedFile
from .transports.base import Request, StreamedResponse

if TYPE_CHECKING:
    from .results import Generation

__all__ = ("Downloader", "MediaTransport", "without_query")

_T = TypeVar("_T")
_Note: TypeAlias = Callable[[WholeFile], Awaitable[None]]
_NOTHING: Mapping[int, Path] = MappingProxyType({})

_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429)
#: What is collected before a worker thread writes it: small pictures cost one hop, large videos one a mebibyte.
_BLOCK = 1 << 20

_EXTENSION_OF = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/jpg": ".jpg",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/avif": ".avif",
    "image/bmp": ".bmp",
    "image/tiff": ".tiff",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "video/quicktime": ".mov",
    "audio/mpeg": ".mp3",
    "audio/wav": ".wav",
    "audio/x-wav": ".wav",
    "application/json": ".json",
}
_EXTENSIONS = frozenset({*_EXTENSION_OF.values(), ".jpeg", ".tif", ".m4v"})


class MediaTransport(Protocol):
    """The part of a transport that downloads need."""

    def stream(self, request: Request) -> AbstractAsyncContextManager[StreamedResponse]:
        """Open *request* for reading its body in pieces."""
        ...


class _PassingError(Exception):
    """What went wrong may go right in a moment."""


@frozen(kw_only=True)
class Downloader:
    """Bring outputs to disk or memory through *transport*.

    *max_bytes* bounds one output: 1 GiB, many times the longest video. *timeout* bounds one attempt in seconds:
    600, so that such a video arrives over a slow line; *connect_timeout* its beginning: 10. *pauses* are the
    seconds between attempts, and their number says how often an output is tried again. Everything that can go
    wrong with an output raises `DownloadError`, which names its address without the query string: signatures
    live there. *saved* is told, with its task's id, of each file that is whole, before it gets its name.
    """

    transport: MediaTransport = field(repr=False)
    max_bytes: int = field(default=1 << 30, validator=validators.ge(1))
    timeout: float = field(default=600.0, validator=validators.gt(0))
    connect_timeout: float = field(default=10.0, validator=validators.gt(0))
    pauses: Sequence[float] = (0.5, 2.0)
    user_agent: str = "ruxa-async"
    saved: Callable[[str, SavedFile], Awaitable[None]] | None = field(default=None, repr=False)

    async def save(
        self, generation: Generation, folder: str | PathLike[str], *, kept: Mapping[int, Path] = _NOTHING
    ) -> list[Path]:
        """Download every output of *generation* into *folder*; return the paths, in the order of its URLs.

        Files are named after the request's key, else the task id. What is *kept* already, by its place from 0, is
        not downloaded.
        """
        key = None if generation.request is None else generation.request.key
        stem = key or generation.task_id or "output"
        task_id, saved = generation.task_id, self.saved
        if task_id is None or saved is None:
            return await self.save_urls(generation.urls, folder, stem, kept=kept)

        async def note(number: int, file: WholeFile) -> None:
            await saved(task_id, SavedFile(number=number, name=file.name, size=file.size, sha256=file.sha256))

        return await self.save_urls(generation.urls, folder, stem, kept=kept, note=note)

    async def read(self, generation: Generation) -> list[bytes]:
        """Download every output of *generation* into memory, in the order of its URLs."""
        return [await self._retried(url, self._read_once) for url in generation.urls]

    async def save_urls(
        self,
        urls: Sequence[str],
        folder: str | PathLike[str],
        stem: str,
        *,
        kept: Mapping[int, Path] = _NOTHING,
        note: Callable[[int, WholeFile], Awaitable[None]] | None = None,
    ) -> list[Path]:
        """Download *urls* into *folder* under names made from *stem*; return the paths in the same order.

        *note* is told each file, by its place from 0, when it is whole and before it has its name.
        """
        home = Path(folder)
        name = clean_stem(stem)
        paths = []
        for number, url in enumerate(urls):
            numbered = name if len(urls) == 1 else f"{name}-{number + 1}"
            noted = None if note is None else partial(note, number)
            paths.append(kept[number] if number in kept else await self._save_url(url, home, numbered, noted))
        return paths

    async def _save_url(self, url: str, folder: Path, stem: str, note: _Note | None) -> Path:
        async def once(address: str) -> Path:
            return await self._save_once(address, folder, stem, note)

        try:
            return await self._retried(url, once)
        except OSError as error:
            said = error.strerror or str(error)
            raise DownloadError(
                without_query(url), f"cannot be written to {str(folder)!r}: {said}"
            ) from error

    async def _retried(self, url: str, once: Callable[[str], Awaitable[_T]]) -> _T:
        for pause in self.pauses:
            try:
                return await once(url)
            except (_PassingError, TransportError):
                await anyio.sleep(pause)
        try:
            return await once(url)
        except (_PassingError, TransportError) as error:
            attempts = len(self.pauses) + 1
            raise DownloadError(without_query(url), f"{_said(error)} ({attempts} attempts)") from error

    async def _save_once(self, url: str, folder: Path, stem: str, note: _Note | None) -> Path:
        block = bytearray()

        async def collect(chunk: bytes) -> None:
            block.extend(chunk)
            if len(block) >= _BLOCK:
                await to_thread.run_sync(part.write, bytes(block))
                block.clear()
                reached("block written")

        async with self._opened(url) as (response, address), _part_file(folder) as part:
            await self._drain(url, response, collect)
            name = stem + _extension(address, response.headers)
            if note is None:
                return await to_thread.run_sync(part.place, bytes(block), name)
            whole = await to_thread.run_sync(part.finish, bytes(block), name)
            reached("file whole")
            await note(whole)
            reached("file row durable")
            path = await to_thread.run_sync(part.place, b"", name)
            reached("file placed")
            if path.name != whole.name:  # somebody took the name in between
                await note(evolve(whole, name=path.name))
            return path

    async def _read_once(self, url: str) -> bytes:
        body = bytearray()

        async def collect(chunk: bytes) -> None:
            body.extend(chunk)

        async with self._opened(url) as (response, _):
            await self._drain(url, response, collect)
        return bytes(body)

    @asynccontextmanager
    async def _opened(self, url: str) -> AsyncIterator[tuple[StreamedResponse, str]]:
        """Open *url*, following redirects; give the reply whose body is the output and the address it came from."""
        address = url
        for _ in range(_MAX_REDIRECTS + 1):
            async with self.transport.stream(self._request(url, address)) as response:
                if response.status not in _REDIRECTS:
                    _check_status(url, response)
                    reached("download begun")
                    yield response, address
                    return
                address = _redirected(url, address, response)
        raise DownloadError(without_query(url), f"redirected more than {_MAX_REDIRECTS} times")

    def _request(self, url: str, address: str) -> Request:
        return Request(
            method="GET",
            url=_on_the_wire(url, address),
            headers={"User-Agent": self.user_agent, "Accept-Encoding": "identity"},
            timeout=self.timeout,
            connect_timeout=self.connect_timeout,
        )

    async def _drain(
        self, url: str, response: StreamedResponse, collect: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Hand the body to *collect*, and insist that it is whole and not too large."""
        promised = _length(response.headers)
        if promised is not None and promised > self.max_bytes:
            raise self._too_large(url)
        received = 0
        async with _closing(response.chunks()) as chunks:
            async for chunk in chunks:
                received += len(chunk)
                if received > self.max_bytes:
                    raise self._too_large(url)
                await collect(chunk)
        if promised is not None and received < promised:
            raise _PassingError(f"broke off after {received:,} of {promised:,} bytes")

    def _too_large(self, url: str) -> DownloadError:
        return DownloadError(
            without_query(url), f"larger than the {self.max_bytes:,} bytes allowed for one output"
        )


@asynccontextmanager
async def _closing(chunks: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Close a generator that was not read to its end now, not when it is collected."""
    try:
        yield chunks
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


@asynccontextmanager
async def _part_file(folder: Path) -> AsyncIterator[PartFile]:
    """Give a file in the making that leaves nothing behind unless it was placed."""
    part = PartFile(folder)
    try:
        yield part
    finally:
        if part.touched:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(part.discard)


def without_query(url: str) -> str:
    """Return *url* without its query, fragment and credentials: what may be shown and logged."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("?")[0].partition("#")[0]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _on_the_wire(url: str, address: str) -> str:
    """Return *address* percent-encoded and without its fragment, or raise if it is none that we fetch."""
    try:
        parts = urlsplit(address.strip())
        usable = parts.scheme.lower() in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise DownloadError(without_query(url), f"not an http(s) address: {without_query(address)!r}")
    # "%" is safe: what is encoded already stays as it is.
    path, query = (quote(part, safe="!$%&'()*+,/:;=?@[]~") for part in (parts.path, parts.query))
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def _redirected(url: str, address: str, response: StreamedResponse) -> str:
    location = response.headers.get("location")
    if not location:
        raise DownloadError(without_query(url), f"HTTP {response.status} that names no place to go to")
    try:
        target = urljoin(address, location)
        downgraded = urlsplit(address).scheme.lower() == "https" and urlsplit(target).scheme.lower() == "http"
    except ValueError:
        raise DownloadError(without_query(url), "redirected to something that is not a URL") from None
    if downgraded:
        raise DownloadError(without_query(url), "redirected from https to http, which is not followed")
    return target


def _check_status(url: str, response: StreamedResponse) -> None:
    status = response.status
    if status in _PASSING or status >= 500:
        raise _PassingError(f"HTTP {status}")
    if not 200 <= status < 300:
        hint = ": the link may have expired" if status in (401, 403, 404, 410) else ""
        raise DownloadError(without_query(url), f"HTTP {status}{hint}")
    if status == 206:
        raise DownloadError(without_query(url), "HTTP 206: a part came where the whole was asked for")
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise DownloadError(without_query(url), f"came encoded as {encoding!r}, which was not asked for")


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length", "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _extension(address: str, headers: Mapping[str, str]) -> str:
    """Return the extension that the address has, if it is a medium's, else the one of the content's type."""
    extension = PurePosixPath(urlsplit(address).path).suffix.lower()
    if extension in _EXTENSIONS:
        return extension
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return _EXTENSION_OF.get(kind, ".bin")


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
